//! Values as text: Python's `str` and `repr`.

use super::limits::{Meter, Result, fail};
use super::text::{Builder, Origin, Text};
use super::value::{List, Value};

/// `str(value)`.
pub(super) fn text(meter: &Meter, value: &Value) -> Result<Text> {
    if let Value::Str(text) = value {
        return Ok(text.clone());
    }
    let mut builder = Builder::new(meter)?;
    write(&mut builder, value)?;
    Ok(builder.finish())
}

/// Adds `str(value)`.
pub(super) fn write(to: &mut Builder, value: &Value) -> Result<()> {
    match value {
        Value::Undefined(_) => Ok(()),
        Value::Str(text) => to.push_text(text),
        other => repr(to, other),
    }
}

/// Adds `repr(value)`.
pub(super) fn repr(to: &mut Builder, value: &Value) -> Result<()> {
    match value {
        Value::Undefined(_) => to.own("Undefined"),
        Value::None => to.own("None"),
        Value::Bool(true) => to.own("True"),
        Value::Bool(false) => to.own("False"),
        Value::Int(value) => to.own(&value.to_string()),
        Value::Float(value) => to.own(&float(*value)),
        Value::Str(text) => quoted(to, text),
        Value::List(list) => sequence(to, list),
        Value::Dict(dict) => {
            to.own("{")?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                to.own(if index == 0 { "" } else { ", " })?;
                repr(to, key)?;
                to.own(": ")?;
                repr(to, value)?;
            }
            to.own("}")
        }
        other => fail(format!("a {} cannot be written", other.kind())),
    }
}

fn sequence(to: &mut Builder, list: &List) -> Result<()> {
    to.own(if list.is_tuple() { "(" } else { "[" })?;
    for (index, item) in list.items().iter().enumerate() {
        to.own(if index == 0 { "" } else { ", " })?;
        repr(to, item)?;
    }
    to.own(match (list.is_tuple(), list.items().len()) {
        (true, 1) => ",)",
        (true, _) => ")",
        _ => "]",
    })
}

fn quoted(to: &mut Builder, text: &Text) -> Result<()> {
    let quote =
        if text.as_str().contains('\'') && !text.as_str().contains('"') { '"' } else { '\'' };
    to.push_char(quote, Origin::Template)?;
    for (c, origin) in text.chars() {
        match c {
            '\n' => to.push("\\n", origin)?,
            '\r' => to.push("\\r", origin)?,
            '\t' => to.push("\\t", origin)?,
            '\\' => to.push("\\\\", origin)?,
            c if c == quote => {
                to.push("\\", origin)?;
                to.push_char(c, origin)?;
            }
            c if c.is_control() && u32::from(c) < 0x100 => {
                to.push(&format!("\\x{:02x}", u32::from(c)), origin)?;
            }
            c => to.push_char(c, origin)?,
        }
    }
    to.push_char(quote, Origin::Template)
}

/// `repr` of a float: the shortest digits that give it back.
pub(super) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..16).contains(&exponent) {
        let fixed = value.to_string();
        return if fixed.contains('.') { fixed } else { fixed + ".0" };
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
