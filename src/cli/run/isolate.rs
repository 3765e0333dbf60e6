//! A guest of one's own in a process that may do nothing but run it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};

use polychord::hub::Hub;
use polychord::wasi::Access;

use super::args::{Args, Directory};
use super::ending::Status;
use super::guest;
use crate::cli::Failure;
use crate::cli::ctrl_c;
use crate::cli::isolated::confinement;
use crate::cli::program::this_program;
use crate::cli::progress::TerminalBar;

/// The process of `run --isolate`: the options of `run`, and what the first process has found.
#[derive(Debug, clap::Args)]
pub(crate) struct IsolatedArgs {
    /// Where the file of --model is
    #[arg(long)]
    found: Option<PathBuf>,

    #[command(flatten)]
    run: Args,
}

/// Bytes that a guest's memory has at most, if nothing else is said.
const MEMORY: u64 = 4 << 30;

/// Memory that an engine may write beside the guest's, in bytes.
const BESIDE: u64 = 8 << 30;

/// Has the guest run by another process, and tells the shell what that one does.
///
/// This one compiles, so that code is in the cache and the other one needs to write none.
pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    guest::compile(args, &args.open_engine()?)?;
    let mut command = Command::new(this_program()?);
    command.arg("isolated-run");
    if let Some(model) = &args.model {
        command.arg("--found").arg(Hub::find(model, &mut TerminalBar::new())?);
    }
    // As they were typed, behind the name of the command.
    command.args(env::args_os().skip(2));
    // Ctrl-C at a terminal stops the guest in the other process, and this one waits for that. A second one ends
    // both.
    let mut asked = false;
    ctrl_c::stops(move || !std::mem::replace(&mut asked, true))?;
    let status = command.status();
    let status =
        status.map_err(|error| format!("cannot start a process for the guest: {error}"))?;
    Ok(passed_on(status))
}

fn passed_on(status: ExitStatus) -> ExitCode {
    if let Some(code) = status.code() {
        return ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX));
    }
    let lost = format!(
        "the process of the guest ended by {status}: the guest or its engine failed; try another engine"
    );
    _ = Failure::from(lost).report();
    Status::Trapped.into()
}

/// Gives up all rights but those that the options of the guest need, and returns these.
pub(super) fn confine(args: &IsolatedArgs) -> Result<&Args, Failure> {
    let run = &args.run;
    let memory = run.with.memory.map_or(MEMORY, |size| size.as_u64());
    let mut confinement = confinement(args.found.as_deref())
        .readable(&run.guest)
        .memory_bytes(memory.saturating_mul(2).saturating_add(BESIDE))
        .ends_with_parent();
    for text in &run.with.directories {
        let Directory { host, access, .. } = Directory::parse(text);
        confinement = match access {
            Access::ReadOnly => confinement.readable(host),
            _ => confinement.writable(host),
        };
    }
    confinement.enter()?;
    Ok(run)
}

impl IsolatedArgs {
    /// With the model where the first process has found it.
    pub(crate) fn settled(mut self) -> Self {
        if let Some(found) = &self.found {
            self.run.model = Some(polychord::hub::ModelRef::Path(found.clone()));
        }
        self
    }
}
