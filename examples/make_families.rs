//! Writes a small random model of each family into a folder, the one that its test has: to see what
//! other programs and other processors make of them.
//!
//! cargo run --release --example make_families -- FOLDER
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for tests")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;

use common::architecture::{Family, Shape};

/// What is needed of a file in tests/data/architectures.
#[derive(serde::Deserialize)]
struct Golden {
    architecture: String,
    seed: u64,
    model: Shape,
}

fn main() {
    let folder = std::env::args().nth(1).expect("usage: make_families FOLDER");
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/architectures");
    let mut paths: Vec<_> = data.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "json")) {
        let golden: Golden = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        let Golden { architecture, seed, model: shape } = golden;
        let name = path.file_stem().unwrap();
        let file = Path::new(&folder).join(name).with_extension("gguf");
        std::fs::write(file, Family { architecture, seed, shape }.file()).unwrap();
        println!("{}", name.display());
    }
}
