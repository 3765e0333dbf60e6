//! Several sequences that go through the stages of a pipeline one behind the other.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use polychord_runtime_api::Rank;

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::logits::Logits;
use crate::options::Stage;
use crate::pipeline::{Duty, Station};
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

/// What goes from stage to stage, and from the first rank of a stage to its others: a header, the tokens, and their
/// hidden state; or the header and what the first stage makes logits of.
const HEADER: usize = 16;
const TOKENS: u32 = 1;
const TOKENS_AND_LOGITS: u32 = 2;
const HEAD: u32 = 3;

impl Flow {
    /// Evaluates a prompt in each of some sessions, and goes on with each of them as `next` says, who is given
    /// the number of a session and the logits of what follows, and returns a token, or nothing at the end.
    ///
    /// The sessions are the first stage ([`SessionOptions::stage`](crate::SessionOptions::stage)) of as many
    /// pipelines; each later stage has as many sessions with the same options and calls
    /// [`follow`](Self::follow), as do the other ranks of each stage. Sessions that are no stages are computed
    /// together, by [`Batch`]. Either way each has the bits that it would have alone. Only the rank that leads has
    /// logits.
    ///
    /// # Errors
    ///
    /// [`Error::Plan`] if stages are not in the order of the blocks, [`Error::NoRank`] if another rank leads, and the
    /// errors of [`Session::eval`]. All sessions are then as long as before.
    pub fn lead(
        sessions: &mut [Session],
        prompts: &[Vec<u32>],
        next: &mut dyn FnMut(usize, Logits<'_>) -> Option<u32>,
    ) -> Result<Self> {
        if sessions.len() != prompts.len() || prompts.iter().any(Vec::is_empty) {
            return Err(Error::EmptyPrompt);
        }
        let at = station(sessions)?;
        undo_if_failed(sessions, at.as_ref(), |sessions| match &at {
            Some(at) if !at.leads() => Err(Error::NoRank { operation: "lead others" }),
            Some(at) => Leader::new(at, sessions, prompts).run(next),
            None => together(sessions, prompts, next),
        })
    }

    /// Computes what the first stage evaluates ([`lead`](Self::lead)), until it has no more. The sessions are a
    /// later stage of as many pipelines, in the same order, or another rank of a stage that divides rows.
    ///
    /// # Errors
    ///
    /// [`Error::NoRank`] if they are those that lead, [`Error::Plan`] if another stage sends what this one has no
    /// room for, and the errors of [`lead`](Self::lead).
    pub fn follow(sessions: &mut [Session]) -> Result<Self> {
        let at = station(sessions)?.filter(|at| !at.leads());
        let at = at.ok_or(Error::NoRank { operation: "follow the first stage" })?;
        undo_if_failed(sessions, Some(&at), |sessions| follow(&at, sessions))
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

/// A stage, and the process that this one is of it.
struct At {
    station: Station,
    /// The processes that divide its rows, if there are several. The first of them tells the others what to do.
    team: Option<Rank>,
    /// The processes of all stages.
    all: Option<Rank>,
}

impl At {
    /// Whether this process decides what is computed.
    fn leads(&self) -> bool {
        self.station.index == 0 && self.speaks()
    }

    /// Whether this process reaches other stages.
    fn speaks(&self) -> bool {
        self.team.as_ref().is_none_or(|team| team.index() == 0)
    }

    fn link(&self) -> Result<&Rank> {
        let alone = || Error::Plan { reason: "this stage has no link to the others".into() };
        self.station.link.as_ref().ok_or_else(alone)
    }

    /// Gives what has come to the other processes of this stage.
    fn tell(&self, message: &[u8]) -> Result<()> {
        let Some(team) = self.team.as_ref().filter(|team| team.index() == 0) else { return Ok(()) };
        Ok((1..team.count()).try_for_each(|member| team.send_to(member, message))?)
    }

    fn stop(&self, error: &Error) {
        self.all.iter().for_each(|all| all.stop(error));
    }

    /// Waits for all processes of all stages: one that has left is one that has failed.
    fn finish(&self) -> Result<()> {
        Ok(self.all.iter().try_for_each(Rank::finish)?)
    }
}

/// The stage that all of some sessions are.
fn station(sessions: &[Session]) -> Result<Option<At>> {
    let Some(first) = sessions.first() else { return Ok(None) };
    let options = first.options();
    let at = |station| {
        let all = options.stage.as_ref().and_then(Stage::all).cloned();
        At { station, team: options.rank.clone(), all }
    };
    Ok(first.pool().first().station()?.map(at))
}

fn undo_if_failed(
    sessions: &mut [Session],
    at: Option<&At>,
    run: impl FnOnce(&mut [Session]) -> Result<Flow>,
) -> Result<Flow> {
    let before: Vec<_> = sessions.iter().map(Session::position).collect();
    let done = run(sessions);
    if let Err(error) = &done {
        if let Some(at) = at {
            at.stop(error);
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
    at: &'a At,
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
    fn new(at: &'a At, sessions: &'a mut [Session], prompts: &[Vec<u32>]) -> Self {
        Self {
            at,
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
        let (at, link) = (self.at, self.at.link()?);
        let Station { count, result_bytes, .. } = at.station;
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
            self.end(sequence, &mut result)?;
            if let Some(token) = next(sequence, self.sessions[sequence].logits()) {
                self.left[sequence].push_back(token);
                self.ready.push_back(sequence);
            }
        }
        link.send_to(1, &[])?;
        at.tell(&[])?;
        at.finish()?;
        self.flow.took = start.elapsed();
        Ok(self.flow)
    }

    /// Computes the next batch of a sequence, and makes the message for the next stage.
    fn begin(&mut self, sequence: usize, message: &mut Vec<u8>) -> Result<()> {
        let left = &mut self.left[sequence];
        let tokens: Vec<_> = left.drain(..left.len().min(self.at.station.batch)).collect();
        let logits = left.is_empty();
        let queue = if logits { &mut self.under_way } else { &mut self.ready };
        queue.push_back(sequence);
        let session = &mut self.sessions[sequence];
        let position = session.begin_tokens(&tokens)?;
        let kind = if logits { TOKENS_AND_LOGITS } else { TOKENS };
        write_part(message, [kind, number(sequence), position, number(tokens.len())], &tokens);
        self.at.tell(message)?;
        let (duty, mut rows) = (Duty::Batch { logits }, Vec::new());
        let pass = || session.pool_mut().pass(duty, &tokens, position, &mut rows);
        let computed = self.flow.work(tokens.len(), pass);
        computed.map_err(|error| session.name_token(error, &tokens))?;
        session.end_tokens(&tokens);
        message.extend_from_slice(&rows);
        Ok(())
    }

    /// Makes logits of what the last stage has sent, or takes them.
    fn end(&mut self, sequence: usize, result: &mut Vec<u8>) -> Result<()> {
        let session = &mut self.sessions[sequence];
        if self.at.station.head_is_first {
            let mut message = Vec::new();
            write_part(&mut message, [HEAD, number(sequence), session.position(), 0], &[]);
            message.extend_from_slice(result);
            self.at.tell(&message)?;
            let position = session.position();
            self.flow.work(0, || session.pool_mut().pass(Duty::Head, &[], position, result))?;
        } else {
            session.pool_mut().set_shared(result)?;
        }
        session.set_has_logits();
        Ok(())
    }
}

fn number(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Replaces a message by its header and tokens.
fn write_part(message: &mut Vec<u8>, header: [u32; 4], tokens: &[u32]) {
    message.clear();
    message.extend(header.iter().chain(tokens).flat_map(|number| number.to_le_bytes()));
}

/// A later stage, or another process of a stage.
fn follow(at: &At, sessions: &mut [Session]) -> Result<Flow> {
    let (mut flow, start) = (Flow::default(), Instant::now());
    let Station { index, count, row_bytes, result_bytes, batch, .. } = at.station;
    let (speaks, is_last) = (at.speaks(), index + 1 == count);
    let (source, from) = match &at.team {
        Some(team) if !speaks => (team, 0),
        _ => (at.link()?, index - 1),
    };
    let most = HEADER + batch.saturating_mul(row_bytes + size_of::<u32>()).max(result_bytes);
    let (mut message, mut rows) = (Vec::new(), Vec::new());
    loop {
        source.receive_from(from, &mut message, most)?;
        let wrong = || Error::Plan {
            reason: format!("rank {from} has sent {} bytes that are no batch", message.len()),
        };
        let part = if message.is_empty() {
            None
        } else {
            Some(Part::read(&message, at).ok_or_else(wrong)?)
        };
        at.tell(&message)?;
        let Some(part) = part else { break };
        let session = sessions.get_mut(part.sequence as usize).ok_or_else(wrong)?;
        if session.position() != part.position {
            return Err(wrong());
        }
        let Part { duty, position, ref tokens, .. } = part;
        let is_batch = duty != Duty::Head;
        if is_batch {
            session.begin_tokens(tokens)?;
        }
        rows.clear();
        rows.extend_from_slice(part.rows);
        flow.work(tokens.len(), || session.pool_mut().pass(duty, tokens, position, &mut rows))?;
        session.end_tokens(tokens);
        let head = message.len() - part.rows.len();
        match (speaks && is_batch, is_last) {
            (true, true) if duty == (Duty::Batch { logits: true }) => {
                at.link()?.send_to(0, &rows)?
            }
            (true, false) => {
                message.truncate(head);
                message.extend_from_slice(&rows);
                at.link()?.send_to(index + 1, &message)?;
            }
            _ => {}
        }
    }
    if speaks && !is_last {
        at.link()?.send_to(index + 1, &[])?;
    }
    at.finish()?;
    flow.took = start.elapsed();
    Ok(flow)
}

/// What a stage, or the first process of this one, has sent.
struct Part<'a> {
    duty: Duty,
    sequence: u32,
    position: u32,
    tokens: Vec<u32>,
    rows: &'a [u8],
}

impl<'a> Part<'a> {
    /// None for bytes that no process sends to this one.
    fn read(message: &'a [u8], at: &At) -> Option<Self> {
        let Station { index, row_bytes, result_bytes, batch, head_is_first, .. } = at.station;
        let (header, rest) = message.split_first_chunk::<HEADER>()?;
        let (numbers, _) = header.as_chunks::<4>();
        let [kind, sequence, position, count] = *numbers.first_chunk::<4>()?;
        let [kind, sequence, position, count] =
            [kind, sequence, position, count].map(u32::from_le_bytes);
        let count = usize::try_from(count).ok().filter(|count| *count <= batch)?;
        let (tokens, rows) = rest.split_at_checked(count * size_of::<u32>())?;
        let (tokens, _) = tokens.as_chunks::<4>();
        let tokens = tokens.iter().map(|token| u32::from_le_bytes(*token)).collect();
        // The first stage makes its rows itself.
        let own = if index == 0 { 0 } else { count * row_bytes };
        let (duty, counts, bytes) = match kind {
            TOKENS | TOKENS_AND_LOGITS => {
                (Duty::Batch { logits: kind == TOKENS_AND_LOGITS }, count > 0, own)
            }
            HEAD => (Duty::Head, index == 0 && head_is_first && count == 0, result_bytes),
            _ => return None,
        };
        let is_sound = counts && rows.len() == bytes;
        is_sound.then_some(Self { duty, sequence, position, tokens, rows })
    }
}
