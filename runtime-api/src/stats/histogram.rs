//! Times, counted by their length.

use std::time::Duration;

use serde::{Serialize, Serializer};

/// How long something took, each time: counted in buckets of which each is twice as wide as the
/// one before.
///
/// Bucket 0 has what took less than 1 us, bucket `i` what took from 2^(i-1) us to less than
/// 2^i us, and the last one all that took longer, from 36 minutes on.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_runtime_api::Histogram;
///
/// let mut times = Histogram::default();
/// [3, 5, 900].map(Duration::from_micros).map(|time| times.record(time));
/// assert_eq!((times.count(), times.max().as_micros()), (3, 900));
/// assert_eq!(times.quantile(0.5).as_micros(), 8);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; BUCKETS],
    max: Duration,
}

const BUCKETS: usize = 32;

impl Histogram {
    /// Counts one time.
    pub fn record(&mut self, took: Duration) {
        let micros = took.as_micros();
        let bucket = (u128::BITS - micros.leading_zeros()) as usize;
        self.counts[bucket.min(BUCKETS - 1)] += 1;
        self.max = self.max.max(took);
    }

    /// How many times were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The longest time.
    #[must_use]
    pub const fn max(&self) -> Duration {
        self.max
    }

    /// A time that at least `share` (0 to 1) of all were no longer than: the end of a bucket,
    /// or the longest time if that is shorter. Zero if nothing was counted.
    #[must_use]
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "a share of a count, which is exact below 2^53"
    )]
    pub fn quantile(&self, share: f64) -> Duration {
        let wanted = (share.clamp(0.0, 1.0) * self.count() as f64).ceil() as u64;
        let mut sum = 0;
        let reached = |(_, _, count): &(Duration, Duration, u64)| {
            sum += count;
            sum >= wanted
        };
        let found = self.buckets().find(reached);
        found.map_or(Duration::ZERO, |(_, end, _)| end.min(self.max))
    }

    /// The buckets that are not empty: where each begins, where the next one does, and how
    /// many times are in it.
    pub fn buckets(&self) -> impl Iterator<Item = (Duration, Duration, u64)> {
        let edge = |bucket: usize| match bucket {
            0 => Duration::ZERO,
            BUCKETS => Duration::MAX,
            _ => Duration::from_micros(1 << (bucket - 1)),
        };
        let all = (0..).zip(self.counts);
        let all = all.map(move |(bucket, count)| (edge(bucket), edge(bucket + 1), count));
        all.filter(|(_, _, count)| *count > 0)
    }
}

/// The buckets, each as its ends in microseconds and its count.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Bucket {
            from_micros: u128,
            /// None for the last bucket, which has no end.
            to_micros: Option<u128>,
            count: u64,
        }
        serializer.collect_seq(self.buckets().map(|(start, end, count)| Bucket {
            from_micros: start.as_micros(),
            to_micros: (end < Duration::MAX).then_some(end.as_micros()),
            count,
        }))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn times_are_in_the_buckets_that_are_documented() {
        let us = Duration::from_micros;
        let mut histogram = Histogram::default();
        assert_eq!((histogram.count(), histogram.quantile(1.0)), (0, Duration::ZERO));
        for took in [0, 1, 2, 3, 4, 7, 8, 1 << 30, u64::MAX] {
            histogram.record(us(took));
        }
        histogram.record(Duration::from_nanos(999));
        let buckets: Vec<_> = histogram.buckets().collect();
        let end = us(1 << 30);
        assert_eq!(
            buckets,
            [
                (us(0), us(1), 2),
                (us(1), us(2), 1),
                (us(2), us(4), 2),
                (us(4), us(8), 2),
                (us(8), us(16), 1),
                (end, Duration::MAX, 2),
            ]
        );
        assert_eq!(histogram.max(), us(u64::MAX));
        assert_eq!(histogram.quantile(0.5), us(4));
        let json = serde_json::to_value(histogram).unwrap();
        assert_eq!(json[5]["to_micros"], serde_json::Value::Null);
        assert_eq!(json[1], serde_json::json!({"from_micros": 1, "to_micros": 2, "count": 1}));
    }

    proptest! {
        #[test]
        fn quantiles_are_no_less_than_what_they_stand_for(
            mut times in prop::collection::vec(0..10_000_000_u64, 1..50),
            share in 0.0..=1.0_f64,
        ) {
            let mut histogram = Histogram::default();
            for micros in &times {
                histogram.record(Duration::from_micros(*micros));
            }
            times.sort_unstable();
            let bound = histogram.quantile(share);
            let below = times.iter().filter(|micros| Duration::from_micros(**micros) <= bound).count();
            prop_assert!(below as f64 >= share * times.len() as f64);
            prop_assert!(bound <= histogram.max());
        }
    }
}
