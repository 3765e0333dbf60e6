//! Where a guest keeps the keys and values of its blocks, and how they get into another guest.

use std::collections::BTreeMap;
use std::ops::Range;

use polychord_abi::transformer::{CacheRows, export};
use polychord_receipts::snapshot::RowHeader;
use polychord_runtime_api::{AddressType, Runtime, Value};

use crate::calls::{first_number, outside};
use crate::error::Result;

/// Most caches that a block has; a guest that names more is none of ours.
const MOST_PER_BLOCK: usize = 64;

/// The caches of one guest.
///
/// A row is named by block, part, head and position, which mean the same in every placement and
/// number of ranks.
#[derive(Default)]
pub(crate) struct Caches(BTreeMap<(u32, u32), CacheRows>);

impl Caches {
    /// Asks a guest with that many blocks.
    pub(crate) fn of(runtime: &mut dyn Runtime, blocks: usize) -> Result<Self> {
        let mut caches = BTreeMap::new();
        while let Some(rows) = describe(runtime, caches.len())? {
            let is_new = caches.insert((rows.block, rows.part), rows).is_none();
            if !is_new || caches.len() > blocks.saturating_mul(MOST_PER_BLOCK) {
                return Err(outside(export::CACHE));
            }
        }
        Ok(Self(caches))
    }

    /// All heads, by the names of their rows.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RowHeader> {
        self.0.values().flat_map(|rows| {
            let heads = rows.first_head..rows.first_head.saturating_add(rows.heads);
            heads.map(|head| RowHeader::new(rows.block, rows.part, head, rows.row_bytes))
        })
    }

    /// The first `positions` rows of a head.
    pub(crate) fn rows<'a>(
        &self,
        runtime: &'a dyn Runtime,
        head: RowHeader,
        positions: u32,
    ) -> Result<&'a [u8]> {
        let rows = self.0.get(&(head.block, head.part));
        let place = rows.and_then(|rows| place(runtime, rows, head.head, positions));
        let bytes = place.and_then(|(memory, range)| runtime.linear_memory(memory).get(range));
        bytes.ok_or_else(|| outside(export::CACHE))
    }

    /// The first `positions` rows of a head, to be written.
    pub(crate) fn rows_mut<'a>(
        &self,
        runtime: &'a mut dyn Runtime,
        head: RowHeader,
        positions: u32,
    ) -> Result<&'a mut [u8]> {
        let rows = self.0.get(&(head.block, head.part));
        let place = rows.and_then(|rows| place(runtime, rows, head.head, positions));
        let bytes =
            place.and_then(|(memory, range)| runtime.linear_memory_mut(memory).get_mut(range));
        bytes.ok_or_else(|| outside(export::CACHE))
    }

    /// Copies the first `positions` rows of each head from another guest, which has at least the
    /// heads that this one has.
    pub(crate) fn copy(
        &self,
        runtime: &mut dyn Runtime,
        from: &Self,
        other: &dyn Runtime,
        positions: u32,
    ) -> Result<()> {
        for head in self.heads() {
            let from = from.rows(other, head, positions)?;
            let to = self.rows_mut(runtime, head, positions)?;
            if from.len() != to.len() {
                return Err(outside(export::CACHE));
            }
            to.copy_from_slice(from);
        }
        Ok(())
    }
}

/// The first `positions` rows of a head: a linear memory, and a range of it that may be outside of
/// it. None if the cache does not have them.
fn place(
    runtime: &dyn Runtime,
    rows: &CacheRows,
    head: u32,
    positions: u32,
) -> Option<(usize, Range<usize>)> {
    let index = head.checked_sub(rows.first_head)?;
    if index >= rows.heads || positions > rows.positions {
        return None;
    }
    let at = rows.address.checked_add(rows.stride.checked_mul(index.into())?)?;
    let (memory, start) = match runtime.host().module().address() {
        AddressType::I32 => (at >> 32, at & u64::from(u32::MAX)),
        AddressType::I64 => (0, at),
    };
    let start = usize::try_from(start).ok()?;
    let len = usize::try_from(u64::from(rows.row_bytes) * u64::from(positions)).ok()?;
    Some((usize::try_from(memory).ok()?, start..start.checked_add(len)?))
}

/// A cache of the guest, or none behind the last one.
fn describe(runtime: &mut dyn Runtime, index: usize) -> Result<Option<CacheRows>> {
    let index = i32::try_from(index).map_err(|_| outside(export::CACHE))?;
    let results = runtime.call(export::CACHE, &[Value::I32(index)])?;
    let start = match first_number(export::CACHE, &results)? {
        0 => return Ok(None),
        start => usize::try_from(start).map_err(|_| outside(export::CACHE))?,
    };
    let bytes = runtime.memory().get(start..).and_then(<[u8]>::first_chunk);
    bytes.map(|bytes| Some(CacheRows::from_le_bytes(bytes))).ok_or_else(|| outside(export::CACHE))
}
