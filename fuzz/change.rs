//! Changes in a JSON value that is sound.

use arbitrary::{Result, Unstructured};
use serde_json::Value;

/// Changes one value somewhere in it.
pub(crate) fn change(value: &mut Value, input: &mut Unstructured<'_>) -> Result<()> {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let at = input.choose_index(fields.len())?;
            if input.ratio(1, 12)? {
                let name = fields.keys().nth(at).cloned().unwrap_or_default();
                fields.remove(&name);
                return Ok(());
            }
            fields.values_mut().nth(at).map_or(Ok(()), |field| change(field, input))
        }
        Value::Array(items) if !items.is_empty() => {
            let at = input.choose_index(items.len())?;
            match input.int_in_range(0..=11)? {
                0 => {
                    items.remove(at);
                }
                1 => items.push(items[at].clone()),
                _ => change(&mut items[at], input)?,
            }
            Ok(())
        }
        _ => {
            *value = match input.int_in_range(0..=5)? {
                0 => Value::Null,
                1 => Value::from(u64::MAX),
                2 => Value::from(input.arbitrary::<i64>()?),
                3 => Value::from(input.arbitrary::<&str>()?),
                4 => Value::from(1_u64 << input.int_in_range(0..=63)?),
                _ => Value::from(input.arbitrary::<u8>()?),
            };
            Ok(())
        }
    }
}
