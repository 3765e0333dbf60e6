//! Calling exported functions.

use polychord_runtime_api::{Engine, Error, Value};

use crate::check::{equal, holds, refused};
use crate::guest::{self, NOTHING};
use crate::{Case, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "call/round_trip",
        promise: "values of every type come back with the bits that they went in with",
        needs: NOTHING,
        run: round_trip,
    },
    Case {
        name: "call/multi_value",
        promise: "several results come in order",
        needs: NOTHING,
        run: multi_value,
    },
    Case {
        name: "call/many_parameters",
        promise: "many parameters of mixed types arrive in order",
        needs: NOTHING,
        run: many_parameters,
    },
    Case {
        name: "call/wrong_arguments",
        promise: "wrong types or a wrong number of arguments are refused before the guest runs",
        needs: NOTHING,
        run: wrong_arguments,
    },
    Case {
        name: "call/missing_export",
        promise: "a function that is not exported is refused with those that are",
        needs: NOTHING,
        run: missing_export,
    },
    Case {
        name: "call/state_persists",
        promise: "globals and memory keep their values between calls",
        needs: NOTHING,
        run: state_persists,
    },
    Case {
        name: "call/memory_is_shared_with_the_host",
        promise: "what the host writes the guest reads, and the other way round",
        needs: NOTHING,
        run: memory_is_shared_with_the_host,
    },
    Case {
        name: "call/memory_follows_growth",
        promise: "after the guest has grown its memory the host sees all of it",
        needs: NOTHING,
        run: memory_follows_growth,
    },
    Case {
        name: "call/multi_memory",
        promise: "a guest uses a second memory, which the host does not mistake for the first",
        needs: NOTHING.multi_memory(),
        run: multi_memory,
    },
];

const IDENTITIES: &str = r#"(module
    (func (export "i32") (param i32) (result i32) (local.get 0))
    (func (export "i64") (param i64) (result i64) (local.get 0))
    (func (export "f32") (param f32) (result f32) (local.get 0))
    (func (export "f64") (param f64) (result f64) (local.get 0))
    (func (export "v128") (param v128) (result v128) (local.get 0))
    (func (export "f32_bits") (param f32) (result i32) (i32.reinterpret_f32 (local.get 0)))
    (func (export "f64_bits") (param f64) (result i64) (i64.reinterpret_f64 (local.get 0)))
    (func (export "lane") (param v128) (result i32) (i32x4.extract_lane 0 (local.get 0))))"#;

/// Values of every type come back with the bits that they went in with.
pub fn round_trip(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, IDENTITIES)?;
    for value in [0, 1, -1, i32::MIN, i32::MAX, 0x1234_5678] {
        equal("i32", guest.call("i32", &[value.into()])?, vec![Value::I32(value)])?;
    }
    for value in [0, 1, -1, i64::MIN, i64::MAX, 0x0123_4567_89ab_cdef] {
        equal("i64", guest.call("i64", &[value.into()])?, vec![Value::I64(value)])?;
    }
    // Zeros of both signs, the smallest, the largest, infinities, quiet NaNs with a payload.
    let narrow = [0, 1 << 31, 1, 0x7f7f_ffff, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 0xffc1_2345];
    for bits in narrow {
        let value = f32::from_bits(bits);
        let got = guest.call("f32", &[value.into()])?;
        holds(matches!(got[..], [Value::F32(x)] if x.to_bits() == bits), || {
            format!("f32 {bits:#x}: {got:?}")
        })?;
        let got = guest.call("f32_bits", &[value.into()])?;
        equal("bits of an f32", got, vec![Value::I32(bits.cast_signed())])?;
    }
    for bits in narrow.map(|bits| u64::from(bits) << 32 | 0x89ab_cdef) {
        let value = f64::from_bits(bits);
        let got = guest.call("f64", &[value.into()])?;
        holds(matches!(got[..], [Value::F64(x)] if x.to_bits() == bits), || {
            format!("f64 {bits:#x}: {got:?}")
        })?;
        let got = guest.call("f64_bits", &[value.into()])?;
        equal("bits of an f64", got, vec![Value::I64(bits.cast_signed())])?;
    }
    for value in [0, 1, u128::MAX, 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff] {
        equal("v128", guest.call("v128", &[value.into()])?, vec![Value::V128(value)])?;
    }
    equal("lane 0", guest.call("lane", &[(7_u128 << 32 | 5).into()])?, vec![Value::I32(5)])
}

/// Several results come in order.
pub fn multi_value(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module
            (func (export "none"))
            (func (export "five") (param i32 i64) (result v128 f64 i64 f32 i32)
                (v128.const i64x2 1 2) (f64.const 2.5) (local.get 1) (f32.const -0.5)
                (local.get 0)))"#,
    )?;
    equal("no results", guest.call("none", &[])?, vec![])?;
    let got = guest.call("five", &[Value::I32(-3), Value::I64(1 << 40)])?;
    let expected = vec![
        Value::V128(2 << 64 | 1),
        Value::F64(2.5),
        Value::I64(1 << 40),
        Value::F32(-0.5),
        Value::I32(-3),
    ];
    equal("five results", got, expected)
}

/// Many parameters of mixed types arrive in order.
pub fn many_parameters(engine: &dyn Engine) -> Outcome {
    let ty = "i32 f64 i64 f32 ".repeat(8);
    let all: String = (0..32).map(|index| format!("(local.get {index}) ")).collect();
    let wat = format!(r#"(module (func (export "all") (param {ty}) (result {ty}) {all}))"#);
    let mut guest = guest::start(engine, &wat)?;
    let args: Vec<_> = (0..8_u8)
        .flat_map(|i| {
            let n = i32::from(i);
            [
                (n * 3).into(),
                (f64::from(i) + 0.25).into(),
                (-i64::from(n)).into(),
                (f32::from(i)).into(),
            ]
        })
        .collect::<Vec<Value>>();
    equal("all parameters", guest.call("all", &args)?, args)?;
    // A backend may call functions of few integers in another way.
    for count in 0..=6 {
        let digits: String = (0..count)
            .map(|i| format!("(i32.add (i32.mul (i32.const 10)) (local.get {i})) "))
            .collect();
        let wat = format!(
            r#"(module (func (export "digits") (param {}) (result i32) (i32.const 7) {digits}))"#,
            "i32 ".repeat(count)
        );
        let mut guest = guest::start(engine, &wat)?;
        let args: Vec<_> = (1..=6).take(count).map(Value::I32).collect();
        let expected = (1..=6).take(count).fold(7, |sum, digit| sum * 10 + digit);
        let mut result = [Value::I32(0)];
        guest.call_into("digits", &args, &mut result)?;
        equal("digits of integer parameters", result, [Value::I32(expected)])?;
    }
    Ok(())
}

/// Wrong types or a wrong number of arguments are refused before the guest runs.
pub fn wrong_arguments(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory (export "memory") 1)
            (func (export "store") (param i32 f32) (i32.store8 (i32.const 9) (local.get 0))))"#,
    )?;
    let (one, half) = (Value::I32(1), Value::F32(0.5));
    for (args, given) in [
        (&[][..], "()"),
        (&[one], "(i32)"),
        (&[one, half, half], "(i32, f32, f32)"),
        (&[half, one], "(f32, i32)"),
        (&[Value::I64(1), half], "(i64, f32)"),
        (&[one, Value::F64(0.5)], "(i32, f64)"),
    ] {
        let error = refused(guest.call("store", args), &["store", "(i32, f32) -> ()", given])?;
        holds(matches!(error, Error::Signature { .. }), || error.to_string())?;
    }
    let mut room = [one];
    let error = refused(
        guest.call_into("store", &[one, half], &mut room),
        &["store", "(i32, f32) with room for 1 results"],
    )?;
    holds(matches!(error, Error::Signature { .. }), || error.to_string())?;
    equal("what the guest wrote", guest.memory()[9], 0)?;
    guest.call("store", &[one, half])?;
    equal("what the guest wrote", guest.memory()[9], 1)
}

/// A function that is not exported is refused with those that are.
pub fn missing_export(engine: &dyn Engine) -> Outcome {
    let wat = r#"(module
        (memory (export "memory") 1) (global (export "global") i32 (i32.const 0))
        (func (export "one")) (func (export "zwei \u{1f99c}"))
        (func (export "reference") (param funcref)))"#;
    let mut guest = guest::start(engine, wat)?;
    // Neither other kinds of exports nor functions that a host cannot call are functions.
    for name in ["", "two", "ONE", "memory", "global", "reference", "one\0"] {
        let error = refused(guest.call(name, &[]), &["one", "zwei \u{1f99c}"])?;
        match error {
            Error::MissingExport { export, available } => {
                equal("what was asked for", export.as_str(), name)?;
                equal("what there is", available, vec!["one".into(), "zwei \u{1f99c}".into()])?;
            }
            other => holds(false, || other.to_string())?,
        }
    }
    guest.call("zwei \u{1f99c}", &[])?;
    let mut empty = guest::start(engine, "(module)")?;
    refused(empty.call("one", &[]), &["exports none"])?;
    Ok(())
}

/// Globals and memory keep their values between calls.
pub fn state_persists(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory (export "memory") 1) (global $g (mut i64) (i64.const 10))
            (func (export "add") (param i64) (result i64)
                (global.set $g (i64.add (global.get $g) (local.get 0)))
                (i64.store (i32.const 8) (i64.add (i64.load (i32.const 8)) (i64.const 1)))
                (i64.mul (global.get $g) (i64.load (i32.const 8)))))"#,
    )?;
    equal("first call", guest.call("add", &[Value::I64(1)])?, vec![Value::I64(11)])?;
    equal("second call", guest.call("add", &[Value::I64(2)])?, vec![Value::I64(26)])
}

/// What the host writes the guest reads, and the other way round.
pub fn memory_is_shared_with_the_host(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory (export "memory") 2)
            (func (export "swap") (param i32) (result i32)
                (i32.load8_u (local.get 0))
                (i32.store8 (local.get 0) (i32.const 0x5a))))"#,
    )?;
    equal("size", guest.memory().len(), 2 * 65_536)?;
    for at in [0_i32, 1, 65_535, 65_536, 131_071] {
        let index = usize::try_from(at)?;
        guest.memory_mut()[index] = 0xa5;
        equal("read by the guest", guest.call("swap", &[at.into()])?, vec![Value::I32(0xa5)])?;
        equal("read by the host", guest.memory()[index], 0x5a)?;
    }
    let none = guest::start(engine, "(module (memory 1))")?;
    equal("a memory that is not exported", none.memory().len(), 0)
}

/// After the guest has grown its memory the host sees all of it.
pub fn memory_follows_growth(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory (export "memory") 0)
            (func (export "grow") (param i32) (result i32)
                (memory.grow (local.get 0))
                (if (memory.size) (then (i32.store8 (i32.sub (i32.mul (memory.size)
                    (i32.const 65536)) (i32.const 1)) (memory.size))))))"#,
    )?;
    equal("size at the start", guest.memory().len(), 0)?;
    let mut pages = 0_u8;
    for by in [0_u8, 1, 2, 7] {
        let before = guest.call("grow", &[i32::from(by).into()])?;
        equal("size before, in pages", before, vec![i32::from(pages).into()])?;
        pages += by;
        equal("size after, in bytes", guest.memory().len(), usize::from(pages) * 65_536)?;
        equal("guest_bytes", guest.stats().guest_bytes, u64::from(pages) * 65_536)?;
        equal("last byte", guest.memory().last().copied().unwrap_or(pages), pages)?;
    }
    Ok(())
}

/// A guest uses a second memory, which the host does not mistake for the first.
pub fn multi_memory(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory $other 3) (memory $main (export "memory") 1)
            (func (export "run") (param i32) (result i32)
                (i32.store $other (local.get 0) (i32.const 77))
                (memory.copy $main $other (i32.const 0) (local.get 0) (i32.const 4))
                (i32.load $other (local.get 0))))"#,
    )?;
    equal("memory of the host", guest.memory().len(), 65_536)?;
    equal("read back", guest.call("run", &[Value::I32(3 * 65_536 - 4)])?, vec![Value::I32(77)])?;
    equal("copied over", &guest.memory()[..8], &[77, 0, 0, 0, 0, 0, 0, 0][..])
}
