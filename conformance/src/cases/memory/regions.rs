//! Named parts of 64-bit memories.

use polychord_runtime_api::abi::{PAGE, code};
use polychord_runtime_api::{
    EMBEDDINGS, Engine, Error, KV, LayerId, MemoryId, MemoryKind, MemorySpec, RegionSpec, Source,
    Value, WEIGHTS,
};

use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

const WAT: &str = r#"(module
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "read") (param i64 i32 i32) (result i32)
        (call $read (local.get 0) (local.get 1) (local.get 2))))"#;

/// Regions are named parts of a memory, which grow in place up to their largest size.
pub fn regions(engine: &dyn Engine) -> Outcome {
    for kind in [MemoryKind::Guest, MemoryKind::Host] {
        let mut guest = guest::start(engine, WAT)?;
        let specs = [
            RegionSpec::fixed(WEIGHTS, PAGE + 1),
            RegionSpec::growable(KV, PAGE, 4 * PAGE),
            RegionSpec::growable("my own", 0, 2 * PAGE),
            RegionSpec::fixed(EMBEDDINGS, PAGE),
        ];
        let memory = guest.create_memory64(&MemorySpec::new(kind, specs))?;
        let offsets =
            [(WEIGHTS, 0, 2, 2), (KV, 2, 1, 4), ("my own", 6, 0, 2), (EMBEDDINGS, 8, 1, 1)];
        for (name, offset, pages, most) in offsets {
            let region = guest.region(memory, name)?;
            let got = [region.offset, region.bytes, region.max_bytes];
            equal(name, got, [offset, pages, most].map(|pages| pages * PAGE))?;
        }
        equal("size", guest.stats().memory64_bytes, 4 * PAGE)?;
        let bytes = guest::pattern(51, 5 * PAGE_LEN);
        guest.write_memory64(memory, 2 * PAGE, &bytes[..PAGE_LEN])?;
        let outside = |at: u64| at * PAGE - 1;
        for at in [outside(3), outside(4), outside(7), outside(8)] {
            refused(guest.write_memory64(memory, at, &[1, 2]), &[&at.to_string()])?;
            let args = [Value::I64(at.cast_signed()), Value::I32(8), Value::I32(2)];
            equal("code", guest.call("read", &args)?, vec![code::INVALID_RANGE.into()])?;
        }
        let pointer = guest.memory().as_ptr();
        equal("before", guest.grow_region(memory, KV, 1)?, PAGE)?;
        equal("before", guest.grow_region(memory, KV, 0)?, 2 * PAGE)?;
        equal("before", guest.grow_region(memory, KV, 2 * PAGE)?, 2 * PAGE)?;
        equal("pointer", guest.memory().as_ptr(), pointer)?;
        for (name, more) in [(KV, 1), (KV, u64::MAX), (WEIGHTS, 1), ("my own", 2 * PAGE + 1)] {
            let error = refused(guest.grow_region(memory, name, more), &[name])?;
            holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
        }
        let mut got = vec![1; 4 * PAGE_LEN];
        guest.read_memory64(memory, 2 * PAGE, &mut got)?;
        same_bytes("what was there", &got[..PAGE_LEN], &bytes[..PAGE_LEN])?;
        equal("what is new", got[PAGE_LEN..].iter().position(|byte| *byte != 0), None)?;
        // Regions that touch are one range for transfers, but not for layers.
        guest.grow_region(memory, "my own", PAGE)?;
        guest.write_memory64(memory, 2 * PAGE, &bytes)?;
        got.resize(bytes.len(), 0);
        guest.read_memory64(memory, 2 * PAGE, &mut got)?;
        same_bytes("across regions", &got, &bytes)?;
        let source = Source::from_bytes(guest::pattern(52, 2));
        let layer = |at: u64| guest::layer(0, memory, at, &source);
        for at in [2, 6, 7, 9].map(outside) {
            refused(guest.register_layer(layer(at)), &["layer 0"])?;
        }
        guest.register_layer(layer(7 * PAGE - 2))?;
        guest.load_layer(LayerId(0))?;
        equal("size", guest.stats().memory64_bytes, 8 * PAGE)?;
        refused(guest.region(memory, "none"), &["none", WEIGHTS, KV, "my own", EMBEDDINGS])?;
    }
    Ok(())
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
