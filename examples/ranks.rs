//! Two ranks: threads that compute the rows and heads of one network together, to the same bits.
//!
//! cargo run --release --example ranks -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Model, Ranks, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: ranks MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let (model, transformer) = (Model::open(path)?, Transformer::new(&engine)?);
    let text = "Two threads compute one network, and";
    let prompt = model.tokenizer()?.encode_prompt(text, SpecialTokens::Parse)?;

    let mut logits = Vec::new();
    for ranks in [Ranks::Exactly(1), Ranks::Exactly(2)] {
        let options = SessionOptions::new().context(64).ranks(ranks);
        let mut session = transformer.start(&model, &options)?;
        logits.push(session.eval(&prompt)?.as_bytes().to_vec());
        let time = session.profile().prompt;
        println!("{ranks} rank(s): {:?}, of which {:?} exchanging", time.total, time.ranks);
    }
    assert!(logits[0] == logits[1], "the logits differ");
    println!("{} bytes of logits are equal", logits[0].len());
    Ok(())
}
