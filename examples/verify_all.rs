//! Verifies receipts on one engine, for which the guest is compiled once.
//!
//! cargo run --release --example verify_all -- wasmer MODEL RECEIPT [MODEL RECEIPT...]
#![allow(clippy::print_stdout, reason = "a tool for tests")]

use std::error::Error;
use std::fs::File;

use polychord::model::{Model, SessionOptions, Transformer, Verifier};
use polychord::receipts::Receipt;

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let name = args.next().ok_or("usage: verify_all ENGINE MODEL RECEIPT...")?;
    let transformer = Transformer::new(&polychord::open(&name)?)?;
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
