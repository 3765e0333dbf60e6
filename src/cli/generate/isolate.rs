//! Generating with a session that computes in a process of its own.

use std::io::Write as _;
use std::time::{Duration, Instant};

use polychord::model::{Generation, Model, Transformer};

use super::args::Args;
use super::output::Output;
use super::report::{Recorder, ms};
use super::room::{room, session_options, shorten};
use super::travel::Beginning;
use crate::cli::isolated::{self, IsolatedArgs};
use crate::cli::load::{Load, open};
use crate::cli::model::ModelArg;
use crate::cli::terminal::{self, Plain};
use crate::cli::{Failure, size};

/// Generates text of what another process computes, which may do nothing else. Text, sampling and files are here.
pub(super) fn generate(args: &Args) -> Result<(), Failure> {
    let start = Instant::now();
    args.sampling().validate().map_err(Failure::usage)?;
    let format = args.hold.format()?;
    let placement = args.placement()?;
    let path = match args.model.clone().unwrap_or_default() {
        ModelArg::Named(model) => args.find.find(&model)?,
        ModelArg::Web(url) => {
            let reason = format!(
                "{url} is on a server, which an isolated process does not reach: fetch it first"
            );
            return Err(Failure::usage(reason));
        }
    };
    let load = args.load.choose(Some(&path), args.use_of(&placement)).load;
    let model = open(&path, load)?;
    let beginning = Beginning::new(&model, args)?;
    let prompt = beginning.tokens.clone();
    // Compiled code is in the cache then, which the other process only reads.
    let engine = args.engine.open()?;
    let transformer = Transformer::with_flavor(&engine, args.guest)?.memory64(args.memory64);
    transformer.prepare(&placement)?;
    let mut options = session_options(&model, args, prompt.len(), placement);
    shorten(&mut options, &model, args, prompt.len(), engine.capabilities());
    let context = options.context.unwrap_or(model.config().context_length);
    let mut session = started_like(args, &model, load, context).start()?;
    let ready = start.elapsed();

    let mut recorder = Recorder::new(args)?;
    let tokenizer = match args.prompt_ids {
        Some(_) => model.tokenizer().ok(),
        None => Some(model.tokenizer()?),
    };
    let as_ids = args.ids || tokenizer.is_none();
    let mut output = Output { args, as_ids, text: String::new(), ids: Vec::new() };
    let max_tokens = args.max_tokens.min(room(context, &prompt));
    let (begin, mut first) = (Instant::now(), Duration::ZERO);
    let generation =
        Generation::resume(&mut session, tokenizer, &prompt, &beginning.answer, max_tokens)?;
    let mut generation = args.hold.apply(format.as_ref(), &model, generation)?;
    while let Some(token) = generation.next() {
        let token = token?;
        if output.ids.is_empty() {
            first = begin.elapsed();
        }
        recorder.record(generation.logits())?;
        output.push(token.id, &token.text)?;
    }
    let took = begin.elapsed();
    drop(generation);
    output.finish()?;
    let speed = (output.ids.len() > 1).then(|| {
        let after = u32::try_from(output.ids.len() - 1).unwrap_or(u32::MAX);
        f64::from(after) / took.saturating_sub(first).as_secs_f64()
    });
    let told = session.started();
    let sha256 = recorder.finish()?;
    if args.json {
        let object = serde_json::json!({
            "engine": engine.capabilities().engine,
            "isolated": true,
            "model": path,
            "placement": told.placement,
            "placement_reason": told.reason,
            "context": context,
            "ranks": told.ranks,
            "prompt_ids": prompt,
            "ids": output.ids,
            "text": output.text,
            "logits_sha256": sha256,
            "timings_ms": { "ready": ms(ready), "first_token": ms(first), "generate": ms(took) },
            "tokens_per_second": speed,
            "guest_bytes": told.guest_bytes,
        });
        writeln!(std::io::stdout(), "{}", terminal::json(&object.to_string()))?;
    } else if !args.quiet {
        let lines = [
            (
                "engine",
                format!(
                    "{} in process {}, which may only compute",
                    engine.capabilities().engine,
                    session.id()
                ),
            ),
            ("placement", format!("{}: {}", told.placement, told.reason)),
            ("tokens", format!("{} prompt + {} generated", prompt.len(), output.ids.len())),
            ("first token", format!("{:.0} ms after {:.0} ms to start", ms(first), ms(ready))),
            (
                "speed",
                speed.map_or("-".into(), |speed| {
                    format!("{speed:.1} tokens/s by {} ranks", told.ranks)
                }),
            ),
            ("memory", format!("guest {}", size::bytes(told.guest_bytes))),
        ];
        let mut stderr = Plain::new(std::io::stderr());
        writeln!(stderr)?;
        for (name, value) in lines {
            writeln!(stderr, "{name:>12}  {value}")?;
        }
    }
    Ok(())
}

/// The session of the other process, by the options of this command.
fn started_like(args: &Args, model: &Model, load: Load, context: u32) -> IsolatedArgs {
    IsolatedArgs {
        model: model.path().to_owned(),
        engine: args.engine.clone(),
        load,
        placement: args.placement.clone(),
        plan: args.plan.clone(),
        activations: args.activations,
        cache_type: args.cache_type,
        ranks: args.ranks(),
        touch_ahead: args.touch_ahead,
        guest: args.guest,
        memory64: args.memory64,
        vocabulary: model.config().vocab,
        context,
        memory: IsolatedArgs::memory_for(isolated::bytes(model)),
    }
}
