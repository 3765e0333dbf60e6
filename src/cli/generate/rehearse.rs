//! What one host of a plan would do, without the others.

use std::io::Write as _;
use std::time::{Duration, Instant};

use polychord::model::Session;
use serde_json::json;

use super::args::Args;
use super::report::{ms, peak_memory};
use crate::cli::terminal::Plain;
use crate::cli::{Failure, size, terminal};

/// Evaluates a prompt and some tokens on one stage alone, and says what they take. Logits mean nothing, and
/// the tokens that follow the prompt are all the same.
pub(super) fn run(
    mut session: Session,
    prompt: &[u32],
    args: &Args,
    ready: Duration,
) -> Result<(), Failure> {
    let load = session.load_report();
    let start = Instant::now();
    session.eval(prompt)?;
    let first = start.elapsed();
    let token = prompt.first().copied().unwrap_or_default();
    let mut times = Vec::new();
    for _ in 0..args.max_tokens.min((session.context() - session.position()) as usize) {
        let start = Instant::now();
        session.eval(&[token])?;
        times.push(start.elapsed());
    }
    times.sort_unstable();
    let median = times.get(times.len() / 2).copied();
    let guests = session.memory_stats().len();
    if args.json {
        let object = json!({
            "weights": load.bytes,
            "guests": guests,
            "ready_ms": ms(ready),
            "prompt_tokens": prompt.len(),
            "prompt_ms": ms(first),
            "token_ms": median.map(ms),
            "peak_memory_bytes": peak_memory(),
        });
        writeln!(std::io::stdout(), "{}", terminal::json(&object.to_string()))?;
        return Ok(());
    }
    let mut out = Plain::new(std::io::stdout().lock());
    writeln!(out, "{} of weights in {guests} guests", size::bytes(load.bytes))?;
    writeln!(out, "ready in {:.0} ms", ms(ready))?;
    writeln!(out, "{} tokens of a prompt in {:.0} ms", prompt.len(), ms(first))?;
    if let Some(median) = median {
        writeln!(out, "a token in {:.1} ms", ms(median))?;
    }
    Ok(())
}
