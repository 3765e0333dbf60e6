//! An answer on its way: what it continues, and when it ends.

use std::time::Instant;

use polychord_model::sampler::Sampler;
use polychord_model::tokenizer::PendingText;
use polychord_receipts::snapshot::AnswerState;

use crate::digests::{sampling_by_name, sampling_of};
use crate::error::{Error, Result};
use crate::generate::budget::{Budget, Progress};
use crate::generate::cancel::CancelHandle;
use crate::generate::finish::Finish;
use crate::generate::generation::Token;
use crate::generate::options::GenerateOptions;
use crate::generate::stop_texts::{Pushed, StopTexts};
use crate::model::Model;
use crate::session::Session;

/// An answer on its way.
pub(crate) struct Answer {
    model: Model,
    sampler: Sampler,
    /// Bytes of a character that is not complete.
    pending: PendingText,
    stops: StopTexts,
    /// The whole sequence: what is continued, and what was generated.
    tokens: Vec<u32>,
    /// Which of them is the first that was generated.
    begin: usize,
    /// How many tokens may still come.
    left: usize,
    deadline: Option<Instant>,
    cancel: Option<CancelHandle>,
    state: State,
}

/// What came of evaluating what the session had not seen.
enum Evaluated {
    /// All of it was evaluated: there are logits.
    Logits,
    /// The budget was used up before.
    Paused,
    /// This ended the answer before.
    Ended(Finish),
}

enum State {
    Running,
    Ended(Finish),
    /// By an error, which was returned.
    Failed,
}

impl Answer {
    /// Begins to continue a sequence, of which the session keeps what it has seen already.
    pub(crate) fn begin(
        session: &mut Session,
        sequence: &[u32],
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sampler = Sampler::new(&options.sampling)?;
        if options.stop.iter().any(String::is_empty) {
            return Err(Error::EmptyStop);
        }
        let Some(most) = sequence.len().checked_sub(1) else { return Err(Error::EmptyPrompt) };
        let fits = sequence.len() <= session.context() as usize;
        if fits {
            // The last token is evaluated again if it has been seen: for its logits. What the session cannot
            // go on from is evaluated like any prompt: in pieces, if somebody watches.
            session.rewind_to(&sequence[..most])?;
        }
        Ok(Self {
            model: session.model().clone(),
            sampler,
            pending: PendingText::default(),
            stops: StopTexts::new(&options.stop),
            tokens: sequence.to_vec(),
            begin: sequence.len(),
            left: options.max_tokens.unwrap_or(usize::MAX),
            // A deadline beyond what the clock can express never comes.
            deadline: options.deadline.and_then(|most| Instant::now().checked_add(most)),
            cancel: options.cancel.clone(),
            state: match fits {
                _ if options.max_tokens == Some(0) => State::Ended(Finish::MaxTokens),
                true => State::Running,
                false => State::Ended(Finish::ContextFull),
            },
        })
    }

    /// Goes on with an answer that was begun elsewhere. Its text goes on, too: characters and stop
    /// texts that are not complete.
    pub(crate) fn resume(
        session: &mut Session,
        sequence: &[u32],
        state: &AnswerState,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let mut answer = Self::begin(session, sequence, options)?;
        answer.sampler = Sampler::after(&sampling_of(&state.sampling)?, state.drawn)?;
        answer.begin = (state.begin as usize).min(sequence.len());
        for id in &sequence[answer.begin..] {
            let text = answer.pending.push(answer.model.tokenizer()?, *id)?;
            if let Pushed::Stopped { stop, .. } = answer.stops.push(&text) {
                answer.state = State::Ended(Finish::Stop(stop));
                break;
            }
        }
        Ok(answer)
    }

    /// How its tokens are chosen, and how far that is.
    pub(crate) fn state(&self) -> AnswerState {
        let sampling = sampling_by_name(self.sampler.options());
        // No longer than a context.
        let begin = u32::try_from(self.begin).unwrap_or(u32::MAX);
        AnswerState::new(sampling, self.sampler.drawn(), begin)
    }

    /// What is continued, and what was generated.
    pub(crate) fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Why it ended, if it did and not by an error.
    pub(crate) const fn finish(&self) -> Option<&Finish> {
        match &self.state {
            State::Ended(finish) => Some(finish),
            State::Running | State::Failed => None,
        }
    }

    /// The next token; none if the answer has ended.
    pub(crate) fn next(&mut self, session: &mut Session) -> Option<Result<Token>> {
        match self.next_within(session, &mut Budget::unlimited())? {
            Ok(Progress::Token(token)) => Some(Ok(token)),
            Ok(Progress::Paused) => None,
            Err(error) => Some(Err(error)),
        }
    }

    /// The next token, if the budget is enough for it; none if the answer has ended.
    pub(crate) fn next_within(
        &mut self,
        session: &mut Session,
        budget: &mut Budget,
    ) -> Option<Result<Progress>> {
        let State::Running = self.state else { return None };
        match self.step(session, budget) {
            Ok(progress) => progress.map(Ok),
            Err(error) => {
                self.state = State::Failed;
                Some(Err(error))
            }
        }
    }

    fn step(&mut self, session: &mut Session, budget: &mut Budget) -> Result<Option<Progress>> {
        match self.evaluate(session, budget)? {
            Evaluated::Logits => {}
            Evaluated::Paused => return Ok(Some(Progress::Paused)),
            Evaluated::Ended(finish) => {
                // What was held back is left out, as if it had not been generated.
                self.state = State::Ended(finish);
                return Ok(None);
            }
        }
        let id = self.sampler.sample(session.logits().iter(), &self.tokens)?;
        self.tokens.push(id);
        self.left -= 1;
        let tokenizer = self.model.tokenizer()?;
        let is_end = tokenizer.is_end_of_generation(id);
        let mut text = String::new();
        if !is_end {
            text = self.pending.push(tokenizer, id)?;
        }
        let finish = self.end_after(is_end, session);
        let text = self.deliver(text, finish);
        Ok(Some(Progress::Token(Token { id, text, is_end })))
    }

    /// Evaluates what the session has not seen, as far as the budget goes.
    fn evaluate(&mut self, session: &mut Session, budget: &mut Budget) -> Result<Evaluated> {
        // Without a look in between it is faster where layers are paged.
        let is_watched = self.cancel.is_some() || self.deadline.is_some() || budget.is_timed();
        let piece = if is_watched { session.piece() } else { usize::MAX };
        loop {
            if let Some(finish) = self.interrupted() {
                return Ok(Evaluated::Ended(finish));
            }
            let most = piece.min(budget.left());
            if most == 0 {
                return Ok(Evaluated::Paused);
            }
            let rest = &self.tokens[session.tokens().len()..];
            if rest.len() <= most {
                session.eval(rest)?;
                budget.take(rest.len());
                return Ok(Evaluated::Logits);
            }
            session.extend(&rest[..most])?;
            budget.take(most);
        }
    }

    /// What ends the answer with the token that was just generated.
    fn end_after(&self, is_end: bool, session: &Session) -> Option<Finish> {
        if is_end {
            return Some(Finish::EndOfText);
        }
        if self.left == 0 {
            return Some(Finish::MaxTokens);
        }
        if self.tokens.len() > session.context() as usize {
            return Some(Finish::ContextFull);
        }
        self.interrupted()
    }

    fn interrupted(&self) -> Option<Finish> {
        if self.cancel.as_ref().is_some_and(CancelHandle::is_cancelled) {
            return Some(Finish::Cancelled);
        }
        self.deadline.filter(|end| Instant::now() >= *end).map(|_| Finish::Deadline)
    }

    /// The text that is delivered with a token; with the last one, all that was held back, unless
    /// the answer was interrupted: then it does not matter when that was noticed.
    fn deliver(&mut self, mut text: String, finish: Option<Finish>) -> String {
        let is_interrupted = matches!(finish, Some(Finish::Cancelled | Finish::Deadline));
        if finish.is_some() && !is_interrupted {
            text.push_str(&self.pending.finish());
        }
        let (text, finish) = match self.stops.push(&text) {
            Pushed::Stopped { before, stop } => (before, Some(Finish::Stop(stop))),
            Pushed::Clear(clear) if is_interrupted => (clear, finish),
            Pushed::Clear(clear) if finish.is_some() => (clear + &self.stops.take_held(), finish),
            Pushed::Clear(clear) => (clear, None),
        };
        if let Some(finish) = finish {
            self.state = State::Ended(finish);
        }
        text
    }
}
