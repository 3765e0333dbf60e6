//! A token of each of several sequences, with one pass over the weights of a guest.
//!
//! Each sequence stays in its own guests. Where a row needs weights, the first sequence's guest computes
//! it for all of them; where it meets the positions before it, its own guest does.

use std::sync::Arc;

use polychord_abi::transformer::{MixedRows, export};
use polychord_runtime_api::{Runtime, Value};

use super::Shard;
use crate::calls::{first_number, int, outside, pointer};
use crate::error::Result;

/// Most things that go from one guest to another in a block; a guest that names more is none of ours.
const MOST_MIXED: usize = 16;

impl Shard {
    /// Runs all blocks of this guest over rows. The first is of its own sequence, at the first position,
    /// and each other one of that of another guest, which holds the same blocks.
    pub(crate) fn step(&mut self, others: &mut [&mut Self], positions: &[u32]) -> Result<()> {
        let rows = int(positions.len())?;
        for block in self.blocks.clone() {
            let [number, index] = [block, block - self.blocks.start];
            self.require(block)?;
            let args = [number.cast_signed(), rows].map(Value::I32);
            self.stage(export::ENTER_ATTENTION, &args)?;
            self.mix(block, others, positions)?;
            self.stage(export::LEAVE_ATTENTION, &args)?;
            let paged = self.paged.as_ref();
            match paged.and_then(|paged| paged.experts_used(index as usize)) {
                Some(used) => {
                    self.run_experts(index as usize, number.cast_signed(), rows, used)?;
                }
                None => self.stage(export::FEED_FORWARD, &args)?,
            }
        }
        Ok(())
    }

    /// Lets each row meet the positions before it, in the guest of its sequence.
    fn mix(&mut self, block: u32, others: &mut [&mut Self], positions: &[u32]) -> Result<()> {
        let Some((position, positions)) = positions.split_first() else { return Ok(()) };
        let rows = self.mixed_rows(block, 1 + positions.len())?;
        let own = self.mixed_rows(block, 1)?;
        self.mix_row(block, *position)?;
        // The first row is where it is. Its result is elsewhere than that of one row alone where ranks have
        // theirs one behind the other.
        let moved =
            results(&own).zip(results(&rows)).filter(|(from, to)| from.address != to.address);
        for (from, to) in moved {
            let mut bytes = vec![0; length(&*self.runtime, from)?];
            let read = self.runtime.read_memory(0, from.address, &mut bytes);
            let moved = read.and_then(|()| self.runtime.write_memory(0, to.address, &bytes));
            moved.map_err(|_| outside(export::MIXED_ROWS))?;
        }
        for (row, (other, position)) in (1..).zip(others.iter_mut().zip(positions)) {
            other.require(block)?;
            let its = other.mixed_rows(block, 1)?;
            let alike = rows
                .iter()
                .zip(&*its)
                .all(|(a, b)| (a.row_bytes, a.is_result) == (b.row_bytes, b.is_result));
            if !alike || rows.len() != its.len() {
                return Err(outside(export::MIXED_ROWS));
            }
            for (from, to) in gotten(&rows).zip(gotten(&its)) {
                copy(&*self.runtime, (from, row), &mut *other.runtime, (to, 0))?;
            }
            other.mix_row(block, *position)?;
            for (from, to) in results(&its).zip(results(&rows)) {
                copy(&*other.runtime, (from, 0), &mut *self.runtime, (to, row))?;
            }
        }
        Ok(())
    }

    fn mix_row(&mut self, block: u32, position: u32) -> Result<()> {
        self.stage(export::MIX, &[block, position].map(|it| Value::I32(it.cast_signed())))
    }

    /// What a block gets and gives where positions meet, in the places that it has for as many rows.
    fn mixed_rows(&mut self, block: u32, rows: usize) -> Result<Arc<[MixedRows]>> {
        if let Some(known) = self.mixed.get(&(block, rows)) {
            return Ok(known.clone());
        }
        let mut all = Vec::new();
        while let Some(described) = self.describe(block, rows, all.len())? {
            if all.len() == MOST_MIXED {
                return Err(outside(export::MIXED_ROWS));
            }
            all.push(described);
        }
        let all: Arc<[MixedRows]> = all.into();
        self.mixed.insert((block, rows), all.clone());
        Ok(all)
    }

    fn describe(&mut self, block: u32, rows: usize, index: usize) -> Result<Option<MixedRows>> {
        let operation = export::MIXED_ROWS;
        let args = [block.cast_signed(), int(rows)?, int(index)?].map(Value::I32);
        let at = first_number(operation, &self.runtime.call(operation, &args)?)?;
        if at == 0 {
            return Ok(None);
        }
        let mut bytes = [0; MixedRows::SIZE];
        self.runtime.read_memory(0, at, &mut bytes).map_err(|_| outside(operation))?;
        Ok(Some(MixedRows::from_le_bytes(&bytes)))
    }

    /// Computes the logits of each row: those of the first are this guest's, those of others the other
    /// guests'.
    pub(crate) fn step_heads(&mut self, others: &mut [&mut Self]) -> Result<()> {
        if let Some(paged) = &mut self.paged {
            paged.require_head(&mut *self.runtime)?;
        }
        let rows = 1 + others.len();
        let vocab = usize::try_from((self.logits.end - self.logits.start) / 4);
        let vocab = vocab.map_err(|_| outside(export::LOGITS))?;
        // As many tokens at a time as the guest has room for.
        let most = (self.rows * self.row_bytes / 4 / (2 * rows)).max(1);
        let mut bytes = Vec::new();
        for first in (0..vocab).step_by(most) {
            let count = most.min(vocab - first);
            let args = [int(rows)?, int(first)?, int(count)?];
            self.stage(export::HEADS, &args.map(Value::I32))?;
            bytes.resize(rows * count * 4, 0);
            let at = pointer(&mut *self.runtime, export::HEAD_ROWS, &[], bytes.len())?;
            let read = self.runtime.read_memory(0, at as u64, &mut bytes);
            read.map_err(|_| outside(export::HEAD_ROWS))?;
            let mut parts = bytes.chunks_exact(count * 4);
            if let Some(part) = parts.next() {
                self.write_some_logits(first, part)?;
            }
            for (other, part) in others.iter_mut().zip(parts) {
                other.write_some_logits(first, part)?;
            }
        }
        self.keep_logits()?;
        others.iter_mut().try_for_each(|other| other.keep_logits())
    }

    fn write_some_logits(&mut self, first: usize, part: &[u8]) -> Result<()> {
        let written = self.runtime.write_memory(0, self.logits.start + 4 * first as u64, part);
        written.map_err(|_| outside(export::LOGITS))
    }
}

fn gotten(rows: &[MixedRows]) -> impl Iterator<Item = &MixedRows> {
    rows.iter().filter(|rows| rows.is_result == 0)
}

fn results(rows: &[MixedRows]) -> impl Iterator<Item = &MixedRows> {
    rows.iter().filter(|rows| rows.is_result != 0)
}

/// The bytes of a row, no more than the guest has.
fn length(runtime: &dyn Runtime, rows: &MixedRows) -> Result<usize> {
    let len = u64::from(rows.row_bytes);
    match usize::try_from(len) {
        Ok(bytes) if len <= runtime.memory_bytes(0) => Ok(bytes),
        _ => Err(outside(export::MIXED_ROWS)),
    }
}

/// Copies a row of one guest to a row of another.
fn copy(
    from: &dyn Runtime,
    (rows, row): (&MixedRows, u64),
    to: &mut dyn Runtime,
    (to_rows, to_row): (&MixedRows, u64),
) -> Result<()> {
    let place = |rows: &MixedRows, row: u64| {
        let before = row.checked_mul(rows.row_bytes.into())?;
        let start = rows.address.checked_add(before)?;
        Some((start, start.checked_add(rows.row_bytes.into())?))
    };
    let refused = || outside(export::MIXED_ROWS);
    let (start, end) = place(rows, row).ok_or_else(refused)?;
    let (to_start, _) = place(to_rows, to_row).ok_or_else(refused)?;
    // Copied twice only where a memory that was lowered has it on both sides of an edge.
    let written = if let Some(bytes) = from.memory_slice(0, start..end) {
        to.write_memory(0, to_start, bytes)
    } else {
        let mut bytes = vec![0; length(from, rows)?];
        let read = from.read_memory(0, start, &mut bytes);
        read.and_then(|()| to.write_memory(0, to_start, &bytes))
    };
    written.map_err(|_| refused())
}
