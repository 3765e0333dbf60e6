//! Joins neighboring pieces of text, the best ones first.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Which neighbors may be joined, and which of them first.
pub(super) trait Ranked {
    /// What decides; the greatest is joined first, and of equal ones what stands further left.
    type Rank: Ord;

    /// The rank of two neighbors that together are `whole`, of which the first has `split`
    /// bytes; none if they stay apart.
    fn rank(&mut self, whole: &str, split: usize) -> Option<Self::Rank>;
}

/// Cuts `text` into characters, joins until no neighbors may be, and gives what is left.
pub(super) fn join<'a, R: Ranked>(text: &'a str, ranked: &mut R) -> impl Iterator<Item = &'a str> {
    Joiner { text, pieces: pieces(text), queue: BinaryHeap::new(), ranked }.join()
}

const NONE: usize = usize::MAX;

/// A piece of text in a list of neighbors; empty once joined to the one before.
struct Piece {
    start: usize,
    len: usize,
    before: usize,
    after: usize,
}

struct Joiner<'a, 'r, R: Ranked> {
    text: &'a str,
    pieces: Vec<Piece>,
    queue: BinaryHeap<Pair<R::Rank>>,
    ranked: &'r mut R,
}

impl<'a, R: Ranked> Joiner<'a, '_, R> {
    fn join(mut self) -> impl Iterator<Item = &'a str> {
        for index in 1..self.pieces.len() {
            self.propose(index - 1, index);
        }
        while let Some(Pair { left, right, len, .. }) = self.queue.pop() {
            let (a, b) = (&self.pieces[left], &self.pieces[right]);
            // Outdated if either was joined to another piece since.
            if a.len == 0 || b.len == 0 || a.len + b.len != len {
                continue;
            }
            let (before, after) = (a.before, b.after);
            self.pieces[left].len = len;
            self.pieces[left].after = after;
            self.pieces[right].len = 0;
            if after != NONE {
                self.pieces[after].before = left;
            }
            self.propose(before, left);
            self.propose(left, after);
        }
        let text = self.text;
        self.pieces.into_iter().filter(|p| p.len > 0).map(move |p| &text[p.start..p.start + p.len])
    }

    /// Queues two neighbors if they may be joined.
    fn propose(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let Piece { start, len: split, .. } = self.pieces[left];
        let len = split + self.pieces[right].len;
        if let Some(rank) = self.ranked.rank(&self.text[start..start + len], split) {
            self.queue.push(Pair { rank, left, right, len });
        }
    }
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> = Vec::with_capacity(text.len());
    for (start, c) in text.char_indices() {
        let index = pieces.len();
        pieces.push(Piece {
            start,
            len: c.len_utf8(),
            before: index.wrapping_sub(1),
            after: index + 1,
        });
    }
    if let Some(last) = pieces.last_mut() {
        last.after = NONE;
    }
    pieces
}

/// Two neighbors to join: better ranks first, then what stands further left.
struct Pair<K> {
    rank: K,
    left: usize,
    right: usize,
    len: usize,
}

impl<K: Ord> Ord for Pair<K> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank.cmp(&other.rank).then_with(|| other.left.cmp(&self.left))
    }
}

impl<K: Ord> PartialOrd for Pair<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: Ord> PartialEq for Pair<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: Ord> Eq for Pair<K> {}
