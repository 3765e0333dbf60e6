//! `polychord run`: a guest of one's own.

mod args;
mod ending;
mod guest;
mod invoke;
#[cfg(target_os = "linux")]
mod isolate;
mod outcome;
mod weights;

use std::io::Write as _;
use std::process::ExitCode;

use super::{Failure, terminal};
pub(crate) use args::{Args, GuestArgs};
pub(crate) use ending::Ending;
use ending::Status;
#[cfg(target_os = "linux")]
pub(crate) use isolate::IsolatedArgs;
pub(crate) use outcome::Outcome;

/// Runs a command to its end and passes its exit code on, or calls a function and prints its results.
pub(crate) fn run(args: &Args) -> ExitCode {
    #[cfg(target_os = "linux")]
    if args.isolate {
        return told(isolate::run(args));
    }
    told(run_here(args))
}

/// Runs the guest for the process that has started this one, in a process that may do little else.
#[cfg(target_os = "linux")]
pub(crate) fn run_confined(args: &IsolatedArgs) -> ExitCode {
    told(isolate::confine(args).and_then(run_here))
}

/// What the shell is told.
fn told(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => match failure.report() {
            code if failure.is_usage() => code,
            _ => Status::Refused.into(),
        },
    }
}

fn run_here(args: &Args) -> Result<ExitCode, Failure> {
    let outcome = guest::run(args, &args.open_engine()?)?;
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
