//! How work is divided among ranks: instances of this guest that compute together.
//!
//! A number of units (rows of a matrix, heads) is cut into equal parts, one for each rank; the
//! last parts may be smaller, or empty. For several columns, `all_gather` wants what a rank has
//! computed for all of them in one piece, so that results are *stacked* first: `[rank][n][part]`.
//! For one column, or one rank, that is the order that they have anyway. No number depends on
//! how the work was divided: each is computed by one rank, as a single one would.

use core::ops::Range;

use crate::{Status, host};

/// Which part of the work is this instance's.
#[derive(Clone, Copy)]
pub(crate) struct Share {
    pub(crate) rank: usize,
    pub(crate) ranks: usize,
}

/// Results of `units` units of `unit` floats for `n` columns.
#[derive(Clone, Copy)]
pub(crate) struct Stack {
    share: Share,
    n: usize,
    units: usize,
    unit: usize,
}

impl Share {
    /// The units that this rank computes.
    pub(crate) fn own(self, units: usize) -> Range<usize> {
        self.part(self.rank, units)
    }

    fn part(self, rank: usize, units: usize) -> Range<usize> {
        let part = units.div_ceil(self.ranks);
        let start = rank.saturating_mul(part).min(units);
        start..(start + part).min(units)
    }

    /// The results of rows for `n` columns.
    pub(crate) fn rows(self, rows: usize, n: usize) -> Stack {
        Stack { share: self, n, units: rows, unit: 1 }
    }

    /// The results of rows for `n` columns that each rank has computed in full.
    pub(crate) fn whole(self, rows: usize, n: usize) -> Stack {
        Stack { share: Self { rank: 0, ranks: 1 }, n, units: rows, unit: 1 }
    }

    /// The results of heads for `n` columns.
    pub(crate) fn heads(self, heads: usize, head_dim: usize, n: usize) -> Stack {
        Stack { share: self, n, units: heads, unit: head_dim }
    }
}

impl Stack {
    /// What this rank has computed, or will: `[n][part]`.
    pub(crate) fn own<'a>(&self, stacked: &'a mut [f32]) -> &'a mut [f32] {
        let Range { start, end } = self.share.own(self.units);
        &mut stacked[start * self.unit * self.n..end * self.unit * self.n]
    }

    /// Gets the results of all ranks, still stacked.
    pub(crate) fn gather(&self, stacked: &mut [f32]) -> Result<(), Status> {
        if self.share.ranks == 1 {
            return Ok(());
        }
        host::all_gather(stacked, self.share.part(0, self.units).len() * self.unit * self.n)
    }

    /// Gets the results of all ranks as `[n][units]`, in one of the two buffers.
    pub(crate) fn gather_rows<'a>(
        &self,
        stacked: &'a mut [f32],
        spare: &'a mut [f32],
    ) -> Result<&'a [f32], Status> {
        self.gather(stacked)?;
        if self.share.ranks == 1 || self.n == 1 {
            return Ok(stacked);
        }
        self.for_each(|from, to| spare[to].copy_from_slice(&stacked[from]));
        Ok(&spare[..stacked.len()])
    }

    /// Calls `visit` with each range of stacked results, and where it is in `[n][units]`.
    pub(crate) fn for_each(&self, mut visit: impl FnMut(Range<usize>, Range<usize>)) {
        if self.share.ranks == 1 {
            let all = 0..self.n * self.units * self.unit;
            return visit(all.clone(), all);
        }
        for rank in 0..self.share.ranks {
            let part = self.share.part(rank, self.units);
            let (start, len) = (part.start * self.unit, part.len() * self.unit);
            for column in 0..self.n {
                let from = start * self.n + column * len;
                let to = column * self.units * self.unit + start;
                visit(from..from + len, to..to + len);
            }
        }
    }
}
