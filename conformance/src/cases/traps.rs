//! Every trap is the same kind on every engine, and leaves the guest usable.

use std::thread;

use polychord_runtime_api::{Engine, Limits, Requirements, TrapKind, Value};

use crate::check::{equal, trapped};
use crate::guest::{self, NOTHING};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "traps/kinds",
        promise: "each kind of trap is reported as that kind, with the export that was called",
        needs: NOTHING,
        run: kinds,
    },
    Case {
        name: "traps/after_a_trap",
        promise: "a guest can be called again after a trap, and keeps what it wrote before",
        needs: NOTHING,
        run: after_a_trap,
    },
    Case {
        name: "traps/again_and_again",
        promise: "thousands of traps leak nothing",
        needs: NOTHING,
        run: again_and_again,
    },
    Case {
        name: "traps/start_function",
        promise: "a trap in the start function is reported as such",
        needs: NOTHING,
        run: start_function,
    },
    Case {
        name: "traps/segments",
        promise: "a data or element segment out of bounds is the trap of its kind at the start",
        needs: NOTHING,
        run: segments,
    },
    Case {
        name: "traps/stack_overflow",
        promise: "runaway recursion is a trap, from which the guest recovers",
        needs: STACK,
        run: stack_overflow,
    },
    Case {
        name: "traps/stack_overflow_through_the_host",
        promise: "recursion that calls the host on the way is contained as well",
        needs: STACK,
        run: stack_overflow_through_the_host,
    },
    Case {
        name: "traps/small_stacks",
        promise: "a guest runs, and runaway recursion is a trap, on a thread with a stack of any size",
        needs: SMALL_STACKS,
        run: small_stacks,
    },
    Case {
        name: "traps/memory64",
        promise: "accesses beyond a 64-bit memory trap, up to the last address",
        needs: guest::MEMORY64,
        run: memory64,
    },
];

const STACK: Requirements = NOTHING.stack_overflow_trap();
const SMALL_STACKS: Requirements = STACK.threads();

const TRAPS: &str = r#"(module
    (import "env" "memory64_stats" (func $stats (result i64)))
    (memory (export "memory") 1)
    (type $void (func))
    (table $table 3 funcref)
    (elem (table $table) (i32.const 0) func $fine $other)
    (data $data "12345")
    (elem $elem func $fine)
    (func $fine)
    (func $other (param i32))
    (func (export "fine") (result i32) (i32.load (i32.const 16)))
    (func (export "write_and_trap")
        (i32.store (i32.const 16) (i32.add (i32.load (i32.const 16)) (i32.const 1)))
        (unreachable))
    (func (export "unreachable") (unreachable))
    (func (export "load") (param i32) (result i32) (i32.load (local.get 0)))
    (func (export "load_at_offset") (result i32)
        (i32.load offset=0xffffffff (i32.const -1)))
    (func (export "store") (param i32) (i64.store (local.get 0) (i64.const -1)))
    (func (export "vector") (param i32) (result v128) (v128.load (local.get 0)))
    (func (export "fill") (param i32) (memory.fill (local.get 0) (i32.const 1) (i32.const 100)))
    (func (export "copy") (param i32)
        (memory.copy (i32.const 0) (local.get 0) (i32.const 100)))
    (func (export "init") (memory.init $data (i32.const 0) (i32.const 3) (i32.const 3)))
    (func (export "table_get") (drop (table.get $table (i32.const 3))))
    (func (export "table_set") (table.set $table (i32.const -1) (ref.null func)))
    (func (export "table_init")
        (table.init $table $elem (i32.const 3) (i32.const 0) (i32.const 1)))
    (func (export "call_beyond") (call_indirect (type $void) (i32.const 3)))
    (func (export "call_null") (call_indirect (type $void) (i32.const 2)))
    (func (export "call_mismatch") (call_indirect (type $void) (i32.const 1)))
    (func (export "div32") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
    (func (export "div64") (param i64 i64) (result i64) (i64.div_s (local.get 0) (local.get 1)))
    (func (export "rem32") (param i32 i32) (result i32) (i32.rem_u (local.get 0) (local.get 1)))
    (func (export "trunc") (param f32) (result i32) (i32.trunc_f32_s (local.get 0)))
    (func (export "trunc64") (param f64) (result i64) (i64.trunc_f64_u (local.get 0)))
    (func $down (export "recurse") (param i32) (result i32)
        (i32.add (i32.const 1) (call $down (i32.add (local.get 0) (i32.const 1)))))
    (func $through (export "recurse_through_the_host") (result i64)
        (i64.add (call $stats) (call $through))))"#;

/// Each kind of trap is reported as that kind, with the export that was called.
pub fn kinds(engine: &dyn Engine) -> Outcome {
    use TrapKind::{
        IndirectCallToNull, IndirectCallTypeMismatch, IntegerDivisionByZero, IntegerOverflow,
        InvalidConversionToInteger, MemoryOutOfBounds, TableOutOfBounds, Unreachable,
    };
    let mut guest = guest::start(engine, TRAPS)?;
    let (i32, i64) = (Value::I32, Value::I64);
    for (export, args, kind) in [
        ("unreachable", &[][..], Unreachable),
        ("load", &[i32(65_533)], MemoryOutOfBounds),
        ("load", &[i32(65_536)], MemoryOutOfBounds),
        ("load", &[i32(-1)], MemoryOutOfBounds),
        ("load_at_offset", &[], MemoryOutOfBounds),
        ("store", &[i32(65_529)], MemoryOutOfBounds),
        ("store", &[i32(i32::MIN)], MemoryOutOfBounds),
        ("vector", &[i32(65_521)], MemoryOutOfBounds),
        ("fill", &[i32(65_437)], MemoryOutOfBounds),
        ("fill", &[i32(-1)], MemoryOutOfBounds),
        ("copy", &[i32(65_437)], MemoryOutOfBounds),
        ("init", &[], MemoryOutOfBounds),
        ("table_get", &[], TableOutOfBounds),
        ("table_set", &[], TableOutOfBounds),
        ("table_init", &[], TableOutOfBounds),
        ("call_beyond", &[], TableOutOfBounds),
        ("call_null", &[], IndirectCallToNull),
        ("call_mismatch", &[], IndirectCallTypeMismatch),
        ("div32", &[i32(1), i32(0)], IntegerDivisionByZero),
        ("div64", &[i64(1), i64(0)], IntegerDivisionByZero),
        ("rem32", &[i32(1), i32(0)], IntegerDivisionByZero),
        ("div32", &[i32(i32::MIN), i32(-1)], IntegerOverflow),
        ("div64", &[i64(i64::MIN), i64(-1)], IntegerOverflow),
        ("trunc", &[Value::F32(2_147_483_648.0)], IntegerOverflow),
        ("trunc64", &[Value::F64(-1.0)], IntegerOverflow),
        ("trunc", &[Value::F32(f32::NAN)], InvalidConversionToInteger),
        ("trunc64", &[Value::F64(f64::NAN)], InvalidConversionToInteger),
    ] {
        trapped(guest.call(export, args), export, kind)?;
        equal("after it", guest.call("fine", &[])?, vec![i32(0)])?;
    }
    equal("guest memory", guest.memory().iter().position(|byte| *byte != 0), None)
}

/// A guest can be called again after a trap, and keeps what it wrote before.
pub fn after_a_trap(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, TRAPS)?;
    for count in 1..=3 {
        trapped(guest.call("write_and_trap", &[]), "write_and_trap", TrapKind::Unreachable)?;
        equal("what it wrote", guest.call("fine", &[])?, vec![Value::I32(count)])?;
    }
    equal("errors of the host", guest.stats().errors, 0)
}

/// Traps cost nothing that adds up.
pub fn again_and_again(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, TRAPS)?;
    for _ in 0..2_000 {
        trapped(guest.call("load", &[Value::I32(-1)]), "load", TrapKind::MemoryOutOfBounds)?;
        trapped(guest.call("unreachable", &[]), "unreachable", TrapKind::Unreachable)?;
    }
    equal("after it", guest.call("fine", &[])?, vec![Value::I32(0)])
}

/// A trap in the start function is reported as such.
pub fn start_function(engine: &dyn Engine) -> Outcome {
    for (body, kind) in [
        ("(unreachable)", TrapKind::Unreachable),
        ("(drop (i32.load (i32.const 65536)))", TrapKind::MemoryOutOfBounds),
        ("(drop (i32.div_u (i32.const 1) (i32.const 0)))", TrapKind::IntegerDivisionByZero),
    ] {
        let wat = format!("(module (memory 1) (func $main {body}) (start $main))");
        let module = guest::compile(engine, &wat)?;
        trapped(module.instantiate(&Limits::default()), START, kind)?;
    }
    Ok(())
}

const START: &str = "the start function";

/// A data or element segment out of bounds is the trap of its kind at the start.
pub fn segments(engine: &dyn Engine) -> Outcome {
    for (wat, kind) in [
        (r#"(module (memory 1) (data (i32.const 65535) "ab"))"#, TrapKind::MemoryOutOfBounds),
        (r#"(module (memory 0) (data (i32.const 0) "a"))"#, TrapKind::MemoryOutOfBounds),
        (
            "(module (func $f) (table 1 funcref) (elem (i32.const 1) $f))",
            TrapKind::TableOutOfBounds,
        ),
    ] {
        let module = guest::compile(engine, wat)?;
        trapped(module.instantiate(&Limits::default()), START, kind)?;
    }
    Ok(())
}

/// Runaway recursion is a trap, from which the guest recovers.
pub fn stack_overflow(engine: &dyn Engine) -> Outcome {
    recurse(engine, "recurse", &[Value::I32(0)])
}

/// Recursion that calls the host on the way is contained as well.
pub fn stack_overflow_through_the_host(engine: &dyn Engine) -> Outcome {
    recurse(engine, "recurse_through_the_host", &[])
}

fn recurse(engine: &dyn Engine, export: &str, args: &[Value]) -> Outcome {
    let mut guest = guest::start(engine, TRAPS)?;
    for _ in 0..3 {
        trapped(guest.call(export, args), export, TrapKind::StackOverflow)?;
        equal("after it", guest.call("fine", &[])?, vec![Value::I32(0)])?;
    }
    Ok(())
}

/// A guest runs, and runaway recursion is a trap, on a thread with a stack of any size.
///
/// An engine that runs guests on the stack of their callers, and believes that there is enough of
/// it, ends the process here.
pub fn small_stacks(engine: &dyn Engine) -> Outcome {
    for stack in [64 << 10, 128 << 10, 300 << 10, 512 << 10, 1 << 20, 3 << 19, 2 << 20] {
        thread::scope(|scope| {
            let builder = thread::Builder::new().stack_size(stack);
            let run = || {
                recurse(engine, "recurse", &[Value::I32(0)])?;
                recurse(engine, "recurse_through_the_host", &[])?;
                let module = guest::compile(engine, RECURSES_AT_THE_START)?;
                trapped(module.instantiate(&Limits::default()), START, TrapKind::StackOverflow)
            };
            let thread = builder.spawn_scoped(scope, run);
            let thread = thread.map_err(|error| Failure::new(error.to_string()))?;
            thread.join().map_err(|_| Failure::new("panicked"))?
        })?;
    }
    Ok(())
}

const RECURSES_AT_THE_START: &str = r#"(module
    (func $down (param i32) (result i32)
        (i32.add (i32.const 1) (call $down (i32.add (local.get 0) (i32.const 1)))))
    (func $main (drop (call $down (i32.const 0))))
    (start $main))"#;

/// Accesses beyond a 64-bit memory trap, up to the last address.
pub fn memory64(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory (export "memory") i64 2)
            (func (export "load") (param i64) (result i32) (i32.load (local.get 0)))
            (func (export "far") (param i64) (result i32)
                (i32.load offset=0xfffffffffffffff0 (local.get 0)))
            (func (export "fill") (param i64 i64)
                (memory.fill (local.get 0) (i32.const 1) (local.get 1))))"#,
    )?;
    let end = 2 * 65_536;
    equal("within", guest.call("load", &[Value::I64(end - 4)])?, vec![Value::I32(0)])?;
    for address in [end - 3, end, 1 << 32, (1 << 32) + 8, 1 << 38, i64::MAX, i64::MIN, -4, -1] {
        let got = guest.call("load", &[Value::I64(address)]);
        trapped(got, "load", TrapKind::MemoryOutOfBounds)?;
        let got = guest.call("far", &[Value::I64(address)]);
        trapped(got, "far", TrapKind::MemoryOutOfBounds)?;
        for len in [1, end, -1] {
            let from = if address < end { end } else { address };
            let got = guest.call("fill", &[Value::I64(from), Value::I64(len)]);
            trapped(got, "fill", TrapKind::MemoryOutOfBounds)?;
        }
    }
    equal("guest memory", guest.memory().iter().position(|byte| *byte != 0), None)
}
