//! Requests that are served: the bytes, and what they count as.

use polychord_runtime_api::abi::code::INVALID_RANGE;
use polychord_runtime_api::abi::{PAGE, Stats, import};
use polychord_runtime_api::{Engine, MemoryId};

use super::probe::{
    GUEST, GUEST_LAYER, GUEST_LAYER_ADDRESS, GUEST_LAYER_BYTES, HOST_LAYER, HOST_LAYER_BYTES,
    IN_HOST, OWN, Probe, TOTAL, Width, layer_bytes,
};
use crate::Outcome;
use crate::check::{equal, same_bytes};
use crate::guest::PAGE_LEN;

/// Reads and writes count calls and bytes, and move exactly those.
pub fn transfers_count<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    probe.serves(import::IS_ENABLED, &[], 1, |_| ())?;
    // Within a memory, across the edge of both, at the end of everything.
    for (offset, ptr, len) in
        [(100, 16, 1), (IN_HOST * PAGE - 300, 500, 1000), (TOTAL - 77, OWN * PAGE - 77, 77)]
    {
        let (start, end) = (usize::try_from(ptr)?, usize::try_from(ptr + len)?);
        let at = usize::try_from(offset)?..usize::try_from(offset + len)?;

        let common = probe.common()?;
        let mut guest = probe.runtime.memory().to_vec();
        probe.serves(import::READ, &[offset, ptr, len], len, |stats| {
            stats.reads += 1;
            stats.bytes_read += len;
        })?;
        guest[start..end].copy_from_slice(&common[at.clone()]);
        same_bytes("the guest after reading", probe.runtime.memory(), &guest)?;

        probe.runtime.memory_mut()[start..end].fill(0xc3);
        let mut common = probe.common()?;
        probe.serves(import::WRITE, &[offset, ptr, len], len, |stats| {
            stats.writes += 1;
            stats.bytes_written += len;
        })?;
        common[at].fill(0xc3);
        same_bytes("the memories after writing", &probe.common()?, &common)?;
    }
    Ok(())
}

/// Loading a layer counts as a load, and as a read once it is resident.
pub fn loads<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    for (layer, bytes) in [(HOST_LAYER, HOST_LAYER_BYTES), (GUEST_LAYER, GUEST_LAYER_BYTES)] {
        // A buffer that is larger, one that ends where the layer does, and one more time.
        for (ptr, max) in [(16, bytes + 100), (OWN * PAGE - bytes, bytes), (16, GUEST - 16)] {
            let mut guest = probe.runtime.memory().to_vec();
            probe.serves(import::LOAD_LAYER, &[layer, ptr, max], bytes, |stats| {
                stats.loads += 1;
                stats.bytes_loaded += bytes;
            })?;
            let (start, end) = (usize::try_from(ptr)?, usize::try_from(ptr + bytes)?);
            guest[start..end].copy_from_slice(&layer_bytes(layer, bytes));
            same_bytes("the guest after loading", probe.runtime.memory(), &guest)?;
        }
        let id = super::probe::layer_id(layer);
        probe.runtime.load_layer(id)?;
        // What the memory holds counts, not what the source held.
        let place = if layer == HOST_LAYER { (MemoryId(0), 24) } else { (MemoryId(1), PAGE + 40) };
        probe.runtime.write_memory64(place.0, place.1, b"changed")?;
        probe.serves(import::LOAD_LAYER, &[layer, 16, bytes], bytes, |stats| {
            stats.reads += 1;
            stats.bytes_read += bytes;
        })?;
        let mut expected = layer_bytes(layer, bytes);
        expected[..7].copy_from_slice(b"changed");
        same_bytes("the layer", probe.guest(16, bytes), &expected)?;
    }
    Ok(())
}

/// Mapping a layer tells where it is, and loads it at most once.
pub fn maps<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    let mut guest = probe.runtime.memory().to_vec();
    let map = |probe: &mut Probe, loads: u64| {
        probe.serves(import::MAP_LAYER, &[GUEST_LAYER], GUEST_LAYER_ADDRESS, |stats| {
            stats.loads += loads;
            // The host had not loaded it: it is told that the guest got a copy.
            stats.copied_in_calls += loads;
            stats.bytes_loaded += loads * GUEST_LAYER_BYTES;
        })
    };
    // How long layers are is known before they are brought in.
    for (layer, bytes) in [(HOST_LAYER, HOST_LAYER_BYTES), (GUEST_LAYER, GUEST_LAYER_BYTES)] {
        probe.serves(import::LAYER_BYTES, &[layer], bytes, |_| ())?;
    }
    // Hints are taken for layers that exist, whether or not they do anything.
    probe.serves(import::PREFETCH, &[GUEST_LAYER], 0, |_| ())?;
    map(&mut probe, 1)?;
    map(&mut probe, 0)?;
    let start = usize::try_from(GUEST_LAYER_ADDRESS)?;
    let bytes = layer_bytes(GUEST_LAYER, GUEST_LAYER_BYTES);
    // The layer has its pages for itself.
    let end = (start + bytes.len()).next_multiple_of(PAGE_LEN);
    guest[start - start % PAGE_LEN..end].fill(0);
    guest[start..start + bytes.len()].copy_from_slice(&bytes);
    same_bytes("the guest after mapping", probe.runtime.memory(), &guest)?;
    equal("hint", probe.ask(import::RELEASE, &[GUEST_LAYER])?, 0)?;
    equal("hint", probe.ask(import::RELEASE, &[HOST_LAYER])?, 0)?;
    equal("errors", probe.runtime.stats().errors, 0)
}

/// Both forms of the statistics tell what the host counts.
pub fn stats<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    for len in [3, 4, 5] {
        probe.ask(import::READ, &[0, 16, len])?;
    }
    probe.ask(import::WRITE, &[0, 16, 6])?;
    probe.ask(import::MAP_LAYER, &[GUEST_LAYER])?;
    probe.ask(import::MAP_LAYER, &[99])?;
    probe.ask(import::READ, &[0, 0, 1])?;
    let now = probe.runtime.stats();
    // Two writes set the memories up; 12 bytes were read in three calls.
    equal("reads", (now.reads, now.bytes_read), (3, 12))?;
    equal("writes", (now.writes, now.bytes_written), (3, TOTAL + 6))?;
    equal("loads", (now.loads, now.maps, now.bytes_loaded), (1, 0, GUEST_LAYER_BYTES))?;
    equal("errors", now.errors, 2)?;
    equal("layers", now.layers, 2)?;
    equal("sizes", (now.memory64_bytes, now.guest_bytes), (TOTAL, GUEST))?;

    probe.serves(import::STATS, &[], 2 << 48 | 1 << 32 | 3 << 16 | 3, |_| ())?;
    let size = Stats::SIZE as u64;
    for ptr in [16, 17, OWN * PAGE - size] {
        let mut guest = probe.runtime.memory().to_vec();
        probe.serves(import::STATS_INTO, &[ptr, size], size, |_| ())?;
        let start = usize::try_from(ptr)?;
        let fields = [3_u64, 3, 12, TOTAL + 6, 1, 0, GUEST_LAYER_BYTES, 2];
        let bytes: Vec<_> = fields.iter().flat_map(|field| field.to_le_bytes()).collect();
        guest[start..start + bytes.len()].copy_from_slice(&bytes);
        same_bytes("the guest", probe.runtime.memory(), &guest)?;
    }
    Ok(())
}

/// Packed counters saturate and do not spill into each other.
pub fn stats_saturate<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    let writes = probe.runtime.stats().writes << 16;
    for (more, errors) in [(0xfffe, 0xfffe), (1, 0xffff), (1, 0xffff), (9, 0xffff)] {
        probe.runtime.call("fail", &[polychord_runtime_api::Value::I32(more)])?;
        let packed = probe.ask(import::STATS, &[])?.cast_unsigned();
        equal("packed counters", packed, errors << 48 | writes)?;
    }
    equal("errors", probe.runtime.stats().errors, 0xfffe + 11)
}

/// One rank gathers its own part, which is the whole.
pub fn all_gather<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    let before = probe.runtime.memory().to_vec();
    for (ptr, total) in [(16, 0), (16, 1), (16, 4096), (GUEST - 8, 8), (GUEST, 0), (0, 0)] {
        probe.serves(import::ALL_GATHER, &[ptr, total, total], 0, |_| ())?;
    }
    same_bytes("the guest", probe.runtime.memory(), &before)?;
    for (chunk, total) in [(4, 8), (0, 8), (9, 8), (8, 0), (u64::MAX, 8)] {
        probe.refuses(import::ALL_GATHER, &[16, chunk, total], INVALID_RANGE)?;
    }
    // It needs no 64-bit memory.
    let mut alone = Probe::start::<W>(engine, OWN)?;
    alone.serves(import::ALL_GATHER, &[16, 64, 64], 0, |_| ())
}

/// A transfer within the guest's memory behaves as if by a copy in between.
pub fn overlapping<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    // The memory in the guest begins in the guest at `OWN` pages.
    let (start, base) = (OWN * PAGE, IN_HOST * PAGE);
    for (offset, ptr) in [
        (base + 100, start + 90),
        (base + 100, start + 110),
        (base + 100, start + 100),
        // Across the edge of both memories, so in two parts.
        (base - 20, start + 10),
        (base - 20, start - 10),
        (base - 20, start - 30),
    ] {
        let len = 50;
        let (from, to) = (usize::try_from(offset)?, usize::try_from(ptr)?);
        let wanted = probe.common()?[from..from + 50].to_vec();
        probe.ask(import::READ, &[offset, ptr, len])?;
        same_bytes("what was read", probe.guest(ptr, len), &wanted)?;

        let wanted = probe.runtime.memory()[to..to + 50].to_vec();
        probe.ask(import::WRITE, &[offset, ptr, len])?;
        same_bytes("what was written", &probe.common()?[from..from + 50], &wanted)?;
    }
    Ok(())
}
