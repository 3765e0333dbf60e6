//! Refusals: the code, one error, and nothing else.

use polychord_runtime_api::abi::code::{
    BUFFER_TOO_SMALL, INVALID_RANGE, LAYER_NOT_FOUND, NOT_ENABLED, POINTER_OUT_OF_BOUNDS,
    POINTER_OVERFLOW, READ_FAILED,
};
use polychord_runtime_api::abi::{PAGE, Stats, import};
use polychord_runtime_api::{Engine, MemorySpec, Source, Value};

use super::probe::{
    GUEST, GUEST_LAYER, GUEST_LAYER_BYTES, HOST_LAYER, HOST_LAYER_BYTES, OWN, Probe, TOTAL, Wasm32,
    Width, layer_id,
};
use crate::check::{equal, holds};
use crate::guest;
use crate::{Failure, Outcome};

/// -1 as a guest writes it, for any width.
const MINUS_ONE: u64 = u64::MAX;

/// The most negative number of the guest's width, and the largest address.
const fn extremes<W: Width>() -> (u64, u64) {
    if W::SPACE == 1 << 32 { (1 << 31, (1 << 32) - 1) } else { (1 << 63, u64::MAX) }
}

/// Without a 64-bit memory every import that needs one says so.
pub fn not_enabled<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::start::<W>(engine, OWN)?;
    probe.serves(import::IS_ENABLED, &[], 0, |_| ())?;
    for import in [import::LOAD_LAYER, import::READ, import::WRITE] {
        // Whatever else is wrong with the call.
        for args in [[0, 16, 8], [0, 0, 8], [7, MINUS_ONE, MINUS_ONE], [MINUS_ONE, 16, 8]] {
            probe.refuses(import, &args, NOT_ENABLED)?;
        }
    }
    for import in [import::MAP_LAYER, import::PREFETCH, import::RELEASE] {
        for layer in [0, 7, MINUS_ONE] {
            probe.refuses(import, &[layer], NOT_ENABLED)?;
        }
    }
    Ok(())
}

/// Null, overflow and out of bounds have a code each, to the last byte.
pub fn pointers<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    let (min, max) = extremes::<W>();
    let bad = [
        (0, 8, POINTER_OUT_OF_BOUNDS),
        (0, 1, POINTER_OUT_OF_BOUNDS),
        (0, MINUS_ONE, POINTER_OUT_OF_BOUNDS),
        (GUEST - 7, 8, POINTER_OUT_OF_BOUNDS),
        (GUEST, 1, POINTER_OUT_OF_BOUNDS),
        (GUEST + 1, 0, POINTER_OUT_OF_BOUNDS),
        (16, GUEST - 15, POINTER_OUT_OF_BOUNDS),
        (16, min, POINTER_OUT_OF_BOUNDS),
        // The last byte of the address space is in it, and no guest has it.
        (max, 1, POINTER_OUT_OF_BOUNDS),
        (max - 7, 8, POINTER_OUT_OF_BOUNDS),
        (1, max, POINTER_OUT_OF_BOUNDS),
        (max, 0, POINTER_OUT_OF_BOUNDS),
        (max, 2, POINTER_OVERFLOW),
        (max - 6, 8, POINTER_OVERFLOW),
        (2, max, POINTER_OVERFLOW),
        (16, MINUS_ONE, POINTER_OVERFLOW),
        (min, min + 1, POINTER_OVERFLOW),
        (max, max, POINTER_OVERFLOW),
    ];
    for (ptr, len, code) in bad {
        for import in [import::READ, import::WRITE] {
            probe.refuses(import, &[0, ptr, len], code)?;
            // The pointer is checked before the range.
            probe.refuses(import, &[MINUS_ONE, ptr, len], code)?;
        }
        for layer in [GUEST_LAYER, HOST_LAYER, 99] {
            probe.refuses(import::LOAD_LAYER, &[layer, ptr, len], code)?;
        }
        probe.refuses(import::STATS_INTO, &[ptr, len], code)?;
        probe.refuses(import::ALL_GATHER, &[ptr, len, len], code)?;
        probe.refuses(import::ALL_GATHER, &[ptr, 0, len], code)?;
    }
    Ok(())
}

/// Reads and writes agree with plain arithmetic at all extremes.
pub fn transfers<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    let (min, max) = extremes::<W>();
    let offsets = [0, 1, TOTAL - 8, TOTAL - 1, TOTAL, TOTAL + 1, 1 << 32, 1 << 63, MINUS_ONE];
    let pointers = [0, 1, GUEST - 8, GUEST - 1, GUEST, GUEST + 1, min, max - 7, max];
    let lengths = [0, 1, 8, 9, TOTAL, TOTAL + 1, GUEST - 1, min - 1, min, max];
    for offset in offsets {
        for ptr in pointers {
            for len in lengths {
                let args = [offset, ptr, len];
                match expected::<W>(offset, ptr, len) {
                    Ok(()) => serve_transfer(&mut probe, &args)?,
                    Err(code) => {
                        probe.refuses(import::READ, &args, code)?;
                        probe.refuses(import::WRITE, &args, code)?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn serve_transfer(probe: &mut Probe, args: &[u64; 3]) -> Outcome {
    let len = args[2];
    probe.serves(import::READ, args, len, |stats| {
        stats.reads += 1;
        stats.bytes_read += len;
    })?;
    probe.serves(import::WRITE, args, len, |stats| {
        stats.writes += 1;
        stats.bytes_written += len;
    })
}

/// The rules of the ABI in numbers that cannot overflow.
fn expected<W: Width>(offset: u64, ptr: u64, len: u64) -> Result<(), i32> {
    let [offset, ptr, len] = [offset, ptr, len].map(u128::from);
    if ptr + len > W::SPACE {
        return Err(POINTER_OVERFLOW);
    }
    if ptr + len > u128::from(GUEST) || (ptr == 0 && len > 0) {
        return Err(POINTER_OUT_OF_BOUNDS);
    }
    if offset + len > u128::from(TOTAL) {
        return Err(INVALID_RANGE);
    }
    Ok(())
}

/// Layers that do not exist or cannot be mapped are refused.
pub fn layers<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    // Beside those that exist, and as negative as can be.
    for layer in [0, 1, HOST_LAYER + 1, GUEST_LAYER + 1, i32::MAX as u64, 1 << 31, MINUS_ONE] {
        for import in [import::MAP_LAYER, import::PREFETCH, import::RELEASE] {
            probe.refuses(import, &[layer], LAYER_NOT_FOUND)?;
        }
        // A layer that does not exist is noticed before a buffer that is too small.
        for max in [0, 8, 8192] {
            probe.refuses(import::LOAD_LAYER, &[layer, 16, max], LAYER_NOT_FOUND)?;
        }
    }
    // No address of the guest shows a memory of the host.
    probe.refuses(import::MAP_LAYER, &[HOST_LAYER], NOT_ENABLED)
}

/// A buffer that is one byte too small gets nothing.
pub fn too_small<W: Width>(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::with_memories::<W>(engine)?;
    for loaded in [false, true] {
        for (layer, bytes) in [(HOST_LAYER, HOST_LAYER_BYTES), (GUEST_LAYER, GUEST_LAYER_BYTES)] {
            if loaded {
                probe.runtime.load_layer(layer_id(layer))?;
            }
            for (ptr, max) in [(16, bytes - 1), (16, 1), (16, 0), (0, 0), (GUEST, 0)] {
                probe.refuses(import::LOAD_LAYER, &[layer, ptr, max], BUFFER_TOO_SMALL)?;
            }
            probe.ask(import::LOAD_LAYER, &[layer, 16, bytes])?;
        }
    }
    let size = Stats::SIZE as u64;
    for (ptr, len) in [(16, size - 1), (16, 0), (0, 0)] {
        probe.refuses(import::STATS_INTO, &[ptr, len], BUFFER_TOO_SMALL)?;
    }
    Ok(())
}

/// A file that has shrunk is a failed read, and no partial one.
pub fn read_failed<W: Width>(engine: &dyn Engine) -> Outcome {
    const LAYER: u64 = 8;
    let bytes = guest::pattern(9, 10_000);
    for keep in [0, 1, 5_000, 9_999] {
        let file = guest::file(&bytes)?;
        let sources = [Source::open(file.path())?, guest::mapped(file.path())?];
        file.as_file().set_len(keep)?;
        for source in sources {
            let mut probe = Probe::with_memories::<W>(engine)?;
            probe.register_file(LAYER, &source)?;
            for _ in 0..2 {
                probe.refuses(import::LOAD_LAYER, &[LAYER, 16, 10_000], READ_FAILED)?;
                probe.refuses(import::MAP_LAYER, &[LAYER], READ_FAILED)?;
            }
            // What is wrong with the request itself is noticed before.
            probe.refuses(import::LOAD_LAYER, &[LAYER, 16, 9_999], BUFFER_TOO_SMALL)?;
        }
    }
    Ok(())
}

/// Lengths that a result cannot express are refused.
pub fn beyond_two_gib<W: Width>(engine: &dyn Engine) -> Outcome {
    const TWO_GIB: u64 = 1 << 31;
    let mut probe = Probe::start::<W>(engine, TWO_GIB / PAGE + 1)?;
    let memory = probe.runtime.create_memory64(&MemorySpec::host(TWO_GIB + PAGE))?;
    let file = guest::file(&[])?;
    file.as_file().set_len(TWO_GIB)?;
    let source = Source::open(file.path())?;
    probe.runtime.register_layer(guest::layer(1, memory, 0, &source))?;
    let requests = [
        (import::READ, [0, 16, TWO_GIB], INVALID_RANGE),
        (import::WRITE, [0, 16, TWO_GIB], INVALID_RANGE),
        (import::LOAD_LAYER, [1, 16, TWO_GIB + 8], BUFFER_TOO_SMALL),
        (import::READ, [0, PAGE + 1, TWO_GIB], POINTER_OUT_OF_BOUNDS),
    ];
    // Comparing gigabytes would take longer than all other cases.
    for (errors, (import, args, code)) in (1..).zip(requests) {
        equal(import, probe.ask(import, &args)?, code.into())?;
        let stats = probe.runtime.stats();
        equal("errors", stats.errors, errors)?;
        equal("anything else", (stats.reads, stats.writes, stats.loads), (0, 0, 0))?;
    }
    Ok(())
}

/// A buffer that ends where the 32-bit address space ends is served.
pub fn address_space_end(engine: &dyn Engine) -> Outcome {
    let space = u64::try_from(Wasm32::SPACE)?;
    let mut probe = Probe::start::<Wasm32>(engine, space / PAGE)?;
    let memory = probe.runtime.create_memory64(&MemorySpec::host(PAGE))?;
    probe.runtime.write_memory64(memory, 0, b"polychord")?;
    equal("bytes read", probe.ask(import::READ, &[0, space - 9, 9])?, 9)?;
    equal("what was read", probe.guest(space - 9, 9), &b"polychord"[..])?;
    equal("bytes written", probe.ask(import::WRITE, &[1, space - 8, 8])?, 8)?;
    for import in [import::READ, import::WRITE] {
        let got = probe.ask(import, &[0, space - 8, 9])?;
        equal("one byte more", got, POINTER_OVERFLOW.into())?;
    }
    // There is no room for a memory in this guest.
    let grown = probe.runtime.create_memory64(&MemorySpec::guest(1));
    holds(grown.is_err(), || "a guest grew beyond its address space".into())
}

/// In its start function a guest may call imports, but has no memory for them yet.
pub fn start_function(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module
            (import "env" "memory64_is_enabled" (func $enabled (result i32)))
            (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
            (import "env" "memory64_stats_into" (func $stats (param i32 i32) (result i32)))
            (memory (export "memory") 1)
            (global $enabled (mut i32) (i32.const 9))
            (global $read (mut i32) (i32.const 9))
            (global $stats (mut i32) (i32.const 9))
            (global $beyond (mut i32) (i32.const 9))
            (func $main
                (global.set $enabled (call $enabled))
                (global.set $read (call $read (i64.const 0) (i32.const 16) (i32.const 8)))
                (global.set $stats (call $stats (i32.const 16) (i32.const 64)))
                (global.set $beyond (call $stats (i32.const 65500) (i32.const 64))))
            (start $main)
            (func (export "results") (result i32 i32 i32 i32)
                (global.get $enabled) (global.get $read) (global.get $stats)
                (global.get $beyond)))"#,
    )?;
    let size = i32::try_from(Stats::SIZE)?;
    let expected = [0, NOT_ENABLED, size, POINTER_OUT_OF_BOUNDS].map(Value::I32).to_vec();
    equal("results", guest.call("results", &[])?, expected)?;
    equal("errors", guest.stats().errors, 2)
}

/// A guest that exports no memory has no valid pointer.
pub fn without_a_memory(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module
            (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
            (memory 1)
            (func (export "read") (param i64 i32 i32) (result i32)
                (call $read (local.get 0) (local.get 1) (local.get 2))))"#,
    )?;
    let refused = guest.create_memory64(&MemorySpec::guest(PAGE));
    holds(refused.is_err(), || "a memory in a guest that exports none".into())?;
    guest.create_memory64(&MemorySpec::host(PAGE))?;
    for (ptr, len, expected) in
        [(16, 8, POINTER_OUT_OF_BOUNDS), (0, 1, POINTER_OUT_OF_BOUNDS), (0, 0, 0)]
    {
        let got = guest.call("read", &[Value::I64(0), Value::I32(ptr), Value::I32(len)])?;
        equal("memory64_read", got, vec![Value::I32(expected)])?;
    }
    if guest.stats().errors == 3 {
        return Ok(());
    }
    Err(Failure::new(format!("{:?}", guest.stats())))
}
