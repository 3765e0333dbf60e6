//! Room for the matrices behind a network.

use polychord_abi::buffers;
use polychord_abi::transformer::{role, status};

use crate::model::Globals;
use crate::{Status, alloc};

/// What the matrices behind the network write; empty without them.
pub(crate) struct Dense {
    /// Between the two.
    pub(crate) inner: &'static mut [f32],
    pub(crate) scratch: &'static mut [f32],
}

impl Dense {
    /// Room for what a network has, which is checked.
    pub(crate) fn new(globals: &Globals) -> Result<Self, Status> {
        let matrices = [role::DENSE_2, role::DENSE_3].map(|role| globals.find(role));
        let rows = matrices.iter().flatten().map(|dense| dense.rows).max().unwrap_or(0);
        let cols = matrices.iter().flatten().map(|dense| dense.cols).max();
        let scratch = cols.map_or(0, |cols| buffers::scratch(cols as u64));
        let floats = |len: usize| alloc::floats(len).ok_or(status::OUT_OF_MEMORY);
        Ok(Self { inner: floats(rows)?, scratch: floats(alloc::len(scratch)?)? })
    }
}
