//! Sessions in threads: one model and one compiled guest, as many sequences as there are threads.
//!
//! cargo run --release --example threads -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use std::thread;

use polychord::model::{Chat, Error, GenerateOptions, Model, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: threads MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let transformer = Transformer::new(&engine)?;
    // Cheap to clone, and shared by all sessions.
    let model = Model::open(path)?;
    let (model, transformer) = (&model, &transformer);

    let answer = |question: &str| -> Result<String, Error> {
        let session = transformer.start(model, &SessionOptions::new().context(256))?;
        let mut chat = Chat::new(session)?;
        chat.user(question)?;
        let tokens = chat.answer(&GenerateOptions::new().max_tokens(40))?;
        tokens.map(|token| Ok(token?.text)).collect()
    };
    let questions = ["Write a haiku about the sea.", "Explain in one sentence what a computer is."];
    thread::scope(|scope| {
        let threads = questions.map(|question| scope.spawn(move || answer(question)));
        for (question, thread) in questions.into_iter().zip(threads) {
            println!("> {question}\n{}", thread.join().map_err(|_| "a thread panicked")??);
        }
        Ok(())
    })
}
