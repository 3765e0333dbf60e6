//! Functions that are called by name, with numbers.

use polychord::api::{FunctionType, Value, ValueType};

use crate::cli::Failure;

/// The arguments of a function, from what was typed.
pub(super) fn arguments(
    name: &str,
    ty: &FunctionType,
    typed: &[String],
) -> Result<Vec<Value>, Failure> {
    if typed.len() != ty.params.len() {
        let (given, takes) = (typed.len(), ty.params.len());
        let wrong =
            format!("{name} has type {ty}: it takes {takes} arguments, and {given} are given");
        return Err(Failure::usage(wrong));
    }
    let parse = |(text, ty): (&String, &ValueType)| {
        value(text, *ty)
            .ok_or_else(|| Failure::usage(format!("`{text}` is no {ty}, which {name} takes")))
    };
    typed.iter().zip(&ty.params).map(parse).collect()
}

/// A number of a type: integers with or without sign, in decimal or as `0x...`.
fn value(text: &str, ty: ValueType) -> Option<Value> {
    let integer = || -> Option<i128> {
        match text.strip_prefix("0x") {
            Some(digits) => i128::from_str_radix(digits, 16).ok(),
            None => text.parse().ok(),
        }
    };
    Some(match ty {
        ValueType::I32 => {
            let number = integer()?;
            let signed = i32::try_from(number).ok();
            Value::I32(signed.or(u32::try_from(number).ok().map(u32::cast_signed))?)
        }
        ValueType::I64 => {
            let number = integer()?;
            let signed = i64::try_from(number).ok();
            Value::I64(signed.or(u64::try_from(number).ok().map(u64::cast_signed))?)
        }
        ValueType::F32 => Value::F32(text.parse().ok()?),
        ValueType::F64 => Value::F64(text.parse().ok()?),
        _ => return None,
    })
}

/// A result as it is printed.
pub(super) fn show(value: &Value) -> String {
    match value {
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_signs_or_none() {
        for (text, ty, expected) in [
            ("-1", ValueType::I32, Value::I32(-1)),
            ("4294967295", ValueType::I32, Value::I32(-1)),
            ("0xffffffffffffffff", ValueType::I64, Value::I64(-1)),
            ("-9223372036854775808", ValueType::I64, Value::I64(i64::MIN)),
            ("1e3", ValueType::F32, Value::F32(1000.0)),
            ("-inf", ValueType::F64, Value::F64(f64::NEG_INFINITY)),
        ] {
            assert_eq!(value(text, ty), Some(expected), "{text}");
        }
        for (text, ty) in [
            ("4294967296", ValueType::I32),
            ("18446744073709551616", ValueType::I64),
            ("1.5", ValueType::I32),
            ("", ValueType::I64),
            ("one", ValueType::F64),
        ] {
            assert_eq!(value(text, ty), None, "{text}");
        }
    }
}
