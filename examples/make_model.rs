//! Writes a GGUF file in the shape of a well-known model, with random weights: to see how large
//! models are placed and paged, without having them.
//!
//! cargo run --release --example make_model -- 8b Q4_1 model.gguf
#![allow(clippy::print_stdout, reason = "a tool for tests")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::PathBuf;

use clap::Parser;
use common::large;
use polychord::model::gguf::GgmlType;

#[derive(Parser)]
struct Args {
    /// 1b, 3b, 8b, 13b, 70b or 405b
    shape: String,
    /// Type of the matrices in blocks, such as Q4_1
    kind: String,
    /// The file to write
    file: PathBuf,
    /// Leave weights out: they read as zeros, and the file takes no room on disk
    #[arg(long)]
    sparse: bool,
}

fn main() -> Result<(), String> {
    let args = Args::parse();
    let kind = GgmlType::ALL.iter().find(|kind| kind.name() == args.kind);
    let kind = kind.ok_or_else(|| format!("there is no type {}", args.kind))?;
    let shape = large::shape(&args.shape, *kind);
    let shape = shape.ok_or_else(|| format!("there is no shape {}", args.shape))?;
    let bytes = large::write(&shape, args.sparse, &args.file);
    println!("{bytes} bytes");
    Ok(())
}
