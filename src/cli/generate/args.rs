//! The arguments of `polychord generate`.

use std::fmt;
use std::io::Read;
use std::path::PathBuf;
use std::str::FromStr;

use clap::ValueEnum;
use polychord::api::Memory64Choice;
use polychord::model::chat::{Json, Variables};
use polychord::model::{
    Activations, CacheType, Placement, Ranks, Sampling, SimdFlavor, TouchAhead,
};

use super::Failure;
use super::hold::HoldArgs;
use crate::cli::choice::choice;
use crate::cli::engine::EngineArgs;
use crate::cli::hosts::HostsArgs;
use crate::cli::load::{Load, Use};
use crate::cli::model::{FindArgs, ModelArg};
use crate::cli::placement::{PlacementArgs, read_plan};
use crate::cli::template::TemplateArg;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text to continue; `-` or nothing reads it from stdin
    prompt: Option<String>,

    /// Token ids to continue in place of a text, with commas between them (1,5,9): the model needs
    /// no tokenizer then, and ids are printed if it has none
    #[arg(long, value_name = "IDS", value_delimiter = ',', num_args = 1,
        conflicts_with_all = ["prompt", "chat", "no_special"])]
    pub(crate) prompt_ids: Option<Vec<u32>>,

    /// The model: a path, `hf:owner/repo/file.gguf`, `hf:owner/repo:TAG`, the address of a file on a web
    /// server, whose layers are read as they are needed, or nothing for SmolLM2-135M-Instruct
    #[arg(short, long)]
    pub(crate) model: Option<ModelArg>,

    #[command(flatten)]
    pub(crate) find: FindArgs,

    #[command(flatten)]
    pub(crate) engine: EngineArgs,

    /// How weights come into the guest. With `map` the file must not change meanwhile
    #[arg(long, value_enum, default_value_t = Load::default())]
    pub(crate) load: Load,

    #[command(flatten)]
    pub(crate) placement: PlacementArgs,

    /// Place layers as a plan says that `polychord plan` wrote
    #[arg(long, value_name = "FILE", conflicts_with_all = ["placement", "split", "hosts"])]
    pub(crate) plan: Option<PathBuf>,

    /// How activations are multiplied with quantized weights
    #[arg(long, value_parser = choice::<Activations>(), default_value_t)]
    pub(crate) activations: Activations,

    /// How the cache of keys and values stores its numbers
    #[arg(long, value_parser = choice::<CacheType>(), default_value_t)]
    pub(crate) cache_type: CacheType,

    /// Threads that compute, each with guests of its own: a number, `auto` for as many as there
    /// are cores, up to the model's heads of keys and values, and one where weights are copied, or `mpi` for the processes that mpirun
    /// has started, with one thread each
    #[arg(long, value_name = "N|auto|mpi", default_value_t)]
    ranks: RanksArg,

    /// Compute together with the other processes that mpirun has started, each with as many threads as
    /// --ranks says. Rank 0 reads the prompt, draws tokens and prints
    #[arg(long)]
    mpi: bool,

    /// Make each process of --mpi a stage, which holds some of the plan's guests alone, in order: the hidden
    /// state goes from process to process. With --placement sharded32 --memories N, or a --plan
    #[arg(long, requires = "mpi")]
    pub(crate) stages: bool,

    #[command(flatten)]
    pub(crate) hosts: HostsArgs,

    /// Do what one host of a plan would do, from 0, without the others, and say what that takes: what it
    /// computes means nothing. With --hosts, or a --plan that names hosts
    #[arg(long, value_name = "HOST", conflicts_with_all = ["mpi", "stages", "sequences"])]
    pub(crate) rehearse: Option<u32>,

    /// Answers to the prompt, all at once, each with the next --seed: with --stages or --hosts each stage works
    /// on another one meanwhile
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=256),
        conflicts_with_all = ["resume", "save", "prompt_cache", "receipt", "logits", "ids"])]
    pub(crate) sequences: u32,

    /// Touch weights ahead of their use, in bursts of BYTES: a number, `off`, or `auto` for what the
    /// first tokens show to be faster. It changes no result
    #[arg(long, value_name = "auto|off|BYTES", default_value_t)]
    pub(crate) touch_ahead: TouchAhead,

    /// The build of the guest
    #[arg(long, value_parser = choice::<SimdFlavor>(), default_value_t)]
    pub(crate) guest: SimdFlavor,

    /// How the guest gets a 64-bit memory, with flat64
    #[arg(long, value_parser = choice::<Memory64Choice>(), default_value_t)]
    pub(crate) memory64: Memory64Choice,

    /// Most tokens to generate; -1 is as many as the context has room for
    #[arg(short = 'n', long, value_name = "N", default_value = "128", value_parser = parse_tokens,
        allow_negative_numbers = true)]
    pub(crate) max_tokens: usize,

    /// Most tokens of prompt and answer together; by default as many as are needed
    #[arg(long, value_name = "TOKENS")]
    pub(crate) context: Option<u32>,

    /// 0 always takes the best token; higher values draw more freely
    #[arg(short, long, default_value_t = 0.0, conflicts_with = "resume")]
    temperature: f32,

    /// Draw from this many of the best tokens only; 0 is all
    #[arg(long, value_name = "N", default_value_t = 40, conflicts_with = "resume")]
    top_k: u32,

    /// Draw from the best tokens only that together have this probability
    #[arg(long, value_name = "P", default_value_t = 0.95, conflicts_with = "resume")]
    top_p: f32,

    /// Draw from tokens only that have this part of the best one's probability; 0 is all
    #[arg(long, value_name = "P", default_value_t = 0.0, conflicts_with = "resume")]
    min_p: f32,

    /// Make recent tokens less likely by this factor; 1 changes nothing
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, conflicts_with = "resume")]
    repeat_penalty: f32,

    /// Start of the random numbers
    #[arg(long, default_value_t = 0, conflicts_with = "resume")]
    seed: u64,

    /// Put the prompt into the model's chat template, as a user's message
    #[arg(long)]
    pub(crate) chat: bool,

    #[command(flatten)]
    pub(crate) template: TemplateArg,

    /// What the model is told before the message of `--chat`
    #[arg(long, value_name = "TEXT", requires = "chat", conflicts_with = "resume")]
    pub(crate) system: Option<String>,

    /// Whether the model is to think before it answers `--chat`; by default its template decides
    #[arg(long, value_name = "on|off", requires = "chat", value_parser = parse_switch)]
    pub(crate) thinking: Option<bool>,

    /// Tell the chat template of something by its name, as text or JSON (`reasoning_effort=high`)
    #[arg(long, value_name = "NAME=VALUE", requires = "chat", value_parser = parse_variable)]
    pub(crate) template_option: Vec<(String, Json)>,

    /// Keep the texts of special tokens in the prompt (`<|im_end|>`) as text. In the message of
    /// `--chat` they always stay text
    #[arg(long, alias = "no-parse-special")]
    pub(crate) no_special: bool,

    #[command(flatten)]
    pub(super) hold: HoldArgs,

    /// Keep what the prompt leaves in the session in this file: a prompt that begins as the one before is
    /// evaluated from where it differs. A file of another model is replaced
    #[arg(long, value_name = "FILE", conflicts_with = "resume")]
    pub(crate) prompt_cache: Option<PathBuf>,

    /// Write the state of the sequence to a file when the answer ends, for --resume anywhere
    #[arg(long, value_name = "FILE")]
    pub(crate) save: Option<PathBuf>,

    /// Go on from a file that --save wrote, on any engine and in any placement: with the answer, or
    /// with a prompt that follows it. With --chat that is the next message of the conversation. How
    /// tokens are chosen stays as it was
    #[arg(long, value_name = "FILE")]
    pub(crate) resume: Option<PathBuf>,

    /// Write a receipt of what was computed, for `polychord verify` anywhere
    #[arg(long, value_name = "FILE")]
    pub(crate) receipt: Option<PathBuf>,

    /// Sign the receipt by a key that `polychord key` made
    #[arg(long, value_name = "KEY", requires = "receipt")]
    pub(crate) sign: Option<PathBuf>,

    /// Compute in a process of its own, which opens no files but the model and compiled code, has no network and
    /// starts no programs: a guest that breaks out of its engine finds nothing there. Linux with Landlock
    #[cfg(target_os = "linux")]
    #[arg(long, conflicts_with_all = ["mpi", "stages", "hosts", "rehearse", "sequences", "prompt_cache", "save", "resume", "receipt", "stats", "profile"])]
    pub(crate) isolate: bool,

    /// Print token ids in place of text
    #[arg(long, conflicts_with = "json")]
    pub(crate) ids: bool,

    /// Print one JSON object at the end: ids, text, timings, statistics, hash of all logits
    #[arg(long)]
    pub(crate) json: bool,

    /// Print statistics of each memory to stderr: a table, or JSON
    #[arg(long, value_name = "FORMAT", num_args = 0..=1, require_equals = true,
        default_missing_value = "table", value_enum)]
    pub(crate) stats: Option<Format>,

    /// Print where the time went, to stderr: for the start, the prompt and the tokens that follow
    ///
    /// The host measures around the calls of the guest. `layers` is bringing in layers; pages of a
    /// mapped file are read by the phase that touches them first. `ranks` is exchanging results
    /// with other ranks, as the first one sees it. `host` is the rest: tokenizer, sampling,
    /// hashing, output. With --json it is in the object, as `profile`, whether asked for or not;
    /// but only this option tells attention and feed-forward apart, which takes more calls.
    #[arg(long)]
    pub(crate) profile: bool,

    /// Write the logits of each step to a file, as little-endian f32
    #[arg(long, value_name = "FILE")]
    pub(crate) logits: Option<PathBuf>,

    /// Print no summary
    #[arg(short, long)]
    pub(crate) quiet: bool,
}

/// What `--ranks` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RanksArg {
    /// Threads of this process.
    Threads(Ranks),
    /// One thread in each process.
    Mpi,
}

impl Default for RanksArg {
    fn default() -> Self {
        Self::Threads(Ranks::default())
    }
}

impl FromStr for RanksArg {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "mpi" => Ok(Self::Mpi),
            _ => text
                .parse()
                .map(Self::Threads)
                .map_err(|_| "neither a number, nor `auto`, nor `mpi`"),
        }
    }
}

impl fmt::Display for RanksArg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Threads(ranks) => ranks.fmt(f),
            Self::Mpi => f.pad("mpi"),
        }
    }
}

/// A number of tokens. What is beyond all contexts is as many as there is room for.
pub(crate) fn parse_tokens(text: &str) -> Result<usize, String> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text {
        "-1" => Ok(usize::MAX),
        _ if is_number => Ok(text.parse().unwrap_or(usize::MAX)),
        _ => Err("neither a number of tokens nor -1 for as many as there is room for".into()),
    }
}

pub(crate) fn parse_switch(text: &str) -> Result<bool, String> {
    match text {
        "on" | "true" => Ok(true),
        "off" | "false" => Ok(false),
        _ => Err("neither on nor off".into()),
    }
}

/// A name, and a value that is JSON, or else a string.
fn parse_variable(text: &str) -> Result<(String, Json), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => {
            Ok((name.to_owned(), value.parse().unwrap_or_else(|_| Json::from(value))))
        }
        _ => Err("no name and value with `=` between them".into()),
    }
}

/// The form of statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Table,
    Json,
}

impl Args {
    pub(crate) fn sampling(&self) -> Sampling {
        Sampling::new()
            .temperature(self.temperature)
            .top_k(self.top_k)
            .top_p(self.top_p)
            .min_p(self.min_p)
            .repeat_penalty(self.repeat_penalty)
            .seed(self.seed)
    }

    /// Whether there is a prompt, or one to be read from stdin.
    pub(crate) fn has_prompt(&self) -> bool {
        self.prompt.is_some() || self.resume.is_none()
    }

    /// What the chat template is told beside the message.
    pub(crate) fn variables(&self) -> Variables {
        let thinking =
            self.thinking.map_or_else(Variables::new, |on| Variables::new().thinking(on));
        let option = |all: Variables, (name, value): &(String, Json)| all.set(name, value.clone());
        self.template_option.iter().fold(thinking, option)
    }

    /// Threads of this process that compute.
    pub(crate) fn ranks(&self) -> Ranks {
        match self.ranks {
            RanksArg::Threads(ranks) => ranks,
            RanksArg::Mpi => Ranks::Exactly(1),
        }
    }

    /// What is going to be done with the model, which decides how it is loaded.
    pub(crate) fn use_of(&self, placement: &Placement) -> Use {
        Use {
            several_ranks: self.is_mpi() || self.ranks() != Ranks::Exactly(1),
            paged: matches!(placement, Placement::Paged { .. }),
            tokens: self.max_tokens,
        }
    }

    /// Whether other processes compute with this one.
    pub(crate) fn is_mpi(&self) -> bool {
        self.mpi || self.ranks == RanksArg::Mpi
    }

    pub(crate) fn placement(&self) -> Result<Placement, Failure> {
        match &self.plan {
            Some(path) => Ok(Placement::Planned(read_plan(path)?)),
            None => self.placement.placement(),
        }
    }

    pub(crate) fn prompt(&self) -> Result<String, Failure> {
        match self.prompt.as_deref() {
            None | Some("-") => {
                let mut text = String::new();
                std::io::stdin()
                    .read_to_string(&mut text)
                    .map_err(|error| format!("cannot read the prompt from stdin: {error}"))?;
                Ok(text.trim_end_matches('\n').to_owned())
            }
            Some(text) => Ok(text.to_owned()),
        }
    }
}
