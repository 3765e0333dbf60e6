//! `polychord verify`: a receipt is computed again.

use std::fs::File;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use polychord::api::Printable;
use polychord::hub::ModelRef;
use polychord::model::{Error, Ranks, SessionOptions, SimdFlavor, Transformer, Verifier};
use polychord::receipts::{PublicKey, Receipt};

use super::Failure;
use super::choice::choice;
use super::engine::EngineArgs;
use super::load::{Load, open};
use super::model::FindArgs;
use super::placement::PlacementArgs;
use super::terminal::Plain;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The receipt, as `polychord generate --receipt` writes it
    receipt: PathBuf,

    /// The model, by default SmolLM2-135M-Instruct; it has to have the digest of the receipt
    #[arg(short, long)]
    model: Option<ModelRef>,

    #[command(flatten)]
    find: FindArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// How weights come into the guest. With `map` the file must not change meanwhile
    #[arg(long, value_enum, default_value_t = Load::default())]
    load: Load,

    #[command(flatten)]
    placement: PlacementArgs,

    /// Threads that compute: a number, or `auto`
    #[arg(long, value_name = "N|auto", default_value_t)]
    ranks: Ranks,

    /// The build of the guest
    #[arg(long, value_parser = choice::<SimdFlavor>(), default_value_t)]
    guest: SimdFlavor,

    /// Compare these steps alone (100..120, the last one is not among them); those before are
    /// evaluated as a prompt is
    #[arg(long, value_name = "FIRST..END", value_parser = parse_window)]
    window: Option<Range<u64>>,

    /// Begin with a snapshot of the conversation that you trust, so that less has to be evaluated
    #[arg(long, value_name = "FILE")]
    snapshot: Option<PathBuf>,

    /// Refuse a receipt that is not signed by the key with this public part
    #[arg(long, value_name = "KEY")]
    signed_by: Option<PublicKey>,
}

/// Computes a receipt again, and tells the result.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let path = args.receipt.display();
    let refuse = |error: Error| match error {
        Error::Receipt(error) => {
            format!("{} is not verified: {}", Printable(&path), Printable(error)).into()
        }
        error => Failure::from(error),
    };
    let receipt = Receipt::read(open_file(&args.receipt)?).map_err(|error| refuse(error.into()))?;
    check_signer(&receipt, args.signed_by.as_ref())?;
    let placement = args.placement.placement()?;
    let engine = args.engine.open()?;
    let model = open(&args.find.find(&args.model.clone().unwrap_or_default())?, args.load)?;
    let transformer = Transformer::with_flavor(&engine, args.guest)?;
    let options = SessionOptions::new().placement(placement).ranks(args.ranks);
    let mut verifier = Verifier::new(&receipt);
    if let Some(window) = &args.window {
        verifier = verifier.window(window.clone());
    }
    let verdict = match &args.snapshot {
        None => verifier.verify(&transformer, &model, &options),
        Some(path) => verifier.verify_from(&transformer, &model, &options, open_file(path)?),
    };
    match verdict.map_err(refuse)? {
        verdict if verdict.is_verified() => {
            let capabilities = engine.capabilities();
            let (engine, version) = (capabilities.engine, &capabilities.version);
            let mut stdout = Plain::new(std::io::stdout());
            match receipt.signature() {
                Some(signature) => writeln!(stdout, "signed by {}", signature.public_key)?,
                None => writeln!(stdout, "not signed")?,
            }
            writeln!(stdout, "verified: {verdict}, on {engine} {version}")?;
            Ok(())
        }
        verdict => Err(format!("{path} is not verified: {verdict}").into()),
    }
}

fn check_signer(receipt: &Receipt, wanted: Option<&PublicKey>) -> Result<(), Failure> {
    let Some(wanted) = wanted else { return Ok(()) };
    match receipt.signature() {
        Some(signature) if signature.public_key == *wanted => Ok(()),
        Some(signature) => {
            let signer = signature.public_key;
            Err(format!("the receipt is not verified: it is signed by {signer}, not {wanted}")
                .into())
        }
        None => Err("the receipt is not verified: it is not signed".to_owned().into()),
    }
}

fn open_file(path: &Path) -> Result<File, Failure> {
    File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()).into())
}

fn parse_window(text: &str) -> Result<Range<u64>, String> {
    let wrong = || "no two numbers with `..` between them, the second larger".to_owned();
    let (first, end) = text.split_once("..").ok_or_else(wrong)?;
    let number = |text: &str| text.parse().map_err(|_| wrong());
    let window = number(first)?..number(end)?;
    if window.is_empty() { Err(wrong()) } else { Ok(window) }
}
