//! Statistics of a session: how weights came in, what memories hold, where the time went.
//!
//! cargo run --release --example stats -- MODEL.gguf
#![allow(clippy::print_stdout, reason = "an example")]

use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Model, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).ok_or("usage: stats MODEL.gguf")?;
    let engine = polychord::open("wasmer")?;
    let model = Model::open(path)?;
    // `profile` tells attention and feed-forward apart.
    let options = SessionOptions::new().context(64).profile();
    let mut session = Transformer::new(&engine)?.start(&model, &options)?;
    let tokenizer = model.tokenizer()?;
    session.eval(&tokenizer.encode_prompt("Where does the time go?", SpecialTokens::Parse)?)?;

    let load = session.load_report();
    println!("{} layers mapped, {} copied in {:?}", load.mapped, load.copied, load.took);
    for guest in session.memory_stats() {
        for memory in guest.memories {
            let in_ram = memory.resident_bytes.unwrap_or(memory.reserved_bytes);
            println!("guest {}: {in_ram} of {} bytes in RAM", guest.guest, memory.reserved_bytes);
            println!("  {:?}, because {}", memory.backing, memory.reason);
        }
    }
    let report = session.report();
    let prompt = report.profile.prompt;
    println!("{} layers loaded, {} refusals", report.totals.loads, report.totals.errors);
    println!("{} tokens in {:?}: attention {:?}", prompt.tokens, prompt.total, prompt.attention);
    println!("  feed-forward {:?}, output {:?}", prompt.feed_forward, prompt.head);
    Ok(())
}
