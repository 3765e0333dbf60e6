//! Compressed store for released layers that have no file.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use polychord_abi::PAGE;
use polychord_plan::range::check_range;
use zstd_safe::{CCtx, DCtx};

use crate::memory::mapping::make_zero;
use crate::{Error, Result};

/// Bytes that are zeros until they are [kept](Self::keep).
#[derive(Debug)]
pub(crate) struct CompressedStore {
    bytes: u64,
    /// Most compressed bytes.
    room: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Chunks by their number, if they have bytes other than zero.
    chunks: HashMap<u64, Chunk>,
    /// Bytes of all of them, as they are kept.
    bytes: u64,
    zstd: Option<Zstd>,
}

/// A chunk that is kept.
struct Chunk {
    packed: Box<[u8]>,
    /// Parts of it that are kept no longer and count as zeros: in order, and none touches another.
    forgotten: Vec<Range<usize>>,
}

/// What compressing takes.
struct Zstd {
    compressor: CCtx<'static>,
    decompressor: DCtx<'static>,
    /// Room for a chunk that is compressed.
    packed: Box<[u8]>,
    /// Room for one that is not.
    plain: Box<[u8]>,
}

/// The part of a range that is in one chunk.
#[derive(Clone, Debug)]
struct Part {
    chunk: u64,
    /// Where it is in the range.
    range: Range<usize>,
    /// Where it is in the chunk.
    within: Range<usize>,
}

/// Bytes that are compressed together: few, so that there is room for the work.
#[allow(clippy::cast_possible_truncation, reason = "it is 65,536")]
const CHUNK: usize = PAGE as usize;

/// The fastest of zstd's usual levels, as a release waits for it.
const LEVEL: i32 = 1;

impl CompressedStore {
    pub(crate) fn new(bytes: u64, room: u64) -> Self {
        Self { bytes, room, kept: Mutex::default() }
    }

    pub(crate) const fn len(&self) -> u64 {
        self.bytes
    }

    /// Bytes that are kept, compressed.
    pub(crate) fn kept_bytes(&self) -> u64 {
        self.kept().bytes
    }

    /// Keeps bytes from `offset` on, in the place of what was kept there; returns how many they
    /// are compressed.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if that is more than there is room for, [`Error::OutOfMemory`]. What
    /// is kept is then as before.
    pub(crate) fn keep(&self, offset: u64, data: &[u8]) -> Result<u64> {
        let parts = self.parts("keeping a layer", offset, data.len())?;
        let mut kept = self.kept();
        let Kept { chunks, bytes, zstd } = &mut *kept;
        let zstd = ready(zstd)?;
        let before = parts.clone().filter_map(|part| chunks.get(&part.chunk));
        let before: u64 = before.map(|chunk| chunk.packed.len() as u64).sum();
        let mut after = 0;
        let mut new = Vec::new();
        let count = parts.clone().count();
        new.try_reserve_exact(count).map_err(|error| out_of_memory(data.len(), error))?;
        chunks.try_reserve(count).map_err(|error| out_of_memory(data.len(), error))?;
        for Part { chunk, range, within } in parts {
            let packed = zstd.pack(chunks.get(&chunk), within, &data[range])?;
            after += packed.as_ref().map_or(0, |packed| packed.len() as u64);
            self.check_room(*bytes - before + after)?;
            new.push((chunk, packed));
        }
        *bytes = *bytes - before + after;
        for (chunk, packed) in new {
            match packed {
                Some(packed) => chunks.insert(chunk, Chunk { packed, forgotten: Vec::new() }),
                None => chunks.remove(&chunk),
            };
        }
        Ok(after)
    }

    /// Fills `out` from `offset` on.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] and [`Error::OutOfMemory`].
    pub(crate) fn read(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let parts = self.parts("read", offset, out.len())?;
        let mut kept = self.kept();
        let Kept { chunks, zstd, .. } = &mut *kept;
        for Part { chunk, range, within } in parts {
            match chunks.get(&chunk) {
                Some(kept) => ready(zstd)?.unpack(kept, within, &mut out[range])?,
                None => make_zero(&mut out[range]),
            }
        }
        Ok(())
    }

    /// Keeps a range no longer, which reads as zeros from then on; returns whether it was kept.
    /// Chunks of which others keep a part remain.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] and [`Error::OutOfMemory`].
    pub(crate) fn forget(&self, offset: u64, len: usize) -> Result<bool> {
        let mut kept = self.kept();
        let Kept { chunks, bytes, .. } = &mut *kept;
        let mut was_kept = false;
        for Part { chunk, within, .. } in self.parts("forgetting a layer", offset, len)? {
            let Some(found) = chunks.get_mut(&chunk) else { continue };
            was_kept = true;
            if found.forget(within, self.len_of(chunk))? {
                *bytes -= found.packed.len() as u64;
                chunks.remove(&chunk);
            }
        }
        Ok(was_kept)
    }

    /// Bytes of a chunk, of which the last may have fewer.
    fn len_of(&self, chunk: u64) -> usize {
        let left = self.bytes.saturating_sub(chunk.saturating_mul(PAGE));
        usize::try_from(left).map_or(CHUNK, |left| left.min(CHUNK))
    }

    fn check_room(&self, asked: u64) -> Result<()> {
        if asked <= self.room {
            return Ok(());
        }
        Err(Error::TooLarge {
            what: "what released layers have, compressed,".into(),
            asked,
            limit: self.room,
            limited_by: "the room of their anonymous source".into(),
        })
    }

    /// A range chunk by chunk, once it is found to be in here.
    fn parts(
        &self,
        operation: &'static str,
        offset: u64,
        len: usize,
    ) -> Result<impl Iterator<Item = Part> + Clone + use<>> {
        check_range(operation, offset, len as u64, self.bytes)?;
        let chunks = offset / PAGE..(offset + len as u64).div_ceil(PAGE);
        // All differences are at most a chunk, or within the range.
        let index = |difference: u64| usize::try_from(difference).unwrap_or(usize::MAX);
        Ok(chunks.filter(move |_| len > 0).map(move |chunk| {
            let start = offset.max(chunk * PAGE);
            let end = (offset + len as u64).min(chunk.saturating_add(1).saturating_mul(PAGE));
            Part {
                chunk,
                range: index(start - offset)..index(end - offset),
                within: index(start - chunk * PAGE)..index(end - chunk * PAGE),
            }
        }))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // What is kept changes all at once.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chunk {
    /// Forgets a part; true if nothing is left of the chunk's `len` bytes.
    fn forget(&mut self, part: Range<usize>, len: usize) -> Result<bool> {
        let Self { forgotten, .. } = self;
        forgotten.try_reserve(1).map_err(|error| out_of_memory(CHUNK, error))?;
        // Those that the part touches become one with it.
        let first = forgotten.partition_point(|range| range.end < part.start);
        let last = forgotten.partition_point(|range| range.start <= part.end);
        let joined = match forgotten.get(first..last) {
            Some([from, .., to]) => part.start.min(from.start)..part.end.max(to.end),
            Some([only]) => part.start.min(only.start)..part.end.max(only.end),
            _ => part,
        };
        let is_gone = joined.start == 0 && joined.end >= len;
        forgotten.splice(first..last, [joined]);
        Ok(is_gone)
    }

    /// Makes zeros of what is forgotten, in bytes that are those of the chunk from `start` on.
    fn erase(&self, start: usize, bytes: &mut [u8]) {
        for range in &self.forgotten {
            let from = range.start.saturating_sub(start).min(bytes.len());
            let to = range.end.saturating_sub(start).min(bytes.len());
            bytes[from..to].fill(0);
        }
    }
}

impl Zstd {
    fn new() -> Result<Self> {
        let room = zstd_safe::compress_bound(CHUNK);
        let none = || out_of_memory(room, "zstd has no memory");
        Ok(Self {
            compressor: CCtx::try_create().ok_or_else(none)?,
            decompressor: DCtx::try_create().ok_or_else(none)?,
            packed: zeros(room)?,
            plain: zeros(CHUNK)?,
        })
    }

    /// A chunk as it is kept, after a part of it was exchanged for `data`; none if it is all
    /// zeros.
    fn pack(
        &mut self,
        before: Option<&Chunk>,
        within: Range<usize>,
        data: &[u8],
    ) -> Result<Option<Box<[u8]>>> {
        let mut plain = data;
        if data.len() < CHUNK {
            match before {
                Some(before) => {
                    decompress(&mut self.decompressor, &before.packed, &mut self.plain)?;
                    before.erase(0, &mut self.plain);
                }
                None => self.plain.fill(0),
            }
            self.plain[within].copy_from_slice(data);
            plain = &self.plain;
        }
        if plain.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let len = self.compressor.compress(&mut *self.packed, plain, LEVEL).map_err(failed)?;
        // What is as long as a chunk is one that cannot be made smaller.
        let smaller = if len < CHUNK { &self.packed[..len] } else { plain };
        let mut packed = zeros(smaller.len())?;
        packed.copy_from_slice(smaller);
        Ok(Some(packed))
    }

    /// The part of a chunk that was kept.
    fn unpack(&mut self, chunk: &Chunk, within: Range<usize>, out: &mut [u8]) -> Result<()> {
        if out.len() == CHUNK {
            decompress(&mut self.decompressor, &chunk.packed, out)?;
        } else {
            decompress(&mut self.decompressor, &chunk.packed, &mut self.plain)?;
            out.copy_from_slice(&self.plain[within.clone()]);
        }
        chunk.erase(within.start, out);
        Ok(())
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { chunks, bytes, zstd: _ } = self;
        f.debug_struct("Kept").field("chunks", &chunks.len()).field("bytes", bytes).finish()
    }
}

/// What compressing takes, which is made when it is first needed.
fn ready(zstd: &mut Option<Zstd>) -> Result<&mut Zstd> {
    match zstd {
        Some(zstd) => Ok(zstd),
        none => Ok(none.insert(Zstd::new()?)),
    }
}

fn decompress(zstd: &mut DCtx<'_>, packed: &[u8], out: &mut [u8]) -> Result<()> {
    if packed.len() == CHUNK {
        out.copy_from_slice(packed);
        return Ok(());
    }
    zstd.decompress(out, packed).map(drop).map_err(failed)
}

fn zeros(len: usize) -> Result<Box<[u8]>> {
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(len).map_err(|error| out_of_memory(len, error))?;
    zeros.resize(len, 0);
    Ok(zeros.into_boxed_slice())
}

/// With enough room and our own frames, zstd fails only for lack of memory.
fn failed(code: zstd_safe::ErrorCode) -> Error {
    out_of_memory(CHUNK, zstd_safe::get_error_name(code))
}

fn out_of_memory(asked: usize, reason: impl fmt::Display) -> Error {
    Error::HostMemory {
        what: "compressing a layer",
        asked: asked as u64,
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_repeats_takes_little_and_zeros_nothing() {
        let anonymous = CompressedStore::new(10 * PAGE, 10 * PAGE);
        let data: Vec<u8> = (0..=255).cycle().take(3 * CHUNK).collect();
        let packed = anonymous.keep(PAGE, &data).unwrap();
        assert!(packed > 0 && packed < 3000, "{packed}");
        assert_eq!(anonymous.kept_bytes(), packed);
        assert_eq!(anonymous.keep(2 * PAGE, &vec![0; CHUNK]).unwrap(), 0);
        assert_eq!(anonymous.kept_bytes(), packed / 3 * 2);
        let mut out = vec![7; 3 * CHUNK];
        anonymous.read(PAGE, &mut out).unwrap();
        assert!(out[..CHUNK] == data[..CHUNK] && out[2 * CHUNK..] == data[2 * CHUNK..]);
        assert!(out[CHUNK..2 * CHUNK].iter().all(|byte| *byte == 0));
        assert!(anonymous.forget(PAGE, 3 * CHUNK).unwrap());
        assert!(!anonymous.forget(PAGE, 3 * CHUNK).unwrap());
        assert_eq!(anonymous.kept_bytes(), 0);
    }

    #[test]
    fn what_has_no_room_is_refused_and_changes_nothing() {
        let anonymous = CompressedStore::new(4 * PAGE, PAGE + 1000);
        let data = random(1, 3 * CHUNK);
        assert_eq!(anonymous.keep(5, &data[..1000]).unwrap(), anonymous.kept_bytes());
        let (before, kept) = (anonymous.kept_bytes(), &data[..1000]);
        let error = anonymous.keep(5, &data).unwrap_err();
        assert!(matches!(error, Error::TooLarge { limit: 66_536, .. }), "{error}");
        for (offset, len) in [(4 * PAGE, 1), (u64::MAX, 1), (4 * PAGE - 1, 2)] {
            assert!(anonymous.keep(offset, &data[..len]).is_err());
            assert!(anonymous.read(offset, &mut vec![0; len]).is_err());
            assert!(anonymous.forget(offset, len).is_err());
        }
        let mut out = [0; 1000];
        anonymous.read(5, &mut out).unwrap();
        assert!(out == kept && anonymous.kept_bytes() == before);
        // What nothing makes smaller is kept as it is, and no larger.
        assert_eq!(anonymous.keep(0, &data[..CHUNK]).unwrap(), PAGE);
    }

    #[test]
    fn the_last_byte_of_64_bits_has_a_place() {
        let anonymous = CompressedStore::new(u64::MAX, PAGE);
        anonymous.keep(u64::MAX - 3, &[1, 2, 3]).unwrap();
        let mut out = [9; 4];
        anonymous.read(u64::MAX - 4, &mut out).unwrap();
        assert_eq!(out, [0, 1, 2, 3]);
    }

    /// What was forgotten is not read again, also where others keep the rest of the chunk.
    #[test]
    fn a_part_of_a_chunk_is_forgotten() {
        let anonymous = CompressedStore::new(PAGE + 1000, 2 * PAGE);
        let data = random(7, CHUNK + 1000);
        anonymous.keep(0, &data).unwrap();
        let mut expected = data.clone();
        for (start, len) in [(100, 50), (300, 50), (150, 150), (0, 10), (CHUNK - 5, 20)] {
            assert!(anonymous.forget(start as u64, len).unwrap());
            expected[start..start + len].fill(0);
            let mut out = vec![1; expected.len()];
            anonymous.read(0, &mut out).unwrap();
            assert!(out == expected, "{start}..+{len}");
            let mut part = vec![1; 40];
            anonymous.read(130, &mut part).unwrap();
            assert!(part == expected[130..170]);
        }
        // What is kept anew is there, and what was forgotten beside it is not.
        anonymous.keep(120, &data[..100]).unwrap();
        expected[120..220].copy_from_slice(&data[..100]);
        let mut out = vec![1; expected.len()];
        anonymous.read(0, &mut out).unwrap();
        assert!(out == expected);
        // The last chunk is shorter than others, and goes when all of it is forgotten.
        anonymous.forget(PAGE, 1000).unwrap();
        anonymous.forget(1000, CHUNK - 1000).unwrap();
        anonymous.forget(0, 1000).unwrap();
        assert_eq!(anonymous.kept_bytes(), 0);
    }

    /// Bytes that cannot be made smaller.
    fn random(seed: u64, len: usize) -> Vec<u8> {
        let mut state = seed.wrapping_mul(2).wrapping_add(1);
        let next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            state.to_be_bytes()[0]
        };
        std::iter::repeat_with(next).take(len).collect()
    }

    const LEN: u64 = 5 * PAGE + 100;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Whatever is kept is read back, bit for bit, or was refused and changes nothing.
        #[test]
        fn what_is_kept_is_read_back(
            room in prop_oneof![Just(LEN + PAGE), 0..3 * PAGE],
            steps in prop::collection::vec((0..LEN, 0..3 * CHUNK, any::<u64>(), 0..4_u8), 1..12),
        ) {
            let anonymous = CompressedStore::new(LEN, room);
            let mut expected = vec![0; usize::try_from(LEN).unwrap()];
            for (offset, len, seed, kind) in steps {
                let start = usize::try_from(offset).unwrap();
                let len = len.min(expected.len() - start);
                if kind == 3 {
                    anonymous.forget(offset, len).unwrap();
                    expected[start..start + len].fill(0);
                    continue;
                }
                let data = match kind {
                    0 => vec![0; len],
                    1 => random(seed, 7).into_iter().cycle().take(len).collect(),
                    _ => random(seed, len),
                };
                match anonymous.keep(offset, &data) {
                    Ok(_) => expected[start..start + len].copy_from_slice(&data),
                    Err(Error::TooLarge { .. }) => prop_assert!(room < LEN + PAGE),
                    Err(error) => return Err(TestCaseError::fail(error.to_string())),
                }
                let mut out = vec![1; expected.len()];
                anonymous.read(0, &mut out).unwrap();
                prop_assert!(out == expected);
                let mut part = vec![1; len];
                anonymous.read(offset, &mut part).unwrap();
                prop_assert!(part == expected[start..start + len]);
                let kept = anonymous.kept();
                let sum: u64 = kept.chunks.values().map(|chunk| chunk.packed.len() as u64).sum();
                prop_assert!(kept.bytes == sum && sum <= room);
            }
        }
    }
}
