//! Verifies receipts on wasmi, which runs on any processor: `verify MODEL RECEIPT [MODEL RECEIPT...]`.
//!
//! A program without a compiler in it, which `scripts/test-processors` builds for another one.
#![allow(clippy::print_stdout, reason = "a tool for tests")]

use std::error::Error;
use std::fs::File;
use std::sync::Arc;

use polychord_example_wasmi::WasmiEngine;
use polychord_receipts::Receipt;
use polychord_runtime_api::Engine;
use polychord_session::{Model, SessionOptions, Transformer, Verifier};

fn main() -> Result<(), Box<dyn Error>> {
    let engine: Arc<dyn Engine> = Arc::new(WasmiEngine::new()?);
    let transformer = Transformer::new(&engine)?;
    let paths: Vec<_> = std::env::args().skip(1).collect();
    for pair in paths.chunks(2) {
        let [model, receipt] = pair else { return Err("a model without a receipt".into()) };
        let verdict = Verifier::new(&Receipt::read(File::open(receipt)?)?).verify(
            &transformer,
            &Model::open(model)?,
            &SessionOptions::new(),
        )?;
        println!("{model}: {verdict}");
        if !verdict.is_verified() {
            return Err(format!("{receipt} is not verified on {}", std::env::consts::ARCH).into());
        }
    }
    Ok(())
}
