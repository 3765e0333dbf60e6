//! What a memory is while and after it grows.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, MemorySpec, Value};

use crate::Outcome;
use crate::check::{equal, same_bytes};
use crate::guest::{self, PAGE_LEN};

const WAT: &str = r#"(module
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (import "env" "memory64_write" (func $write (param i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    ;; In one call: asks the host, grows, and asks it again for the page that is new.
    (func (export "read_grow_read") (param $by i32) (result i32 i32 i32 i32)
        (local $new i32)
        (call $read (i64.const 0) (i32.const 100) (i32.const 8))
        (local.set $new (i32.mul (memory.grow (local.get $by)) (i32.const 65536)))
        (call $read (i64.const 8) (local.get $new) (i32.const 8))
        (call $read (i64.const 16) (i32.const 200) (i32.const 8))
        (i64.store (local.get $new) (i64.add (i64.load (local.get $new)) (i64.const 1)))
        (call $write (i64.const 24) (local.get $new) (i32.const 8))))"#;

/// Pages that a memory grows by are zero, and those before keep their bytes.
pub fn fresh_pages(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, WAT)?;
    let mut expected = vec![0; PAGE_LEN];
    for (seed, by) in [(1, 1_u16), (2, 3), (3, 60), (4, 500)] {
        expected = guest::pattern(seed, expected.len());
        guest.memory_mut().copy_from_slice(&expected);
        let before = i32::try_from(expected.len() / PAGE_LEN)?;
        let got = guest.call("grow", &[i32::from(by).into()])?;
        equal("pages before", got, vec![Value::I32(before)])?;
        expected.resize(expected.len() + usize::from(by) * PAGE_LEN, 0);
        same_bytes("after growing", guest.memory(), &expected)?;
    }
    Ok(())
}

/// A guest that grows during a call is served in its memory as it is then.
pub fn base_during_a_call(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, WAT)?;
    let memory = guest.create_memory64(&MemorySpec::host(PAGE))?;
    let bytes = guest::pattern(21, 24);
    guest.write_memory64(memory, 0, &bytes)?;
    let mut pages = 1;
    // By more each time: an engine that moves memories will have to.
    for by in [1, 20, 1_000, 10_000_u16] {
        let got = guest.call("read_grow_read", &[i32::from(by).into()])?;
        equal("bytes moved", got, vec![Value::I32(8); 4])?;
        let new = pages * PAGE_LEN;
        let mut incremented = bytes[8..16].to_vec();
        incremented[0] = incremented[0].wrapping_add(1);
        if incremented[0] == 0 {
            incremented[1] = incremented[1].wrapping_add(1);
        }
        same_bytes("read before growing", &guest.memory()[100..108], &bytes[..8])?;
        same_bytes("read into the new page", &guest.memory()[new..new + 8], &incremented)?;
        same_bytes("read after growing", &guest.memory()[200..208], &bytes[16..])?;
        let mut written = vec![0; 8];
        guest.read_memory64(memory, 24, &mut written)?;
        same_bytes("written from the new page", &written, &incremented)?;
        guest.memory_mut()[100..208].fill(0);
        pages += usize::from(by);
        equal("size", guest.memory().len(), pages * PAGE_LEN)?;
    }
    Ok(())
}

/// After the host has grown a guest, both see the same bytes.
pub fn base_of_the_host(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, WAT)?;
    let mut pages = 1_u64;
    for more in [1, 40, 2_000_u64] {
        guest.memory_mut()[7] = 0x11;
        guest.create_memory64(&MemorySpec::guest(more * PAGE))?;
        let (first, last) = (pages * PAGE, (pages + more) * PAGE - 1);
        pages += more;
        equal("size", guest.memory().len() as u64, pages * PAGE)?;
        equal("a byte from before", guest.call("load", &[Value::I32(7)])?, vec![Value::I32(0x11)])?;
        for at in [7, first, last] {
            let (index, at) = (usize::try_from(at)?, Value::I32(i32::try_from(at)?));
            guest.call("store", &[at, Value::I32(0x22)])?;
            equal("as the host sees it", guest.memory()[index], 0x22)?;
            guest.memory_mut()[index] = 0x33;
            equal("as the guest sees it", guest.call("load", &[at])?, vec![Value::I32(0x33)])?;
        }
    }
    Ok(())
}
