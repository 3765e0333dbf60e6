//! Several answers to one prompt at once, which keep all stages of a pipeline busy.

use std::fmt::Write as _;
use std::io::Write as _;
use std::time::Instant;

use polychord::model::sampler::Sampler;
use polychord::model::tokenizer::Tokenizer;
use polychord::model::{Flow, Logits, Session};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::args::Args;
use crate::cli::company::Company;
use crate::cli::terminal::Plain;
use crate::cli::{Failure, terminal};

/// One answer.
struct Answer {
    sampler: Sampler,
    /// With the prompt.
    tokens: Vec<u32>,
    hash: Sha256,
    failure: Option<Failure>,
}

/// Computes what the first process asks for.
pub(super) fn follow(session: Session, args: &Args, company: &Company) -> Result<(), Failure> {
    let flow = Flow::follow(&mut several(session, args)?)?;
    company.tell_of(&flow)?;
    company.traffic()?;
    Ok(())
}

/// Answers a prompt several times, each with the next seed.
pub(super) fn lead(
    session: Session,
    tokenizer: Option<&Tokenizer>,
    prompt: &[u32],
    args: &Args,
    company: &Company,
) -> Result<(), Failure> {
    let mut sessions = several(session, args)?;
    let mut answers = Vec::new();
    for number in 0..args.sequences {
        let sampling = args.sampling();
        let seed = sampling.seed.wrapping_add(number.into());
        let sampler = Sampler::new(&sampling.seed(seed))?;
        let (tokens, hash) = (prompt.to_vec(), Sha256::new());
        answers.push(Answer { sampler, tokens, hash, failure: None });
    }
    let most = prompt.len().saturating_add(args.max_tokens);
    let prompts = vec![prompt.to_vec(); answers.len()];
    let start = Instant::now();
    let flow = Flow::lead(&mut sessions, &prompts, &mut |number, logits| {
        answers[number].next(logits, tokenizer, most)
    })?;
    let took = start.elapsed();
    let busy = company.tell_of(&flow)?;
    let traffic = company.traffic()?;
    let mut objects = Vec::new();
    for answer in answers {
        if let Some(failure) = answer.failure {
            return Err(failure);
        }
        let ids = &answer.tokens[prompt.len()..];
        let text = tokenizer.map(|tokenizer| tokenizer.decode(ids)).transpose()?;
        let hash = answer.hash.finalize().iter().fold(String::new(), |mut text, byte| {
            _ = write!(text, "{byte:02x}");
            text
        });
        objects.push(json!({ "ids": ids, "text": text, "logits_sha256": hash }));
    }
    let tokens: usize = objects.iter().map(|it| it["ids"].as_array().map_or(0, Vec::len)).sum();
    #[allow(clippy::cast_precision_loss, reason = "counts of tokens are small")]
    let speed = tokens as f64 / took.as_secs_f64();
    if args.json {
        let object = json!({
            "sequences": objects,
            "tokens_per_second": speed,
            "stages_busy": busy,
            "traffic": traffic,
        });
        terminal::print_json(&object)?;
        return Ok(());
    }
    let mut out = Plain::new(std::io::stdout().lock());
    for (number, object) in objects.iter().enumerate() {
        let ids = object["ids"].to_string();
        writeln!(out, "{number}: {}", object["text"].as_str().unwrap_or(&ids))?;
    }
    if !args.quiet {
        let parts: Vec<_> = busy.iter().map(|part| format!("{:.0} %", part * 100.0)).collect();
        let mut err = Plain::new(std::io::stderr());
        writeln!(err, "\n{speed:.2} tokens/s in all; stages were busy for {}", parts.join(", "))?;
    }
    Ok(())
}

fn several(session: Session, args: &Args) -> Result<Vec<Session>, Failure> {
    let mut sessions = Vec::new();
    for _ in 1..args.sequences {
        sessions.push(session.fork()?);
    }
    sessions.insert(0, session);
    Ok(sessions)
}

impl Answer {
    /// The next token that is to be computed; none at the end, or if none could be drawn.
    fn next(
        &mut self,
        logits: Logits<'_>,
        tokenizer: Option<&Tokenizer>,
        most: usize,
    ) -> Option<u32> {
        self.hash.update(logits.as_bytes());
        match self.sampler.sample(logits.iter(), &self.tokens) {
            Ok(token) => {
                self.tokens.push(token);
                let is_end = tokenizer.is_some_and(|it| it.is_end_of_generation(token));
                (!is_end && self.tokens.len() < most).then_some(token)
            }
            Err(error) => {
                self.failure = Some(error.into());
                None
            }
        }
    }
}
