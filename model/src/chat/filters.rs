//! Filters, as in `value|name`.

mod names;
mod sequence;
pub(super) mod words;

use super::given::Given;
use super::json::{self, Layout};
use super::limits::{Meter, Result, Stop, fail};
use super::text::Text;
use super::value::Value;
use super::{format, show};

pub(super) use names::NAMES;

/// `value|name(given)`.
pub(super) fn apply(meter: &Meter, name: &str, value: &Value, given: Given) -> Result<Value> {
    // `map` applies filters.
    let _level = meter.enter()?;
    meter.steps(1)?;
    let result = match name {
        "abs" | "int" | "float" | "round" => number(meter, name, value, given),
        "default" | "d" => default(value, given),
        "tojson" => to_json(meter, value, given),
        "string" | "safe" => given.end(0).and_then(|()| show::text(meter, value)).map(Value::Str),
        "format" => {
            value.defined()?;
            let text = show::text(meter, value)?;
            if given.named.is_empty() {
                let all = given.positional.into_iter().map(Ok);
                let all = super::value::List::collect_tuple(meter, all)?;
                format::percent(meter, &text, &Value::List(all)).map(Value::Str)
            } else {
                let mut all = super::dict_builder::DictBuilder::new(meter)?;
                for (name, value) in given.named {
                    all.set(Value::str(meter, &name)?, value)?;
                }
                format::percent(meter, &text, &Value::Dict(all.finish())).map(Value::Str)
            }
        }
        "attr" => {
            let mut given = given;
            let Some(name) = given.text(0, "name")? else { return fail("`attr` needs a name") };
            given.end(1)?;
            super::access::attribute(meter, value, name.as_str())
        }
        "upper" | "lower" | "capitalize" | "title" | "trim" | "escape" | "e" | "forceescape"
        | "indent" | "center" | "replace" | "truncate" | "wordcount" => {
            words::apply(meter, name, value, given)
        }
        "map" => sequence::map(meter, value, given, apply),
        _ => sequence::apply(meter, name, value, given),
    };
    result.map_err(|stop| stop.of_filter(name))
}

fn default(value: &Value, mut given: Given) -> Result<Value> {
    let default = given.take(0, "default_value");
    let falsy = given.flag(1, "boolean");
    given.end(2)?;
    let missing = matches!(value, Value::Undefined(_)) || falsy && !value.is_true();
    Ok(match default {
        _ if !missing => value.clone(),
        Some(default) => default,
        None => Value::Undefined(None),
    })
}

fn number(meter: &Meter, name: &str, value: &Value, mut given: Given) -> Result<Value> {
    match name {
        "abs" => {
            given.end(0)?;
            match (value, value.as_int()) {
                (_, Some(value)) => {
                    value.checked_abs().map(Value::Int).ok_or_else(|| Stop::failed("too large"))
                }
                (Value::Float(value), _) => Ok(Value::Float(value.abs())),
                _ => fail(format!("a {} is no number", value.kind())),
            }
        }
        "int" => {
            let default = given.take(0, "default").unwrap_or(Value::Int(0));
            let base = given.int(1, "base")?.unwrap_or(10);
            given.end(2)?;
            Ok(match value {
                Value::Str(text) => {
                    meter.scan(text.as_str().len())?;
                    let text = text.as_str().trim();
                    let base = u32::try_from(base).ok().filter(|base| (2..=36).contains(base));
                    let Some(base) = base else { return fail("the base has to be 2 to 36") };
                    let parsed = i64::from_str_radix(&text.replace('_', ""), base).ok();
                    parsed
                        .or_else(|| text.parse().ok().and_then(truncated))
                        .map_or(default, Value::Int)
                }
                Value::Float(value) => truncated(*value).map_or(default, Value::Int),
                other => other.as_int().map_or(default, Value::Int),
            })
        }
        "float" => {
            let default = given.take(0, "default").unwrap_or(Value::Float(0.0));
            given.end(1)?;
            Ok(match value {
                Value::Str(text) => {
                    meter.scan(text.as_str().len())?;
                    text.as_str().trim().parse().map_or(default, Value::Float)
                }
                other => other.as_float().map_or(default, Value::Float),
            })
        }
        _ => {
            let precision = given.int(0, "precision")?.unwrap_or(0);
            let method = given.text(1, "method")?;
            given.end(2)?;
            let Some(number) = value.as_float() else {
                return fail(format!("a {} is no number", value.kind()));
            };
            let precision = i32::try_from(precision).unwrap_or(i32::MAX);
            if precision.unsigned_abs() > 300 {
                return Err(Stop::Limit { what: "digits of precision", limit: 300 });
            }
            let scale = 10_f64.powi(precision);
            let rounded = match method.as_ref().map_or("common", Text::as_str) {
                "ceil" => (number * scale).ceil() / scale,
                "floor" => (number * scale).floor() / scale,
                // Ties to even, as the digits say it exactly, like Python.
                "common" if precision >= 0 => {
                    let digits = usize::try_from(precision).unwrap_or(0);
                    format!("{number:.digits$}").parse().unwrap_or(number)
                }
                "common" => (number * scale).round_ties_even() / scale,
                _ => return fail("the method has to be common, ceil or floor"),
            };
            match value {
                Value::Int(value) if method.is_none() && precision >= 0 => Ok(Value::Int(*value)),
                _ => Ok(Value::Float(rounded)),
            }
        }
    }
}

/// `int(value)` of a float.
#[allow(clippy::cast_possible_truncation, reason = "checked for the range before")]
fn truncated(value: f64) -> Option<i64> {
    let limit = 9_223_372_036_854_775_808.0;
    (value >= -limit && value < limit).then_some(value as i64)
}

fn to_json(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let ascii = given.flag(0, "ensure_ascii");
    let indent = given.take(1, "indent").filter(|indent| !matches!(indent, Value::None));
    let separators = given.take(2, "separators").filter(|value| !matches!(value, Value::None));
    let sort = given.flag(3, "sort_keys");
    given.end(4)?;
    let indent = match indent {
        None => None,
        Some(Value::Str(text)) => {
            format::width(text.as_str().len())?;
            Some(text)
        }
        Some(other) => {
            let Some(count) = other.as_int() else { return fail("`indent` has to be a number") };
            let count = format::width(usize::try_from(count.max(0)).unwrap_or(usize::MAX))?;
            Some(Text::own(meter, &" ".repeat(count))?)
        }
    };
    let (item, key) = match separators {
        None => {
            let item = if indent.is_some() { "," } else { ", " };
            (Text::own(meter, item)?, Text::own(meter, ": ")?)
        }
        Some(Value::List(list)) => match list.items() {
            [Value::Str(item), Value::Str(key)] => (item.clone(), key.clone()),
            _ => return fail("`separators` have to be two strings"),
        },
        Some(_) => return fail("`separators` have to be two strings"),
    };
    let layout = Layout { indent, item, key, ascii, sort };
    json::dump(meter, value, &layout).map(Value::Str)
}
