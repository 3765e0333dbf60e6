//! Ranks that each reach each other one, and notice that one is gone.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use polychord_runtime_api::ranks::{Deadline, Failure, Traffic, Transport};
use polychord_runtime_api::{Error, Result};

use crate::message::{Message, PIECE, Step};
use crate::pace::Pace;
use crate::wire::{Broken, Wire};

/// The transport of a rank that reaches each other one over a [`Wire`].
///
/// The first failure is for good: processes that were killed do not come back, so a mesh cannot be renewed.
/// A thread of its own says to the others several times a second that this rank lives, and listens to them.
///
/// ```
/// use polychord_ranks_mpi::{Mesh, Patience, Wire};
/// use polychord_runtime_api::{Rank, Result};
///
/// fn rank(wire: impl Wire + 'static) -> Result<Rank> {
///     Rank::over(Mesh::new(wire, Patience::default(), |failure| {
///         eprintln!("rank {} has failed: {}", failure.rank, failure.reason);
///         std::process::exit(1);
///     })?)
/// }
/// ```
pub struct Mesh {
    shared: Arc<Shared>,
    heart: Option<JoinHandle<()>>,
}

/// How long ranks wait for each other.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_ranks_mpi::Patience;
///
/// let patience = Patience::default().silence(Duration::from_secs(30));
/// assert_eq!(patience.silence.as_secs(), 30);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Patience {
    /// How long nothing may be heard of a rank before it has failed: 5 seconds by default.
    pub silence: Duration,
    /// How long a rank whose guest still computes may take to end by itself after a failure, before the
    /// caller's last words are said: 2 seconds by default.
    pub grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { silence: Duration::from_secs(5), grace: Duration::from_secs(2) }
    }
}

impl Patience {
    /// Sets how long nothing may be heard of a rank.
    #[must_use]
    pub const fn silence(mut self, silence: Duration) -> Self {
        self.silence = silence;
        self
    }

    /// Sets how long ending may take after a failure.
    #[must_use]
    pub const fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// What the rank's own thread and its heart share.
struct Shared {
    rank: u32,
    ranks: u32,
    patience: Patience,
    state: Mutex<State>,
    /// The mesh is dropped.
    ended: Condvar,
}

struct State {
    wire: Box<dyn Wire>,
    peers: Vec<Peer>,
    failure: Option<Failure>,
    /// When the failure became known.
    failed: Option<Instant>,
    next_beat: Instant,
    last_look: Instant,
    ending: bool,
    /// Buffers of messages that were used.
    spare: Vec<Vec<u8>>,
    /// The message that is sent.
    out: Vec<u8>,
    traffic: Traffic,
}

/// What is known of another rank, or of this one.
struct Peer {
    /// Steps that it has sent and this rank has not used yet.
    steps: VecDeque<Vec<u8>>,
    /// Pieces that it has sent to this rank alone, and this one has not used yet.
    notes: VecDeque<Vec<u8>>,
    /// How many pieces it was sent, and how many of them it has used.
    sent: u64,
    used: u64,
    /// How many of its pieces this rank has used, and how many of them it knows of.
    taken: u64,
    told: u64,
    heard: Instant,
    left: bool,
}

/// A rank that has sent a step waits for those of all others before it sends another, so that it is at most
/// one ahead.
const AHEAD: usize = 2;
/// Most pieces that wait for a rank which is busy: 32 MiB.
pub(crate) const WINDOW: u64 = 256;
/// Pieces after which a rank says how many it has taken, if their note goes on.
const TELL: u64 = WINDOW / 4;
/// Beats of a rank for each time that it may be silent.
const BEATS: u32 = 10;

impl Mesh {
    /// The rank of a wire. `last_words` are said once, by a thread of the mesh, if a rank has failed and this
    /// mesh is still there after the [`grace`](Patience::grace): a guest that computes for a minute would
    /// otherwise not notice before. They may end the process.
    ///
    /// # Errors
    ///
    /// [`Error::RankCount`] and [`Error::RankNumber`] for a rank that cannot be, and [`Error::Io`] if there is
    /// no thread.
    pub fn new(
        wire: impl Wire + 'static,
        patience: Patience,
        last_words: impl FnOnce(Failure) + Send + 'static,
    ) -> Result<Self> {
        let (rank, ranks) = (wire.rank(), wire.ranks());
        let (number, count) = (rank as usize, ranks as usize);
        let limit = polychord_runtime_api::Rank::MAX;
        if count == 0 || count > limit {
            return Err(Error::RankCount { asked: count, limit });
        }
        if number >= count {
            return Err(Error::RankNumber { rank: number, ranks: count });
        }
        let now = Instant::now();
        let peer = || Peer {
            steps: VecDeque::with_capacity(AHEAD),
            notes: VecDeque::new(),
            sent: 0,
            used: 0,
            taken: 0,
            told: 0,
            heard: now,
            left: false,
        };
        let state = State {
            wire: Box::new(wire),
            peers: std::iter::repeat_with(peer).take(count).collect(),
            failure: None,
            failed: None,
            next_beat: now,
            last_look: now,
            ending: false,
            spare: Vec::new(),
            out: Vec::new(),
            traffic: Traffic::default(),
        };
        let ended = Condvar::new();
        let shared = Arc::new(Shared { rank, ranks, patience, state: Mutex::new(state), ended });
        let heart = thread::Builder::new().name(format!("polychord-heart-{rank}")).spawn({
            let shared = shared.clone();
            move || shared.beat(last_words)
        });
        let heart = heart.map_err(|source| Error::Io {
            operation: "start a thread for",
            path: format!("rank {rank}").into(),
            source,
        })?;
        Ok(Self { shared, heart: Some(heart) })
    }

    /// Sends what this rank has for a step.
    fn begin(&self, own: Step, bytes: &[u8]) -> Result<MutexGuard<'_, State>> {
        let mut state = self.shared.state();
        state.or_failure(self.shared.ranks)?;
        state.send_to_all(self.shared.rank, &Message::Step(own, bytes));
        Ok(state)
    }

    /// Waits for all others, and takes what each of them has for the step. `take` says how many bytes it
    /// expects if there are others.
    fn end(
        &self,
        state: MutexGuard<'_, State>,
        own: Step,
        deadline: Option<Deadline>,
        mut take: impl FnMut(usize, &[u8]) -> std::result::Result<(), usize>,
    ) -> Result<()> {
        let rank = self.shared.rank as usize;
        // First: a rank may have left after the step that this one waits for.
        let lacks = |peer: &Peer| peer.steps.is_empty();
        let mut state = self.shared.wait_while(state, deadline, None, lacks)?;
        for other in (0..self.shared.ranks as usize).filter(|other| *other != rank) {
            let Some(message) = state.peers[other].steps.pop_front() else { continue };
            let taken = match Message::read(&message) {
                Some(Message::Step(step, bytes)) if step == own => {
                    let does =
                        |most| (format!("takes {most} bytes"), format!("brings {}", bytes.len()));
                    take(other, bytes).map_err(does)
                }
                Some(Message::Step(step, _)) => Err((own.to_string(), step.to_string())),
                // It was read before.
                _ => Ok(()),
            };
            state.spare.push(message);
            if let Err((does, other_does)) = taken {
                return Err(Error::RanksDisagree { rank, does, other, other_does });
            }
        }
        Ok(())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits as long as one of the others, or the one that is given, lacks something.
    fn wait_while<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        deadline: Option<Deadline>,
        only: Option<u32>,
        lacks: impl Fn(&Peer) -> bool,
    ) -> Result<MutexGuard<'a, State>> {
        let start = Instant::now();
        let pace = Pace::starting(start);
        loop {
            let now = Instant::now();
            self.look(&mut state, now);
            let missing = |(rank, peer): (u32, &Peer)| {
                let counts = only.map_or(rank != self.rank, |only| rank == only);
                (counts && lacks(peer)).then_some((rank, peer.left))
            };
            let mut others = (0..).zip(&state.peers).filter_map(missing);
            let Some((missing, left)) = others.next() else {
                state.traffic.waited += start.elapsed();
                return Ok(state);
            };
            let gone = left.then_some(missing);
            let gone = gone.or_else(|| others.find(|(_, left)| *left).map(|(rank, _)| rank));
            if let Some(rank) = gone {
                self.fail(&mut state, Failure::new(rank, "it is gone"), now);
            }
            state.or_failure(self.ranks)?;
            if let Some(Deadline { limit, .. }) = deadline.filter(|deadline| deadline.at <= now) {
                tracing::debug!(missing, "waited in vain");
                self.fail(&mut state, Failure::waited(self.rank, limit), now);
                continue;
            }
            drop(state);
            pace.wait(now);
            state = self.state();
        }
    }

    /// Takes in what has come, says that this rank lives, and notices who is silent.
    fn look(&self, state: &mut State, now: Instant) {
        let paused = now.saturating_duration_since(state.last_look) > self.patience.silence / 2;
        state.last_look = now;
        let mut message = state.spare.pop().unwrap_or_default();
        loop {
            match state.wire.receive(&mut message) {
                Ok(None) => break,
                Ok(Some(from)) => message = self.hear(state, from, message, now),
                Err(Broken { rank, reason }) => {
                    self.fail(state, Failure::new(rank, reason), now);
                    break;
                }
            }
        }
        state.spare.push(message);
        if now >= state.next_beat {
            state.next_beat = now + self.patience.silence / BEATS;
            state.send_to_all(self.rank, &Message::Beat);
        }
        // This process was stopped for a while, and what it has not heard says nothing about the others.
        if paused {
            state.peers.iter_mut().for_each(|peer| peer.heard = now);
        }
        let silent = (0..).zip(&state.peers).find(|(rank, peer)| {
            let silence = now.saturating_duration_since(peer.heard);
            *rank != self.rank && !peer.left && silence > self.patience.silence
        });
        if let Some(rank) = silent.map(|(rank, _)| rank) {
            let silence = self.patience.silence.as_millis();
            let reason = format!(
                "nothing was heard from it for {silence} ms: its process was killed or stopped, or its host or network is gone"
            );
            self.fail(state, Failure::new(rank, reason), now);
        }
    }

    /// Takes in one message; returns a buffer for the next.
    fn hear(&self, state: &mut State, from: u32, message: Vec<u8>, now: Instant) -> Vec<u8> {
        let Some(peer) = state.peers.get_mut(from as usize).filter(|_| from != self.rank) else {
            return message;
        };
        peer.heard = now;
        state.traffic.received_bytes += message.len() as u64;
        match Message::read(&message) {
            Some(Message::Step(..)) if peer.steps.len() < AHEAD => {
                peer.steps.push_back(message);
                return state.spare.pop().unwrap_or_default();
            }
            Some(Message::Step(..)) => {
                self.fail(state, Failure::new(from, "it does not wait for the others"), now);
            }
            Some(Message::Note { .. }) if (peer.notes.len() as u64) < WINDOW => {
                peer.notes.push_back(message);
                return state.spare.pop().unwrap_or_default();
            }
            Some(Message::Note { .. }) => {
                self.fail(state, Failure::new(from, "it sends more than this rank takes"), now);
            }
            // It cannot have taken more than it was sent, nor less than it said before.
            Some(Message::Taken { pieces }) => peer.used = pieces.clamp(peer.used, peer.sent),
            Some(Message::Beat) => {}
            Some(Message::Left) => peer.left = true,
            Some(Message::Failed { rank, reason }) => {
                // A rank can only speak of ranks that there are.
                let rank = if rank < self.ranks { rank } else { from };
                state.keep_failure(Failure::new(rank, reason), now);
            }
            None => {
                let reason = "its messages are no messages of this version of Polychord: start the same program on all ranks";
                self.fail(state, Failure::new(from, reason), now);
            }
        }
        message
    }

    /// Keeps a failure, and tells all others, unless there was one before.
    fn fail(&self, state: &mut State, failure: Failure, now: Instant) {
        if state.failure.is_none() {
            let Failure { rank, reason, .. } = &failure;
            let message = Message::Failed { rank: *rank, reason };
            let mut out = std::mem::take(&mut state.out);
            message.write(&mut out);
            state.send_written(self.rank, &out);
            state.out = out;
            state.keep_failure(failure, now);
        }
    }

    /// What the heart does until the mesh is dropped.
    fn beat(&self, last_words: impl FnOnce(Failure)) {
        let mut last_words = Some(last_words);
        let mut state = self.state();
        while !state.ending {
            let now = Instant::now();
            self.look(&mut state, now);
            let late = state.failed.is_some_and(|failed| now >= failed + self.patience.grace);
            if let (true, Some(failure)) = (late, state.failure.clone())
                && let Some(last_words) = last_words.take()
            {
                drop(state);
                last_words(failure);
                state = self.state();
                continue;
            }
            let pause = self.patience.silence / (2 * BEATS);
            state = self.ended.wait_timeout(state, pause).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl State {
    fn or_failure(&self, ranks: u32) -> Result<()> {
        match &self.failure {
            Some(failure) => Err(failure.clone().into_error(ranks as usize)),
            None => Ok(()),
        }
    }

    fn keep_failure(&mut self, failure: Failure, now: Instant) {
        if self.failure.is_none() {
            self.failure = Some(failure);
            self.failed = Some(now);
        }
    }

    fn send_to_all(&mut self, own: u32, message: &Message<'_>) {
        let mut out = std::mem::take(&mut self.out);
        message.write(&mut out);
        self.send_written(own, &out);
        self.out = out;
    }

    fn send_written(&mut self, own: u32, message: &[u8]) {
        for to in (0..).take(self.peers.len()).filter(|to| *to != own) {
            self.send_to_one(to, message);
        }
    }

    fn send_to_one(&mut self, to: u32, message: &[u8]) {
        if self.peers.get(to as usize).is_none_or(|peer| peer.left) {
            return;
        }
        self.traffic.messages += 1;
        self.traffic.sent_bytes += message.len() as u64;
        if let Err(Broken { rank, reason }) = self.wire.send(to, message) {
            self.keep_failure(Failure::new(rank, reason), Instant::now());
        }
    }

    /// Takes the next piece of what a rank has sent to this one, which has come.
    fn take_note(&mut self, from: u32) -> Option<Vec<u8>> {
        let peer = self.peers.get_mut(from as usize)?;
        let message = peer.notes.pop_front()?;
        peer.taken += 1;
        let is_last = match Message::read(&message) {
            Some(Message::Note { total, at, bytes }) => at + bytes.len() as u64 >= total,
            _ => true,
        };
        let (taken, told) = (peer.taken, peer.told);
        // Once for a note: it is another message.
        if is_last || taken - told >= TELL {
            peer.told = taken;
            let mut out = std::mem::take(&mut self.out);
            Message::Taken { pieces: taken }.write(&mut out);
            self.send_to_one(from, &out);
            self.out = out;
        }
        Some(message)
    }
}

impl Transport for Mesh {
    fn rank(&self) -> u32 {
        self.shared.rank
    }

    fn ranks(&self) -> u32 {
        self.shared.ranks
    }

    fn all_gather(
        &self,
        buffer: &mut [u8],
        chunk: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        let (rank, total) = (self.shared.rank as usize, buffer.len());
        let mut at = 0;
        loop {
            let own = Step::Gather { chunk: chunk as u64, total: total as u64, at: at as u64 };
            let state = self.begin(own, &buffer[piece(rank, chunk, at, total)])?;
            self.end(state, own, deadline, |other, bytes| {
                let to = &mut buffer[piece(other, chunk, at, total)];
                if to.len() != bytes.len() {
                    return Err(to.len());
                }
                to.copy_from_slice(bytes);
                Ok(())
            })?;
            at += PIECE;
            if at >= chunk {
                return Ok(());
            }
        }
    }

    fn broadcast(&self, from: u32, buffer: &mut [u8], deadline: Option<Deadline>) -> Result<()> {
        let total = buffer.len();
        let mut at = 0;
        loop {
            let step = Step::Broadcast { from: from.into(), total: total as u64, at: at as u64 };
            let piece = piece(0, total, at, total);
            let own = if from == self.shared.rank { &buffer[piece.clone()] } else { &[] };
            let state = self.begin(step, own)?;
            self.end(state, step, deadline, |other, bytes| {
                let to = if other == from as usize { &mut buffer[piece.clone()] } else { &mut [] };
                if to.len() != bytes.len() {
                    return Err(to.len());
                }
                to.copy_from_slice(bytes);
                Ok(())
            })?;
            at += PIECE;
            if at >= total {
                return Ok(());
            }
        }
    }

    fn send(&self, to: u32, bytes: &[u8], deadline: Option<Deadline>) -> Result<()> {
        let total = bytes.len() as u64;
        let mut at = 0;
        loop {
            let piece = &bytes[piece(0, bytes.len(), at, bytes.len())];
            let is_full = |peer: &Peer| peer.sent - peer.used >= WINDOW;
            let state = self.shared.state();
            let mut state = if state.peers.get(to as usize).is_some_and(is_full) {
                self.shared.wait_while(state, deadline, Some(to), is_full)?
            } else {
                state
            };
            state.or_failure(self.shared.ranks)?;
            let mut out = std::mem::take(&mut state.out);
            Message::Note { total, at: at as u64, bytes: piece }.write(&mut out);
            if let Some(peer) = state.peers.get_mut(to as usize) {
                peer.sent += 1;
            }
            state.send_to_one(to, &out);
            state.out = out;
            at += PIECE;
            if at >= bytes.len() {
                return Ok(());
            }
        }
    }

    fn receive(
        &self,
        from: u32,
        into: &mut Vec<u8>,
        most: usize,
        deadline: Option<Deadline>,
    ) -> Result<()> {
        into.clear();
        loop {
            let lacks = |peer: &Peer| peer.notes.is_empty();
            let state = self.shared.state();
            state.or_failure(self.shared.ranks)?;
            let mut state = self.shared.wait_while(state, deadline, Some(from), lacks)?;
            let Some(message) = state.take_note(from) else { continue };
            let Some(Message::Note { total, at, bytes }) = Message::read(&message) else {
                continue;
            };
            let (got, len) = (into.len() as u64, bytes.len() as u64);
            let fits = total <= most as u64 && at == got && got + len <= total;
            if !fits || (len == 0 && total > 0) {
                return Err(Error::RanksDisagree {
                    rank: self.shared.rank as usize,
                    does: format!("takes at most {most} bytes, of which it has {got}"),
                    other: from as usize,
                    other_does: format!("brings {len} from byte {at} of {total} on"),
                });
            }
            into.extend_from_slice(bytes);
            let is_whole = into.len() as u64 == total;
            state.spare.push(message);
            if is_whole {
                return Ok(());
            }
        }
    }

    fn traffic(&self) -> Traffic {
        self.shared.state().traffic
    }

    fn finish(&self, deadline: Option<Deadline>) -> Result<()> {
        let state = self.begin(Step::Finish, &[])?;
        let nothing = |_, bytes: &[u8]| if bytes.is_empty() { Ok(()) } else { Err(0) };
        self.end(state, Step::Finish, deadline, nothing)
    }

    fn fail(&self, failure: Failure) {
        self.shared.fail(&mut self.shared.state(), failure, Instant::now());
    }

    fn failure(&self) -> Option<Failure> {
        self.shared.state().failure.clone()
    }

    fn renew(&self) -> Result<()> {
        self.shared.state().or_failure(self.shared.ranks)
    }
}

/// What rank `rank` exchanges of its chunk from `at` on.
fn piece(rank: usize, chunk: usize, at: usize, total: usize) -> Range<usize> {
    let place = |offset: usize| rank.saturating_mul(chunk).saturating_add(offset).min(total);
    place(at)..place(at.saturating_add(PIECE).min(chunk))
}

impl Drop for Mesh {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.ending = true;
        state.send_to_all(self.shared.rank, &Message::Left);
        drop(state);
        self.shared.ended.notify_all();
        if let Some(heart) = self.heart.take() {
            // It does not panic; and if it did, there would be nothing left to do.
            _ = heart.join();
        }
    }
}
