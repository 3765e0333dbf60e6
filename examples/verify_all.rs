//! Verifies receipts on one engine, for which the guest is compiled once; with `portable` by code that uses no
//! extension of this processor.
//!
//! cargo run --release --features wasmtime --example verify_all -- wasmer[-portable] MODEL RECEIPT [MODEL RECEIPT...]
#![allow(clippy::print_stdout, reason = "a tool for tests")]

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use polychord::api::Engine;
use polychord::model::{Model, SessionOptions, Transformer, Verifier};
use polychord::receipts::Receipt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("usage: verify_all ENGINE MODEL RECEIPT...")?;
    let transformer = Transformer::new(&open(&name)?)?;
    let paths: Vec<_> = args.collect();
    for pair in paths.chunks(2) {
        let [model, receipt] = pair else { return Err("a model without a receipt".into()) };
        let verdict = Verifier::new(&Receipt::read(File::open(receipt)?)?).verify(
            &transformer,
            &Model::open(model)?,
            &SessionOptions::new(),
        )?;
        println!("{model}: {verdict}");
        if !verdict.is_verified() {
            return Err(format!("{receipt} is not verified on {name}").into());
        }
    }
    Ok(())
}

fn open(name: &str) -> Result<Arc<dyn Engine>, Box<dyn Error>> {
    Ok(match name {
        #[cfg(feature = "wasmer")]
        "wasmer-portable" => Arc::new(polychord::wasmer::WasmerEngine::portable()?),
        #[cfg(feature = "wasmtime")]
        "wasmtime-portable" => Arc::new(polychord::wasmtime::WasmtimeEngine::portable()?),
        name => polychord::open(name)?,
    })
}
