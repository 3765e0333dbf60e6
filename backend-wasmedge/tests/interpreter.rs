//! Tests of interpreted guests: 64-bit memories, and their limits.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::time::Duration;

use polychord_backend_wasmedge::{Mode, WasmEdgeEngine};
use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{SignalUse, claim_signals};
use polychord_runtime_api::{
    Engine, Error, Limits, Memory64, MemorySpec, Requirements, Result, Runtime, Value,
};

const LARGEST: u64 = 131_072 * PAGE;

fn engine() -> WasmEdgeEngine {
    WasmEdgeEngine::new(Mode::Interpreter).unwrap()
}

fn start(wat: &str, memory_bytes: u64) -> Result<Box<dyn Runtime>> {
    let limits = Limits::default().memory_bytes(memory_bytes);
    engine().compile(&wat::parse_str(wat).unwrap())?.instantiate(&limits)
}

#[test]
fn claims_what_it_does() {
    let engine = engine();
    let has = engine.capabilities();
    assert_eq!(has.memory64, Memory64::Native { max_bytes: LARGEST });
    assert_eq!((has.execution, has.stack_overflow_trap), ("interpreter", false));
    let needs = |bytes| Requirements::NONE.memory64_bytes(bytes);
    assert!(needs(LARGEST).check(has).is_ok());
    let error = needs(LARGEST + 1).check(has).unwrap_err().to_string();
    assert!(error.contains("8589934592"), "{error}");
    let needs = Requirements::NONE.stack_overflow_trap();
    assert!(needs.check(has).is_err());
    // No compiled code, so other engines may come.
    start("(module)", PAGE).unwrap();
    claim_signals("another engine", SignalUse::Shared).unwrap();
}

#[test]
fn a_64_bit_memory_is_whole_up_to_its_last_byte() {
    let wat = r#"(module (memory (export "memory") i64 131072)
        (func (export "load") (param i64) (result i32) (i32.load8_u (local.get 0)))
        (func (export "store") (param i64 i32) (i32.store8 (local.get 0) (local.get 1)))
        (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))"#;
    let mut guest = start(wat, u64::MAX).unwrap();
    assert_eq!(guest.memory().len() as u64, LARGEST);
    for at in [0, 1 << 32, (1 << 32) + 12_345, LARGEST - 1] {
        let (index, address) = (usize::try_from(at).unwrap(), Value::I64(at.cast_signed()));
        guest.memory_mut()[index] = 7;
        assert_eq!(guest.call("load", &[address]).unwrap(), [Value::I32(7)]);
        guest.call("store", &[address, 9.into()]).unwrap();
        assert_eq!(guest.memory()[index], 9);
    }
    for outside in [LARGEST.cast_signed(), i64::MAX, -1] {
        assert!(matches!(guest.call("load", &[outside.into()]), Err(Error::Trap { .. })));
    }
    assert_eq!(guest.call("grow", &[1_i64.into()]).unwrap(), [Value::I64(-1)]);
    let error = guest.create_memory64(&MemorySpec::guest(1)).unwrap_err();
    assert!(matches!(error, Error::OutOfMemory { .. }), "{error:?}");
}

#[test]
fn a_64_bit_memory_beyond_the_allocator_is_refused() {
    for memories in ["(memory i64 131073)", r#"(memory 1) (memory (export "memory") i64 0x100000)"#]
    {
        let error = start(&format!("(module {memories})"), u64::MAX).err().unwrap();
        let Error::TooLarge { limit, ref limited_by, .. } = error else { panic!("{error:?}") };
        assert_eq!(limit, LARGEST);
        assert!(limited_by.contains("allocator"), "{limited_by}");
    }
}

#[test]
fn what_would_be_made_smaller_is_refused() {
    for wat in ["(module (memory i64 3))", r#"(module (memory (export "memory") i64 3))"#] {
        assert!(start(wat, 3 * PAGE).is_ok());
        let error = start(wat, 2 * PAGE).err().unwrap();
        assert!(matches!(error, Error::TooLarge { limit: 131_072, .. }), "{error:?}");
    }
}

#[test]
fn a_32_bit_memory_ends_at_its_addresses() {
    let wat = r#"(module (memory (export "memory") 65535)
        (memory i64 1)
        (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;
    let mut guest = start(wat, u64::MAX).unwrap();
    for (by, before) in [(2, -1), (1, 65_535), (1, -1)] {
        assert_eq!(guest.call("grow", &[by.into()]).unwrap(), [Value::I32(before)]);
    }
    assert_eq!(guest.memory().len() as u64, 1 << 32);
    guest.memory_mut()[(1 << 32) - 1] = 1;
}

/// WasmEdge's interpreter cuts addresses of copies between memories of different widths to
/// 32 bits. If this fails, the bug is gone: say so in docs/wasmedge.md.
#[test]
fn copies_between_memories_of_different_widths_are_wrong() {
    let wat = r#"(module (memory $wide (export "memory") i64 65537) (memory $narrow 1)
        (func (export "f") (result i32)
            (i32.store8 $wide (i64.const 0x100000000) (i32.const 7))
            (memory.copy $narrow $wide (i32.const 0) (i64.const 0x100000000) (i32.const 1))
            (i32.load8_u $narrow (i32.const 0))))"#;
    assert!(start(wat, LARGEST).is_err(), "mixed memories are limited to 32-bit addresses");
}

/// What `i8x16.all_true` gives is 1, and the rest of the vector stays above it in its slot of the stack.
#[test]
fn copies_between_both_widths_read_the_address_alone() {
    let one = "(i8x16.all_true (v128.const i64x2 -1 -1))";
    let wat = format!(
        r#"(module (memory 1) (memory i64 1)
        (table 2 funcref) (table i64 2 funcref) (elem (i32.const 1) $to32)
        (data (memory 0) (i32.const 1) "a") (data (memory 1) (i64.const 2) "b")
        (func $to32 (export "to 32") (result i32)
            (memory.copy 0 1 {one} (i64.const 2) {one})
            (i32.load8_u (i32.const 1)))
        (func (export "to 64") (result i32)
            (memory.copy 1 0 (i64.const 3) {one} {one})
            (i32.load8_u 1 (i64.const 3)))
        (func (export "table to 64") (result i32)
            (table.copy 1 0 (i64.const 1) {one} {one})
            (ref.is_null (table.get 1 (i64.const 1))))
        (func (export "table to 32") (result i32)
            (table.copy 0 1 {one} (i64.const 0) {one})
            (ref.is_null (table.get 0 (i32.const 1)))))"#
    );
    let wasm = wat::parse_str(wat).unwrap();
    let module = engine().compile(&wasm).unwrap();
    for limits in [Limits::default(), Limits::default().call_time(Some(Duration::from_secs(60)))] {
        let mut guest = module.instantiate(&limits).unwrap();
        let results = [
            ("to 64", b'a'.into()),
            ("to 32", b'b'.into()),
            ("table to 64", 0),
            ("table to 32", 1),
        ];
        for (name, result) in results {
            assert_eq!(guest.call(name, &[]).unwrap(), [Value::I32(result)], "{name}");
        }
    }
}
