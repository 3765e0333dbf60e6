//! Reading and writing memories.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Error, MemoryId, MemorySpec, Runtime};

use super::requests::{WAT, counts, refuses};
use crate::Outcome;
use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};

/// What is written is read back, and nothing beside it changes.
pub fn read_and_write(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::host(2 * PAGE))?;
    runtime.create_memory64(&MemorySpec::guest(2 * PAGE))?;
    for memory in [MemoryId(0), MemoryId(1)] {
        let mut expected = vec![0; 2 * PAGE_LEN];
        for (offset, len) in [(0, 1), (17, 300), (PAGE - 5, 10), (2 * PAGE - 9, 9), (2 * PAGE, 0)] {
            let data = guest::pattern(offset, len);
            let write = |runtime: &mut dyn Runtime| runtime.write_memory64(memory, offset, &data);
            counts(&mut *runtime, write, |stats| {
                stats.writes += 1;
                stats.bytes_written += len as u64;
            })??;
            let start = usize::try_from(offset)?;
            expected[start..start + len].copy_from_slice(&data);
            let mut all = vec![1; expected.len()];
            let read = |runtime: &mut dyn Runtime| runtime.read_memory64(memory, 0, &mut all);
            counts(&mut *runtime, read, |stats| {
                stats.reads += 1;
                stats.bytes_read += 2 * PAGE;
            })??;
            same_bytes("the memory", &all, &expected)?;
        }
    }
    equal("errors", runtime.stats().errors, 0)
}

/// A range that leaves its memory is refused, although another memory follows.
pub fn read_and_write_refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    for spec in [MemorySpec::host(PAGE), MemorySpec::guest(PAGE), MemorySpec::host(PAGE)] {
        runtime.create_memory64(&spec)?;
    }
    for memory in [0, 1, 2].map(MemoryId) {
        for (offset, len) in [
            (0, PAGE_LEN + 1),
            (PAGE - 1, 2),
            (PAGE, 1),
            (PAGE + 1, 0),
            (u64::MAX, 1),
            (u64::MAX, 0),
        ] {
            let mut bytes = vec![0x5a; len];
            let error = refuses(&mut *runtime, &["leave the memory"], |runtime| {
                runtime.write_memory64(memory, offset, &bytes)
            })?;
            holds(matches!(error, Error::OutOfRange { .. }), || error.to_string())?;
            refuses(&mut *runtime, &["leave the memory"], |runtime| {
                runtime.read_memory64(memory, offset, &mut bytes)
            })?;
            same_bytes("the buffer of the caller", &bytes, &vec![0x5a; len])?;
        }
        let mut all = vec![1; PAGE_LEN];
        runtime.read_memory64(memory, 0, &mut all)?;
        equal("first byte that is not zero", all.iter().position(|byte| *byte != 0), None)?;
    }
    for memory in [3, u32::MAX].map(MemoryId) {
        let error = refuses(&mut *runtime, &["no memory"], |runtime| {
            runtime.read_memory64(memory, 0, &mut [0])
        })?;
        holds(matches!(error, Error::MemoryNotFound { .. }), || error.to_string())?;
        refuses(&mut *runtime, &["no memory"], |runtime| runtime.write_memory64(memory, 0, &[0]))?;
    }
    Ok(())
}
