//! 64-bit memories of more than 4 GiB, of which only few pages are touched.

use polychord_runtime_api::abi::{PAGE, code};
use polychord_runtime_api::{Engine, Limits, MemorySpec, Runtime, TrapKind, Value};

use crate::check::{equal, same_bytes, trapped};
use crate::guest;
use crate::{Failure, Outcome};

const FOUR_GIB: i64 = 1 << 32;
const END: i64 = FOUR_GIB + PAGE.cast_signed();

fn start(engine: &dyn Engine, wat: &str) -> Result<Box<dyn Runtime>, Failure> {
    let limits = Limits::default().memory_bytes(END.cast_unsigned());
    Ok(guest::compile(engine, wat)?.instantiate(&limits)?)
}

/// Addresses and offsets beyond 4 GiB are not cut to 32 bits.
pub fn beyond_4_gib(engine: &dyn Engine) -> Outcome {
    let mut guest = start(
        engine,
        r#"(module (memory (export "memory") i64 65537)
            (func (export "load") (param i64) (result i64) (i64.load (local.get 0)))
            (func (export "store") (param i64 i64) (i64.store (local.get 0) (local.get 1)))
            (func (export "far") (param i64) (result i64)
                (i64.load offset=0x100000000 (local.get 0)))
            (func (export "fill") (param i64 i32 i64)
                (memory.fill (local.get 0) (local.get 1) (local.get 2)))
            (func (export "copy") (param i64 i64 i64)
                (memory.copy (local.get 0) (local.get 1) (local.get 2))))"#,
    )?;
    equal("size", guest.memory_bytes(0), END.cast_unsigned())?;
    let mut call = |export: &str, args: &[i64]| {
        guest.call(export, &args.iter().copied().map(Value::I64).collect::<Vec<_>>())
    };
    for at in [FOUR_GIB, FOUR_GIB - 4, FOUR_GIB + 40, END - 8] {
        call("store", &[at, at])?;
        equal("load", call("load", &[at])?, vec![Value::I64(at)])?;
        if at > FOUR_GIB {
            let cut = call("load", &[at - FOUR_GIB])?;
            equal("cut to 32 bits", cut, vec![Value::I64(0)])?;
        }
        call("store", &[at, 0])?;
    }
    call("store", &[FOUR_GIB + 8, 77])?;
    equal("by the offset", call("far", &[8])?, vec![Value::I64(77)])?;
    call("copy", &[16, FOUR_GIB + 8, 8])?;
    call("copy", &[FOUR_GIB + 24, 16, 8])?;
    equal("copied down and up", call("load", &[FOUR_GIB + 24])?, vec![Value::I64(77)])?;
    for (export, args) in [
        ("load", &[END - 7][..]),
        ("far", &[PAGE.cast_signed() - 7]),
        ("copy", &[END - 7, 0, 8]),
        ("copy", &[0, END - 7, 8]),
        ("copy", &[0, 0, END + 1]),
    ] {
        trapped(call(export, args), export, TrapKind::MemoryOutOfBounds)?;
    }
    let fill = |len| [Value::I64(END - 8), Value::I32(0x11), Value::I64(len)];
    guest.call("fill", &fill(8))?;
    trapped(guest.call("fill", &fill(9)), "fill", TrapKind::MemoryOutOfBounds)?;
    let mut last = [1; 9];
    guest.read_memory(0, END.cast_unsigned() - 9, &mut last)?;
    let expected = [0, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11, 0x11];
    same_bytes("as the host sees it", &last, &expected)?;
    // On both sides of 4 GiB, where the memory may be several in the engine.
    let edge = FOUR_GIB.cast_unsigned() - 5;
    guest.write_memory(0, edge, &expected)?;
    guest.read_memory(0, edge, &mut last)?;
    same_bytes("on both sides of 4 GiB", &last, &expected)?;
    let got = guest.call("load", &[Value::I64(FOUR_GIB - 4)])?;
    equal("as the guest sees it", got, vec![Value::I64(0x1111_1111_1111_1111)])
}

/// Pointers beyond 4 GiB that a guest hands to the host are not cut to 32 bits.
pub fn host_pointers(engine: &dyn Engine) -> Outcome {
    let mut guest = start(
        engine,
        r#"(module
            (import "env" "memory64_read" (func $read (param i64 i64 i64) (result i32)))
            (import "env" "memory64_write" (func $write (param i64 i64 i64) (result i32)))
            (memory (export "memory") i64 65537)
            (func (export "read") (param i64 i64 i64) (result i32)
                (call $read (local.get 0) (local.get 1) (local.get 2)))
            (func (export "write") (param i64 i64 i64) (result i32)
                (call $write (local.get 0) (local.get 1) (local.get 2))))"#,
    )?;
    // The common space ends beyond 4 GiB, too; its pages are not touched.
    let memory = guest.create_memory64(&MemorySpec::host(END.cast_unsigned()))?;
    let bytes = guest::pattern(23, 16);
    guest.write_memory64(memory, FOUR_GIB.cast_unsigned() + 100, &bytes)?;
    let read = [FOUR_GIB + 100, FOUR_GIB + 32, 16].map(Value::I64);
    equal("read", guest.call("read", &read)?, vec![Value::I32(16)])?;
    let high = FOUR_GIB.cast_unsigned();
    let place = guest.memory_slice(0, high + 32..high + 48);
    same_bytes("its place", place.ok_or_else(|| Failure::new("no such place"))?, &bytes)?;
    same_bytes("cut to 32 bits", &guest.memory()[32..48], &[0; 16])?;
    let write = [FOUR_GIB + 200, FOUR_GIB + 32, 16].map(Value::I64);
    equal("write", guest.call("write", &write)?, vec![Value::I32(16)])?;
    let mut got = vec![0; 16];
    guest.read_memory64(memory, FOUR_GIB.cast_unsigned() + 200, &mut got)?;
    same_bytes("written", &got, &bytes)?;
    for (args, refused) in [
        ([0, END - 15, 16], code::POINTER_OUT_OF_BOUNDS),
        ([END - 15, 64, 16], code::INVALID_RANGE),
        ([0, -1, 16], code::POINTER_OVERFLOW),
        // As a 32-bit number this length would be 16.
        ([0, 64, FOUR_GIB + 16], code::INVALID_RANGE),
    ] {
        let got = guest.call("read", &args.map(Value::I64))?;
        equal(&format!("{args:x?}"), got, vec![Value::I32(refused)])?;
    }
    same_bytes("the guest", &guest.memory()[64..80], &[0; 16])
}

/// `memory.copy` between a 32-bit and a 64-bit memory takes 64-bit addresses.
pub fn between_32_and_64(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory $wide (export "memory") i64 2) (memory $narrow 1)
            (data (memory $narrow) (i32.const 8) "narrow")
            (func (export "up") (param i64 i32 i32)
                (memory.copy $wide $narrow (local.get 0) (local.get 1) (local.get 2)))
            (func (export "down") (param i32 i64 i32)
                (memory.copy $narrow $wide (local.get 0) (local.get 1) (local.get 2)))
            (func (export "load") (param i32) (result i32)
                (i32.load8_u $narrow (local.get 0))))"#,
    )?;
    let [eight, six] = [8, 6].map(Value::I32);
    let end = 2 * PAGE.cast_signed();
    guest.call("up", &[Value::I64(end - 6), eight, six])?;
    same_bytes("copied up", &guest.memory()[2 * guest::PAGE_LEN - 6..], b"narrow")?;
    guest.memory_mut()[16] = b'N';
    guest.call("down", &[Value::I32(65_530), Value::I64(16), six])?;
    let got = guest.call("load", &[Value::I32(65_530)])?;
    equal("copied down", got, vec![Value::I32(i32::from(b'N'))])?;
    let before = guest.memory().to_vec();
    for (wide, narrow) in [(end - 5, 8), (0, 65_531), (0, -1)] {
        let beyond = guest.call("up", &[Value::I64(wide), Value::I32(narrow), six]);
        trapped(beyond, "up", TrapKind::MemoryOutOfBounds)?;
        let beyond = guest.call("down", &[Value::I32(narrow), Value::I64(wide), six]);
        trapped(beyond, "down", TrapKind::MemoryOutOfBounds)?;
    }
    // Cut to 32 bits, this address would be 16.
    let high = Value::I64(FOUR_GIB + 16);
    let up = guest.call("up", &[high, eight, six]);
    trapped(up, "up", TrapKind::MemoryOutOfBounds)?;
    let down = guest.call("down", &[eight, high, six]);
    trapped(down, "down", TrapKind::MemoryOutOfBounds)?;
    same_bytes("after traps", guest.memory(), &before)
}
