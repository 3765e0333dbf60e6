//! Attributes, elements and slices of values.

use std::ops::Range;

use super::ast::Name;
use super::limits::{Meter, Result, fail};
use super::text::Builder;
use super::value::{Items, List, ListBuilder, Loop, Value};
use super::{equality, methods, show};

/// `value.name`.
pub(super) fn attribute(meter: &Meter, value: &Value, name: &str) -> Result<Value> {
    value.defined()?;
    if methods::has(value, name) {
        return Ok(Value::Function(Name::from(name)));
    }
    let found = match value {
        Value::Dict(dict) => dict.get(meter, name)?,
        Value::Namespace(namespace) => namespace.borrow().get(name)?,
        Value::Loop(state) => loop_attribute(meter, state, name)?,
        Value::Cycler(cycler) if name == "current" => {
            cycler.items.items().get(cycler.position.get()).cloned()
        }
        _ => None,
    };
    meter.scan(name.len())?;
    Ok(found.unwrap_or_else(|| Value::Undefined((name.len() < 256).then(|| Name::from(name)))))
}

fn loop_attribute(meter: &Meter, state: &Loop, name: &str) -> Result<Option<Value>> {
    let (index, length) = (state.index.get(), state.length);
    Ok(Some(match name {
        "index" => Value::count(index + 1),
        "index0" => Value::count(index),
        "revindex" => Value::count(length.saturating_sub(index)),
        "revindex0" => Value::count(length.saturating_sub(index + 1)),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == length),
        "length" => Value::count(length),
        "depth" => Value::count(state.depth + 1),
        "depth0" => Value::count(state.depth),
        "previtem" | "nextitem" => {
            let at = if name == "nextitem" { Some(index + 1) } else { index.checked_sub(1) };
            let found = at.map(|at| state.items.at(meter, at)).transpose()?.flatten();
            found.unwrap_or(Value::Undefined(None))
        }
        _ => return Ok(None),
    }))
}

/// `value[index]`.
pub(super) fn item(meter: &Meter, value: &Value, index: &Value) -> Result<Value> {
    value.defined()?;
    let found = match (value, index) {
        (Value::Dict(dict), Value::Str(key)) => dict.get(meter, key.as_str())?,
        (Value::Dict(dict), key) => equality::find(meter, dict.entries(), key)?.cloned(),
        (Value::List(_) | Value::Str(_), index) if index.as_int().is_some() => {
            let length = value.length(meter)?;
            let at = position(index.as_int().unwrap_or(0), length);
            return Ok(match at {
                Some(at) => value.iterate()?.at(meter, at)?.unwrap_or(Value::Undefined(None)),
                None => Value::Undefined(Some(Name::from("an element beyond the end"))),
            });
        }
        _ => None,
    };
    match (found, index) {
        (Some(found), _) => Ok(found),
        (None, Value::Str(name)) => attribute(meter, value, name.as_str()),
        _ => Ok(Value::Undefined(None)),
    }
}

/// A position from the beginning, of one that may count from the end.
fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    usize::try_from(index).ok().filter(|_| index < length)
}

/// A bound of a slice, if there is one.
pub(super) fn slice_bound(value: &Value) -> Result<Option<i64>> {
    match value {
        Value::None => Ok(None),
        other => match other.as_int() {
            Some(bound) => Ok(Some(bound)),
            None => fail(format!("a {} cannot be the bound of a slice", other.kind())),
        },
    }
}

/// `value[start:stop:step]`.
pub(super) fn slice(
    meter: &Meter,
    value: &Value,
    [start, stop, step]: [Option<i64>; 3],
) -> Result<Value> {
    value.defined()?;
    let step = step.unwrap_or(1);
    if step == 0 {
        return fail("the step of a slice is 0");
    }
    let length = i64::try_from(value.length(meter)?).unwrap_or(i64::MAX);
    let clamp = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        if step > 0 { bound.clamp(0, length) } else { bound.clamp(-1, length - 1) }
    };
    let start = start.map_or(if step > 0 { 0 } else { length - 1 }, clamp);
    let stop = stop.map_or(if step > 0 { length } else { -1 }, clamp);
    match value {
        Value::Str(text) if step == 1 => {
            let at = |position: i64| {
                let position = usize::try_from(position).unwrap_or(0);
                let found = text.as_str().char_indices().nth(position);
                found.map_or(text.as_str().len(), |(at, _)| at)
            };
            let range = Range { start: at(start), end: at(stop.max(start)) };
            text.slice(meter, range).map(Value::Str)
        }
        Value::Str(text) => {
            let mut chars = ListBuilder::new(meter)?;
            let mut all = Items::Text(text.clone(), 0);
            while let Some(c) = all.next(meter)? {
                chars.push(c)?;
            }
            let chars = chars.finish();
            let mut builder = Builder::new(meter)?;
            for c in stepped(chars.items(), start, stop, step) {
                show::write(&mut builder, c)?;
            }
            Ok(Value::Str(builder.finish()))
        }
        Value::List(list) => {
            let mut builder = ListBuilder::new(meter)?;
            for item in stepped(list.items(), start, stop, step) {
                builder.push(item.clone())?;
            }
            let finish: fn(ListBuilder) -> List =
                if list.is_tuple() { ListBuilder::finish_tuple } else { ListBuilder::finish };
            Ok(Value::List(finish(builder)))
        }
        other => fail(format!("a {} cannot be sliced", other.kind())),
    }
}

fn stepped(items: &[Value], start: i64, stop: i64, step: i64) -> impl Iterator<Item = &Value> {
    let mut next = Some(start);
    std::iter::from_fn(move || {
        let at = next?;
        if if step > 0 { at >= stop } else { at <= stop } {
            return None;
        }
        next = at.checked_add(step);
        items.get(usize::try_from(at).ok()?)
    })
}
