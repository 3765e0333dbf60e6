//! Where a guest keeps the keys and values of its blocks, and how they get into another guest.

use std::collections::BTreeMap;
use std::ops::Range;

use polychord_abi::transformer::{CacheRows, export};
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

    /// Copies the first `positions` rows of each head from another guest, which has at least the
    /// heads that this one has.
    pub(crate) fn copy(
        &self,
        runtime: &mut dyn Runtime,
        from: &Self,
        other: &dyn Runtime,
        positions: u32,
    ) -> Result<()> {
        for (name, rows) in &self.0 {
            let theirs = from.0.get(name).filter(|theirs| theirs.row_bytes == rows.row_bytes);
            let theirs = theirs.ok_or_else(|| outside(export::CACHE))?;
            for head in rows.first_head..rows.first_head.saturating_add(rows.heads) {
                let from = place(other, theirs, head, positions);
                let to = place(runtime, rows, head, positions);
                let (Some(from), Some(to)) = (from, to) else { return Err(outside(export::CACHE)) };
                copy_rows(runtime, to, other, from)?;
            }
        }
        Ok(())
    }
}

/// Copies a range of a linear memory of one guest to a range of another's, which is as long.
fn copy_rows(
    runtime: &mut dyn Runtime,
    (memory, to): (usize, Range<u64>),
    other: &dyn Runtime,
    (from_memory, from): (usize, Range<u64>),
) -> Result<()> {
    let outside = |_| outside(export::CACHE);
    if let Some(bytes) = other.memory_slice(from_memory, from.clone()) {
        return runtime.write_memory(memory, to.start, bytes).map_err(outside);
    }
    // On both sides of the edge of two segments of a memory that was lowered.
    let mut room = [0; 4096];
    let mut done = 0;
    while done < from.end - from.start {
        let len = (from.end - from.start - done).min(room.len() as u64);
        let bytes = &mut room[..usize::try_from(len).unwrap_or(usize::MAX)];
        other.read_memory(from_memory, from.start + done, bytes).map_err(outside)?;
        runtime.write_memory(memory, to.start + done, bytes).map_err(outside)?;
        done += len;
    }
    Ok(())
}

/// The first `positions` rows of a head: a linear memory, and a range of it that may be outside of
/// it. None if the cache does not have them.
fn place(
    runtime: &dyn Runtime,
    rows: &CacheRows,
    head: u32,
    positions: u32,
) -> Option<(usize, Range<u64>)> {
    let index = head.checked_sub(rows.first_head)?;
    if index >= rows.heads || positions > rows.positions {
        return None;
    }
    let at = rows.address.checked_add(rows.stride.checked_mul(index.into())?)?;
    let (memory, start) = match runtime.host().module().address() {
        AddressType::I32 => (at >> 32, at & u64::from(u32::MAX)),
        AddressType::I64 => (0, at),
    };
    let len = u64::from(rows.row_bytes) * u64::from(positions);
    Some((usize::try_from(memory).ok()?, start..start.checked_add(len)?))
}

/// A cache of the guest, or none behind the last one.
fn describe(runtime: &mut dyn Runtime, index: usize) -> Result<Option<CacheRows>> {
    let index = i32::try_from(index).map_err(|_| outside(export::CACHE))?;
    let results = runtime.call(export::CACHE, &[Value::I32(index)])?;
    let start = match first_number(export::CACHE, &results)? {
        0 => return Ok(None),
        start => start,
    };
    let mut bytes = [0; size_of::<CacheRows>()];
    let read = runtime.read_memory(0, start, &mut bytes);
    read.map(|()| Some(CacheRows::from_le_bytes(&bytes))).map_err(|_| outside(export::CACHE))
}
