//! Where a guest keeps the keys and values of its blocks, and how they get into another guest.

use std::collections::BTreeMap;
use std::ops::Range;

use polychord_abi::transformer::{CacheRows, export};
use polychord_receipts::snapshot::RowHeader;
use polychord_runtime_api::{AddressType, Image, ImageBuilder, Runtime, Value};

use crate::calls::{first_number, outside};
use crate::error::{Error, Result};

/// Most caches that a block has; a guest that names more is none of ours.
const MOST_PER_BLOCK: usize = 64;

/// Rows of a head that are fewer bytes are not worth pages of their own.
const WORTH_SHARING: u64 = 16 << 10;

/// Where an image has the rows of each cache of a guest, from position 0 on: of each head, by block and part.
pub(crate) type ImageRows = BTreeMap<(u32, u32), Vec<u64>>;

/// Bytes that a fork was given.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Given {
    pub(crate) shared: u64,
    pub(crate) copied: u64,
}

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
            heads(rows).map(|head| RowHeader::new(rows.block, rows.part, head, rows.row_bytes))
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
    /// from another guest, which has at least the heads that this one has. Those of the first positions of
    /// `shared`, an image of its rows, are shown.
    pub(crate) fn copy(
        &self,
        runtime: &mut dyn Runtime,
        from: &Self,
        other: &dyn Runtime,
        positions: u32,
        shared: Option<(&Image, &ImageRows, u32)>,
    ) -> Result<Given> {
        let mut given = Given::default();
        for (name, rows) in &self.0 {
            let theirs = from.0.get(name).filter(|theirs| theirs.row_bytes == rows.row_bytes);
            let theirs = theirs.ok_or_else(|| outside(export::CACHE))?;
            let ring = rows.positions.min(theirs.positions);
            let mut first = positions.saturating_sub(ring);
            // Where rows were written over others, most would not stay shared.
            if let Some((image, places, valid)) = shared.filter(|_| positions <= ring)
                && let Some(places) = places.get(name)
            {
                let written = show(runtime, rows, image, places, valid)?;
                given.shared += written.shared;
                given.copied += written.copied;
                first = valid;
            }
            for head in heads(rows) {
                for positions in pieces(first..positions, [rows.positions, theirs.positions]) {
                    let from = place(other, theirs, head, &positions);
                    let to = place(runtime, rows, head, &positions);
                    let (Some((from_memory, from)), Some((memory, to))) = (from, to) else {
                        return Err(outside(export::CACHE));
                    };
                    given.copied += to.end - to.start;
                    let mut at = to.start;
                    read_range(other, from_memory, from, &mut |bytes| {
                        let written = runtime.write_memory(memory, at, bytes);
                        at += bytes.len() as u64;
                        written.map_err(|_| outside(export::CACHE))
                    })?;
                }
            }
        }
        Ok(given)
    }

    /// Appends the rows of the first `positions` positions to an image: of caches in which none was written over
    /// another, and in which there are enough of them. Evaluations have not gone beyond `reached`.
    pub(crate) fn append_to(
        &self,
        image: &mut ImageBuilder,
        runtime: &dyn Runtime,
        positions: u32,
        reached: u32,
    ) -> Result<ImageRows> {
        let mut all = ImageRows::new();
        let memories = runtime.host().module().memories().len();
        let mut room: u64 = (0..memories).map(|memory| runtime.memory_bytes(memory)).sum();
        for (name, rows) in &self.0 {
            let bytes = u64::from(rows.row_bytes).saturating_mul(positions.into());
            if rows.positions < reached.max(positions) || bytes < WORTH_SHARING {
                continue;
            }
            let mut places = Vec::new();
            for head in heads(rows) {
                // No more than the guest has, whatever it says.
                room = room.checked_sub(bytes).ok_or_else(|| outside(export::CACHE))?;
                let place = place(runtime, rows, head, &(0..positions));
                let (memory, range) = place.ok_or_else(|| outside(export::CACHE))?;
                places.push(image.begin(range.start));
                read_range(runtime, memory, range, &mut |bytes| {
                    Ok::<_, Error>(image.write(bytes)?)
                })?;
            }
            all.insert(*name, places);
        }
        Ok(all)
    }

    /// Shows an image in the place of the rows of the first `valid` positions, which are those of the image.
    pub(crate) fn show(
        &self,
        runtime: &mut dyn Runtime,
        image: &Image,
        places: &ImageRows,
        valid: u32,
    ) -> Result<()> {
        for (name, places) in places {
            if let Some(rows) = self.0.get(name) {
                show(runtime, rows, image, places, valid)?;
            }
        }
        Ok(())
    }

    /// Takes an image away from the rows of some positions, which are not needed, and from those before them if
    /// `all`, which are then copies.
    pub(crate) fn release(
        &self,
        runtime: &mut dyn Runtime,
        places: &ImageRows,
        positions: Range<u32>,
        all: bool,
    ) -> Result<()> {
        for rows in places.keys().filter_map(|name| self.0.get(name)) {
            for head in heads(rows) {
                let place = |positions| {
                    let place = place(runtime, rows, head, &positions);
                    place.ok_or_else(|| outside(export::CACHE))
                };
                let ((memory, range), (_, before)) =
                    (place(positions.clone())?, place(0..positions.start)?);
                if all {
                    let mut kept = Vec::new();
                    read_range(runtime, memory, before.clone(), &mut |bytes| {
                        kept.extend_from_slice(bytes);
                        Ok::<_, Error>(())
                    })?;
                    let released = runtime.release_image(memory, before.start..range.end);
                    runtime.write_memory(memory, before.start, &kept)?;
                    released?;
                } else {
                    runtime.release_image(memory, range)?;
                }
            }
        }
        Ok(())
    }
}

/// The heads of a cache.
const fn heads(rows: &CacheRows) -> Range<u32> {
    rows.first_head..rows.first_head.saturating_add(rows.heads)
}

/// Shows an image in the place of the rows of the first `valid` positions of each head.
fn show(
    runtime: &mut dyn Runtime,
    rows: &CacheRows,
    image: &Image,
    places: &[u64],
    valid: u32,
) -> Result<Given> {
    let mut given = Given::default();
    for (head, start) in heads(rows).zip(places) {
        let place = place(runtime, rows, head, &(0..valid));
        let (memory, range) = place.ok_or_else(|| outside(export::CACHE))?;
        let bytes = range.end - range.start;
        let from = *start..start.saturating_add(bytes);
        let shared = runtime.write_image(memory, range.start, image, from)?;
        given.shared += shared;
        given.copied += bytes - shared;
    }
    Ok(given)
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
