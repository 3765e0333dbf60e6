//! A conversation of two turns: the second one evaluates only what is new.
//!
//! cargo run --release --example chat -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::model::{Chat, GenerateOptions, Model, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: chat MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let model = Model::open(path)?;
    let session = Transformer::new(&engine)?.start(&model, &SessionOptions::new())?;
    let mut chat = Chat::new(session)?;
    let options = GenerateOptions::new().max_tokens(60);
    for question in ["Explain in one sentence what a language model is.", "What can I use one for?"]
    {
        chat.user(question)?;
        println!("> {question}");
        for token in chat.answer(&options)? {
            print!("{}", token?.text);
        }
        println!("\n[{:?}]", chat.finish());
    }
    Ok(())
}
