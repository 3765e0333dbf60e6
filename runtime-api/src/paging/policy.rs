//! Which layers stay in a window, and how many pages layers need.

use polychord_abi::PAGE;
use polychord_plan::SourceRange;
use serde::{Deserialize, Serialize};

/// Which layers stay when there is no room for all.
///
/// ```
/// use polychord_runtime_api::Policy;
///
/// assert_eq!(Policy::default(), Policy::Pinned);
/// assert_eq!("lru".parse(), Ok(Policy::Lru));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Policy {
    /// The first layers, as many as fit beside room for two others, stay for good, and the
    /// rest stream through that room. Layers are used in order for every token, so this
    /// loads the fewest.
    #[default]
    Pinned,
    /// The layers that were used last. Better only if the use of layers follows no order.
    Lru,
}

polychord_plan::named!(Policy, "paging policy", {
    Pinned = "pinned": "The first layers stay, the rest stream through",
    Lru = "lru": "The layers that were used last",
});

/// How many of the first layers can stay, so that two of the largest others fit beside them.
pub(super) fn count_pinned(layers: &[SourceRange], pages: u64) -> usize {
    // Pages of all layers before each of them.
    let sum = |sum: &mut u64, layer| {
        let before = *sum;
        *sum = sum.saturating_add(pages_of(layer));
        Some(before)
    };
    let before: Vec<_> = layers.iter().scan(0, sum).collect();
    let mut stay = layers.iter().map(pages_of).fold(0, u64::saturating_add);
    let mut largest = 0;
    for (count, layer) in layers.iter().enumerate().rev() {
        if stay.saturating_add(2_u64.saturating_mul(largest)) <= pages {
            return count + 1;
        }
        stay = before[count];
        largest = largest.max(pages_of(layer));
    }
    0
}

/// Pages that a layer touches, wherever in its first page it begins.
pub(super) fn pages_of(layer: &SourceRange) -> u64 {
    (layer.start % PAGE).saturating_add(layer.bytes).div_ceil(PAGE)
}

#[cfg(test)]
pub(super) mod tests {
    use polychord_plan::LayerId;

    use super::*;

    /// Layers of these sizes in pages, each some bytes into its first page.
    pub(in crate::paging) fn layers(sizes: &[u64]) -> Vec<SourceRange> {
        let mut end = 0;
        let layer = |(id, pages): (u32, &u64)| {
            let start = end + 5;
            end += pages * PAGE;
            let name = format!("layer {id}");
            SourceRange::new(LayerId(id), name, start, pages * PAGE - 5)
        };
        (0..).zip(sizes).map(layer).collect()
    }

    #[test]
    fn as_many_stay_as_leave_room_for_two() {
        for (sizes, pages, expected) in [
            (&[2, 2, 2, 2][..], 8, 4),
            (&[2, 2, 2, 2], 7, 1),
            (&[2, 2, 2, 2], 4, 0),
            (&[2, 2, 2, 2], 1, 0),
            (&[5, 1, 1, 1], 7, 1),
            (&[1, 1, 1, 5], 7, 0),
            (&[], 0, 0),
        ] {
            assert_eq!(count_pinned(&layers(sizes), pages), expected, "{sizes:?} in {pages}");
        }
    }
}
