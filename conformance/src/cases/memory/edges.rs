//! The last bytes of a memory.

use polychord_runtime_api::abi::import;
use polychord_runtime_api::{Engine, MemorySpec, TrapKind, Value};

use crate::Outcome;
use crate::check::{equal, same_bytes, trapped};
use crate::guest::{self, PAGE_LEN};

/// Type of the value, name of the instruction, bytes that it touches.
const LOADS: [(&str, &str, u8); 13] = [
    ("i32", "load8_u", 1),
    ("i32", "load8_s", 1),
    ("i32", "load16_u", 2),
    ("i32", "load", 4),
    ("i64", "load8_s", 1),
    ("i64", "load16_s", 2),
    ("i64", "load32_u", 4),
    ("i64", "load", 8),
    ("f32", "load", 4),
    ("f64", "load", 8),
    ("v128", "load", 16),
    ("v128", "load8x8_u", 8),
    ("v128", "load64_splat", 8),
];
const STORES: [(&str, &str, u8); 10] = [
    ("i32", "store8", 1),
    ("i32", "store16", 2),
    ("i32", "store", 4),
    ("i64", "store8", 1),
    ("i64", "store16", 2),
    ("i64", "store32", 4),
    ("i64", "store", 8),
    ("f32", "store", 4),
    ("f64", "store", 8),
    ("v128", "store", 16),
];

/// Every load and store reaches the last byte, and none goes beyond it or in part.
pub fn last_bytes(engine: &dyn Engine) -> Outcome {
    let mut functions = String::new();
    for (ty, name, _) in LOADS {
        functions += &format!(
            r#"(func (export "{ty}.{name}") (param i32) (drop ({ty}.{name} (local.get 0))))"#
        );
    }
    for (ty, name, _) in STORES {
        let zero = if ty == "v128" { "v128.const i64x2 0 0" } else { &format!("{ty}.const 0") };
        functions += &format!(
            r#"(func (export "{ty}.{name}") (param i32) ({ty}.{name} (local.get 0) ({zero})))"#
        );
    }
    let wat = format!(r#"(module (memory (export "memory") 1) {functions})"#);
    let mut guest = guest::start(engine, &wat)?;
    for (index, (ty, name, width)) in LOADS.into_iter().chain(STORES).enumerate() {
        let export = format!("{ty}.{name}");
        let (stores, width_len) = (index >= LOADS.len(), usize::from(width));
        let last = i32::try_from(PAGE_LEN - width_len)?;
        guest.memory_mut().fill(0xaa);
        for beyond in [1, i32::from(width)] {
            let got = guest.call(&export, &[Value::I32(last + beyond)]);
            trapped(got, &export, TrapKind::MemoryOutOfBounds)?;
        }
        same_bytes("after a trap", guest.memory(), &[0xaa; PAGE_LEN])?;
        guest.call(&export, &[Value::I32(last)])?;
        let mut expected = vec![0xaa; PAGE_LEN];
        expected[PAGE_LEN - width_len..].fill(if stores { 0 } else { 0xaa });
        same_bytes(&export, guest.memory(), &expected)?;
    }
    Ok(())
}

const BULK: &str = r#"(module (memory (export "memory") 1)
    (data $bytes "polychord")
    (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "copy") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "init") (param i32 i32 i32)
        (memory.init $bytes (local.get 0) (local.get 1) (local.get 2)))
    (func (export "drop") (data.drop $bytes)))"#;

/// Bulk instructions move whole ranges, overlapping or empty, or nothing at all.
pub fn bulk(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, BULK)?;
    let mut expected = guest::pattern(20, PAGE_LEN);
    guest.memory_mut().copy_from_slice(&expected);
    let end = i32::try_from(PAGE_LEN)?;
    for (export, [to, from, len]) in [
        ("copy", [100, 90, 5_000]),
        ("copy", [90, 100, 5_000]),
        ("copy", [end - 300, 0, 300]),
        ("copy", [0, end - 300, 300]),
        ("copy", [end, 0, 0]),
        ("copy", [0, end, 0]),
    ] {
        guest.call(export, &[to, from, len].map(Value::I32))?;
        let (from, len, to) = (usize::try_from(from)?, usize::try_from(len)?, usize::try_from(to)?);
        expected.copy_within(from..from + len, to);
        same_bytes("after a copy", guest.memory(), &expected)?;
    }
    guest.call("fill", &[end - 10, 0x1ff, 10].map(Value::I32))?;
    expected[PAGE_LEN - 10..].fill(0xff);
    guest.call("init", &[40, 4, 5].map(Value::I32))?;
    expected[40..45].copy_from_slice(b"chord");
    same_bytes("after fill and init", guest.memory(), &expected)?;
    guest.call("drop", &[])?;
    guest.call("init", &[end, 0, 0].map(Value::I32))?;
    for (export, args) in [
        ("copy", [end - 99, 0, 100]),
        ("copy", [0, end - 99, 100]),
        ("copy", [end + 1, 0, 0]),
        ("fill", [end - 99, 1, 100]),
        ("fill", [1, 1, -1]),
        ("init", [0, 0, 1]),
        ("init", [end + 1, 0, 0]),
    ] {
        let got = guest.call(export, &args.map(Value::I32));
        trapped(got, export, TrapKind::MemoryOutOfBounds)?;
        same_bytes("after a trap", guest.memory(), &expected)?;
    }
    Ok(())
}

/// A 32-bit memory has 4 GiB, whose last byte guest and host can use.
pub fn top_of_4_gib(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module
            (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
            (memory (export "memory") 65536)
            (func (export "read") (param i64 i32 i32) (result i32)
                (call $read (local.get 0) (local.get 1) (local.get 2)))
            (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
            (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
            (func (export "load32") (param i32) (result i32) (i32.load (local.get 0)))
            (func (export "far") (param i32) (result i32)
                (i32.load8_u offset=0xffffffff (local.get 0)))
            (func (export "grow") (result i32) (memory.grow (i32.const 1))))"#,
    )?;
    let [one, two, three, four] = [-1, -2, -3, -4].map(Value::I32);
    equal("size", guest.memory().len(), 1 << 32)?;
    guest.call("store", &[one, Value::I32(0x5a)])?;
    equal("as the host sees it", guest.memory().last().copied(), Some(0x5a))?;
    equal("last word", guest.call("load32", &[four])?, vec![Value::I32(0x5a00_0000)])?;
    equal("by its offset", guest.call("far", &[Value::I32(0)])?, vec![Value::I32(0x5a)])?;
    for (export, at) in [("load32", three), ("load32", one), ("far", Value::I32(1)), ("far", one)] {
        trapped(guest.call(export, &[at]), export, TrapKind::MemoryOutOfBounds)?;
    }
    equal("growing it", guest.call("grow", &[])?, vec![Value::I32(-1)])?;

    let memory = guest.create_memory64(&MemorySpec::host(16))?;
    guest.write_memory64(memory, 0, b"ab")?;
    // The last two bytes are a buffer; three from there would wrap around to the first byte.
    let read = [Value::I64(0), two, Value::I32(2)];
    equal(import::READ, guest.call("read", &read)?, vec![Value::I32(2)])?;
    equal("last byte", guest.call("load", &[one])?, vec![Value::I32(i32::from(b'b'))])?;
    let overflow = polychord_runtime_api::abi::code::POINTER_OVERFLOW;
    let read = [Value::I64(0), two, Value::I32(3)];
    equal("around the edge", guest.call("read", &read)?, vec![Value::I32(overflow)])?;
    equal("first byte", guest.memory()[0], 0)
}
