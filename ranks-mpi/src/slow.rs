//! A wire that is as slow as a given link, for experiments on machines whose kernel cannot delay packets.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::wire::{Broken, Wire};

/// The link of a host: what comes waits for the delay, and for what came before it.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_ranks_mpi::Link;
///
/// let link = Link::new(Duration::from_millis(1), 1e9);
/// assert_eq!(link.bits_per_second, 1e9);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub struct Link {
    /// How long a message is on its way.
    pub delay: Duration,
    /// How many bits come in a second.
    pub bits_per_second: f64,
    /// When nothing comes or goes any more, if that is to happen.
    pub lost_after: Option<Duration>,
}

impl Link {
    /// A link of a delay and a rate.
    #[must_use]
    pub const fn new(delay: Duration, bits_per_second: f64) -> Self {
        Self { delay, bits_per_second, lost_after: None }
    }

    /// Makes it a link over which nothing comes or goes after a while.
    #[must_use]
    pub const fn lost_after(mut self, time: Duration) -> Self {
        self.lost_after = Some(time);
        self
    }
}

/// Messages of another wire, as a link would bring them.
///
/// ```
/// use polychord_ranks_mpi::{Link, Slow, Wire};
///
/// fn slow(wire: impl Wire, link: Link) -> impl Wire {
///     Slow::new(wire, link)
/// }
/// ```
pub struct Slow<W> {
    wire: W,
    link: Link,
    start: Instant,
    /// When what has come so far is through.
    free: Instant,
    /// In the order in which they came, with the time at which each is through.
    coming: VecDeque<(Instant, u32, Vec<u8>)>,
}

impl<W: Wire> Slow<W> {
    /// The wire, as slow as a link.
    pub fn new(wire: W, link: Link) -> Self {
        let now = Instant::now();
        Self { wire, link, start: now, free: now, coming: VecDeque::new() }
    }

    fn is_lost(&self, now: Instant) -> bool {
        self.link.lost_after.is_some_and(|after| now.saturating_duration_since(self.start) > after)
    }
}

impl<W: Wire> Wire for Slow<W> {
    fn rank(&self) -> u32 {
        self.wire.rank()
    }

    fn ranks(&self) -> u32 {
        self.wire.ranks()
    }

    fn send(&mut self, to: u32, message: &[u8]) -> Result<(), Broken> {
        // As for a network, sending over a link that is gone is no error.
        if self.is_lost(Instant::now()) {
            return Ok(());
        }
        self.wire.send(to, message)
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> Result<Option<u32>, Broken> {
        let now = Instant::now();
        while let Some(from) = self.wire.receive(into)? {
            #[allow(clippy::cast_precision_loss, reason = "no message has 2^52 bytes")]
            let seconds = into.len() as f64 * 8.0 / self.link.bits_per_second;
            let takes = Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX);
            self.free = self.free.max(now).checked_add(takes).unwrap_or(self.free);
            let due = self.free.checked_add(self.link.delay).unwrap_or(self.free);
            self.coming.push_back((due, from, std::mem::take(into)));
        }
        if self.is_lost(now) {
            self.coming.clear();
        }
        if self.coming.front().is_none_or(|(due, ..)| *due > now) {
            return Ok(None);
        }
        Ok(self.coming.pop_front().map(|(_, from, message)| {
            *into = message;
            from
        }))
    }
}
