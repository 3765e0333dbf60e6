//! Times several sequences that are computed together, for scripts/bench-peers: prints one JSON object.
//!
//! cargo run --release --example sequences -- MODEL.gguf ENGINE RANKS IDS DECODE SEQUENCES
//!
//! IDS are the prompt's ids with commas between them. Each sequence begins with it, and each step computes
//! the next token of all of them.
#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Instant;

use polychord::model::sampler::{Sampler, Sampling};
use polychord::model::{Batch, Model, Session, SessionOptions, Transformer};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [path, engine, ranks, ids, decode, sequences] = &args[..] else {
        return Err("usage: sequences MODEL.gguf ENGINE RANKS IDS DECODE SEQUENCES".into());
    };
    let prompt = ids.split(',').map(str::parse).collect::<Result<Vec<u32>, _>>()?;
    let (decode, sequences): (usize, usize) = (decode.parse()?, sequences.parse()?);
    let model = Model::open(path)?;
    let context = u32::try_from(prompt.len() + decode + 1)?;
    let options = SessionOptions::new().context(context).ranks(ranks.parse()?);
    let transformer = Transformer::new(&polychord::open(engine)?)?;
    let start = |_| transformer.start(&model, &options);
    let mut sessions = (0..sequences).map(start).collect::<Result<Vec<_>, _>>()?;

    let mut sampler = Sampler::new(&Sampling::greedy())?;
    let begin = Instant::now();
    let mut next = Vec::new();
    for session in &mut sessions {
        next.push(sampler.sample(session.eval(&prompt)?.iter(), &[])?);
    }
    let prompt_ms = begin.elapsed().as_secs_f64() * 1e3 / sequences as f64;
    let (mut made, begin) = (vec![next[0]], Instant::now());
    for _ in 0..decode {
        let mut members: Vec<_> = sessions.iter_mut().zip(next).collect();
        Batch::step(&mut members)?;
        let best = |(session, _): &(&mut Session, _)| sampler.sample(session.logits().iter(), &[]);
        next = members.iter().map(best).collect::<Result<_, _>>()?;
        made.push(next[0]);
    }
    let decode_ms = begin.elapsed().as_secs_f64() * 1e3;
    println!("{{\"prompt_ms\": {prompt_ms}, \"decode_ms\": {decode_ms}, \"ids\": {made:?}}}");
    Ok(())
}
