//! Several sequences that go through the stages of a pipeline one behind the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::logits::Logits;
use crate::pipeline::{Pipeline, Station};
use crate::session::Session;
use crate::stages::check_length;

/// How several sequences went through the stages of a pipeline: see [`lead`](Self::lead).
///
/// A stage that works on one sequence alone waits while the others work on it. With as many sequences as stages,
/// each works on another one at the same time.
///
/// ```no_run
/// use polychord_session::{Flow, Result, Session};
///
/// /// The first stage of several processes: the best token again and again, ten times for each prompt.
/// fn run(sessions: &mut [Session], prompts: &[Vec<u32>]) -> Result<()> {
///     let mut left = vec![10; prompts.len()];
///     let flow = Flow::lead(sessions, prompts, &mut |sequence, logits| {
///         left[sequence] -= 1;
///         let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
///         best.filter(|_| left[sequence] > 0).map(|(token, _)| token as u32)
///     })?;
///     println!("{} tokens; this stage has worked for {:?} of {:?}", flow.tokens, flow.busy, flow.took);
///     Ok(())
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flow {
    /// Tokens that were computed, those of prompts too.
    pub tokens: u64,
    /// How long this stage has computed.
    pub busy: Duration,
    /// How long all of it took.
    pub took: Duration,
}

/// Sequences that are under way at a time: what goes back to the first stage has room behind it.
const MOST_UNDER_WAY: usize = 32;

/// What goes from stage to stage: a header, the tokens, and their hidden state.
const HEADER: usize = 16;
const TOKENS: u32 = 1;
const TOKENS_AND_LOGITS: u32 = 2;

impl Flow {
    /// Evaluates a prompt in each of some sessions, and goes on with each of them as `next` says, who is given
    /// the number of a session and the logits of what follows, and returns a token, or nothing at the end.
    ///
    /// The sessions are the first stage ([`SessionOptions::stage`](crate::SessionOptions::stage)) of as many
    /// pipelines; each later stage has as many sessions with the same options and calls
    /// [`follow`](Self::follow). Sessions that are no stages are computed together, by [`Batch`]. Either way each
    /// has the bits that it would have alone. Only the first stage has logits.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`] if stages are not in the order of the blocks, or have several ranks each, and the errors of
    /// [`Session::eval`]. All sessions are then as long as before.
    pub fn lead(
        sessions: &mut [Session],
        prompts: &[Vec<u32>],
        next: &mut dyn FnMut(usize, Logits<'_>) -> Option<u32>,
    ) -> Result<Self> {
        if sessions.len() != prompts.len() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::EmptyPrompt);
        }
        let station = station(sessions)?;
        undo_if_failed(sessions, station.as_ref(), |sessions| match &station {
            Some(station) if station.index > 0 => Err(Error::NoRank { operation: "lead others" }),
            Some(station) => Leader::new(station, sessions, prompts).run(next),
            None => together(sessions, prompts, next),
        })
    }

    /// Computes what the first stage evaluates ([`lead`](Self::lead)), until it has no more. The sessions are a
    /// later stage of as many pipelines, in the same order.
    ///
    /// # Errors
    ///
    /// [`Error::NoRank`] if they are no later stage, [`Error::Plan`] if another stage sends what this one has no
    /// room for, and the errors of [`lead`](Self::lead).
    pub fn follow(sessions: &mut [Session]) -> Result<Self> {
        let station = station(sessions)?.filter(|station| station.index > 0);
        let station = station.ok_or(Error::NoRank { operation: "follow the first stage" })?;
        undo_if_failed(sessions, Some(&station), |sessions| follow(&station, sessions))
    }

    /// Counts what `work` takes.
    fn work<T>(&mut self, tokens: usize, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let start = Instant::now();
        let done = work()?;
        self.busy += start.elapsed();
        self.tokens += tokens as u64;
        Ok(done)
    }
}

/// The stage that all of some sessions are.
fn station(sessions: &mut [Session]) -> Result<Option<Station>> {
    let Some(first) = sessions.first_mut() else { return Ok(None) };
    first.pool_mut().only().map_or(Ok(None), |pipeline| pipeline.station())
}

fn undo_if_failed(
    sessions: &mut [Session],
    station: Option<&Station>,
    run: impl FnOnce(&mut [Session]) -> Result<Flow>,
) -> Result<Flow> {
    let before: Vec<_> = sessions.iter().map(Session::position).collect();
    let done = run(sessions);
    if let Err(error) = &done {
        if let Some(station) = station {
            station.link.stop(error);
        }
        sessions.iter_mut().zip(before).for_each(|(session, before)| session.take_back(before));
    }
    done
}

/// Sessions that are no stages: a token of each with one pass over the weights.
fn together(
    sessions: &mut [Session],
    prompts: &[Vec<u32>],
    next: &mut dyn FnMut(usize, Logits<'_>) -> Option<u32>,
) -> Result<Flow> {
    let (mut flow, start) = (Flow::default(), Instant::now());
    for (session, prompt) in sessions.iter_mut().zip(prompts) {
        flow.work(prompt.len(), || session.eval(prompt).map(|_| ()))?;
    }
    let mut going: Vec<_> = vec![true; sessions.len()];
    loop {
        let mut members = Vec::new();
        for ((number, session), going) in sessions.iter_mut().enumerate().zip(&mut going) {
            let token = if *going { next(number, session.logits()) } else { None };
            *going = token.is_some();
            members.extend(token.map(|token| (session, token)));
        }
        if members.is_empty() {
            flow.took = start.elapsed();
            return Ok(flow);
        }
        flow.work(members.len(), || Batch::step(&mut members).map(|_| ()))?;
    }
}

/// The first stage.
struct Leader<'a> {
    station: &'a Station,
    sessions: &'a mut [Session],
    /// Tokens of each sequence that were not computed yet.
    left: Vec<VecDeque<u32>>,
    /// Sequences that have such tokens.
    ready: VecDeque<usize>,
    /// Sequences whose results are to come, in this order.
    under_way: VecDeque<usize>,
    flow: Flow,
}

impl<'a> Leader<'a> {
    fn new(station: &'a Station, sessions: &'a mut [Session], prompts: &[Vec<u32>]) -> Self {
        Self {
            station,
            ready: (0..sessions.len()).collect(),
            sessions,
            left: prompts.iter().map(|prompt| prompt.iter().copied().collect()).collect(),
            under_way: VecDeque::new(),
            flow: Flow::default(),
        }
    }

    fn run(mut self, next: &mut dyn FnMut(usize, Logits<'_>) -> Option<u32>) -> Result<Flow> {
        let start = Instant::now();
        let (mut message, mut result) = (Vec::new(), Vec::new());
        let Station { link, count, result_bytes, .. } = self.station.clone();
        loop {
            let may_begin = self.under_way.len() < MOST_UNDER_WAY;
            if let Some(sequence) = may_begin.then(|| self.ready.pop_front()).flatten() {
                self.begin(sequence, &mut message)?;
                link.send_to(1, &message)?;
                continue;
            }
            let Some(sequence) = self.under_way.pop_front() else { break };
            link.receive_from(count - 1, &mut result, result_bytes)?;
            check_length(result.len(), result_bytes, count - 1)?;
            let session = &mut self.sessions[sequence];
            self.flow.work(0, || only(session)?.end_of_stages(&result))?;
            session.set_has_logits();
            if let Some(token) = next(sequence, session.logits()) {
                self.left[sequence].push_back(token);
                self.ready.push_back(sequence);
            }
        }
        link.send_to(1, &[])?;
        link.finish()?;
        self.flow.took = start.elapsed();
        Ok(self.flow)
    }

    /// Computes the next batch of a sequence, and makes the message for the next stage.
    fn begin(&mut self, sequence: usize, message: &mut Vec<u8>) -> Result<()> {
        let left = &mut self.left[sequence];
        let tokens: Vec<_> = left.drain(..left.len().min(self.station.batch)).collect();
        let wanted = if left.is_empty() { TOKENS_AND_LOGITS } else { TOKENS };
        let queue = if left.is_empty() { &mut self.under_way } else { &mut self.ready };
        queue.push_back(sequence);
        let session = &mut self.sessions[sequence];
        let position = session.begin_tokens(&tokens)?;
        let mut rows = Vec::new();
        let computed = self
            .flow
            .work(tokens.len(), || only(session)?.first_stage(&tokens, position, &mut rows));
        computed.map_err(|error| session.name_token(error, &tokens))?;
        session.end_tokens(&tokens);
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let header = [wanted, number(sequence), position, number(tokens.len())];
        message.clear();
        message.extend(header.iter().chain(&tokens).flat_map(|number| number.to_le_bytes()));
        message.extend_from_slice(&rows);
        Ok(())
    }
}

/// A later stage.
fn follow(station: &Station, sessions: &mut [Session]) -> Result<Flow> {
    let (mut flow, start) = (Flow::default(), Instant::now());
    let Station { link, index, count, row_bytes, batch, .. } = station;
    let (before, is_last) = (index - 1, index + 1 == *count);
    let most = HEADER + batch.saturating_mul(row_bytes + size_of::<u32>());
    let (mut message, mut rows) = (Vec::new(), Vec::new());
    loop {
        link.receive_from(before, &mut message, most)?;
        if message.is_empty() {
            break;
        }
        let wrong = || Error::Plan {
            reason: format!("stage {before} has sent {} bytes that are no batch", message.len()),
        };
        let part = Part::read(&message, station).ok_or_else(wrong)?;
        let session = sessions.get_mut(part.sequence as usize).ok_or_else(wrong)?;
        if session.position() != part.position {
            return Err(wrong());
        }
        session.begin_tokens(&part.tokens)?;
        rows.clear();
        rows.extend_from_slice(part.rows);
        let Part { position, logits, ref tokens, .. } = part;
        flow.work(tokens.len(), || {
            only(session)?.later_stage(tokens.len(), position, &mut rows, logits)
        })?;
        session.end_tokens(tokens);
        let head = message.len() - part.rows.len();
        match (is_last, logits) {
            (true, true) => link.send_to(0, &rows)?,
            (true, false) => {}
            (false, _) => {
                message.truncate(head);
                message.extend_from_slice(&rows);
                link.send_to(index + 1, &message)?;
            }
        }
    }
    if !is_last {
        link.send_to(index + 1, &[])?;
    }
    link.finish()?;
    flow.took = start.elapsed();
    Ok(flow)
}

/// A batch that a stage has sent.
struct Part<'a> {
    logits: bool,
    sequence: u32,
    position: u32,
    tokens: Vec<u32>,
    rows: &'a [u8],
}

impl<'a> Part<'a> {
    /// None for bytes that no stage sends.
    fn read(message: &'a [u8], station: &Station) -> Option<Self> {
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let (numbers, _) = header.as_chunks::<4>();
        let [kind, sequence, position, count] = *numbers.first_chunk::<4>()?;
        let [kind, sequence, position, count] =
            [kind, sequence, position, count].map(u32::from_le_bytes);
        let count = usize::try_from(count).ok().filter(|it| (1..=station.batch).contains(it))?;
        let (tokens, rows) = rest.split_at_checked(count * size_of::<u32>())?;
        let (tokens, _) = tokens.as_chunks::<4>();
        let tokens = tokens.iter().map(|token| u32::from_le_bytes(*token)).collect();
        let is_sound =
            matches!(kind, TOKENS | TOKENS_AND_LOGITS) && rows.len() == count * station.row_bytes;
        let logits = kind == TOKENS_AND_LOGITS;
        is_sound.then_some(Self { logits, sequence, position, tokens, rows })
    }
}

/// The one rank of a session.
fn only(session: &mut Session) -> Result<&mut Pipeline> {
    let several = || Error::Plan { reason: "a stage has several ranks".into() };
    session.pool_mut().only().ok_or_else(several)
}
