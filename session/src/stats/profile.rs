//! Where the time of a session went.

use std::time::{Duration, Instant};

/// Where the time of a session went, as its first rank saw it.
///
/// The host measures around the stages that it drives, so that the guest computes as it always
/// does. Attention and feed-forward are one stage, unless
/// [`SessionOptions::profile`](crate::SessionOptions::profile) asks for two. Pages of a mapped file
/// are read by the stage that touches them first. Evaluations that failed are not in it.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// let decode = session.profile().decode;
/// println!("{} tokens in {:?}, of which {:?} for blocks", decode.tokens, decode.total, decode.blocks);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Profile {
    /// Evaluations of several tokens, and of those that begin a sequence.
    pub prompt: Phases,
    /// Evaluations of one token that follows others. Of a [`Batch`](crate::Batch), all tokens are in the
    /// profile of its first session.
    pub decode: Phases,
}

/// Time by phase.
///
/// The phases do not overlap, but for the parts of `blocks`; together they take no longer than
/// `total`.
///
/// ```
/// use polychord_session::Phases;
///
/// fn tokens_per_second(phases: &Phases) -> f64 {
///     phases.tokens as f64 / phases.total.as_secs_f64()
/// }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Phases {
    /// Tokens that were computed.
    pub tokens: u64,
    /// Looking up the embeddings of tokens.
    pub embed: Duration,
    /// All blocks: attention and feed-forward together.
    pub blocks: Duration,
    /// The attention of all blocks, if it was timed: with its products, and the cache.
    pub attention: Duration,
    /// The feed-forward part of all blocks, if it was timed.
    pub feed_forward: Duration,
    /// The output: from the last hidden state to logits.
    pub head: Duration,
    /// Bringing in layers that are paged, with the wait for those that are read ahead.
    pub layers: Duration,
    /// Exchanging results with other ranks, most of which is waiting for them.
    pub ranks: Duration,
    /// The evaluations as a whole. What the phases leave of it is the host's, such as the copies
    /// from one guest to the next.
    pub total: Duration,
}

impl Profile {
    /// Adds an evaluation.
    pub(crate) fn add(&mut self, evaluation: Phases, is_prompt: bool) {
        let sum = if is_prompt { &mut self.prompt } else { &mut self.decode };
        let Phases { tokens, embed, blocks, attention, feed_forward, head, .. } = evaluation;
        let Phases { layers, ranks, total, .. } = evaluation;
        sum.tokens += tokens;
        sum.embed += embed;
        sum.blocks += blocks;
        sum.attention += attention;
        sum.feed_forward += feed_forward;
        sum.head += head;
        sum.layers += layers;
        sum.ranks += ranks;
        sum.total += total;
    }
}

/// Does some work, and adds the time that it takes.
pub(crate) fn timed<T>(time: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *time += start.elapsed();
    done
}
