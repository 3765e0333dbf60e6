//! `polychord run`: a guest of one's own.

mod args;
mod ending;
mod guest;
mod invoke;
mod outcome;
mod weights;

use std::io::Write as _;
use std::process::ExitCode;

use super::{Failure, terminal};
pub(crate) use args::{Args, GuestArgs};
pub(crate) use ending::Ending;
use ending::Status;
pub(crate) use outcome::Outcome;

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
    // What cannot be looked at is an error when it is read.
    let bytes = std::fs::metadata(&args.guest).map_or(0, |file| file.len());
    let engine = args.engine.open_for(args.with.author(), bytes)?;
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
