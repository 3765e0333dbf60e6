//! How many events a guest can put into a log.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Events that one guest causes: a log gets some of them, and then none for a while.
///
/// Functions that guests import tell of what went wrong. A guest that calls them in a loop would fill the disk of
/// a program that keeps its log.
#[derive(Debug, Default)]
pub(crate) struct Events {
    window: Mutex<Window>,
}

#[derive(Debug, Default)]
struct Window {
    begin: Option<Instant>,
    told: u32,
    left_out: u64,
}

/// Most events of a guest within [`TIME`].
const MOST: u32 = 20;
const TIME: Duration = Duration::from_secs(10);

impl Events {
    /// Whether one more is told: how many were left out since the last one that was, or none.
    pub(crate) fn admit(&self) -> Option<u64> {
        self.admit_at(Instant::now())
    }

    fn admit_at(&self, now: Instant) -> Option<u64> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let since = window.begin.map(|begin| now.saturating_duration_since(begin));
        if since.is_none_or(|since| since >= TIME) {
            (window.begin, window.told) = (Some(now), 0);
        }
        if window.told >= MOST {
            window.left_out += 1;
            return None;
        }
        window.told += 1;
        Some(std::mem::take(&mut window.left_out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn some_are_told_and_others_counted() {
        let (events, begin) = (Events::default(), Instant::now());
        let told = |at| (0..1_000).filter_map(|_| events.admit_at(begin + at)).collect::<Vec<_>>();
        assert_eq!(told(Duration::ZERO), [0; MOST as usize]);
        assert!(told(TIME / 2).is_empty());
        let later = told(TIME);
        assert_eq!((later[0], later[1], later.len()), (1_980, 0, MOST as usize));
        // A clock that goes back opens no window.
        assert!(told(Duration::ZERO).is_empty());
    }
}
