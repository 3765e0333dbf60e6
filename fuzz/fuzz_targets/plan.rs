//! Plans of any bytes: an error, or a plan that is written and read again as it was.
//!
//! The first byte says whether the rest is JSON, or chooses what is changed in a plan that holds together: a mutation of
//! JSON seldom gets beyond its first rule.
//!
//! `cargo fuzz run plan -- -rss_limit_mb=512 -timeout=5`, from the repository's root.

#![no_main]

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use polychord_plan::Plan;
use serde_json::Value;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind & 1 == 0 {
        if let Ok(text) = std::str::from_utf8(bytes) {
            read(text);
        }
        return;
    }
    let mut plan: Value = serde_json::from_str(WHOLE).expect("it is JSON");
    let mut input = Unstructured::new(bytes);
    while !input.is_empty() && change(&mut plan, &mut input).is_ok() {}
    read(&plan.to_string());
});

/// A plan of two memories, with whatever a plan can have.
const WHOLE: &str = include_str!("plan.json");

fn read(text: &str) {
    match Plan::from_json(text) {
        Ok(plan) => {
            let again = Plan::from_json(&serde_json::to_string(&plan).expect("it is JSON"))
                .expect("its own form is read");
            assert_eq!(again, plan);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// Changes one value somewhere.
fn change(value: &mut Value, input: &mut Unstructured<'_>) -> Result<()> {
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
