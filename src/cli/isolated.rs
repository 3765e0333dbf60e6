//! The hidden command that computes in a process which may do nothing else, and how it is started.

use std::path::{Path, PathBuf};
use std::process::Command;

use bytesize::ByteSize;
use clap::ValueEnum as _;
use polychord::api::Memory64Choice;
use polychord::code_cache::CodeCache;
use polychord::isolate::{Confinement, Isolated, IsolatedOptions, serve};
use polychord::model::{
    Activations, CacheType, Model, Ranks, Session, SessionOptions, SimdFlavor, TouchAhead,
    Transformer,
};

use super::Failure;
use super::choice::choice;
use super::engine::EngineArgs;
use super::load::{Load, open};
use super::placement::{PlacementArgs, read_plan};
use super::program::this_program;

/// What the session of the other process is like.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct IsolatedArgs {
    /// The model's file
    #[arg(long)]
    pub(crate) model: PathBuf,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    #[arg(long, value_enum, default_value_t = Load::default())]
    pub(crate) load: Load,

    #[command(flatten)]
    pub(crate) placement: PlacementArgs,

    #[arg(long, value_name = "FILE")]
    pub(crate) plan: Option<PathBuf>,

    #[arg(long, value_parser = choice::<Activations>(), default_value_t)]
    pub(crate) activations: Activations,

    #[arg(long, value_parser = choice::<CacheType>(), default_value_t)]
    pub(crate) cache_type: CacheType,

    #[arg(long, default_value_t)]
    pub(crate) ranks: Ranks,

    #[arg(long, default_value_t)]
    pub(crate) touch_ahead: TouchAhead,

    #[arg(long, value_parser = choice::<SimdFlavor>(), default_value_t)]
    pub(crate) guest: SimdFlavor,

    #[arg(long, value_parser = choice::<Memory64Choice>(), default_value_t)]
    pub(crate) memory64: Memory64Choice,

    /// Tokens of the model's vocabulary
    #[arg(long)]
    pub(crate) vocabulary: u32,

    /// Most tokens of the sequence
    #[arg(long)]
    pub(crate) context: u32,

    /// Most bytes that the process may write in memory
    #[arg(long)]
    pub(crate) memory: ByteSize,
}

/// What a process may use beyond twice the model: caches of keys and values, and the engine.
const BESIDE: u64 = 8 << 30;

impl IsolatedArgs {
    /// The limit of memory for a model of a size: a copy of it for each of two ranks, and what is beside.
    pub(crate) fn memory_for(model: u64) -> ByteSize {
        ByteSize::b(model.saturating_mul(2).saturating_add(BESIDE))
    }

    /// Starts the process, and waits for its session.
    pub(crate) fn start(&self) -> Result<Isolated, Failure> {
        let mut command = Command::new(this_program()?);
        command.arg("isolated-session").args(self.args());
        let options = IsolatedOptions::new(self.context, self.vocabulary);
        Ok(Isolated::start(&mut command, &options)?)
    }

    fn args(&self) -> Vec<String> {
        let load =
            self.load.to_possible_value().map_or_else(String::new, |it| it.get_name().into());
        let mut args = self.engine.args();
        args.extend(self.placement.args());
        args.extend(self.plan.iter().map(|plan| format!("--plan={}", plan.display())));
        args.extend([
            format!("--model={}", self.model.display()),
            format!("--load={load}"),
            format!("--activations={}", self.activations),
            format!("--cache-type={}", self.cache_type),
            format!("--ranks={}", self.ranks),
            format!("--touch-ahead={}", self.touch_ahead),
            format!("--guest={}", self.guest),
            format!("--memory64={}", self.memory64),
            format!("--vocabulary={}", self.vocabulary),
            format!("--context={}", self.context),
            format!("--memory={}B", self.memory.as_u64()),
        ]);
        args
    }

    fn session(&self) -> Result<Session, Failure> {
        let engine = self.engine.open()?;
        let model = open(&self.model, self.load)?;
        let placement = match &self.plan {
            Some(path) => polychord::model::Placement::Planned(read_plan(path)?),
            None => self.placement.placement()?,
        };
        let transformer = Transformer::with_flavor(&engine, self.guest)?.memory64(self.memory64);
        let options = SessionOptions::new()
            .placement(placement)
            .activations(self.activations)
            .cache_type(self.cache_type)
            .ranks(self.ranks)
            .touch_ahead(self.touch_ahead)
            .context(self.context);
        Ok(transformer.start(&model, &options)?)
    }
}

/// Computes for the process that has started this one.
pub(crate) fn run(args: &IsolatedArgs) -> Result<(), Failure> {
    let mut confinement = confinement(Some(&args.model)).memory_bytes(args.memory.as_u64());
    if let Some(plan) = &args.plan {
        confinement = confinement.readable(plan);
    }
    confinement.enter()?;
    Ok(serve(args.context, args.vocabulary, || {
        args.session().map_err(|failure| failure.message())
    })?)
}

/// Computing, and reading a model and compiled code: the code cache was filled before.
pub(crate) fn confinement(model: Option<&Path>) -> Confinement {
    let mut confinement = Confinement::new();
    if let Some(file) = model {
        // The parts of a model that is split are beside its first one.
        let parts = file.to_string_lossy().contains("-of-").then(|| file.parent()).flatten();
        confinement = confinement.readable(parts.unwrap_or(file));
    }
    match CodeCache::default_folder().filter(|folder| folder.exists()) {
        Some(folder) => confinement.readable(folder),
        None => confinement,
    }
}

/// How large a model is, with all its parts.
pub(crate) fn bytes(model: &Model) -> u64 {
    model.layers().iter().map(|layer| layer.bytes).sum()
}
