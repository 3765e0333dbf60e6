//! Kernels whose results are the same bits on every engine and machine.
//!
//! The expected results were computed by the same arithmetic in plain Rust, which the unit
//! tests of this module repeat.

use polychord_runtime_api::{Engine, Value};

use crate::check::{equal, holds};
use crate::guest::{self, NOTHING};
use crate::{Case, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "determinism/integers",
        promise: "integer arithmetic gives the bits that the specification says",
        needs: NOTHING,
        run: integers,
    },
    Case {
        name: "determinism/floats",
        promise: "f32 and f64 add, subtract, multiply, divide and take roots as IEEE 754 says",
        needs: NOTHING,
        run: floats,
    },
    Case {
        name: "determinism/no_fused_multiply_add",
        promise: "a multiplication and an addition are rounded twice, also in vectors and loops",
        needs: NOTHING,
        run: no_fused_multiply_add,
    },
    Case {
        name: "determinism/subnormals",
        promise: "subnormal numbers are not flushed to zero",
        needs: NOTHING,
        run: subnormals,
    },
    Case {
        name: "determinism/conversions",
        promise: "conversions round and saturate as the specification says",
        needs: NOTHING,
        run: conversions,
    },
    Case {
        name: "determinism/not_a_number",
        promise: "NaN stays NaN and is unequal to itself, and zero keeps its sign",
        needs: NOTHING,
        run: not_a_number,
    },
    Case {
        name: "determinism/simd_floats",
        promise: "f32x4 arithmetic gives the bits of the same arithmetic lane by lane",
        needs: NOTHING,
        run: simd_floats,
    },
    Case {
        name: "determinism/simd_integers",
        promise: "integer vectors widen, narrow, multiply and add as the specification says",
        needs: NOTHING,
        run: simd_integers,
    },
    Case {
        name: "determinism/relaxed_dot",
        promise: "relaxed dot products are exact while one operand stays within 0..=127",
        needs: NOTHING.relaxed_simd(),
        run: relaxed_dot,
    },
];

const INTEGERS: &str = r#"(module (func (export "run") (param $n i32) (result i64)
    (local $x i64) (local $h i64) (local $y i32)
    (local.set $x (i64.const 0x9e3779b97f4a7c15))
    (loop $next
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 13))))
        (local.set $x (i64.xor (local.get $x) (i64.shr_u (local.get $x) (i64.const 7))))
        (local.set $x (i64.xor (local.get $x) (i64.shl (local.get $x) (i64.const 17))))
        (local.set $y (i32.wrap_i64 (local.get $x)))
        (local.set $h (i64.add (i64.rotl (local.get $h) (i64.const 5))
            (i64.mul (local.get $x) (i64.const 0x100000001b3))))
        (local.set $h (i64.xor (local.get $h) (i64.extend_i32_s
            (i32.div_s (local.get $y) (i32.const 7)))))
        (local.set $h (i64.add (local.get $h) (i64.rem_u (local.get $x) (i64.const 1000003))))
        (local.set $h (i64.sub (local.get $h) (i64.extend_i32_u
            (i32.shr_s (local.get $y) (i32.add (i32.clz (local.get $y)) (i32.const 33))))))
        (local.set $h (i64.add (local.get $h) (i64.popcnt (local.get $x))))
        (local.set $h (i64.xor (local.get $h) (i64.extend8_s (local.get $x))))
        (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
    (local.get $h)))"#;

const FLOATS: &str = r#"(module
    (func (export "f32") (param $n i32) (result i32) (local $x f32) (local $h i32)
        (local.set $x (f32.const 1.5))
        (loop $next
            (local.set $x (f32.sqrt (f32.add
                (f32.mul (local.get $x) (f32.const 1.000123))
                (f32.div (f32.const 3.7) (f32.convert_i32_u (local.get $n))))))
            (local.set $x (f32.sub (f32.mul (local.get $x) (local.get $x)) (f32.const 0.0007)))
            (local.set $h (i32.add (i32.mul (local.get $h) (i32.const 16777619))
                (i32.reinterpret_f32 (local.get $x))))
            (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $h))
    (func (export "f64") (param $n i32) (result i64) (local $x f64) (local $h i64)
        (local.set $x (f64.const 1.5))
        (loop $next
            (local.set $x (f64.sqrt (f64.add
                (f64.mul (local.get $x) (f64.const 1.000123))
                (f64.div (f64.const 3.7) (f64.convert_i32_u (local.get $n))))))
            (local.set $x (f64.sub (f64.mul (local.get $x) (local.get $x)) (f64.const 0.0007)))
            (local.set $h (i64.add (i64.mul (local.get $h) (i64.const 1099511628211))
                (i64.reinterpret_f64 (local.get $x))))
            (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (local.get $h)))"#;

const ROUNDS: i32 = 1_000;
const INTEGERS_RESULT: i64 = 5_271_974_409_150_403_010;
const F32_RESULT: i32 = -1_946_398_889;
const F64_RESULT: i64 = -1_219_970_530_117_237_048;
const SIMD_RESULT: i32 = -632_219_984;
const DOT_RESULT: i32 = 1_029_200;
const RELAXED_RESULT: i32 = 118_096;

/// Integer arithmetic gives the bits that the specification says.
pub fn integers(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, INTEGERS)?;
    equal("hash", guest.call("run", &[ROUNDS.into()])?, vec![Value::I64(INTEGERS_RESULT)])
}

/// `f32` and `f64` add, subtract, multiply, divide and take roots as IEEE 754 says.
pub fn floats(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, FLOATS)?;
    equal("hash of f32", guest.call("f32", &[ROUNDS.into()])?, vec![Value::I32(F32_RESULT)])?;
    equal("hash of f64", guest.call("f64", &[ROUNDS.into()])?, vec![Value::I64(F64_RESULT)])
}

/// A multiplication and an addition are rounded twice, also in vectors and loops.
pub fn no_fused_multiply_add(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module (memory 1)
            (func (export "scalar") (param f32 f32 f32) (result f32)
                (f32.add (f32.mul (local.get 0) (local.get 1)) (local.get 2)))
            (func (export "wide") (param f64 f64 f64) (result f64)
                (f64.add (f64.mul (local.get 0) (local.get 1)) (local.get 2)))
            (func (export "vector") (param f32 f32 f32) (result f32)
                (f32x4.extract_lane 2 (f32x4.add (f32x4.mul (f32x4.splat (local.get 0))
                    (f32x4.splat (local.get 1))) (f32x4.splat (local.get 2)))))
            (func (export "sum") (param $a f32) (param $b f32) (param $sum f32) (result f32)
                (local $n i32)
                (loop $next
                    (local.set $sum (f32.add (local.get $sum)
                        (f32.mul (local.get $a) (local.get $b))))
                    (br_if $next (i32.lt_u (local.tee $n
                        (i32.add (local.get $n) (i32.const 1))) (i32.const 1))))
                (local.get $sum)))"#,
    )?;
    // (1 + e)^2 = 1 + 2e + e^2, of which one rounding would leave e^2 over.
    let (narrow, wide) = (1.0 + f32::EPSILON, 1.0 + f64::EPSILON);
    let args = [narrow, narrow, -(1.0 + 2.0 * f32::EPSILON)].map(Value::F32);
    for export in ["scalar", "vector", "sum"] {
        equal(export, guest.call(export, &args)?, vec![Value::F32(0.0)])?;
    }
    let args = [wide, wide, -(1.0 + 2.0 * f64::EPSILON)].map(Value::F64);
    equal("wide", guest.call("wide", &args)?, vec![Value::F64(0.0)])
}

/// Subnormal numbers are not flushed to zero.
pub fn subnormals(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module
            (func (export "scalar") (param f32 f32) (result f32)
                (f32.mul (local.get 0) (local.get 1)))
            (func (export "vector") (param f32 f32) (result f32)
                (f32x4.extract_lane 3 (f32x4.mul (f32x4.splat (local.get 0))
                    (f32x4.splat (local.get 1))))))"#,
    )?;
    for export in ["scalar", "vector"] {
        for (a, b, expected) in [
            (f32::MIN_POSITIVE, 0.5_f32, 0x0040_0000),
            (f32::from_bits(3), 0.5, 2),
            (f32::from_bits(1), 1.0, 1),
            (f32::from_bits(1), -2.0, 0x8000_0002),
        ] {
            let got = guest.call(export, &[a.into(), b.into()])?;
            let expected = f32::from_bits(expected);
            equal(&format!("{export}: {a:e} * {b}"), got, vec![Value::F32(expected)])?;
        }
    }
    Ok(())
}

/// Conversions round and saturate as the specification says.
pub fn conversions(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(
        engine,
        r#"(module
            (func (export "sat") (param f32) (result i32 i32)
                (i32.trunc_sat_f32_s (local.get 0)) (i32.trunc_sat_f32_u (local.get 0)))
            (func (export "sat_lanes") (param f32) (result i32 i32)
                (i32x4.extract_lane 1 (i32x4.trunc_sat_f32x4_s (f32x4.splat (local.get 0))))
                (i32x4.extract_lane 1 (i32x4.trunc_sat_f32x4_u (f32x4.splat (local.get 0)))))
            (func (export "nearest") (param f32) (result f32) (f32.nearest (local.get 0)))
            (func (export "demote") (param f64) (result f32) (f32.demote_f64 (local.get 0)))
            (func (export "convert") (param i64) (result f32 f32)
                (f32.convert_i64_s (local.get 0)) (f32.convert_i64_u (local.get 0))))"#,
    )?;
    for (from, signed, unsigned) in [
        (1.9, 1, 1),
        (-1.9, -1, 0),
        (f32::NAN, 0, 0),
        (f32::INFINITY, i32::MAX, -1),
        (f32::NEG_INFINITY, i32::MIN, 0),
        (3e9, i32::MAX, 3_000_000_000_u32.cast_signed()),
        (-3e9, i32::MIN, 0),
    ] {
        let expected = vec![Value::I32(signed), Value::I32(unsigned)];
        for export in ["sat", "sat_lanes"] {
            let got = guest.call(export, &[Value::F32(from)])?;
            equal(&format!("{export}({from})"), got, expected.clone())?;
        }
    }
    for (from, to) in [(0.5, 0.0), (1.5, 2.0), (2.5, 2.0), (-3.5, -4.0), (8_388_609.0, 8_388_609.0)]
    {
        let got = guest.call("nearest", &[Value::F32(from)])?;
        equal(&format!("nearest({from})"), got, vec![Value::F32(to)])?;
    }
    let demoted = guest.call("demote", &[Value::F64(1.0 + f64::from(f32::EPSILON) / 2.0)])?;
    equal("a tie goes to the even neighbor", demoted, vec![Value::F32(1.0)])?;
    let got = guest.call("convert", &[Value::I64(-1)])?;
    equal("convert(-1)", got, vec![Value::F32(-1.0), Value::F32(18_446_744_073_709_551_615.0)])
}

/// What is not a number stays so, is unequal to itself, and loses no sign of zero.
pub fn not_a_number(engine: &dyn Engine) -> Outcome {
    let ops = ["add", "sub", "mul", "div", "min", "max"];
    let mut functions = String::new();
    for op in ops {
        functions += &format!(
            r#"(func (export "{op}") (param f32 f32) (result f32)
                (f32.{op} (local.get 0) (local.get 1)))
            (func (export "{op}_lanes") (param f32 f32) (result f32)
                (f32x4.extract_lane 1 (f32x4.{op} (f32x4.splat (local.get 0))
                    (f32x4.splat (local.get 1)))))"#
        );
    }
    let wat = format!(
        r#"(module {functions}
            (func (export "eq") (param f32) (result i32) (f32.eq (local.get 0) (local.get 0)))
            (func (export "ne") (param f32) (result i32) (f32.ne (local.get 0) (local.get 0))))"#
    );
    let mut guest = guest::start(engine, &wat)?;
    let mut call = |op: &str, a: f32, b: f32| match guest.call(op, &[a.into(), b.into()])?[..] {
        [Value::F32(result)] => Ok(result),
        ref other => Err(crate::Failure::new(format!("{op} returned {other:?}"))),
    };
    for op in ops.iter().flat_map(|op| [(*op).to_owned(), format!("{op}_lanes")]) {
        for (a, b) in [(f32::NAN, 1.0), (1.0, f32::NAN), (f32::NAN, f32::INFINITY)] {
            let got = call(&op, a, b)?;
            holds(got.is_nan(), || format!("{op}({a}, {b}) = {got}"))?;
        }
    }
    for (op, a, b, bits) in [
        ("min", 0.0, -0.0, 1 << 31),
        ("min", -0.0, 0.0, 1 << 31),
        ("max", 0.0, -0.0, 0),
        ("max", -0.0, 0.0, 0),
        ("add", -0.0, -0.0, 1 << 31),
        ("sub", 0.0, 0.0, 0),
        ("mul", 0.0, -1.0, 1 << 31),
    ] {
        for op in [op.to_owned(), format!("{op}_lanes")] {
            equal(&format!("{op}({a}, {b})"), call(&op, a, b)?.to_bits(), bits)?;
        }
    }
    equal("nan == nan", guest.call("eq", &[f32::NAN.into()])?, vec![Value::I32(0)])?;
    equal("nan != nan", guest.call("ne", &[f32::NAN.into()])?, vec![Value::I32(1)])
}

const SIMD_FLOATS: &str = r#"(module
    (func (export "run") (param $n i32) (result i32) (local $x v128) (local $h v128)
        (local.set $x (v128.const f32x4 1.5 -2.25 0.125 1000))
        (loop $next
            (local.set $x (f32x4.sqrt (f32x4.abs (f32x4.add
                (f32x4.mul (local.get $x) (v128.const f32x4 1.000123 0.99 -1.7 0.5))
                (f32x4.div (v128.const f32x4 3.7 -1.1 9.3 0.01)
                    (f32x4.convert_i32x4_u (i32x4.splat (local.get $n))))))))
            (local.set $x (f32x4.pmax (local.get $x) (v128.const f32x4 0.25 0.5 0.75 0.1)))
            (local.set $x (f32x4.sub (local.get $x) (f32x4.neg (v128.const f32x4 0.1 0.2 0.3 0.4))))
            (local.set $h (i32x4.add
                (i32x4.mul (local.get $h) (i32x4.splat (i32.const 16777619))) (local.get $x)))
            (br_if $next (local.tee $n (i32.sub (local.get $n) (i32.const 1)))))
        (i32.xor
            (i32.xor (i32x4.extract_lane 0 (local.get $h)) (i32x4.extract_lane 1 (local.get $h)))
            (i32.mul (i32.const 3) (i32.xor (i32x4.extract_lane 2 (local.get $h))
                (i32x4.extract_lane 3 (local.get $h)))))))"#;

/// `f32x4` arithmetic gives the bits of the same arithmetic lane by lane.
pub fn simd_floats(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, SIMD_FLOATS)?;
    equal("hash", guest.call("run", &[ROUNDS.into()])?, vec![Value::I32(SIMD_RESULT)])
}

/// Bytes at 0 and at 4096; a dot product of both, by `{dot}` of `$a` and `$b`.
const DOT: &str = r#"(module (memory (export "memory") 1)
    (func (export "run") (param $len i32) (result i32)
        (local $i i32) (local $a v128) (local $b v128) (local $sum v128)
        (loop $next
            (local.set $a (v128.load (local.get $i)))
            (local.set $b (v128.load offset=4096 (local.get $i)))
            (local.set $sum (i32x4.add (local.get $sum) {dot}))
            (br_if $next (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 16)))
                (local.get $len))))
        (i32.add
            (i32.add (i32x4.extract_lane 0 (local.get $sum)) (i32x4.extract_lane 1 (local.get $sum)))
            (i32.add (i32x4.extract_lane 2 (local.get $sum)) (i32x4.extract_lane 3 (local.get $sum))))))"#;

const WIDENING: [&str; 2] = [
    "(i32x4.add
        (i32x4.dot_i16x8_s (i16x8.extend_low_i8x16_s (local.get $a))
            (i16x8.extend_low_i8x16_s (local.get $b)))
        (i32x4.dot_i16x8_s (i16x8.extend_high_i8x16_s (local.get $a))
            (i16x8.extend_high_i8x16_s (local.get $b))))",
    "(i32x4.add
        (i32x4.extadd_pairwise_i16x8_s
            (i16x8.extmul_low_i8x16_s (local.get $a) (local.get $b)))
        (i32x4.extadd_pairwise_i16x8_s
            (i16x8.extmul_high_i8x16_s (local.get $a) (local.get $b))))",
];

const RELAXED: [&str; 2] = [
    "(i32x4.extadd_pairwise_i16x8_s
        (i16x8.relaxed_dot_i8x16_i7x16_s (local.get $a) (local.get $b)))",
    "(i32x4.relaxed_dot_i8x16_i7x16_add_s (local.get $a) (local.get $b)
        (v128.const i32x4 0 0 0 0))",
];

const DOT_LEN: usize = 4096;

/// The dot product of two patterns, the second one brought within 0..=127 if `half`.
fn dot(engine: &dyn Engine, instructions: &str, half: bool) -> Result<i32, crate::Failure> {
    let mut guest = guest::start(engine, &DOT.replace("{dot}", instructions))?;
    let memory = guest.memory_mut();
    memory[..DOT_LEN].copy_from_slice(&guest::pattern(1, DOT_LEN));
    memory[DOT_LEN..2 * DOT_LEN].copy_from_slice(&second(half));
    let got = guest.call("run", &[i32::try_from(DOT_LEN)?.into()])?;
    match got[..] {
        [Value::I32(sum)] => Ok(sum),
        _ => Err(crate::Failure::new(format!("{got:?}"))),
    }
}

fn second(half: bool) -> Vec<u8> {
    let mut bytes = guest::pattern(2, DOT_LEN);
    if half {
        bytes.iter_mut().for_each(|byte| *byte &= 127);
    }
    bytes
}

/// Integer vectors widen, narrow, multiply and add as the specification says.
pub fn simd_integers(engine: &dyn Engine) -> Outcome {
    for instructions in WIDENING {
        equal(instructions, dot(engine, instructions, false)?, DOT_RESULT)?;
        equal(instructions, dot(engine, instructions, true)?, RELAXED_RESULT)?;
    }
    let mut guest = guest::start(
        engine,
        r#"(module
            (func (export "saturate") (param v128 v128) (result v128)
                (i16x8.add_sat_s (local.get 0) (local.get 1)))
            (func (export "q15") (param v128 v128) (result v128)
                (i16x8.q15mulr_sat_s (local.get 0) (local.get 1)))
            (func (export "narrow") (param v128 v128) (result v128)
                (i8x16.narrow_i16x8_u (local.get 0) (local.get 1)))
            (func (export "swizzle") (param v128 v128) (result v128)
                (i8x16.swizzle (local.get 0) (local.get 1)))
            (func (export "average") (param v128 v128) (result v128)
                (i8x16.avgr_u (local.get 0) (local.get 1))))"#,
    )?;
    let a = 0x8000_7fff_0001_ffff_1234_8001_00ff_7f00;
    let b = 0x8000_7fff_ffff_0010_f0f1_0203_0f0e_8005;
    for (export, expected) in [
        ("saturate", 0x8000_7fff_0000_000f_0325_8204_100d_ff05),
        ("q15", 0x7fff_7ffe_0000_0000_fddc_fdfd_001e_8105),
        ("narrow", 0x00ff_0010_00ff_ff00_00ff_0100_ff00_ffff),
        ("swizzle", 0x0000_0000_0000_0000_0000_ff00_8000_0080),
        ("average", 0x8000_7fff_8080_8088_8193_4102_0887_8003),
    ] {
        let got = guest.call(export, &[Value::V128(a), Value::V128(b)])?;
        equal(export, got, vec![Value::V128(expected)])?;
    }
    Ok(())
}

/// Relaxed dot products are exact while one operand stays within `0..=127`.
pub fn relaxed_dot(engine: &dyn Engine) -> Outcome {
    for instructions in RELAXED {
        equal(instructions, dot(engine, instructions, true)?, RELAXED_RESULT)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expected_results_are_those_of_plain_rust() {
        assert_eq!(integers(), INTEGERS_RESULT);
        assert_eq!(narrow(), F32_RESULT);
        assert_eq!(wide(), F64_RESULT);
        assert_eq!(lanes(), SIMD_RESULT);
        assert_eq!(dot(false), DOT_RESULT);
        assert_eq!(dot(true), RELAXED_RESULT);
    }

    #[allow(clippy::cast_possible_truncation, reason = "as in the kernel")]
    fn integers() -> i64 {
        let (mut x, mut h) = (0x9e37_79b9_7f4a_7c15_u64, 0_i64);
        for _ in 0..ROUNDS {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            let (signed, y) = (x.cast_signed(), x as i32);
            h = h.rotate_left(5).wrapping_add(signed.wrapping_mul(0x100_0000_01b3));
            h ^= i64::from(y / 7);
            h = h.wrapping_add((x % 1_000_003).cast_signed());
            let shifted = y.wrapping_shr(y.leading_zeros() + 33);
            h = h.wrapping_sub(i64::from(shifted.cast_unsigned()));
            h = h.wrapping_add(x.count_ones().into());
            h ^= i64::from(x as i8);
        }
        h
    }

    fn narrow() -> i32 {
        let (mut x, mut h) = (1.5_f32, 0_i32);
        for n in (1..=1_000_u16).rev() {
            x = (x * 1.000_123 + 3.7 / f32::from(n)).sqrt();
            x = x * x - 0.0007;
            h = h.wrapping_mul(16_777_619).wrapping_add(x.to_bits().cast_signed());
        }
        h
    }

    fn wide() -> i64 {
        let (mut x, mut h) = (1.5_f64, 0_i64);
        for n in (1..=1_000_u16).rev() {
            x = (x * 1.000_123 + 3.7 / f64::from(n)).sqrt();
            x = x * x - 0.0007;
            h = h.wrapping_mul(1_099_511_628_211).wrapping_add(x.to_bits().cast_signed());
        }
        h
    }

    fn lanes() -> i32 {
        let lane = |mut x: f32, factor: f32, dividend: f32, least: f32, more: f32| {
            let mut h = 0_i32;
            for n in (1..=1_000_u16).rev() {
                x = (x * factor + dividend / f32::from(n)).abs().sqrt();
                x = if x < least { least } else { x };
                x += more;
                h = h.wrapping_mul(16_777_619).wrapping_add(x.to_bits().cast_signed());
            }
            h
        };
        let [a, b, c, d] = [
            lane(1.5, 1.000_123, 3.7, 0.25, 0.1),
            lane(-2.25, 0.99, -1.1, 0.5, 0.2),
            lane(0.125, -1.7, 9.3, 0.75, 0.3),
            lane(1000.0, 0.5, 0.01, 0.1, 0.4),
        ];
        a ^ b ^ 3_i32.wrapping_mul(c ^ d)
    }

    fn dot(half: bool) -> i32 {
        let signed = |byte: u8| i32::from(byte.cast_signed());
        let (a, b) = (guest::pattern(1, DOT_LEN), second(half));
        a.into_iter().zip(b).map(|(a, b)| signed(a) * signed(b)).sum()
    }
}
