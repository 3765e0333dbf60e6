//! Where a guest keeps the keys and values of its blocks, and how they get into another guest.

use std::collections::BTreeMap;
use std::ops::Range;

use polychord_abi::transformer::{CacheRows, export};
use polychord_receipts::snapshot::RowHeader;
use polychord_runtime_api::{AddressType, Runtime, Value};

use crate::calls::{first_number, outside};
use crate::error::{Error, Result};

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

    /// Bytes that all caches have room for.
    pub(crate) fn bytes(&self) -> u64 {
        let bytes = |rows: &CacheRows| rows.stride.saturating_mul(rows.heads.into());
        self.0.values().map(bytes).fold(0, u64::saturating_add)
    }

    /// All heads, by the names of their rows.
    pub(crate) fn heads(&self) -> impl Iterator<Item = RowHeader> {
        self.0.values().flat_map(|rows| {
            let heads = rows.first_head..rows.first_head.saturating_add(rows.heads);
            heads.map(|head| RowHeader::new(rows.block, rows.part, head, rows.row_bytes))
        })
    }

    /// Hands the rows of some positions of a head to `take`, in pieces that follow each other.
    pub(crate) fn read<E: From<Error>>(
        &self,
        runtime: &dyn Runtime,
        head: RowHeader,
        positions: Range<u32>,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let rows = self.rows(head)?;
        for positions in pieces(positions, [rows.positions; 2]) {
            let place = place(runtime, rows, head.head, &positions);
            let (memory, range) = place.ok_or_else(|| outside(export::CACHE))?;
            read_range(runtime, memory, range, take)?;
        }
        Ok(())
    }

    /// Writes a part of the rows of some positions of a head: from byte `at` of all of them on.
    pub(crate) fn write(
        &self,
        runtime: &mut dyn Runtime,
        head: RowHeader,
        positions: Range<u32>,
        at: u64,
        bytes: &[u8],
    ) -> Result<()> {
        let rows = self.rows(head)?;
        let (row_bytes, first) = (u64::from(rows.row_bytes), positions.start);
        let end = at.saturating_add(bytes.len() as u64);
        for positions in pieces(positions, [rows.positions; 2]) {
            let start = u64::from(positions.start - first) * row_bytes;
            let stop = u64::from(positions.end - first) * row_bytes;
            let (from, to) = (start.max(at), stop.min(end));
            if from >= to {
                continue;
            }
            let place = place(runtime, rows, head.head, &positions);
            let (memory, range) = place.ok_or_else(|| outside(export::CACHE))?;
            // No more than the bytes.
            let [from_byte, to_byte] =
                [from, to].map(|it| usize::try_from(it - at).unwrap_or(usize::MAX));
            let bytes = bytes.get(from_byte..to_byte).ok_or_else(|| outside(export::CACHE))?;
            let written = runtime.write_memory(memory, range.start + (from - start), bytes);
            written.map_err(|_| outside(export::CACHE))?;
        }
        Ok(())
    }

    fn rows(&self, head: RowHeader) -> Result<&CacheRows> {
        self.0.get(&(head.block, head.part)).ok_or_else(|| outside(export::CACHE))
    }

    /// Copies the rows of the first `positions` positions of each head, as far as there is room for them,
    /// from another guest, which has at least the heads that this one has.
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
            let first = positions.saturating_sub(rows.positions.min(theirs.positions));
            for head in rows.first_head..rows.first_head.saturating_add(rows.heads) {
                for positions in pieces(first..positions, [rows.positions, theirs.positions]) {
                    let from = place(other, theirs, head, &positions);
                    let to = place(runtime, rows, head, &positions);
                    let (Some((from_memory, from)), Some((memory, to))) = (from, to) else {
                        return Err(outside(export::CACHE));
                    };
                    let mut at = to.start;
                    read_range(other, from_memory, from, &mut |bytes| {
                        let written = runtime.write_memory(memory, at, bytes);
                        at += bytes.len() as u64;
                        written.map_err(|_| outside(export::CACHE))
                    })?;
                }
            }
        }
        Ok(())
    }
}

/// Hands a range of a linear memory to `take`, in pieces that follow each other: in one, but on both sides
/// of the edge of two segments of a memory that was lowered.
fn read_range<E: From<Error>>(
    runtime: &dyn Runtime,
    memory: usize,
    range: Range<u64>,
    take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
) -> Result<(), E> {
    if let Some(bytes) = runtime.memory_slice(memory, range.clone()) {
        return take(bytes);
    }
    let mut room = [0; 4096];
    let mut at = range.start;
    while at < range.end {
        let len = (range.end - at).min(room.len() as u64);
        let bytes = &mut room[..usize::try_from(len).unwrap_or(usize::MAX)];
        let read = runtime.read_memory(memory, at, bytes);
        read.map_err(|_| outside(export::CACHE))?;
        take(bytes)?;
        at += len;
    }
    Ok(())
}

/// Positions in pieces that follow each other in two rings of these lengths.
fn pieces(positions: Range<u32>, rings: [u32; 2]) -> impl Iterator<Item = Range<u32>> {
    let mut next = positions.start;
    std::iter::from_fn(move || {
        let start = next;
        let end = |ring: u32| (start - start.checked_rem(ring)?).checked_add(ring);
        let ends = rings.map(|ring| end(ring).unwrap_or(u32::MAX));
        next = ends.into_iter().fold(positions.end, u32::min);
        (start < next).then_some(start..next)
    })
}

/// Rows of a head that follow each other: a linear memory, and a range of it that may be outside of
/// it. None if the cache does not have them.
fn place(
    runtime: &dyn Runtime,
    rows: &CacheRows,
    head: u32,
    positions: &Range<u32>,
) -> Option<(usize, Range<u64>)> {
    let index = head.checked_sub(rows.first_head)?;
    let row = positions.start.checked_rem(rows.positions)?;
    let count = positions.end.checked_sub(positions.start)?;
    if index >= rows.heads || count > rows.positions - row {
        return None;
    }
    let before = u64::from(rows.row_bytes).checked_mul(row.into())?;
    let at = rows.stride.checked_mul(index.into())?.checked_add(before)?;
    let at = rows.address.checked_add(at)?;
    let (memory, start) = match runtime.host().module().address() {
        AddressType::I32 => (at >> 32, at & u64::from(u32::MAX)),
        AddressType::I64 => (0, at),
    };
    let len = u64::from(rows.row_bytes) * u64::from(count);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_where_a_ring_does() {
        let of = |positions, rings| {
            let ends = pieces(positions, rings).map(|piece| (piece.start, piece.end));
            ends.collect::<Vec<_>>()
        };
        assert_eq!(of(0..5, [8, 8]), [(0, 5)]);
        assert_eq!(of(6..20, [8, 16]), [(6, 8), (8, 16), (16, 20)]);
        assert_eq!(of(7..9, [1, 1]), [(7, 8), (8, 9)]);
        assert_eq!(of(3..3, [4, 4]), []);
    }
}
