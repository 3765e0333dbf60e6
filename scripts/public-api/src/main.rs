//! Prints the public items of a crate, one a line.
//!
//! polychord-public-api RUSTDOC.json

use std::error::Error;

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("usage: polychord-public-api RUSTDOC.json")?;
    let api = public_api::Builder::from_rustdoc_json(file)
        // What every type has, and what the compiler finds by itself.
        .omit_blanket_impls(true)
        .omit_auto_trait_impls(true)
        .build()?;
    for item in api.items() {
        println!("{item}");
    }
    Ok(())
}
