//! Writes a small random model of each family into a folder, the one that its test has: to see what
//! other programs and other processors make of them; or with `embeddings` those that give embeddings.
//!
//! cargo run --release --example make_families -- FOLDER [embeddings]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for tests")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;

use common::architecture::Family;
use common::encoders::Encoder;

/// What is needed of a file in tests/data/embeddings.
#[derive(serde::Deserialize)]
struct Embeddings {
    model: Encoder,
}

fn main() {
    let mut args = std::env::args().skip(1);
    let folder = args.next().expect("usage: make_families FOLDER [embeddings]");
    let gives_embeddings = args.next().is_some_and(|kind| kind == "embeddings");
    let kind = if gives_embeddings { "embeddings" } else { "architectures" };
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(kind);
    let mut paths: Vec<_> = data.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    for path in paths.iter().filter(|path| path.extension().is_some_and(|it| it == "json")) {
        let json = std::fs::read(path).unwrap();
        let bytes = if gives_embeddings { encoder(&json) } else { family(&json) };
        let name = path.file_stem().unwrap();
        let file = Path::new(&folder).join(name).with_extension("gguf");
        std::fs::write(file, bytes).unwrap();
        println!("{}", name.display());
    }
}

fn family(json: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<Family>(json).unwrap().file()
}

fn encoder(json: &[u8]) -> Vec<u8> {
    serde_json::from_slice::<Embeddings>(json).unwrap().model.file()
}
