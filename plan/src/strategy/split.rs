//! Dividing sizes, in their order, over parts.

/// How many of the items go into each part, in order, so that the largest sum is least.
/// Needs at least as many items as parts.
pub(super) fn split(sizes: &[u64], parts: usize) -> Vec<usize> {
    let total = sizes.iter().fold(0_u64, |sum, size| sum.saturating_add(*size));
    let (mut low, mut high) = (sizes.iter().copied().max().unwrap_or(0), total);
    // The least capacity with which a first fit needs no more than the parts.
    while low < high {
        let capacity = low + (high - low) / 2;
        if first_fit(sizes, parts, capacity).len() <= parts {
            high = capacity;
        } else {
            low = capacity + 1;
        }
    }
    first_fit(sizes, parts, low)
}

/// Fills one part after the other up to a capacity, but leaves an item for each later part.
pub(super) fn first_fit(sizes: &[u64], parts: usize, capacity: u64) -> Vec<usize> {
    let mut counts = Vec::new();
    let (mut count, mut sum) = (0, 0_u64);
    for (index, size) in sizes.iter().enumerate() {
        let needed_later = parts.saturating_sub(counts.len() + 1);
        let must_leave = sizes.len() - index <= needed_later;
        if count > 0 && (must_leave || sum.saturating_add(*size) > capacity) {
            counts.push(count);
            (count, sum) = (0, 0);
        }
        count += 1;
        sum = sum.saturating_add(*size);
    }
    counts.push(count);
    counts
}
