//! `polychord compare`: one prompt or one guest, several engines, one answer.

mod guest;
mod profile;
mod results;
mod show;
mod spinner;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use polychord::hub::ModelRef;

use super::engine::Choices;
use super::model::FindArgs;
use super::placement::PlacementArgs;
use super::program::this_program;
use super::{Failure, terminal};
use results::{Comparison, Entry, Outcome, are_identical};
use spinner::spinner;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text to continue
    #[arg(default_value = "The capital of France is")]
    prompt: String,

    /// Engines to compare, by default all that are compiled in
    #[arg(short, long, value_delimiter = ',', value_name = "ENGINE,...",
        value_parser = PossibleValuesParser::new(polychord::ENGINES.iter().map(polychord::EngineEntry::name)))]
    engines: Vec<String>,

    /// How weights come into the guest
    #[arg(long, value_enum, default_value_t)]
    load: Loads,

    /// The model: a path, `hf:owner/repo/file.gguf`, or nothing for SmolLM2-135M-Instruct
    #[arg(short, long)]
    model: Option<ModelRef>,

    #[command(flatten)]
    find: FindArgs,

    /// Most tokens to generate; -1 is as many as the context has room for
    #[arg(short = 'n', long, value_name = "N", default_value = "32",
        value_parser = super::generate::parse_tokens, allow_negative_numbers = true)]
    max_tokens: usize,

    #[command(flatten)]
    choices: Choices,

    #[command(flatten)]
    placement: PlacementArgs,

    /// Print where the time of each run went, to stderr, as `generate --profile` does for one
    ///
    /// With --json it is in the object, as `profile` of each run, whether asked for or not; but only
    /// this option tells attention and feed-forward apart.
    #[arg(long)]
    profile: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    guest: guest::Args,
}

/// The load modes to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Loads {
    /// Each engine twice: mapping the file, and reading it
    #[default]
    Both,
    /// Map the pages of the file, copy-on-write
    Map,
    /// Read the file
    Copy,
}

/// Runs each engine in a process of its own, because engines fight over signal handlers, and
/// one after the other, because they would share the cores.
///
/// Fails if an engine does, or if any two differ in a bit of any logit, and says which of the two
/// it was.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    args.placement.placement()?;
    let engines = engines(args)?;
    if let Some(guest) = args.guest.path() {
        let choices = args.choices.args();
        return guest::compare(guest, &args.guest, &engines, &choices, args.json);
    }
    let model = args.model.clone().unwrap_or_default();
    let model = args.find.find(&model)?;
    let mut runs = Vec::new();
    for engine in engines {
        for load in args.load.names() {
            let spinner = spinner(&format!("{engine}, {load}"));
            let outcome = generate(args, &model, &engine, load)?;
            spinner.finish_and_clear();
            runs.push(Entry { engine: engine.clone(), requested_load: load, outcome });
        }
    }
    let identical = are_identical(&runs);
    let comparison = Comparison { prompt: args.prompt.clone(), model, runs, identical };
    if args.json {
        let json = terminal::json(&serde_json::to_string_pretty(&comparison)?);
        writeln!(std::io::stdout(), "{json}")?;
    } else {
        show::print(&comparison)?;
    }
    if args.profile {
        profile::print(&comparison)?;
    }
    match comparison.problem() {
        None => Ok(()),
        Some(problem) => Err(problem.into()),
    }
}

fn engines(args: &Args) -> Result<Vec<String>, Failure> {
    let available = polychord::available();
    if args.engines.is_empty() {
        return Ok(available.into_iter().map(str::to_owned).collect());
    }
    if let Some(missing) = args.engines.iter().find(|name| !available.contains(&name.as_str())) {
        // The error says how it is compiled in.
        polychord::open(missing)?;
    }
    Ok(args.engines.clone())
}

/// One run in a child process.
fn generate(args: &Args, model: &Path, engine: &str, load: &str) -> Result<Outcome, Failure> {
    let mut child = Command::new(this_program()?)
        .args(["generate", "--json", "--engine", engine, "--load", load])
        .args(args.choices.args())
        .args(args.placement.args())
        .args(["--max-tokens", &args.max_tokens.to_string()])
        .args(args.profile.then_some("--profile"))
        .arg("--model")
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that does not read says why below.
        _ = stdin.write_all(args.prompt.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Outcome::Run(Box::new(serde_json::from_slice(&output.stdout)?)));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("error: ");
    Ok(Outcome::Error(match said {
        "" => format!("ended with {}", output.status),
        _ => said.to_owned(),
    }))
}

impl Loads {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Both => &["map", "copy"],
            Self::Map => &["map"],
            Self::Copy => &["copy"],
        }
    }
}
