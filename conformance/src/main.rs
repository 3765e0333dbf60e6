//! Runs the conformance suite on several engines, each in a process of its own, and writes a
//! report: `cargo run -p polychord-conformance -- --engine all --report target/conformance`.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    match cli::run(&cli::Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            cli::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}
