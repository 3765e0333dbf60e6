//! Which values are equal, and which of several keys is meant.

use super::limits::{Meter, Result};
use super::value::Value;

/// Whether two values are equal. Shared parts are looked at each time, and paid for.
pub(super) fn equal(meter: &Meter, left: &Value, right: &Value) -> Result<bool> {
    meter.steps(1)?;
    Ok(match (left, right) {
        (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
        (Value::Str(left), Value::Str(right)) => {
            meter.scan(left.as_str().len().min(right.as_str().len()))?;
            left.as_str() == right.as_str()
        }
        (Value::List(left), Value::List(right)) => {
            if left.is_tuple() != right.is_tuple() || left.items().len() != right.items().len() {
                return Ok(false);
            }
            for (left, right) in left.items().iter().zip(right.items()) {
                if !equal(meter, left, right)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Dict(left), Value::Dict(right)) => {
            if left.entries().len() != right.entries().len() {
                return Ok(false);
            }
            for (key, value) in left.entries() {
                match find(meter, right.entries(), key)? {
                    Some(other) if equal(meter, value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Function(left), Value::Function(right)) => left == right,
        _ => match (left.as_int(), right.as_int()) {
            (Some(left), Some(right)) => left == right,
            _ => match (left.as_float(), right.as_float()) {
                (Some(left), Some(right)) => left == right,
                _ => false,
            },
        },
    })
}

/// The value of a key.
pub(super) fn find<'a>(
    meter: &Meter,
    entries: &'a [(Value, Value)],
    key: &Value,
) -> Result<Option<&'a Value>> {
    for (found, value) in entries {
        if equal(meter, found, key)? {
            return Ok(Some(value));
        }
    }
    Ok(None)
}
