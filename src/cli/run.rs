//! `polychord run`: a guest of one's own.

mod ctrl_c;
mod ending;
mod guest;
mod invoke;
mod outcome;
mod weights;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use polychord::hub::ModelRef;

use super::engine::EngineArgs;
use super::{Failure, terminal};
pub(crate) use ending::Ending;
pub(crate) use guest::GuestArgs;
pub(crate) use outcome::Outcome;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The guest: a WebAssembly module in binary form. Its file is trusted, as programs are that one runs:
    /// it may take the compiler as long as it likes (see --untrusted)
    guest: PathBuf,

    /// Arguments of the guest, or numbers for the function of --invoke
    #[arg(last = true, value_name = "ARGS")]
    args: Vec<String>,

    #[command(flatten)]
    engine: EngineArgs,

    #[command(flatten)]
    with: GuestArgs,

    /// Bring in the layers of a model, which the guest finds by `memory64_map_layer`: a path,
    /// `hf:owner/repo/file.gguf`, or `default` for SmolLM2-135M-Instruct. The file must not change meanwhile
    #[arg(long, value_name = "FILE")]
    model: Option<ModelRef>,

    /// Print one JSON object at the end: output, exit code, hash of the guest's memory
    #[arg(long)]
    json: bool,
}

/// What the shell is told of a command that did not come to its own end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    /// The time of --time was over, as `timeout` says it.
    Time = 124,
    /// There was nothing to run, or it could not be run.
    Refused = 125,
    /// Ctrl-C.
    Interrupted = 130,
    /// A trap, or an error of the host: as for programs that abort.
    Trapped = 134,
}

/// Runs a command to its end and passes its exit code on, or calls a function and prints its results.
pub(crate) fn run(args: &Args) -> ExitCode {
    match try_run(args) {
        Ok(code) => code,
        Err(failure) => match failure.report() {
            code if failure.is_usage() => code,
            _ => Status::Refused.into(),
        },
    }
}

fn try_run(args: &Args) -> Result<ExitCode, Failure> {
    let engine = args.engine.open_for(args.with.author())?;
    let outcome = guest::run(args, &engine)?;
    if args.json {
        let json = terminal::json(&serde_json::to_string_pretty(&outcome)?);
        writeln!(std::io::stdout(), "{json}")?;
        return Ok(outcome.ending.code());
    }
    if let Some(results) = &outcome.results {
        let results: Vec<_> = results.iter().map(|result| format!("{result}\n")).collect();
        write!(std::io::stdout(), "{}", results.concat())?;
    }
    if let Ending::Failed { error, .. } = &outcome.ending {
        writeln!(std::io::stderr(), "error: {}", terminal::lines(error))?;
    }
    Ok(outcome.ending.code())
}

impl From<Status> for ExitCode {
    fn from(status: Status) -> Self {
        Self::from(status as u8)
    }
}
