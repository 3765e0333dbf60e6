//! Filters of lists and dictionaries.

use super::super::access::{attribute, item};
use super::super::given::Given;
use super::super::limits::{Meter, Result, fail};
use super::super::text::{Builder, Text};
use super::super::value::{List, ListBuilder, Value};
use super::super::{checks, equality, methods, operators, show};

/// Bytes that are charged for an element while a list is sorted.
const SORTED: usize = 144;

pub(super) fn apply(meter: &Meter, name: &str, value: &Value, given: Given) -> Result<Value> {
    match name {
        "length" | "count" => {
            given.end(0)?;
            return value.length(meter).map(Value::count);
        }
        "select" | "reject" | "selectattr" | "rejectattr" => {
            return select(meter, name, value, given);
        }
        "sort" => return sort(meter, value, given),
        "dictsort" => return sort_dict(meter, value, given),
        "join" => return join(meter, value, given),
        "groupby" => return group(meter, value, given),
        "unique" => return unique(meter, value, given),
        "min" | "max" => return extreme(meter, value, given, name == "max"),
        "batch" | "slice" => return divide(meter, value, given, name == "slice"),
        "sum" => return sum(meter, value, given),
        "split" | "strip" | "lstrip" | "rstrip" if matches!(value, Value::Str(_)) => {
            return methods::call(meter, value, name, given);
        }
        _ => {}
    }
    given.end(0)?;
    let all = |value: &Value| value.iterate()?.list(meter);
    match name {
        "list" => all(value).map(Value::List),
        "first" => Ok(value.iterate()?.next(meter)?.unwrap_or(Value::Undefined(None))),
        "last" => Ok(match value.length(meter)?.checked_sub(1) {
            Some(last) => value.iterate()?.at(meter, last)?.unwrap_or(Value::Undefined(None)),
            None => Value::Undefined(None),
        }),
        "items" => match value {
            Value::Undefined(_) => List::collect(meter, []).map(Value::List),
            Value::Dict(_) => methods::call(meter, value, "items", Given::default()),
            other => fail(format!("a {} has no items", other.kind())),
        },
        "reverse" => match value {
            Value::Str(text) => {
                let mut builder = Builder::new(meter)?;
                let mut end = text.as_str().len();
                for c in text.as_str().chars().rev() {
                    let start = end - c.len_utf8();
                    builder.push_slice(text, start..end)?;
                    end = start;
                }
                Ok(Value::Str(builder.finish()))
            }
            other => {
                let list = all(other)?;
                List::collect(meter, list.items().iter().rev().cloned().map(Ok)).map(Value::List)
            }
        },
        "bool" => Ok(Value::Bool(value.is_true())),
        _ => fail("there is no such filter"),
    }
}

/// The value at a path of names and numbers: `a.b.0`.
fn path(meter: &Meter, value: &Value, path: &Value) -> Result<Value> {
    let Value::Str(names) = path else { return item(meter, value, path) };
    let mut value = value.clone();
    for name in names.as_str().split('.') {
        meter.steps(1)?;
        value = match name.parse() {
            Ok(index) => item(meter, &value, &Value::Int(index))?,
            Err(_) => match &value {
                Value::Dict(dict) => dict.get(meter, name)?.unwrap_or(Value::Undefined(None)),
                other => attribute(meter, other, name)?,
            },
        };
    }
    Ok(value)
}

fn by_path(meter: &Meter, value: &Value, attribute: Option<&Value>) -> Result<Value> {
    attribute.map_or_else(|| Ok(value.clone()), |attribute| path(meter, value, attribute))
}

/// The name of a filter or test, and the arguments that follow it.
fn named(given: &mut Given, what: &str) -> Result<Text> {
    if given.positional.is_empty() {
        return fail(format!("needs the name of a {what}"));
    }
    match given.positional.remove(0) {
        Value::Str(name) => Ok(name),
        other => fail(format!("the name of a {what} cannot be a {}", other.kind())),
    }
}

fn again(given: &Given) -> Given {
    Given { positional: given.positional.clone(), named: given.named.clone() }
}

/// Applies the filter that is named, or takes an attribute, of each element.
pub(super) fn map(
    meter: &Meter,
    value: &Value,
    mut given: Given,
    apply: fn(&Meter, &str, &Value, Given) -> Result<Value>,
) -> Result<Value> {
    if !value.is_true() {
        return nothing(meter);
    }
    let mut items = value.iterate()?;
    let mut mapped = ListBuilder::new(meter)?;
    if let Some(attribute) = given.named("attribute") {
        let default = given.named("default");
        given.end(0)?;
        while let Some(item) = items.next(meter)? {
            mapped.push(match (path(meter, &item, &attribute)?, &default) {
                (Value::Undefined(_), Some(default)) => default.clone(),
                (found, _) => found,
            })?;
        }
    } else {
        let name = named(&mut given, "filter")?;
        while let Some(item) = items.next(meter)? {
            meter.steps(given.positional.len())?;
            mapped.push(apply(meter, name.as_str(), &item, again(&given))?)?;
        }
    }
    Ok(Value::List(mapped.finish()))
}

/// What Jinja makes of what is false, be it no list at all: `none | map(...)` has no items.
fn nothing(meter: &Meter) -> Result<Value> {
    Ok(Value::List(ListBuilder::new(meter)?.finish()))
}

fn select(meter: &Meter, name: &str, value: &Value, mut given: Given) -> Result<Value> {
    if !value.is_true() {
        return nothing(meter);
    }
    let attribute = if name.ends_with("attr") {
        if given.positional.is_empty() {
            return fail("needs an attribute");
        }
        Some(given.positional.remove(0))
    } else {
        None
    };
    let test = if given.positional.is_empty() { None } else { Some(named(&mut given, "test")?) };
    let wanted = name.starts_with("select");
    let mut items = value.iterate()?;
    let mut kept = ListBuilder::new(meter)?;
    while let Some(item) = items.next(meter)? {
        meter.steps(given.positional.len())?;
        let tested = by_path(meter, &item, attribute.as_ref())?;
        let holds = match &test {
            Some(test) => checks::check(meter, test.as_str(), &tested, again(&given))?,
            None => tested.is_true(),
        };
        if holds == wanted {
            kept.push(item)?;
        }
    }
    Ok(Value::List(kept.finish()))
}

/// What elements are compared by: an attribute, without regard to case unless asked for.
fn key(
    meter: &Meter,
    value: &Value,
    attribute: Option<&Value>,
    case_sensitive: bool,
) -> Result<Value> {
    match by_path(meter, value, attribute)? {
        Value::Str(text) if !case_sensitive => text.map(meter, char::to_lowercase).map(Value::Str),
        other => Ok(other),
    }
}

/// Elements in the order of their keys.
fn sorted(
    meter: &Meter,
    items: impl Iterator<Item = Result<(Value, Value)>>,
    reverse: bool,
) -> Result<Vec<(Value, Value)>> {
    let mut charge = meter.charge(0)?;
    let mut keyed = Vec::new();
    for item in items {
        charge.grow(SORTED)?;
        keyed.push(item?);
    }
    operators::sort(keyed, |(a, _), (b, _)| {
        let order = operators::order(meter, a, b)?;
        Ok(order.is_some_and(|order| if reverse { order.is_gt() } else { order.is_lt() }))
    })
}

fn sort(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let (reverse, sensitive) = (given.flag(0, "reverse"), given.flag(1, "case_sensitive"));
    let attribute = given.take(2, "attribute").filter(|value| !matches!(value, Value::None));
    given.end(3)?;
    let list = value.iterate()?.list(meter)?;
    let keyed = list
        .items()
        .iter()
        .map(|item| Ok((key(meter, item, attribute.as_ref(), sensitive)?, item.clone())));
    let sorted = sorted(meter, keyed, reverse)?;
    List::collect(meter, sorted.into_iter().map(|(_, item)| Ok(item))).map(Value::List)
}

fn sort_dict(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let sensitive = given.flag(0, "case_sensitive");
    let by = given.text(1, "by")?;
    let reverse = given.flag(2, "reverse");
    given.end(3)?;
    let Value::Dict(dict) = value else {
        return fail(format!("a {} is no dictionary", value.kind()));
    };
    let by_value = by.is_some_and(|by| by.as_str() == "value");
    let pairs = dict.entries().iter().map(|(name, value)| {
        let key = key(meter, if by_value { value } else { name }, None, sensitive)?;
        let pair = List::collect_tuple(meter, [name, value].map(|v| Ok(v.clone())))?;
        Ok((key, Value::List(pair)))
    });
    let sorted = sorted(meter, pairs, reverse)?;
    List::collect(meter, sorted.into_iter().map(|(_, item)| Ok(item))).map(Value::List)
}

fn join(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let separator = given.take(0, "d").map(|value| show::text(meter, &value)).transpose()?;
    let attribute = given.take(1, "attribute").filter(|value| !matches!(value, Value::None));
    given.end(2)?;
    let mut items = value.iterate()?;
    let mut builder = Builder::new(meter)?;
    let mut first = true;
    while let Some(item) = items.next(meter)? {
        if !std::mem::take(&mut first)
            && let Some(separator) = &separator
        {
            builder.push_text(separator)?;
        }
        show::write(&mut builder, &by_path(meter, &item, attribute.as_ref())?)?;
    }
    Ok(Value::Str(builder.finish()))
}

fn group(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let attribute = given.require(0, "attribute")?;
    let default = given.take(1, "default");
    let sensitive = given.flag(2, "case_sensitive");
    given.end(3)?;
    let list = value.iterate()?.list(meter)?;
    let keyed = list.items().iter().map(|item| {
        let found = match (path(meter, item, &attribute)?, &default) {
            (Value::Undefined(_), Some(default)) => default.clone(),
            (found, _) => found,
        };
        Ok((key(meter, &found, None, sensitive)?, item.clone()))
    });
    let mut groups = ListBuilder::new(meter)?;
    let mut sorted = sorted(meter, keyed, false)?.into_iter().peekable();
    while let Some((name, first)) = sorted.next() {
        let shown = path(meter, &first, &attribute)?;
        let shown = if matches!(shown, Value::Undefined(_)) { name.clone() } else { shown };
        let mut members = ListBuilder::new(meter)?;
        members.push(first)?;
        while let Some((next, _)) = sorted.peek() {
            if !equality::equal(meter, &name, next)? {
                break;
            }
            if let Some((_, item)) = sorted.next() {
                members.push(item)?;
            }
        }
        let pair = [Ok(shown), Ok(Value::List(members.finish()))];
        groups.push(Value::List(List::collect_tuple(meter, pair)?))?;
    }
    Ok(Value::List(groups.finish()))
}

fn unique(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let sensitive = given.flag(0, "case_sensitive");
    let attribute = given.take(1, "attribute").filter(|value| !matches!(value, Value::None));
    given.end(2)?;
    let mut items = value.iterate()?;
    let (mut seen, mut kept) = (ListBuilder::new(meter)?, ListBuilder::new(meter)?);
    'items: while let Some(item) = items.next(meter)? {
        let key = key(meter, &item, attribute.as_ref(), sensitive)?;
        for old in seen.items() {
            if equality::equal(meter, old, &key)? {
                continue 'items;
            }
        }
        seen.push(key)?;
        kept.push(item)?;
    }
    Ok(Value::List(kept.finish()))
}

fn extreme(meter: &Meter, value: &Value, mut given: Given, greatest: bool) -> Result<Value> {
    let sensitive = given.flag(0, "case_sensitive");
    let attribute = given.take(1, "attribute").filter(|value| !matches!(value, Value::None));
    given.end(2)?;
    let mut items = value.iterate()?;
    let mut best: Option<(Value, Value)> = None;
    while let Some(item) = items.next(meter)? {
        let key = key(meter, &item, attribute.as_ref(), sensitive)?;
        let better = match &best {
            None => true,
            Some((old, _)) => {
                let order = operators::order(meter, &key, old)?;
                order.is_some_and(|order| if greatest { order.is_gt() } else { order.is_lt() })
            }
        };
        if better {
            best = Some((key, item));
        }
    }
    Ok(best.map_or(Value::Undefined(None), |(_, item)| item))
}

/// `batch`: lists of a length; `slice`: a number of lists.
fn divide(meter: &Meter, value: &Value, mut given: Given, slices: bool) -> Result<Value> {
    let count = given.int(0, if slices { "slices" } else { "linecount" })?;
    let fill = given.take(1, "fill_with").filter(|value| !matches!(value, Value::None));
    given.end(2)?;
    let count = count.and_then(|count| usize::try_from(count).ok()).filter(|count| *count > 0);
    let Some(count) = count else { return fail("needs a number above 0") };
    let list = value.iterate()?.list(meter)?;
    let mut rest = list.items();
    let (each, longer) = if slices { (rest.len() / count, rest.len() % count) } else { (count, 0) };
    let mut parts = ListBuilder::new(meter)?;
    let mut index = 0;
    while if slices { index < count } else { !rest.is_empty() } {
        let length = (each + usize::from(index < longer)).min(rest.len());
        let (now, later) = rest.split_at(length);
        let mut part = ListBuilder::new(meter)?;
        now.iter().try_for_each(|item| part.push(item.clone()))?;
        if let Some(fill) = &fill {
            let missing =
                if slices { usize::from(longer > 0 && index >= longer) } else { count - length };
            for _ in 0..missing {
                part.push(fill.clone())?;
            }
        }
        parts.push(Value::List(part.finish()))?;
        (rest, index) = (later, index + 1);
    }
    Ok(Value::List(parts.finish()))
}

fn sum(meter: &Meter, value: &Value, mut given: Given) -> Result<Value> {
    let attribute = given.take(0, "attribute").filter(|value| !matches!(value, Value::None));
    let mut total = given.take(1, "start").unwrap_or(Value::Int(0));
    given.end(2)?;
    let mut items = value.iterate()?;
    while let Some(item) = items.next(meter)? {
        let item = by_path(meter, &item, attribute.as_ref())?;
        total = operators::binary(meter, &total, super::super::ast::Operator::Add, &item)?;
    }
    Ok(total)
}
