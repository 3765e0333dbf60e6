//! Finding out whether guests shall touch weights ahead of their use.
//!
//! Nothing here knows a clock: a [`Trial`] says what the next token is to be computed with, and is
//! told how long that took.

use std::time::Duration;

use crate::options::TouchAhead;
use crate::stats::touch_report::TouchReport;

/// Bytes at a time that are tried, one after the other, as long as they win. What is not a page
/// does not start what a processor prefetches by itself.
const BURSTS: [u32; 2] = [16 << 10, 64 << 10];
/// Tokens before the first that is measured: pages and caches are not yet as they will be.
const WARM: usize = 2;
/// Pairs of tokens, one with and one without, that are compared.
const PAIRS: usize = 9;
/// A pair may be lost by chance, more are not.
const LOST: usize = 1;
/// What gains less than one part in this many is noise.
const MARGIN: u32 = 20;
/// Fewer bytes of weights may stay in a cache.
pub(crate) const LEAST_BYTES: u64 = 32 << 20;

/// What is known of guests before any is measured.
#[derive(Clone, Copy)]
pub(crate) struct Known {
    /// Whether the guest can be told to.
    pub(crate) offered: bool,
    /// Whether layers come and go.
    pub(crate) paged: bool,
    /// Bytes of weights that a token needs, of all guests and ranks.
    pub(crate) weights: u64,
}

/// How many bytes are touched at a time, and what is known so far about what pays.
#[derive(Clone, Copy)]
pub(crate) struct Trial {
    report: TouchReport,
    /// What is measured, until that is decided.
    running: Option<Running>,
}

/// Two ways that are compared.
#[derive(Clone, Copy)]
struct Running {
    warm: usize,
    /// The number of the burst that is tried.
    burst: usize,
    /// Tokens that were measured.
    taken: usize,
    /// Times of the best way so far, and of the burst.
    times: [[Duration; PAIRS]; 2],
}

impl Trial {
    pub(crate) fn new(option: TouchAhead, known: Known) -> Self {
        let decided = |bytes, reason| Self {
            report: TouchReport { bytes, reason, ..TouchReport::default() },
            running: None,
        };
        match option {
            TouchAhead::Off => decided(0, "asked for"),
            _ if !known.offered => decided(0, "the guest does not offer it"),
            // The guest takes a number with a sign.
            TouchAhead::Bytes(bytes) => decided(bytes.min(u32::MAX / 2), "asked for"),
            TouchAhead::Auto if known.paged => decided(0, "layers are paged"),
            TouchAhead::Auto if known.weights < LEAST_BYTES => {
                decided(0, "caches may hold the weights of a token")
            }
            TouchAhead::Auto => Self {
                running: Some(Running::new(WARM, 0)),
                ..decided(0, "too few tokens were decoded to measure it")
            },
        }
    }

    /// Bytes that the next token is to be computed with.
    pub(crate) fn next(&self) -> u32 {
        match &self.running {
            Some(running) if running.warm == 0 && running.is_burst() => BURSTS[running.burst],
            _ => self.report.bytes,
        }
    }

    /// Takes the time that guests have computed a token with what [`next`](Self::next) has said.
    pub(crate) fn record(&mut self, time: Duration) {
        let Some(running) = &mut self.running else { return };
        if running.warm > 0 {
            running.warm -= 1;
            return;
        }
        running.times[usize::from(running.is_burst())][running.taken / 2] = time;
        running.taken += 1;
        let Some(outcome) = running.outcome() else { return };
        let Running { burst, .. } = *running;
        let next = burst + 1;
        if outcome.won {
            self.report.bytes = BURSTS[burst];
            self.report.with = Some(outcome.burst);
        }
        if burst == 0 {
            self.report.without = Some(outcome.best);
            self.report.with = Some(outcome.burst);
        }
        self.report.reason = match self.report.bytes {
            0 => "measured: tokens are not faster with it",
            _ => "measured: tokens are faster with it",
        };
        self.running = (outcome.won && next < BURSTS.len()).then(|| Running::new(0, next));
    }

    /// Goes on as another one of the same model has decided, if it has.
    pub(crate) fn take_over(&mut self, other: &Self) {
        if other.running.is_none() && self.running.is_some() {
            *self = *other;
        }
    }

    pub(crate) const fn report(&self) -> TouchReport {
        self.report
    }
}

/// How a comparison has ended, with the medians of both ways.
struct Outcome {
    won: bool,
    best: Duration,
    burst: Duration,
}

impl Running {
    const fn new(warm: usize, burst: usize) -> Self {
        Self { warm, burst, taken: 0, times: [[Duration::ZERO; PAIRS]; 2] }
    }

    /// Whether the next token is one with the burst: the second of each even pair and the first of
    /// each odd one, so that what changes steadily changes both alike.
    const fn is_burst(&self) -> bool {
        (self.taken ^ (self.taken >> 1)) & 1 == 1
    }

    /// How it has ended, if it has.
    fn outcome(&self) -> Option<Outcome> {
        if !self.taken.is_multiple_of(2) {
            return None;
        }
        let pairs = self.taken / 2;
        let [best, burst] = self.times.map(|times| median(times, pairs));
        let (others, bursts) = (self.times[0].iter(), self.times[1].iter());
        let lost = others.zip(bursts).take(pairs).filter(|(best, burst)| burst >= best).count();
        // Far behind at once: the next pair would cost much, and tell nothing new.
        let hopeless = burst > best.saturating_mul(5) / 4;
        if lost > LOST || hopeless {
            return Some(Outcome { won: false, best, burst });
        }
        let won = burst.saturating_mul(MARGIN + 1) <= best.saturating_mul(MARGIN);
        (pairs == PAIRS).then_some(Outcome { won, best, burst })
    }
}

/// The median of the first few times, of an even number the upper one.
fn median(mut times: [Duration; PAIRS], count: usize) -> Duration {
    let times = &mut times[..count];
    times.sort_unstable();
    times.get(count / 2).copied().unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const KNOWN: Known = Known { offered: true, paged: false, weights: 100 << 20 };

    /// Runs a trial on a machine that takes `micros` microseconds for a token with some bytes at a
    /// time; returns the report, and how many tokens were computed with each number of bytes.
    fn tried(mut micros: impl FnMut(u32, usize) -> u64) -> (TouchReport, [usize; 3]) {
        let (mut trial, mut counts) = (Trial::new(TouchAhead::Auto, KNOWN), [0; 3]);
        for token in 0..200 {
            let bytes = trial.next();
            if trial.running.is_some() {
                counts[BURSTS.iter().position(|burst| *burst == bytes).map_or(0, |at| at + 1)] += 1;
            }
            trial.record(Duration::from_micros(micros(bytes, token)));
        }
        assert!(trial.running.is_none());
        (trial.report(), counts)
    }

    #[test]
    fn what_is_faster_is_chosen() {
        let (report, counts) = tried(|bytes, _| if bytes == 0 { 13_000 } else { 10_000 });
        assert_eq!(report.bytes, BURSTS[0]);
        assert_eq!(report.without, Some(Duration::from_millis(13)));
        assert_eq!(report.with, Some(Duration::from_millis(10)));
        // The larger one is no better, which two pairs show.
        assert_eq!(counts, [WARM + PAIRS, PAIRS + 2, 2]);

        let speed = |bytes, _| {
            [(0, 13_000), (BURSTS[0], 11_000), (BURSTS[1], 9_000)]
                .into_iter()
                .find(|(burst, _)| *burst == bytes)
                .unwrap()
                .1
        };
        let (report, _) = tried(speed);
        assert_eq!(report.bytes, BURSTS[1]);
        assert_eq!(report.without, Some(Duration::from_millis(13)));
        assert_eq!(report.with, Some(Duration::from_millis(9)));
    }

    #[test]
    fn what_halves_the_speed_costs_one_token() {
        let (report, counts) = tried(|bytes, _| if bytes == 0 { 10_000 } else { 20_000 });
        assert_eq!((report.bytes, counts), (0, [WARM + 1, 1, 0]));
        assert!(report.reason.contains("not faster"));
    }

    #[test]
    fn what_is_a_little_faster_is_noise() {
        let (report, _) = tried(|bytes, _| if bytes == 0 { 10_000 } else { 9_700 });
        assert_eq!(report.bytes, 0);
    }

    #[test]
    fn one_disturbed_token_decides_nothing() {
        for disturbed in WARM..WARM + 2 * PAIRS {
            let (report, _) = tried(|bytes, token| {
                let time = if bytes == 0 { 13_000 } else { 10_000 };
                // A pair of tokens that are disturbed at once loses at most that pair.
                if token == disturbed && token > WARM + 3 { 5 * time } else { time }
            });
            assert_eq!(report.bytes, BURSTS[0], "token {disturbed}");
        }
    }

    /// Times that have nothing to do with it: of many trials, almost none is won.
    #[test]
    fn chance_rarely_wins() {
        let mut state = 1_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let won =
            (0..500).filter(|_| tried(|_, _| 10_000 + random() % 10_000).0.bytes != 0).count();
        assert!(won < 20, "{won} of 500");
    }

    #[test]
    fn tokens_that_become_slower_steadily_change_nothing() {
        let (report, _) = tried(|_, token| 10_000 + 200 * token as u64);
        assert_eq!(report.bytes, 0);
        let drifting =
            |bytes, token| (if bytes == 0 { 12_000 } else { 10_000 }) + 100 * token as u64;
        assert_ne!(tried(drifting).0.bytes, 0);
    }

    #[test]
    fn nothing_is_tried_where_it_cannot_pay_or_was_asked_for() {
        let auto = |known| Trial::new(TouchAhead::Auto, known);
        for known in [
            Known { offered: false, ..KNOWN },
            Known { paged: true, ..KNOWN },
            Known { weights: LEAST_BYTES - 1, ..KNOWN },
        ] {
            let trial = auto(known);
            assert!(trial.running.is_none() && trial.next() == 0);
            assert_ne!(trial.report().reason, auto(KNOWN).report().reason);
        }
        assert_eq!(Trial::new(TouchAhead::Bytes(5), Known { paged: true, ..KNOWN }).next(), 5);
        assert_eq!(Trial::new(TouchAhead::Bytes(5), Known { offered: false, ..KNOWN }).next(), 0);
        assert!(Trial::new(TouchAhead::Off, KNOWN).running.is_none());
    }

    #[test]
    fn a_fork_goes_on_as_was_decided() {
        let mut decided = Trial::new(TouchAhead::Auto, KNOWN);
        let mut fork = decided;
        fork.take_over(&decided);
        assert!(fork.running.is_some());
        while decided.running.is_some() {
            decided.record(Duration::from_millis(if decided.next() == 0 { 20 } else { 10 }));
        }
        fork.take_over(&decided);
        assert_eq!((fork.next(), fork.running.is_some()), (decided.next(), false));
    }
}
