//! The cost of engines: products of the guest, loading of layers, calls and imports.
//!
//! `cargo bench --features wasmtime,wasmedge` runs it on every engine that is compiled in, one
//! after the other; `-- TEXT` only what has TEXT in its name. `POLYCHORD_ENGINE` names one
//! engine, `POLYCHORD_GUEST` another build of the transformer guest.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

mod calls;
mod kernels;
mod load;

use std::process::{Command, exit};
use std::sync::Arc;

use polychord::api::{Engine, Limits, Runtime};

const ENGINE: &str = "POLYCHORD_ENGINE";

/// Runs all benchmarks on one engine, each in a process of its own: two that compile ahead or
/// just in time may not share one (ARCHITECTURE.md, "Signals").
fn main() {
    if std::env::var_os(ENGINE).is_some() {
        return divan::main();
    }
    for engine in polychord::available() {
        println!("{engine}");
        let mut command = Command::new(std::env::current_exe().unwrap());
        let status = command.args(std::env::args_os().skip(1)).env(ENGINE, engine).status();
        if !status.unwrap().success() {
            exit(1);
        }
    }
}

fn engine() -> Arc<dyn Engine> {
    polychord::open(&std::env::var(ENGINE).unwrap()).unwrap()
}

/// A new guest of a module in text form.
fn guest(wat: &str) -> Box<dyn Runtime> {
    let module = engine().compile(&wat::parse_str(wat).unwrap()).unwrap();
    module.instantiate(&Limits::default()).unwrap()
}
