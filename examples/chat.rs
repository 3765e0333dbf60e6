//! A conversation on the terminal: `cargo run --release --example chat MODEL.gguf`.
#![allow(missing_docs, clippy::print_stdout, reason = "an example")]

use std::io::{Write, stdin, stdout};
use std::time::Duration;

use polychord::model::{Chat, GenerateOptions, Model, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: chat MODEL.gguf")?;
    let engine = polychord::open(polychord::default_engine().ok_or("no engine is compiled in")?)?;
    let session = Transformer::new(&engine)?.start(&Model::open(path)?, &SessionOptions::new())?;
    let mut chat = Chat::new(session)?;
    let options = GenerateOptions::new().max_tokens(200).deadline(Duration::from_secs(60));
    for line in stdin().lines() {
        chat.user(line?)?;
        for token in chat.answer(&options)? {
            print!("{}", token?.text);
            stdout().flush()?;
        }
        println!();
        if let Some(finish) = chat.finish() {
            println!("({finish})");
        }
    }
    Ok(())
}
