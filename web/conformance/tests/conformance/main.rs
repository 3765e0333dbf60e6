//! The conformance suite on the engine of a browser or of Node.
//!
//! `POLYCHORD_WEB_EXECUTOR` names a program that has the engine: it gets commands on stdin and answers on
//! stdout (web/tests/executor.mjs, scripts/test-web). Without it nothing is tested.

mod channel;
mod engine;
mod expected;
mod guest;
mod message;

use std::io::{Write, stdout};
use std::process::ExitCode;

use engine::Remote;

fn main() -> ExitCode {
    if std::env::var_os(channel::EXECUTOR).is_none() {
        let note = format!("not tested: {} names no program (scripts/test-web)", channel::EXECUTOR);
        _ = writeln!(stdout(), "{note}");
        return ExitCode::SUCCESS;
    }
    let engine = Remote::start();
    let expectations = engine.as_ref().map_or(expected::NONE, Remote::expectations);
    polychord_conformance::run(engine, expectations)
}
