//! Messages of any length, made of exchanges whose sizes all ranks know.

use crate::ranks::threads;
use crate::ranks::transport::Transport;
use crate::{Error, Result};

/// What goes with the length of a broadcast in its first exchange: enough for a job of a few tokens.
const FIRST: usize = 252;
const LENGTH: usize = size_of::<u32>();

/// Rank 0's bytes for all, however many.
pub(super) fn broadcast(over: &dyn Transport, bytes: &mut Vec<u8>, most: usize) -> Result<()> {
    let mut frame = [0; LENGTH + FIRST];
    if over.rank() == 0 {
        let len = length(over, 0, bytes.len(), most)?;
        frame[..LENGTH].copy_from_slice(&len.to_le_bytes());
        let first = bytes.len().min(FIRST);
        frame[LENGTH..LENGTH + first].copy_from_slice(&bytes[..first]);
    }
    over.broadcast(0, &mut frame, None)?;
    let (len, first) = frame.split_at(LENGTH);
    let len = checked(over, 0, len, most)?;
    if over.rank() != 0 {
        bytes.clear();
        bytes.extend_from_slice(&first[..len.min(FIRST)]);
        bytes.resize(len, 0);
    }
    match bytes.get_mut(FIRST..) {
        Some(rest) if !rest.is_empty() => over.broadcast(0, rest, None),
        _ => Ok(()),
    }
}

/// The bytes of each rank for all: lengths first, so that the longest is known.
pub(super) fn exchange(over: &dyn Transport, own: &[u8], most: usize) -> Result<Vec<Vec<u8>>> {
    let (rank, ranks) = (over.rank() as usize, over.ranks() as usize);
    let mut lengths = vec![0; ranks * LENGTH];
    let len = length(over, rank, own.len(), most)?;
    lengths[rank * LENGTH..][..LENGTH].copy_from_slice(&len.to_le_bytes());
    gather(over, &mut lengths, LENGTH)?;
    let lengths: Vec<_> = (0..)
        .zip(lengths.chunks_exact(LENGTH))
        .map(|(rank, len)| checked(over, rank, len, most))
        .collect::<Result<_>>()?;
    let chunk = lengths.iter().copied().max().unwrap_or_default();
    let mut all = vec![0; chunk * ranks];
    all[rank * chunk..][..own.len()].copy_from_slice(own);
    gather(over, &mut all, chunk)?;
    Ok((0..)
        .zip(lengths)
        .map(|(rank, len): (usize, _)| all[rank * chunk..][..len].to_vec())
        .collect())
}

fn gather(over: &dyn Transport, buffer: &mut [u8], chunk: usize) -> Result<()> {
    over.all_gather(buffer, chunk, None)
}

/// The length of what this rank brings, if the others take that.
fn length(over: &dyn Transport, rank: usize, len: usize, most: usize) -> Result<u32> {
    let short = u32::try_from(len).ok().filter(|_| len <= most);
    short.ok_or_else(|| too_long(over, rank, len, most))
}

/// The length of what a rank says that it brings, if this one takes that.
fn checked(over: &dyn Transport, rank: usize, len: &[u8], most: usize) -> Result<usize> {
    let len = len.first_chunk().map_or(0, |len| u32::from_le_bytes(*len));
    usize::try_from(len)
        .ok()
        .filter(|len| *len <= most)
        .ok_or_else(|| too_long(over, rank, len as usize, most))
}

fn too_long(over: &dyn Transport, other: usize, len: usize, most: usize) -> Error {
    threads::too_long(over.rank() as usize, most, other, len)
}
