//! Operators, as Python defines them.

use std::cmp::Ordering;

use super::ast::{Comparison, Operator};
use super::equality::{equal, find};
use super::format;
use super::limits::{Meter, Result, Stop, fail};
use super::text::Builder;
use super::value::{List, ListBuilder, Value};

/// `left operator right`.
pub(super) fn binary(
    meter: &Meter,
    left: &Value,
    operator: Operator,
    right: &Value,
) -> Result<Value> {
    left.defined()?;
    right.defined()?;
    match (operator, left, right) {
        (Operator::Add, Value::Str(left), Value::Str(right)) => {
            let mut builder = Builder::new(meter)?;
            builder.push_text(left)?;
            builder.push_text(right)?;
            Ok(Value::Str(builder.finish()))
        }
        (Operator::Add, Value::List(a), Value::List(b)) if a.is_tuple() == b.is_tuple() => {
            repeat_lists(meter, &[a, b], 1, a.is_tuple())
        }
        (Operator::Multiply, Value::Str(_) | Value::List(_), count)
        | (Operator::Multiply, count, Value::Str(_) | Value::List(_))
            if count.as_int().is_some() =>
        {
            let count = usize::try_from(count.as_int().unwrap_or(0).max(0)).unwrap_or(usize::MAX);
            let repeated =
                if matches!(left, Value::Str(_) | Value::List(_)) { left } else { right };
            repeat(meter, repeated, count)
        }
        (Operator::Modulo, Value::Str(format), arguments) => {
            format::percent(meter, format, arguments).map(Value::Str)
        }
        _ => match (left.as_int(), right.as_int()) {
            (Some(left), Some(right)) => integers(left, operator, right),
            _ => match (left.as_float(), right.as_float()) {
                (Some(left), Some(right)) => floats(left, operator, right),
                _ => fail(format!(
                    "the operator {} does not go with a {} and a {}",
                    sign(operator),
                    left.kind(),
                    right.kind()
                )),
            },
        },
    }
}

fn sign(operator: Operator) -> &'static str {
    match operator {
        Operator::Add => "+",
        Operator::Subtract => "-",
        Operator::Multiply => "*",
        Operator::Divide => "/",
        Operator::FloorDivide => "//",
        Operator::Modulo => "%",
        Operator::Power => "**",
    }
}

fn repeat(meter: &Meter, value: &Value, count: usize) -> Result<Value> {
    match value {
        Value::Str(text) => {
            let mut builder = Builder::new(meter)?;
            // An empty text would be repeated at no cost but time.
            for _ in 0..if text.as_str().is_empty() { 0 } else { count } {
                builder.push_text(text)?;
            }
            Ok(Value::Str(builder.finish()))
        }
        Value::List(list) => repeat_lists(meter, &[list], count, list.is_tuple()),
        other => fail(format!("a {} cannot be repeated", other.kind())),
    }
}

fn repeat_lists(meter: &Meter, lists: &[&List], count: usize, tuple: bool) -> Result<Value> {
    let mut builder = ListBuilder::new(meter)?;
    let empty = lists.iter().all(|list| list.items().is_empty());
    for _ in 0..if empty { 0 } else { count } {
        for item in lists.iter().flat_map(|list| list.items()) {
            builder.push(item.clone())?;
        }
    }
    Ok(Value::List(if tuple { builder.finish_tuple() } else { builder.finish() }))
}

fn integers(left: i64, operator: Operator, right: i64) -> Result<Value> {
    if right == 0 && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo)
    {
        return fail("division by zero");
    }
    let result = match operator {
        Operator::Add => left.checked_add(right),
        Operator::Subtract => left.checked_sub(right),
        Operator::Multiply => left.checked_mul(right),
        Operator::FloorDivide => left.checked_div_euclid(right).map(|quotient| {
            // Euclid's remainder is never negative, Python's has the divisor's sign.
            let remainder = left.wrapping_rem_euclid(right);
            if right < 0 && remainder != 0 { quotient - 1 } else { quotient }
        }),
        Operator::Modulo => Some(match left.wrapping_rem_euclid(right) {
            0 => 0,
            remainder if right < 0 => remainder + right,
            remainder => remainder,
        }),
        Operator::Power if right >= 0 => u32::try_from(right).ok().map_or(
            match left {
                0 | 1 => Some(left),
                -1 => Some(if right % 2 == 0 { 1 } else { -1 }),
                _ => None,
            },
            |right| left.checked_pow(right),
        ),
        #[allow(clippy::cast_precision_loss, reason = "as Python converts")]
        Operator::Divide | Operator::Power => return floats(left as f64, operator, right as f64),
    };
    result.map(Value::Int).ok_or_else(too_large)
}

fn too_large() -> Stop {
    Stop::failed("a number exceeds 64 bits, which are supported")
}

fn floats(left: f64, operator: Operator, right: f64) -> Result<Value> {
    if right == 0.0
        && matches!(operator, Operator::Divide | Operator::FloorDivide | Operator::Modulo)
    {
        return fail("division by zero");
    }
    let floor = (left / right).floor();
    Ok(Value::Float(match operator {
        Operator::Add => left + right,
        Operator::Subtract => left - right,
        Operator::Multiply => left * right,
        Operator::Divide => left / right,
        Operator::FloorDivide => floor,
        Operator::Modulo => {
            let remainder = left % right;
            if remainder != 0.0 && (remainder < 0.0) != (right < 0.0) {
                remainder + right
            } else {
                remainder
            }
        }
        Operator::Power => left.powf(right),
    }))
}

/// `-value` or `+value`.
pub(super) fn negate(value: &Value, minus: bool) -> Result<Value> {
    value.defined()?;
    match (value, value.as_int()) {
        (_, Some(value)) if minus => value.checked_neg().map(Value::Int).ok_or_else(too_large),
        (_, Some(value)) => Ok(Value::Int(value)),
        (Value::Float(value), _) => Ok(Value::Float(if minus { -value } else { *value })),
        _ => fail(format!("a {} has no sign", value.kind())),
    }
}

/// `left comparison right`.
pub(super) fn compare(
    meter: &Meter,
    left: &Value,
    comparison: Comparison,
    right: &Value,
) -> Result<bool> {
    Ok(match comparison {
        Comparison::Equal => equal(meter, left, right)?,
        Comparison::NotEqual => !equal(meter, left, right)?,
        Comparison::In => contains(meter, right, left)?,
        Comparison::NotIn => !contains(meter, right, left)?,
        _ => {
            let order = order(meter, left, right)?;
            match comparison {
                Comparison::Less => order == Some(Ordering::Less),
                Comparison::LessOrEqual => {
                    matches!(order, Some(Ordering::Less | Ordering::Equal))
                }
                Comparison::Greater => order == Some(Ordering::Greater),
                _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
            }
        }
    })
}

/// How two values are ordered; NaN is not.
pub(super) fn order(meter: &Meter, left: &Value, right: &Value) -> Result<Option<Ordering>> {
    meter.steps(1)?;
    left.defined()?;
    right.defined()?;
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => {
            meter.scan(left.as_str().len().min(right.as_str().len()))?;
            Ok(Some(left.as_str().cmp(right.as_str())))
        }
        (Value::List(left), Value::List(right)) if left.is_tuple() == right.is_tuple() => {
            for (left, right) in left.items().iter().zip(right.items()) {
                if !equal(meter, left, right)? {
                    return order(meter, left, right);
                }
            }
            Ok(Some(left.items().len().cmp(&right.items().len())))
        }
        _ => match (left.as_int(), right.as_int()) {
            (Some(left), Some(right)) => Ok(Some(left.cmp(&right))),
            _ => match (left.as_float(), right.as_float()) {
                (Some(left), Some(right)) => Ok(left.partial_cmp(&right)),
                _ => fail(format!("a {} and a {} have no order", left.kind(), right.kind())),
            },
        },
    }
}

/// `value in container`.
pub(super) fn contains(meter: &Meter, container: &Value, value: &Value) -> Result<bool> {
    match (container, value) {
        (Value::Undefined(_), _) => Ok(false),
        (Value::Str(container), Value::Str(value)) => {
            meter.scan(2 * container.as_str().len())?;
            Ok(container.as_str().contains(value.as_str()))
        }
        (Value::List(list), value) => {
            for item in list.items() {
                if equal(meter, item, value)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        (Value::Dict(dict), Value::Str(key)) => Ok(dict.get(meter, key.as_str())?.is_some()),
        (Value::Dict(dict), key) => Ok(find(meter, dict.entries(), key)?.is_some()),
        _ => fail(format!("cannot look for a {} in a {}", value.kind(), container.kind())),
    }
}

/// Sorts stably by a comparison that may fail and need not be an order.
pub(super) fn sort<T>(
    items: Vec<T>,
    mut less: impl FnMut(&T, &T) -> Result<bool>,
) -> Result<Vec<T>> {
    let mut from: Vec<Option<T>> = items.into_iter().map(Some).collect();
    let mut to: Vec<Option<T>> = Vec::with_capacity(from.len());
    let mut width = 1;
    while width < from.len() {
        let mut start = 0;
        while start < from.len() {
            let (middle, end) =
                ((start + width).min(from.len()), (start + 2 * width).min(from.len()));
            let (mut left, mut right) = (start, middle);
            while left < middle || right < end {
                let take_right = match (&from[..middle].get(left), &from[..end].get(right)) {
                    (Some(Some(a)), Some(Some(b))) => less(b, a)?,
                    (None, _) => true,
                    _ => false,
                };
                let at = if take_right { &mut right } else { &mut left };
                to.push(from[*at].take());
                *at += 1;
            }
            start = end;
        }
        std::mem::swap(&mut from, &mut to);
        to.clear();
        width *= 2;
    }
    Ok(from.into_iter().flatten().collect())
}
