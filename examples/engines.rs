//! All engines that are compiled in, at once in one process, with one guest and equal bits.
//!
//! Wasmer and Wasmtime share a process. Compiled code of WasmEdge does not: it replaces the signal
//! handlers of others, so whichever comes second is refused, with the reason. Its interpreter uses
//! no signals, and shares.
//!
//! cargo run --release --features wasmtime,wasmedge --example engines
#![allow(clippy::print_stdout, reason = "an example")]

use std::sync::Arc;

use polychord::EngineOptions;
use polychord::api::{Engine, Error, Limits, Runtime, Value};

const GUEST: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "root") (param f64) (result f64) (f64.sqrt (local.get 0))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wasm = wat::parse_str(GUEST)?;
    let mut guests = Vec::new();
    for entry in polychord::ENGINES.iter().filter(|entry| entry.is_compiled_in()) {
        let as_it_is = EngineOptions::new();
        match entry.open(&as_it_is).map(|engine| start(&engine, &wasm)) {
            Ok(Ok(guest)) => guests.push((entry.name(), guest)),
            Ok(Err(why)) => println!("{}: {why}", entry.name()),
            Err(why) => println!("{}: {why}", entry.name()),
        }
        if entry.name() == "wasmedge" {
            let engine = entry.open(&as_it_is.with_variant("interpreter"))?;
            guests.push(("wasmedge, interpreted", start(&engine, &wasm)?));
        }
    }
    for (name, guest) in &mut guests {
        let root = guest.call("root", &[Value::F64(2.0)])?;
        println!("{name}: {root:?}");
        assert_eq!(root, [Value::F64(2_f64.sqrt())]);
    }
    Ok(())
}

fn start(engine: &Arc<dyn Engine>, wasm: &[u8]) -> Result<Box<dyn Runtime>, Error> {
    engine.compile(wasm)?.instantiate(&Limits::default())
}
