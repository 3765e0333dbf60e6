//! A command for WASI that describes the layers whose numbers it gets as arguments.
//!
//!     polychord run report.wasm --model model.gguf -- 0 1 2

use std::process::ExitCode;

use polychord_guest::{Error, layer, memory64};

fn main() -> ExitCode {
    let mut refused = 0;
    for id in std::env::args().skip(1) {
        match id.parse().map_err(|_| Error::LayerNotFound).and_then(describe) {
            Ok(line) => println!("layer {id}: {line}"),
            Err(error) => {
                refused += 1;
                eprintln!("layer {id}: {error}");
            }
        }
    }
    match memory64::stats() {
        Ok(stats) => println!("{} loaded, {} of them mapped", stats.loads, stats.maps),
        Err(error) => println!("no statistics: {error}"),
    }
    ExitCode::from(refused)
}

fn describe(id: u32) -> Result<String, Error> {
    polychord_guest::call(|call| {
        let bytes = layer::map(call, id)?.bytes();
        let sum = bytes.iter().fold(0_u64, |sum, byte| sum + u64::from(*byte));
        Ok(format!("{} bytes, which sum up to {sum}", bytes.len()))
    })
}
