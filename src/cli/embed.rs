//! `polychord embed`: a text becomes a vector.

use std::io::{Read as _, Write as _};

use polychord::hub::ModelRef;
use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{
    Activations, EmbedOptions, Model, Pooling, Ranks, SessionOptions, SimdFlavor, Transformer,
};

use super::choice::choice;
use super::engine::EngineArgs;
use super::load::{Load, open};
use super::model::FindArgs;
use super::placement::PlacementArgs;
use super::{Failure, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The texts, of each of which a vector is made; nothing or `-` reads one from stdin
    texts: Vec<String>,

    /// Token ids in place of texts, with commas between them (1,5,9): those that the model puts
    /// around a text have to be among them
    #[arg(long, value_name = "IDS", value_delimiter = ',', num_args = 1, conflicts_with = "texts")]
    prompt_ids: Option<Vec<u32>>,

    /// The model: a path, `hf:owner/repo/file.gguf` or `hf:owner/repo:TAG`
    #[arg(short, long)]
    model: ModelRef,

    #[command(flatten)]
    find: FindArgs,

    #[command(flatten)]
    engine: EngineArgs,

    /// How weights come into the guest. With `map` the file must not change meanwhile
    #[arg(long, value_enum, default_value_t = Load::default())]
    load: Load,

    #[command(flatten)]
    placement: PlacementArgs,

    /// How activations are multiplied with quantized weights
    #[arg(long, value_parser = choice::<Activations>(), default_value_t)]
    activations: Activations,

    /// Threads that compute, each with guests of its own: a number, or `auto`
    #[arg(long, value_name = "N|auto", default_value_t)]
    ranks: Ranks,

    /// The build of the guest
    #[arg(long, value_parser = choice::<SimdFlavor>(), default_value_t)]
    guest: SimdFlavor,

    /// What is left of a text; by default what the model's file says
    #[arg(long, value_parser = choice::<Pooling>())]
    pooling: Option<Pooling>,

    /// Leave vectors as long as they are, in place of giving them the length 1
    #[arg(long)]
    raw: bool,

    /// Print a JSON object, with the ids of each text
    #[arg(long)]
    json: bool,
}

/// Prints the vector of each text: a line of numbers for each, or JSON.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let placement = args.placement.placement()?;
    let engine = args.engine.open()?;
    let path = args.find.find(&args.model)?;
    let model = open(&path, args.load)?;
    let inputs = inputs(args, &model)?;
    let longest = inputs.iter().map(Vec::len).max().unwrap_or(1).max(1);
    let longest = u32::try_from(longest).unwrap_or(u32::MAX);
    let transformer = Transformer::with_flavor(&engine, args.guest)?;
    let mut options =
        SessionOptions::new().placement(placement).activations(args.activations).ranks(args.ranks);
    // What is too long is refused with the number of its tokens.
    options.context = Some(longest.min(model.config().context_length));
    let mut session = transformer.start(&model, &options)?;
    let embedding = EmbedOptions::new().pooling(args.pooling).normalized(!args.raw);
    let mut vectors = Vec::with_capacity(inputs.len());
    for ids in &inputs {
        vectors.push(session.embed_with(ids, &embedding)?);
    }
    let mut stdout = std::io::stdout().lock();
    if args.json {
        let both = inputs.iter().zip(&vectors);
        let entry = |(ids, vector)| serde_json::json!({ "ids": ids, "embedding": vector });
        let object = serde_json::json!({
            "engine": engine.capabilities().engine,
            "model": path,
            "pooling": args.pooling.or(model.config().pooling).map(Pooling::name),
            "normalized": !args.raw,
            "embeddings": both.map(entry).collect::<Vec<_>>(),
        });
        writeln!(stdout, "{}", terminal::json(&object.to_string()))?;
        return Ok(());
    }
    for vector in &vectors {
        let numbers: Vec<_> = vector.iter().map(ToString::to_string).collect();
        writeln!(stdout, "{}", numbers.join(" "))?;
    }
    Ok(())
}

/// The tokens of each text.
fn inputs(args: &Args, model: &Model) -> Result<Vec<Vec<u32>>, Failure> {
    if let Some(ids) = &args.prompt_ids {
        return Ok(vec![ids.clone()]);
    }
    let tokenizer = model.tokenizer()?;
    let encode = |text: &str| {
        let ids = tokenizer.encode_document(text, SpecialTokens::Parse);
        Ok(ids.map_err(polychord::model::Error::from)?)
    };
    match args.texts.as_slice() {
        [] => Ok(vec![encode(&read_stdin()?)?]),
        [only] if only == "-" => Ok(vec![encode(&read_stdin()?)?]),
        texts => texts.iter().map(|text| encode(text)).collect(),
    }
}

fn read_stdin() -> Result<String, Failure> {
    let mut text = String::new();
    let read = std::io::stdin().read_to_string(&mut text);
    read.map_err(|error| format!("cannot read the text from stdin: {error}"))?;
    Ok(text.trim_end_matches('\n').to_owned())
}
