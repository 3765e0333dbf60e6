#![allow(missing_docs, clippy::print_stdout, reason = "an example")]

use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Generation, Model, Sampling, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: generate MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let model = Model::open(path)?;
    let mut session = Transformer::new(&engine)?.start(&model, &SessionOptions::default())?;
    let tokenizer = model.tokenizer()?;
    let prompt = tokenizer.encode_prompt("The capital of France is", SpecialTokens::Parse)?;
    for token in Generation::new(&mut session, tokenizer, &prompt, &Sampling::greedy(), 32)? {
        print!("{}", token?.text);
    }
    Ok(())
}
