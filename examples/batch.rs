//! Several sequences that are computed together, and how many tokens a second that gives.
//!
//! cargo run --release --example batch -- MODEL.gguf [ENGINE [RANKS]]
#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Instant;

use polychord::model::sampler::{Sampler, Sampling};
use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Batch, Model, Session, SessionOptions, Transformer};

const PROMPTS: [&str; 8] = [
    "The capital of France is",
    "The capital of Japan is",
    "Water boils at",
    "A poem about rain begins with",
    "The largest planet is",
    "To make bread you need",
    "The opposite of hot is",
    "My favorite color is",
];
const TOKENS: usize = 24;
const COUNTS: [usize; 7] = [1, 2, 3, 4, 6, 7, 8];
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("usage: batch MODEL.gguf [ENGINE [RANKS]]")?;
    let engine = polychord::open(args.next().as_deref().unwrap_or("wasmer"))?;
    let ranks = args.next().as_deref().unwrap_or("auto").parse()?;
    let model = Model::open(path)?;
    let options = SessionOptions::new().context(256).ranks(ranks);
    let transformer = Transformer::new(&engine)?;
    let start = |_: &_| transformer.start(&model, &options);
    let mut sessions = PROMPTS.iter().map(start).collect::<Result<Vec<_>, _>>()?;
    // In turns, since other programs of the machine disturb all alike then.
    let mut speeds = COUNTS.map(|_| Vec::new());
    let mut passes = COUNTS;
    for _ in 0..ROUNDS {
        for (at, count) in COUNTS.into_iter().enumerate() {
            let (batch, speed) = continue_all(&mut sessions[..count])?;
            passes[at] = batch.passes;
            speeds[at].push(speed);
        }
    }
    let speeds = speeds.map(median);
    for ((count, passes), speed) in COUNTS.into_iter().zip(passes).zip(speeds) {
        let of_one = speed / speeds[0];
        println!("{count} at once, {passes} passes: {speed:.1} tokens/s, {of_one:.2} of one alone");
    }
    for session in &sessions {
        println!("- {:?}", model.tokenizer()?.decode(session.tokens())?);
    }
    Ok(())
}

/// Continues prompts, each in a session: how the last token was computed, and how many tokens a second
/// there were.
fn continue_all(sessions: &mut [Session]) -> Result<(Batch, f64), Box<dyn std::error::Error>> {
    let (mut next, mut sampler) = (Vec::new(), Sampler::new(&Sampling::greedy())?);
    for (session, prompt) in sessions.iter_mut().zip(PROMPTS) {
        let model = session.model().clone();
        let tokens = model.tokenizer()?.encode_prompt(prompt, SpecialTokens::AsText)?;
        session.reset();
        next.push(sampler.sample(session.eval(&tokens)?.iter(), &[])?);
    }
    let (start, mut batch) = (Instant::now(), Batch::default());
    for _ in 0..TOKENS {
        let mut members: Vec<_> = sessions.iter_mut().zip(next).collect();
        batch = Batch::step(&mut members)?;
        let best = |(session, _): &(&mut Session, _)| sampler.sample(session.logits().iter(), &[]);
        next = members.iter().map(best).collect::<Result<_, _>>()?;
    }
    let tokens = (TOKENS * sessions.len()) as f64;
    Ok((batch, tokens / start.elapsed().as_secs_f64()))
}

fn median(mut speeds: Vec<f64>) -> f64 {
    speeds.sort_by(f64::total_cmp);
    speeds[speeds.len() / 2]
}
