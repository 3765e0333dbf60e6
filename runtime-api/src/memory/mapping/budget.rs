//! How many mappings of the process mapped layers may take.
//!
//! Linux counts the mappings of a process, and refuses another one beyond `vm.max_map_count`: then
//! no thread can start, and a large allocation ends the process. So layers and images are copied long before.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Mappings that one mapped layer may add: its file, the rest of the memory behind it, and the
/// zeros in the place of what its file has lost.
const OF_A_LAYER: usize = 3;

/// What Linux allows by default.
const DEFAULT: usize = 65_530;

/// How many layers may be mapped at once in this process: they take half of its mappings.
pub(super) fn most_layers() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| of(max_map_count()))
}

/// How many layers may be mapped by a process that may have `max_map_count` mappings.
const fn of(max_map_count: usize) -> usize {
    max_map_count / 2 / OF_A_LAYER
}

/// Mappings that pages of an image may add: themselves, and the rest of the memory behind them.
const OF_AN_IMAGE: usize = 2;

/// Pages of images that are shown now, in all guests of the process.
static IMAGES: AtomicUsize = AtomicUsize::new(0);

/// One mapping of pages of an image; others are copied when there are too many of these.
#[derive(Debug)]
pub(crate) struct ImageMapping(());

impl ImageMapping {
    /// One more, unless they would take more than a quarter of the process's mappings.
    pub(crate) fn take() -> Option<Self> {
        static MOST: OnceLock<usize> = OnceLock::new();
        let most = *MOST.get_or_init(|| max_map_count() / 4 / OF_AN_IMAGE);
        let more = |count: usize| (count < most).then_some(count + 1);
        IMAGES.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok().map(|_| Self(()))
    }
}

impl Drop for ImageMapping {
    fn drop(&mut self) {
        IMAGES.fetch_sub(1, Ordering::Relaxed);
    }
}

fn max_map_count() -> usize {
    let text = std::fs::read_to_string("/proc/sys/vm/max_map_count");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(DEFAULT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_mappings_are_left_to_others() {
        for count in [0, 1, 100, DEFAULT, usize::MAX] {
            assert!(of(count).checked_mul(OF_A_LAYER).unwrap() <= count / 2);
        }
        assert_eq!(of(DEFAULT), 10_921);
        assert!(most_layers() > 0 || max_map_count() < 6);
    }
}
