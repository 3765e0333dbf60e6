//! Commands, each in a file of its own, and what they share.

mod chat;
mod choice;
mod company;
mod compare;
mod ctrl_c;
mod draw;
mod embed;
mod engine;
mod engines;
mod failure;
mod generate;
mod hosts;
mod inspect;
#[cfg(target_os = "linux")]
mod isolated;
mod key;
mod load;
mod lower;
mod model;
mod placement;
mod plan;
mod predict;
mod program;
mod progress;
mod pull;
mod run;
mod serve;
mod session;
mod size;
mod snapshot;
mod template;
mod terminal;
mod verify;

use std::io::Write as _;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use failure::Failure;

/// Runs WebAssembly guests that compute language models, with the same result on any engine.
#[derive(Debug, Parser)]
#[command(name = "polychord", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Continue a prompt, or answer it with --chat
    Generate(Box<generate::Args>),
    /// Talk to a model in the terminal
    Chat(Box<chat::Args>),
    /// Make a vector of each text, with a model for embeddings
    Embed(Box<embed::Args>),
    /// Run one prompt on several engines, and show whether they agree to the last bit
    Compare(compare::Args),
    /// Compute again what a receipt says, or a part of it, and tell the first step that differs
    Verify(Box<verify::Args>),
    /// Make a key that signs receipts, or show the public part of one that is there
    Key(key::Args),
    /// Run a guest of one's own: a WASI command, or a function of any module
    ///
    /// Ends with the guest's exit code; with 124 if its time was over, 134 if it trapped, 130 if it was
    /// interrupted, 125 if it could not be run, and 2 if the command line is at fault.
    Run(Box<run::Args>),
    /// Answer requests of OpenAI's API, many at a time over one copy of the weights
    Serve(Box<serve::Args>),
    /// Fetch a model into the cache
    Pull(pull::Args),
    /// Show the engines of this build and what they can do
    Engines(engines::Args),
    /// Show which layer of a model lives in which memory, and write it as a plan
    Plan(plan::Args),
    /// Show what is in a model file, and whether it can be run
    Inspect(inspect::Args),
    /// Rewrite a module with 64-bit memories so that engines without memory64 run it
    Lower(lower::Args),
    #[command(hide = true)]
    CompileGuest(engine::CompileArgs),
    /// The process of `--isolate`
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    IsolatedSession(Box<isolated::IsolatedArgs>),
    /// The process of `run --isolate`
    #[cfg(target_os = "linux")]
    #[command(hide = true)]
    IsolatedRun(Box<run::IsolatedArgs>),
}

/// Parses the command line and runs the command.
pub(crate) fn run() -> ExitCode {
    start_log();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let done = match cli.command {
        Command::Generate(args) => generate::run(&args),
        Command::Chat(args) => chat::run(&args),
        Command::Embed(args) => embed::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Key(args) => key::run(&args),
        Command::Run(args) => return run::run(&args),
        Command::Serve(args) => serve::run(&args),
        Command::Pull(args) => pull::run(&args),
        Command::Engines(args) => engines::run(&args),
        Command::Plan(args) => plan::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Lower(args) => lower::run(&args),
        Command::CompileGuest(args) => engine::compile(&args),
        #[cfg(target_os = "linux")]
        Command::IsolatedSession(args) => isolated::run(&args),
        #[cfg(target_os = "linux")]
        Command::IsolatedRun(args) => return run::run_confined(&args.settled()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

/// Prints help, or what is wrong with the arguments. They may come from a stranger's list of files,
/// and are repeated on a terminal as they are, with the colors of the message.
fn refuse(error: &clap::Error) -> ExitCode {
    let hides = |arg: std::ffi::OsString| arg.to_string_lossy().contains(polychord::api::is_hidden);
    if !std::env::args_os().any(hides) {
        error.exit();
    }
    let stderr = std::io::stderr();
    // Nothing is left to do if it cannot be written.
    _ = write!(stderr.lock(), "{}", terminal::lines(&error.render().to_string()));
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Events go to stderr if POLYCHORD_LOG asks for them (`debug`, `polychord_runtime_api=trace`).
fn start_log() {
    if std::env::var_os("POLYCHORD_LOG").is_some() {
        let writer = || terminal::Plain::new(std::io::stderr());
        let filter = tracing_subscriber::EnvFilter::from_env("POLYCHORD_LOG");
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(false)
            .with_writer(writer)
            .init();
    }
}
