//! `polychord plan`: which layer lives in which memory.

use std::io::Write as _;
use std::path::PathBuf;

use polychord::hub::ModelRef;
use polychord::model::{CacheType, Model, SessionOptions};

use super::choice::choice;
use super::engine::EngineArgs;
use super::hosts::HostsArgs;
use super::model::FindArgs;
use super::placement::PlacementArgs;
use super::predict::PredictArgs;
use super::terminal::Plain;
use super::{Failure, draw};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The model: a path, `hf:owner/repo/file.gguf`, or nothing for the default
    model: Option<ModelRef>,

    #[command(flatten)]
    find: FindArgs,

    /// Write the plan to a file, as JSON, for `generate --plan`
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    placement: PlacementArgs,

    /// Most tokens of a sequence; by default 4,096 or what the model allows
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,

    /// How the cache of keys and values stores its numbers
    #[arg(long, value_parser = choice::<CacheType>(), default_value_t)]
    cache_type: CacheType,

    #[command(flatten)]
    hosts: HostsArgs,

    /// Write the SHA-256 of each layer into the plan: a layer with other bytes is refused whenever it is
    /// loaded. Reads all of them
    #[arg(long)]
    digests: bool,

    #[command(flatten)]
    predict: PredictArgs,
}

/// Makes a plan, draws it, and writes it.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let placement = args.placement.placement()?;
    let engine = args.engine.open()?;
    let model = args.model.clone().unwrap_or_default();
    let model = Model::open(args.find.find(&model)?)?;
    if args.predict.predict {
        return args.predict.print(&model, args.hosts.hosts.unwrap_or(2));
    }
    let mut options = SessionOptions::default();
    options.placement = placement;
    options.context = args.context;
    options.cache_type = args.cache_type;
    let mut placed = match args.hosts.hosts()? {
        Some(hosts) => model.place_on(&hosts, &options, engine.capabilities())?,
        None => model.place(&options, engine.capabilities())?,
    };
    if args.digests {
        model.hash_layers(&mut placed.plan)?;
    }
    let mut out = Plain::new(std::io::stdout().lock());
    writeln!(out, "{}: {}\n", placed.name, placed.reason)?;
    write!(out, "{}", draw::plan(&placed.plan))?;
    write!(out, "{}", draw::hosts(&placed.plan, &placed.guest_needs))?;
    if let Some(path) = &args.output {
        let text = serde_json::to_string_pretty(&placed.plan)?;
        std::fs::write(path, text + "\n")
            .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    }
    Ok(())
}
