//! One answer on its way.

use std::collections::BTreeMap;
use std::time::Instant;

use polychord_model::sampler::Sampler;
use polychord_model::tokenizer::{PendingText, Tokenizer};
use polychord_receipts::ReceiptBuilder;
use polychord_session::generate::{Pushed, StopTexts};
use polychord_session::{Error, Finish, Logits, Model, Result, Session};
use tokio::sync::mpsc::UnboundedSender;

use super::job::{Event, Job, Logprob, TokenEvent, TokenLogprobs, Usage};
use super::queue::Waiting;
use super::receipts::Receipts;
use crate::metrics::ModelMetrics;

/// One answer on its way.
pub(super) struct Turn {
    job: Job,
    events: UnboundedSender<Event>,
    since: Instant,
    sampler: Sampler,
    /// Bytes of a character that is not complete.
    pending: PendingText,
    stops: StopTexts,
    /// The prompt, and what was generated.
    tokens: Vec<u32>,
    cached: usize,
    last_token: Option<Instant>,
    /// Logits with what was added to them; made if something is.
    biased: Vec<f32>,
    receipt: Option<ReceiptBuilder>,
}

impl Turn {
    /// Begins an answer in a session, which keeps what it has seen of the prompt, and its receipt if one is wanted.
    pub(super) fn begin(
        waiting: Waiting,
        session: &mut Session,
        wants_receipt: bool,
    ) -> Result<Self, Box<(Waiting, Error)>> {
        let prepared = prepare(&waiting.job, session, wants_receipt);
        let (sampler, cached, receipt) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => return Err(Box::new((waiting, error))),
        };
        let Waiting { job, events, since } = waiting;
        Ok(Self {
            sampler,
            cached,
            events,
            since,
            pending: PendingText::default(),
            stops: StopTexts::new(&job.stop),
            tokens: job.prompt.clone(),
            last_token: None,
            biased: Vec::new(),
            receipt,
            job,
        })
    }

    /// What the session has not seen yet: one token, if the prompt is evaluated.
    pub(super) fn rest(&self, session: &Session) -> &[u32] {
        &self.tokens[session.tokens().len()..]
    }

    /// What ends the answer before its next token.
    pub(super) fn interrupted(&self) -> Option<Finish> {
        if self.events.is_closed() {
            return Some(Finish::Cancelled);
        }
        let is_late = self.job.deadline.is_some_and(|at| Instant::now() >= at);
        is_late.then_some(Finish::Deadline)
    }

    /// Chooses a token and delivers it; tells why the answer has ended, if it has.
    pub(super) fn choose(
        &mut self,
        model: &Model,
        logits: Logits<'_>,
        context: u32,
        metrics: &ModelMetrics,
    ) -> Result<Option<Finish>> {
        let tokenizer = model.tokenizer()?;
        let id = self.sample(tokenizer, logits)?;
        self.tokens.push(id);
        if let Some(receipt) = &mut self.receipt {
            receipt.push(id, logits.as_bytes());
        }
        self.measure(metrics);
        let is_end = tokenizer.is_end_of_generation(id);
        let is_complete = self.follow(id, is_end)?;
        let text = if is_end { String::new() } else { self.pending.push(tokenizer, id)? };
        let finish = if is_end || is_complete {
            Some(Finish::EndOfText)
        } else if self.job.max_tokens.is_some_and(|most| self.generated() >= most) {
            Some(Finish::MaxTokens)
        } else if self.tokens.len() > context as usize {
            Some(Finish::ContextFull)
        } else {
            None
        };
        let (text, finish) = self.deliver(text, finish);
        let logprobs = match self.job.logprobs {
            Some(count) => Some(logprobs(model, logits, id, count)?),
            None => None,
        };
        let sent = self.events.send(Event::Token(TokenEvent { id, text, logprobs }));
        Ok(if sent.is_err() { Some(Finish::Cancelled) } else { finish })
    }

    /// Tells that it has ended; its receipt goes to the others.
    pub(super) fn end(&mut self, finish: Finish, receipts: Option<&Receipts>) {
        let usage = Usage {
            prompt: self.job.prompt.len(),
            cached: self.cached,
            generated: self.generated(),
        };
        let receipt =
            self.receipt.take().filter(|_| usage.generated > 0 && !self.events.is_closed());
        let receipt = receipt.zip(receipts).map(|(receipt, all)| all.keep(receipt));
        // A client that is gone is told nothing.
        _ = self.events.send(Event::End { finish, usage, receipt });
    }

    /// Tells that it cannot go on.
    pub(super) fn fail(&self, kind: polychord_session::ErrorKind, message: String) {
        _ = self.events.send(Event::Failed { kind, message });
    }

    pub(super) const fn since(&self) -> Instant {
        self.since
    }

    pub(super) const fn cached(&self) -> usize {
        self.cached
    }

    pub(super) fn prompt(&self) -> &[u32] {
        &self.job.prompt
    }

    fn generated(&self) -> usize {
        self.tokens.len() - self.job.prompt.len()
    }

    fn sample(&mut self, tokenizer: &Tokenizer, logits: Logits<'_>) -> Result<u32> {
        if self.job.logit_bias.is_empty() && self.job.constraint.is_none() {
            return Ok(self.sampler.sample(logits.iter(), &self.tokens)?);
        }
        self.biased.clear();
        self.biased.extend(logits.iter());
        for (id, bias) in &self.job.logit_bias {
            let logit = usize::try_from(*id).ok().and_then(|id| self.biased.get_mut(id));
            // Never infinite, which the sampler takes for damage.
            logit.into_iter().for_each(|it| *it = (*it + bias).min(f32::MAX));
        }
        if let Some(constraint) = &mut self.job.constraint {
            let ends = |id| tokenizer.is_end_of_generation(id);
            constraint.mask(&mut self.biased, ends).map_err(no_grammar)?;
        }
        Ok(self.sampler.sample(self.biased.iter().copied(), &self.tokens)?)
    }

    /// Follows the grammar; tells whether it is complete.
    fn follow(&mut self, id: u32, is_end: bool) -> Result<bool> {
        match &mut self.job.constraint {
            Some(constraint) if !is_end => constraint.take(id).map_err(no_grammar),
            _ => Ok(false),
        }
    }

    fn measure(&mut self, metrics: &ModelMetrics) {
        let now = Instant::now();
        metrics.generated_tokens.inc();
        match self.last_token.replace(now) {
            Some(before) => metrics.between_tokens.observe((now - before).as_secs_f64()),
            None => metrics.first_token.observe((now - self.since).as_secs_f64()),
        }
    }

    /// The text that is delivered with a token; with the last one all that was held back.
    fn deliver(&mut self, mut text: String, finish: Option<Finish>) -> (String, Option<Finish>) {
        if finish.is_some() {
            text += &self.pending.finish();
        }
        match self.stops.push(&text) {
            Pushed::Stopped { before, stop } => (before, Some(Finish::Stop(stop))),
            Pushed::Clear(clear) if finish.is_some() => (clear + &self.stops.take_held(), finish),
            Pushed::Clear(clear) => (clear, None),
        }
    }
}

/// A grammar that cost too much, or a defect of it.
fn no_grammar(reason: String) -> Error {
    polychord_model::chat::Error::Refused { reason: format!("the format of the answer: {reason}") }
        .into()
}

/// Lets a session forget what is not in the prompt; tells how much it has seen of it. Begins a receipt if one is
/// wanted.
fn prepare(
    job: &Job,
    session: &mut Session,
    wants_receipt: bool,
) -> Result<(Sampler, usize, Option<ReceiptBuilder>)> {
    let sampler = Sampler::new(&job.sampling)?;
    if job.stop.iter().any(String::is_empty) {
        return Err(Error::EmptyStop);
    }
    let Some(most) = job.prompt.len().checked_sub(1) else { return Err(Error::EmptyPrompt) };
    let context = session.context();
    if job.prompt.len() > context as usize {
        let (asked, limit) = (job.prompt.len(), session.model().config().context_length);
        return Err(Error::ContextFull { asked, used: 0, context, limit });
    }
    // The last token is evaluated again if it has been seen: for its logits.
    let seen = session.rewind_to(&job.prompt[..most])?;
    let receipt = wants_receipt.then(|| receipt(job, session)).transpose()?;
    Ok((sampler, seen as usize, receipt))
}

/// A receipt of an answer. Where tokens are chosen by more than a sampler, it is about logits alone.
fn receipt(job: &Job, session: &Session) -> Result<ReceiptBuilder> {
    let receipt = session.receipt(&job.prompt, &job.sampling, 0)?;
    let by_sampler = job.logit_bias.is_empty() && job.constraint.is_none();
    Ok(if by_sampler { receipt } else { receipt.sampling(BTreeMap::new(), 0) })
}

/// How many tokens two sequences begin with alike.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Probabilities of a token and of the best ones: logits less the logarithm of the sum of their
/// exponentials, in `f64`.
fn logprobs(model: &Model, logits: Logits<'_>, id: u32, count: usize) -> Result<TokenLogprobs> {
    let values: Vec<f64> = logits.iter().map(f64::from).collect();
    let best = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = values.iter().map(|value| (value - best).exp()).sum();
    let of = |id: u32| -> Result<Logprob> {
        let value = values.get(id as usize).copied().unwrap_or(f64::NEG_INFINITY);
        Ok(Logprob { id, bytes: model.tokenizer()?.piece(id)?, logprob: value - best - sum.ln() })
    };
    let mut ids: Vec<u32> = (0..).take(values.len()).collect();
    let count = count.min(ids.len());
    let rank =
        |a: &u32, b: &u32| values[*b as usize].total_cmp(&values[*a as usize]).then(a.cmp(b));
    if count > 0 && count < ids.len() {
        ids.select_nth_unstable_by(count - 1, rank);
    }
    ids.truncate(count);
    ids.sort_unstable_by(rank);
    let top = ids.into_iter().map(of).collect::<Result<_>>()?;
    Ok(TokenLogprobs { chosen: of(id)?, top })
}
