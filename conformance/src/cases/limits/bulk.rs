//! Bulk instructions under a time limit: they do what they always do, and can be stopped.

use std::time::{Duration, Instant};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, Limits, MemorySpec, Runtime, TrapKind, Value};

use super::watched::{time_limit, within_a_minute};
use crate::Outcome;
use crate::check::{equal, holds, trapped};
use crate::guest::{self, pattern};

/// What the instructions are divided into, if an engine divides them.
const PIECE: u64 = 1 << 20;

/// Bytes of the two memories, which are no multiples of each other.
const SIZES: [u64; 2] = [5 * PIECE + PAGE, 3 * PIECE - PAGE];

/// The type of addresses in a memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Address {
    Narrow,
    Wide,
}

/// An instruction with its operands; memories by their indices.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Fill { memory: usize, at: u64, byte: u32, len: u64 },
    Move { to: (usize, u64), from: (usize, u64), len: u64 },
}
use Operation::{Fill, Move};

/// `memory.fill` and `memory.copy` do the same under a time limit as without one.
pub(super) fn bulk_under_a_limit(engine: &dyn Engine) -> Outcome {
    check(engine, [Address::Narrow, Address::Narrow])
}

/// So they do in memories with 64-bit addresses, and between one of these and another.
pub(super) fn bulk_in_wide_memories(engine: &dyn Engine) -> Outcome {
    check(engine, [Address::Wide, Address::Wide])?;
    check(engine, [Address::Wide, Address::Narrow])
}

fn check(engine: &dyn Engine, widths: [Address; 2]) -> Outcome {
    let module = guest::compile(engine, &text(widths))?;
    for limit in [None, Some(Duration::from_secs(3600))] {
        let mut runtime = module.instantiate(&Limits::default().call_time(limit))?;
        let mut expected = [0, 1].map(|index| pattern(index as u64, size(SIZES[index])));
        for (index, bytes) in expected.iter().enumerate() {
            runtime.linear_memory_mut(index).copy_from_slice(bytes);
        }
        for operation in operations(widths) {
            let fits = operation.carry_out(&mut expected);
            let result = runtime.call(&operation.export(), &operation.args(widths));
            let what = || format!("{operation:?} with a time limit of {limit:?}");
            match fits {
                true => holds(result.is_ok(), || format!("{} trapped", what()))?,
                false => trapped(result, &operation.export(), TrapKind::MemoryOutOfBounds)?,
            }
            for (index, bytes) in expected.iter().enumerate() {
                let same = runtime.linear_memory(index) == bytes;
                holds(same, || format!("{} left other bytes in memory {index}", what()))?;
            }
        }
    }
    Ok(())
}

/// A guest that exports each operation on its two memories.
fn text(widths: [Address; 2]) -> String {
    let name = |width| if width == Address::Wide { "i64" } else { "i32" };
    let mut text = "(module".to_owned();
    for (index, export) in ["memory", "other"].iter().enumerate() {
        let (width, pages) = (name(widths[index]), SIZES[index] / PAGE);
        text += &format!(
            "(memory (export \"{export}\") {width} {pages})
             (func (export \"fill{index}\") (param {width} i32 {width})
                (memory.fill {index} (local.get 0) (local.get 1) (local.get 2)))"
        );
    }
    for (to, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let len = name(length(widths, to, from));
        text += &format!(
            "(func (export \"copy{to}{from}\") (param {} {} {len})
                (memory.copy {to} {from} (local.get 0) (local.get 1) (local.get 2)))",
            name(widths[to]),
            name(widths[from]),
        );
    }
    text + ")"
}

/// The type of the length of a copy: the smaller one.
fn length(widths: [Address; 2], to: usize, from: usize) -> Address {
    let is_wide = [to, from].iter().all(|index| widths[*index] == Address::Wide);
    if is_wide { Address::Wide } else { Address::Narrow }
}

fn operations(widths: [Address; 2]) -> Vec<Operation> {
    // Copies first: what is filled looks the same everywhere.
    let mut all = Vec::new();
    for (to, from) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let (there, here) = (SIZES[to], SIZES[from]);
        let copies = [
            (0, 0, 0),
            (there, here, 0),
            (there + 1, 0, 0),
            (0, here + 1, 0),
            (7, 7, 2 * PIECE),
            (1, 0, 2 * PIECE + 5),
            (0, 1, 2 * PIECE + 5),
            (PIECE / 2, 0, 2 * PIECE),
            (0, PIECE / 2, 2 * PIECE),
            (PIECE, 1, PIECE + 1),
            (1, PIECE, PIECE + 1),
            (PIECE - 1, 0, PIECE + 1),
            (there - 2 * PIECE - 1, 0, 2 * PIECE + 1),
            (0, here - 2 * PIECE - 1, 2 * PIECE + 1),
            (there - 2 * PIECE, 0, 2 * PIECE + 1),
            (0, here - 2 * PIECE, 2 * PIECE + 1),
            (0, 1, here),
            (1, 0, there),
            (0, 0, largest(length(widths, to, from))),
            (largest(widths[to]), 0, PIECE + 1),
            (0, largest(widths[from]), PIECE + 1),
            (largest(widths[to]) - PIECE, 0, PIECE + 2),
            (0, largest(widths[from]) - PIECE, PIECE + 2),
        ];
        let copy = |(a, b, len)| Move { to: (to, a), from: (from, b), len };
        all.extend(copies.map(copy));
    }
    for memory in 0..2 {
        let (end, largest) = (SIZES[memory], largest(widths[memory]));
        let fills = [
            (0, 0),
            (end, 0),
            (end + 1, 0),
            (0, PIECE - 1),
            (3, PIECE),
            (5, PIECE + 1),
            (end - PIECE - 1, PIECE + 1),
            (end - PIECE, PIECE + 1),
            (end - 2 * PIECE, 2 * PIECE),
            (end - 2 * PIECE + 1, 2 * PIECE),
            (1, end),
            (0, end),
            (0, largest),
            (largest, largest),
            (largest, 1),
            (largest - PIECE, PIECE + 2),
            (end + PIECE, PIECE + 2),
        ];
        let fill = |(number, (at, len))| Fill { memory, at, byte: 0xabc0 + number, len };
        all.extend((0_u32..).zip(fills).map(fill));
    }
    all
}

const fn largest(width: Address) -> u64 {
    match width {
        Address::Narrow => u32::MAX as u64,
        Address::Wide => u64::MAX,
    }
}

impl Operation {
    fn export(&self) -> String {
        match self {
            Fill { memory, .. } => format!("fill{memory}"),
            Move { to, from, .. } => format!("copy{}{}", to.0, from.0),
        }
    }

    fn args(&self, widths: [Address; 2]) -> [Value; 3] {
        let value = |width, value: u64| match width {
            Address::Wide => Value::I64(value.cast_signed()),
            Address::Narrow => Value::I32(u32::try_from(value).unwrap_or(0).cast_signed()),
        };
        match *self {
            Fill { memory, at, byte, len } => {
                let width = widths[memory];
                [value(width, at), value(Address::Narrow, byte.into()), value(width, len)]
            }
            Move { to, from, len } => [
                value(widths[to.0], to.1),
                value(widths[from.0], from.1),
                value(length(widths, to.0, from.0), len),
            ],
        }
    }

    /// Does the same to plain bytes; nothing, if it leaves them.
    fn carry_out(&self, memories: &mut [Vec<u8>; 2]) -> bool {
        let range = |memories: &[Vec<u8>; 2], (memory, at): (usize, u64), len: u64| {
            let end = at.checked_add(len).filter(|end| *end <= memories[memory].len() as u64)?;
            Some(size(at)..size(end))
        };
        match *self {
            Fill { memory, at, byte, len } => {
                let Some(range) = range(memories, (memory, at), len) else { return false };
                memories[memory][range].fill(byte.to_le_bytes()[0]);
            }
            Move { to, from, len } => {
                let there = range(memories, to, len);
                let (Some(there), Some(here)) = (there, range(memories, from, len)) else {
                    return false;
                };
                let bytes = memories[from.0][here].to_vec();
                memories[to.0][there].copy_from_slice(&bytes);
            }
        }
        true
    }
}

/// A number of bytes that lie in this process.
fn size(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// At the end of a memory of 4 GiB, where 32 bits have no address left.
///
/// The last byte is left alone: Wasmer takes a range that ends with it for one beyond the memory.
pub(super) fn bulk_at_four_gibibytes(engine: &dyn Engine) -> Outcome {
    const END: u64 = 1 << 32;
    let wat = r#"(module (memory (export "memory") 65536)
        (func (export "fill") (param i32 i32 i32)
            (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "copy") (param i32 i32 i32)
            (memory.copy (local.get 0) (local.get 1) (local.get 2))))"#;
    let module = guest::compile(engine, wat)?;
    let mut runtime = module.instantiate(&time_limit(Duration::from_secs(3600)))?;
    let mut call = |export: &str, at: u64, what: u64, len: u64| {
        let args = [at, what, len].map(|x| Value::I32(u32::try_from(x).unwrap_or(0).cast_signed()));
        (runtime.call(export, &args), last(&*runtime))
    };
    let (done, bytes) = call("fill", END - PIECE - 2, 1, PIECE + 1);
    done?;
    let filled = size(2 * PIECE - 2)..size(3 * PIECE - 1);
    holds(bytes[filled.clone()].iter().all(|byte| *byte == 1), || "the end".into())?;
    holds(bytes[..filled.start].iter().all(|byte| *byte == 0), || "before it".into())?;
    for (export, at, what, len) in [
        ("fill", END - PIECE - 1, 2, PIECE + 2),
        ("fill", END - 1, 2, PIECE + 1),
        ("fill", 2, 2, END - 1),
        ("copy", END - PIECE - 1, 0, PIECE + 2),
        ("copy", 0, END - PIECE - 1, PIECE + 2),
        ("copy", 2, 1, END - 1),
    ] {
        let (result, after) = call(export, at, what, len);
        trapped(result, export, TrapKind::MemoryOutOfBounds)?;
        holds(after == bytes, || format!("{export} wrote before it trapped"))?;
    }
    // Three quarters of a piece further up, as far as the last byte but one.
    let distance = PIECE * 3 / 4;
    let (done, bytes) = call("copy", END - PIECE - 2, END - PIECE - 2 - distance, PIECE + 1);
    done?;
    let zeros = bytes[..filled.end].iter().rposition(|byte| *byte == 0);
    equal("the last zero", zeros, Some(size(2 * PIECE - 3 + distance)))
}

/// The last bytes of a memory.
fn last(runtime: &dyn Runtime) -> Vec<u8> {
    let memory = runtime.memory();
    memory[memory.len() - size(3 * PIECE)..].to_vec()
}

/// A guest that calls the host and copies for long is stopped between two of them, also if it
/// has no loop.
pub(super) fn time_in_straight_code(engine: &dyn Engine) -> Outcome {
    // Each alone takes some milliseconds, and all together take longer than the case waits.
    const BYTES: u32 = 128 << 20;
    let read = format!("(i64.const 0) (i32.const 65536) (i32.const {BYTES})");
    let copy = format!("(memory.copy (i32.const 1) (i32.const 0) (i32.const {}))", BYTES - 1);
    let init = "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 12000000))".to_owned();
    let sets = [
        ("host", format!("(drop (call $read {read}))"), 0),
        ("table", format!("(drop (call_indirect (type $read) {read} (i32.const 0)))"), 0),
        ("fill", format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const {BYTES}))"), 0),
        ("copy", copy, 0),
        ("init", init, 12_000_000),
    ];
    for (export, instruction, data) in sets {
        let wat = format!(
            "(module (type $read (func (param i64 i32 i32) (result i32)))
                (import \"env\" \"memory64_read\" (func $read (type $read)))
                (memory (export \"memory\") 2049) (table 1 funcref) (elem (i32.const 0) $read)
                (data $d \"{}\") (func (export \"{export}\") {}))",
            "x".repeat(data),
            instruction.repeat(1_000)
        );
        let limit = Duration::from_millis(50);
        let mut runtime = guest::compile(engine, &wat)?.instantiate(&time_limit(limit))?;
        runtime.create_memory64(&MemorySpec::host(BYTES.into()))?;
        within_a_minute(export, move || {
            let start = Instant::now();
            trapped(runtime.call(export, &[]), export, TrapKind::DeadlineExceeded(limit))?;
            // Generous: one of them, on a machine that has much else to do.
            let took = start.elapsed();
            holds(took < Duration::from_secs(20), || format!("{export} went on for {took:?}"))
        })??;
    }
    Ok(())
}
