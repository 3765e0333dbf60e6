//! Named parts of 64-bit memories.

use polychord_runtime_api::abi::{PAGE, code};
use polychord_runtime_api::{
    EMBEDDINGS, Engine, Error, KV, LayerId, MemoryId, MemoryKind, MemorySpec, RegionSpec, Runtime,
    Source, Value, WEIGHTS,
};

use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

const WAT: &str = r#"(module
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "read") (param i64 i32 i32) (result i32)
        (call $read (local.get 0) (local.get 1) (local.get 2))))"#;

/// Regions are named parts of a memory, each with a place and a size.
pub fn regions(engine: &dyn Engine) -> Outcome {
    for kind in KINDS {
        let (guest, memory) = start(engine, kind)?;
        let offsets = [(WEIGHTS, 0, 2, 2), (KV, 2, 1, 4), (OWN, 6, 0, 2), (EMBEDDINGS, 8, 1, 1)];
        for (name, offset, pages, most) in offsets {
            let region = guest.region(memory, name)?;
            let got = [region.offset, region.bytes, region.max_bytes];
            equal(name, got, [offset, pages, most].map(|pages| pages * PAGE))?;
        }
        equal("size", guest.stats().memory64_bytes, 4 * PAGE)?;
        refused(guest.region(memory, "none"), &["none", WEIGHTS, KV, OWN, EMBEDDINGS])?;
    }
    Ok(())
}

/// Bytes behind the size of a region are refused, to the host and to the guest.
pub fn region_ends(engine: &dyn Engine) -> Outcome {
    for kind in KINDS {
        let (mut guest, memory) = start(engine, kind)?;
        for at in [3, 4, 7, 8].map(last_byte_before) {
            refused(guest.write_memory64(memory, at, &[1, 2]), &[&at.to_string()])?;
            refused(guest.read_memory64(memory, at, &mut [0; 2]), &[&at.to_string()])?;
            let args = [Value::I64(at.cast_signed()), Value::I32(8), Value::I32(2)];
            equal("code", guest.call("read", &args)?, vec![code::INVALID_RANGE.into()])?;
        }
    }
    Ok(())
}

/// A region grows in place up to its largest size, and keeps its bytes.
pub fn regions_grow(engine: &dyn Engine) -> Outcome {
    for kind in KINDS {
        let (mut guest, memory) = start(engine, kind)?;
        let bytes = guest::pattern(51, PAGE_LEN);
        guest.write_memory64(memory, 2 * PAGE, &bytes)?;
        let pointer = guest.memory().as_ptr();
        equal("size before 1 byte more", guest.grow_region(memory, KV, 1)?, PAGE)?;
        equal("size before 0 bytes more", guest.grow_region(memory, KV, 0)?, 2 * PAGE)?;
        equal("size before 2 pages more", guest.grow_region(memory, KV, 2 * PAGE)?, 2 * PAGE)?;
        equal("pointer", guest.memory().as_ptr(), pointer)?;
        for (name, more) in [(KV, 1), (KV, u64::MAX), (WEIGHTS, 1), (OWN, 2 * PAGE + 1)] {
            let error = refused(guest.grow_region(memory, name, more), &[name])?;
            holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
        }
        let mut got = vec![1; 4 * PAGE_LEN];
        guest.read_memory64(memory, 2 * PAGE, &mut got)?;
        same_bytes("what was there", &got[..PAGE_LEN], &bytes)?;
        equal("what is new", got[PAGE_LEN..].iter().position(|byte| *byte != 0), None)?;
        equal("size", guest.stats().memory64_bytes, 7 * PAGE)?;
    }
    Ok(())
}

/// Regions that touch are one range for transfers, and not for layers.
pub fn regions_touch(engine: &dyn Engine) -> Outcome {
    for kind in KINDS {
        let (mut guest, memory) = start(engine, kind)?;
        guest.grow_region(memory, KV, 3 * PAGE)?;
        guest.grow_region(memory, OWN, PAGE)?;
        let bytes = guest::pattern(51, 5 * PAGE_LEN);
        guest.write_memory64(memory, 2 * PAGE, &bytes)?;
        let mut got = vec![1; bytes.len()];
        guest.read_memory64(memory, 2 * PAGE, &mut got)?;
        same_bytes("across regions", &got, &bytes)?;
        let edge = last_byte_before(6);
        guest.write_memory64(memory, edge, &[1, 2])?;
        guest.read_memory64(memory, edge, &mut got[..2])?;
        same_bytes("across one edge", &got[..2], &[1, 2])?;
        let source = Source::from_bytes(guest::pattern(52, 2));
        let layer = |at: u64| guest::layer(0, memory, at, &source);
        for at in [2, 6, 7, 9].map(last_byte_before) {
            refused(guest.register_layer(layer(at)), &["layer 0"])?;
        }
        guest.register_layer(layer(7 * PAGE - 2))?;
        guest.load_layer(LayerId(0))?;
        equal("size", guest.stats().memory64_bytes, 8 * PAGE)?;
    }
    Ok(())
}

const KINDS: [MemoryKind; 2] = [MemoryKind::Guest, MemoryKind::Host];
/// A region without a size at the start, by a name that Polychord gives no meaning.
const OWN: &str = "my own";

/// A guest with a memory of four regions, two of which can grow.
fn start(engine: &dyn Engine, kind: MemoryKind) -> Result<(Box<dyn Runtime>, MemoryId), Failure> {
    let mut guest = guest::start(engine, WAT)?;
    let specs = [
        RegionSpec::fixed(WEIGHTS, PAGE + 1),
        RegionSpec::growable(KV, PAGE, 4 * PAGE),
        RegionSpec::growable(OWN, 0, 2 * PAGE),
        RegionSpec::fixed(EMBEDDINGS, PAGE),
    ];
    let memory = guest.create_memory64(&MemorySpec::new(kind, specs))?;
    Ok((guest, memory))
}

const fn last_byte_before(page: u64) -> u64 {
    page * PAGE - 1
}

/// A memory is put into the linear memory that is exported by the name of its first region.
pub fn regions_by_name(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module (memory (export "memory") 1)
        (memory (export "weights") 0) (memory (export "kv") 0 2))"#;
    let mut guest = guest::start(engine, wat)?;
    let specs = [(KV, 1, 2), (WEIGHTS, 3, 1), ("my own", 1, 1), (KV, 1, 2), (KV, 1, 1)];
    let regions = specs.iter().map(|(name, pages, _)| RegionSpec::fixed(*name, pages * PAGE));
    for (spec, (_, _, index)) in MemorySpec::each(MemoryKind::Guest, regions).zip(specs) {
        let memory = guest.create_memory64(&spec)?;
        let stats = guest.memory_stats();
        let found = stats.iter().find(|stats| stats.id == memory);
        let found = found.ok_or_else(|| Failure::new(format!("{memory:?} is not there")))?;
        let places: Vec<_> = found.segments.iter().map(|segment| segment.memory).collect();
        equal("linear memory", places, vec![index])?;
    }
    equal("how many", guest.memory_stats().len(), 5)?;
    refused(guest.region(MemoryId(5), KV), &["5"])?;
    Ok(())
}
