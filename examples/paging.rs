//! A model in less memory than its weights have: layers share a window, with equal results.
//!
//! cargo run --release --example paging -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::api::Policy;
use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Error, GenerateOptions, Generator, Placement, Session};
use polychord::model::{Model, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: paging MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let (model, transformer) = (Model::open(path)?, Transformer::new(&engine)?);
    let weights: u64 = model.layers().iter().map(|layer| layer.bytes).sum();

    let resident = SessionOptions::new().context(64);
    let paged = resident.clone().placement(Placement::Paged {
        resident_bytes: Some(weights * 3 / 4),
        // The first layers stay, the rest stream through what is left of the window.
        policy: Policy::Pinned,
    });
    let (expected, _) = generate(transformer.start(&model, &resident)?)?;
    let (text, session) = generate(transformer.start(&model, &paged)?)?;
    assert_eq!(text, expected);
    let placed = session.placed();
    println!("{text}\n{weights} bytes of weights, {}: {}", placed.name, placed.reason);
    println!("{:?}", session.pager_stats().ok_or("layers are paged")?);
    Ok(())
}

fn generate(session: Session) -> Result<(String, Session), Error> {
    let prompt = session
        .model()
        .tokenizer()?
        .encode_prompt("The capital of France is", SpecialTokens::Parse)?;
    let mut generator = Generator::new(session)?;
    generator.begin(&prompt, &GenerateOptions::new().max_tokens(8))?;
    let text = generator.by_ref().map(|token| Ok(token?.text)).collect::<Result<_, Error>>()?;
    Ok((text, generator.into_session()))
}
