//! Several memories in one guest.

use polychord_runtime_api::{Engine, Runtime, TrapKind, Value};

use crate::check::{equal, same_bytes, trapped};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

const WAT: &str = r#"(module
    (memory $small 1) (memory $main (export "memory") 2) (memory $empty 0)
    (func (export "load_small") (param i32) (result i32) (i32.load8_u $small (local.get 0)))
    (func (export "load_main") (param i32) (result i32) (i32.load8_u $main (local.get 0)))
    (func (export "load_empty") (param i32) (result i32) (i32.load8_u $empty (local.get 0)))
    (func (export "fill_small") (param i32 i32)
        (memory.fill $small (local.get 0) (i32.const 0x5a) (local.get 1)))
    (func (export "fill_main") (param i32 i32)
        (memory.fill $main (local.get 0) (i32.const 0xa5) (local.get 1)))
    (func (export "to_main") (param i32 i32 i32)
        (memory.copy $main $small (local.get 0) (local.get 1) (local.get 2)))
    (func (export "to_small") (param i32 i32 i32)
        (memory.copy $small $main (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow_empty") (param i32) (result i32) (memory.grow $empty (local.get 0)))
    (func (export "sizes") (result i32 i32 i32)
        (memory.size $small) (memory.size $main) (memory.size $empty)))"#;

/// Several memories have bytes, sizes and bounds of their own.
pub fn independent(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, WAT)?;
    let (page, end) = (i32::try_from(PAGE_LEN)?, 2 * i32::try_from(PAGE_LEN)?);
    guest.call("fill_small", &[0, page].map(Value::I32))?;
    equal("the other memory", guest.memory().iter().position(|byte| *byte != 0), None)?;
    guest.call("fill_main", &[page, page].map(Value::I32))?;
    equal("first page", guest.memory()[..PAGE_LEN].iter().position(|byte| *byte != 0), None)?;
    equal("load_small", load(&mut *guest, "load_small", page - 1)?, 0x5a)?;
    equal("load_main", load(&mut *guest, "load_main", end - 1)?, 0xa5)?;
    for (export, at) in [("load_small", page), ("load_main", end), ("load_empty", 0)] {
        trapped(guest.call(export, &[at.into()]), export, TrapKind::MemoryOutOfBounds)?;
    }
    for (export, args) in [("fill_small", [page, 1]), ("fill_main", [end - 1, 2])] {
        let got = guest.call(export, &args.map(Value::I32));
        trapped(got, export, TrapKind::MemoryOutOfBounds)?;
    }
    equal("growing one", guest.call("grow_empty", &[Value::I32(3)])?, vec![Value::I32(0)])?;
    equal("load_empty", load(&mut *guest, "load_empty", 3 * page - 1)?, 0)?;
    equal("sizes", guest.call("sizes", &[])?, [1, 2, 3].map(Value::I32).to_vec())?;
    equal("as the host sees it", guest.memory().len(), 2 * PAGE_LEN)
}

/// `memory.copy` between memories checks each range against its own memory.
pub fn copies_between(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, WAT)?;
    let (page, end) = (i32::try_from(PAGE_LEN)?, 2 * i32::try_from(PAGE_LEN)?);
    let bytes = guest::pattern(22, PAGE_LEN);
    guest.memory_mut()[PAGE_LEN..].copy_from_slice(&bytes);
    guest.call("to_small", &[0, page, page].map(Value::I32))?;
    guest.call("to_main", &[5, 10, page - 10].map(Value::I32))?;
    let mut expected = vec![0; 2 * PAGE_LEN];
    expected[PAGE_LEN..].copy_from_slice(&bytes);
    expected[5..PAGE_LEN - 5].copy_from_slice(&bytes[10..]);
    same_bytes("after copies", guest.memory(), &expected)?;
    for (export, args) in [
        // What fits the larger memory does not fit the smaller one.
        ("to_small", [1, 0, page]),
        ("to_small", [0, page + 1, page]),
        ("to_main", [0, 1, page]),
        ("to_main", [end - 9, 0, 10]),
        ("to_main", [0, 0, page + 1]),
    ] {
        let got = guest.call(export, &args.map(Value::I32));
        trapped(got, export, TrapKind::MemoryOutOfBounds)?;
        same_bytes("after a trap", guest.memory(), &expected)?;
    }
    let first = load(&mut *guest, "load_small", 0)?;
    equal("first byte of the small memory", first, i32::from(bytes[0]))
}

fn load(guest: &mut dyn Runtime, export: &str, at: i32) -> Result<i32, Failure> {
    let got = guest.call(export, &[at.into()])?;
    let number = got.first().and_then(|value| value.as_i32());
    number.ok_or_else(|| Failure::new(format!("{export} returned {got:?}")))
}
