//! Generating with a session that computes in a process of its own.

use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use polychord::isolate::Isolated;
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
    let path = find(args)?;
    let load = args.load.choose(Some(&path), args.use_of(&args.placement()?)).load;
    let model = args.template.apply(open(&path, load)?)?;
    let beginning = Beginning::new(&model, args)?;
    let other = other(args, &model, load, beginning.tokens.len())?;
    let mut session = other.start()?;
    let ready = start.elapsed();

    let mut recorder = Recorder::new(args)?;
    let tokenizer = match args.prompt_ids {
        Some(_) => model.tokenizer().ok(),
        None => Some(model.tokenizer()?),
    };
    let as_ids = args.ids || tokenizer.is_none();
    let mut output = Output { args, as_ids, text: String::new(), ids: Vec::new() };
    let prompt = &beginning.tokens;
    let max_tokens = args.max_tokens.min(room(other.context, prompt));
    let (begin, mut first) = (Instant::now(), Duration::ZERO);
    let generation =
        Generation::resume(&mut session, tokenizer, prompt, &beginning.answer, max_tokens)?;
    let mut generation = args.hold.apply(format.as_ref(), &model, &beginning.stops, generation)?;
    while let Some(token) = generation.next() {
        let token = token?;
        if output.ids.is_empty() {
            first = begin.elapsed();
        }
        recorder.record(generation.logits())?;
        output.push(token.id, &token.text)?;
    }
    drop(generation);
    output.finish()?;
    let took = begin.elapsed();
    let report = Report { model: path, prompt, output: &output, ready, first, took };
    if args.json {
        report.print_json(&other, &session, recorder.finish()?)
    } else if args.quiet {
        Ok(())
    } else {
        report.print_summary(&session)
    }
}

fn find(args: &Args) -> Result<PathBuf, Failure> {
    match args.model.clone().unwrap_or_default() {
        ModelArg::Named(model) => args.find.find(&model),
        ModelArg::Web(url) => Err(Failure::usage(format!(
            "{url} is on a server, which an isolated process does not reach: fetch it first"
        ))),
    }
}

/// The session of the other process, by the options of this command. Compiled code is in the cache then, which
/// that process only reads.
fn other(args: &Args, model: &Model, load: Load, prompt: usize) -> Result<IsolatedArgs, Failure> {
    let placement = args.placement()?;
    let engine = args.engine.open()?;
    let transformer = Transformer::with_flavor(&engine, args.guest)?.memory64(args.memory64);
    transformer.prepare(&placement)?;
    let mut options = session_options(model, args, prompt, placement);
    shorten(&mut options, model, args, prompt, engine.capabilities());
    Ok(IsolatedArgs {
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
        context: options.context.unwrap_or(model.config().context_length),
        memory: IsolatedArgs::memory_for(isolated::bytes(model)),
    })
}

/// How it went, as far as this process knows.
struct Report<'a> {
    model: PathBuf,
    prompt: &'a [u32],
    output: &'a Output<'a>,
    ready: Duration,
    first: Duration,
    took: Duration,
}

impl Report<'_> {
    fn print_json(
        &self,
        other: &IsolatedArgs,
        session: &Isolated,
        sha256: Option<String>,
    ) -> Result<(), Failure> {
        let started = session.started();
        let object = serde_json::json!({
            "engine": started.engine,
            "isolated": true,
            "model": self.model,
            "placement": started.placement,
            "placement_reason": started.reason,
            "context": other.context,
            "ranks": started.ranks,
            "prompt_ids": self.prompt,
            "ids": self.output.ids,
            "text": self.output.text,
            "logits_sha256": sha256,
            "timings_ms": {
                "ready": ms(self.ready),
                "first_token": ms(self.first),
                "generate": ms(self.took),
            },
            "tokens_per_second": self.speed(),
            "guest_bytes": started.guest_bytes,
        });
        writeln!(std::io::stdout(), "{}", terminal::json(&object.to_string()))?;
        Ok(())
    }

    fn print_summary(&self, session: &Isolated) -> Result<(), Failure> {
        let started = session.started();
        let speed = self.speed().map_or("-".into(), |speed| format!("{speed:.1} tokens/s"));
        let lines = [
            (
                "engine",
                format!("{} in process {}, which may only compute", started.engine, session.id()),
            ),
            ("placement", format!("{}: {}", started.placement, started.reason)),
            (
                "tokens",
                format!("{} prompt + {} generated", self.prompt.len(), self.output.ids.len()),
            ),
            (
                "first token",
                format!("{:.0} ms after {:.0} ms to start", ms(self.first), ms(self.ready)),
            ),
            ("speed", format!("{speed} by {} ranks", started.ranks)),
            ("memory", format!("guest {}", size::bytes(started.guest_bytes))),
        ];
        let mut stderr = Plain::new(std::io::stderr());
        writeln!(stderr)?;
        for (name, value) in lines {
            writeln!(stderr, "{name:>12}  {value}")?;
        }
        Ok(())
    }

    /// Tokens per second after the first.
    fn speed(&self) -> Option<f64> {
        let after =
            u32::try_from(self.output.ids.len().checked_sub(1)?).ok().filter(|it| *it > 0)?;
        Some(f64::from(after) / self.took.saturating_sub(self.first).as_secs_f64())
    }
}
