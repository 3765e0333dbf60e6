//! The conformance suite on the engine of a browser or of Node.
//!
//! `POLYCHORD_WEB_EXECUTOR` names a program that has the engine: it gets commands on stdin and answers on
//! stdout (web/tests/executor.mjs). The rest of the command line is that of Rust's own tests.

mod channel;
mod engine;
mod expected;
mod guest;
mod message;

use std::process::ExitCode;

use engine::Remote;

fn main() -> ExitCode {
    let engine = Remote::start();
    let expectations = engine.as_ref().map_or(expected::NONE, Remote::expectations);
    polychord_conformance::run(engine, expectations)
}
