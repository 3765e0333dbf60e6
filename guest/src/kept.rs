//! What blocks keep of the sequence beside keys and values, and how far each one is.

use polychord_abi::transformer::status;

use crate::attention::Cache;
use crate::model::BlockShape;
use crate::{Status, alloc};

/// What a block keeps that is no cache: of fixed size, and only as it is after the last position.
pub(crate) struct State {
    /// What went into a convolution at the last positions, the newest last, for each channel.
    pub(crate) taps: &'static mut [f32],
    /// The matrices of a delta net: for each head of this instance a row for each element of its
    /// values.
    pub(crate) matrices: &'static mut [f32],
}

impl State {
    /// The state of a block, zero; empty for one that has a cache.
    pub(crate) fn new(shape: &BlockShape) -> Result<Self, Status> {
        let floats = |len: u64| alloc::floats(alloc::len(len)?).ok_or(status::OUT_OF_MEMORY);
        Ok(Self { taps: floats(shape.kept.taps)?, matrices: floats(shape.kept.matrices)? })
    }

    /// As it is for a call that goes on at a position: zero at the beginning.
    pub(crate) fn at(&mut self, position: usize) -> &mut Self {
        if position == 0 {
            self.taps.fill(0.0);
            self.matrices.fill(0.0);
        }
        self
    }
}

/// What a block puts something into as positions go by.
pub(crate) enum Memory<'a> {
    /// Rows for positions.
    Rows(&'a mut Cache),
    /// A state.
    State(&'a mut State),
}

impl<'a> Memory<'a> {
    /// The rows that a block with attention has.
    pub(crate) fn rows(self) -> Result<&'a mut Cache, Status> {
        match self {
            Self::Rows(cache) => Ok(cache),
            Self::State(_) => Err(status::BAD_DESCRIPTOR),
        }
    }

    /// The state that another one has.
    pub(crate) fn state(self) -> Result<&'a mut State, Status> {
        match self {
            Self::State(state) => Ok(state),
            Self::Rows(_) => Err(status::BAD_DESCRIPTOR),
        }
    }
}

/// How far a block is.
#[derive(Clone, Copy, Default)]
pub(crate) struct Progress {
    /// Positions that are complete.
    filled: usize,
    /// The highest end of what was ever put there since the beginning: rows that many positions
    /// earlier have been overwritten, even if the sequence was cut since. For a state that a call
    /// has begun to change, and not completed, this is more than `filled`.
    reached: usize,
}

impl Progress {
    /// Lets there be no more positions than that.
    pub(crate) fn truncate(&mut self, position: usize) {
        self.filled = position.min(self.filled);
    }

    /// Lets there be that many positions, which the host has filled.
    pub(crate) const fn resume(&mut self, position: usize) {
        *self = Self { filled: position, reached: position };
    }

    /// Makes sure that a block can go on at a position.
    pub(crate) fn check(&self, shape: &BlockShape, position: usize) -> Result<(), Status> {
        if self.filled < position {
            return Err(status::BAD_ORDER);
        }
        let has_all = if shape.is_recurrent() {
            self.filled == position && self.reached == position
        } else {
            shape.first_seen(position) + shape.positions >= self.reached
        };
        if position == 0 || has_all { Ok(()) } else { Err(status::STATE_LOST) }
    }

    /// Makes sure that a block has what another one sees that computes positions up to `end`.
    pub(crate) fn check_source(
        &self,
        first_seen: usize,
        end: usize,
        positions: usize,
    ) -> Result<(), Status> {
        match self.filled >= end && first_seen + positions >= self.reached {
            true => Ok(()),
            false => Err(status::BAD_ORDER),
        }
    }

    /// A call begins to replace everything from `start` on, up to `end`.
    pub(crate) fn begin(&mut self, start: usize, end: usize) {
        // Until the block is done, later positions are not to be relied on.
        self.filled = start;
        self.reached = if start == 0 { end } else { end.max(self.reached) };
    }

    /// It has done so.
    pub(crate) const fn complete(&mut self, end: usize) {
        self.filled = end;
    }
}
