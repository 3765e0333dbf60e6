//! A model from bytes in memory: downloaded, embedded or decrypted, and in no file.
//!
//! Its layers are copied into guests; only files can be mapped.
//!
//! cargo run --release --example from_memory -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::api::Source;
use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{GenerateOptions, Generator, Model, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: from_memory MODEL.gguf")?;
    let bytes = std::fs::read(path)?;
    // The name stands in errors.
    let model = Model::from_source("a model in memory", Source::from_bytes(bytes))?;
    let engine = polychord::open("wasmer")?;
    let session = Transformer::new(&engine)?.start(&model, &SessionOptions::new().context(64))?;
    assert_eq!(session.load_report().mapped, 0);
    let mut generator = Generator::new(session)?;
    let prompt =
        model.tokenizer()?.encode_prompt("The capital of France is", SpecialTokens::Parse)?;
    generator.begin(&prompt, &GenerateOptions::new().max_tokens(8).stop(["\n"]))?;
    for token in &mut generator {
        print!("{}", token?.text);
    }
    println!("\n[{:?}]", generator.finish());
    Ok(())
}
