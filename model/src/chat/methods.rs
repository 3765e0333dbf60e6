//! Methods of values, as in Python; those that would change a value are left out.

use super::equality;
use super::filters::words;
use super::format;
use super::given::Given;
use super::lexer::is_space;
use super::limits::{Meter, Result, Stop, fail};
use super::strings::{self, is_cased, strip};
use super::text::{Builder, Text};
use super::value::{List, ListBuilder, Value};

const TEXT: [&str; 38] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "title",
    "upper",
    "zfill",
];

/// Bytes that are charged for a range of a text.
const RANGE: usize = 48;

/// Whether a value has a method.
pub(super) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => TEXT.contains(&name),
        Value::Dict(_) => matches!(name, "get" | "items" | "keys" | "values" | "copy"),
        Value::List(_) => matches!(name, "count" | "index" | "copy"),
        Value::Loop(_) => matches!(name, "cycle" | "changed"),
        Value::Cycler(_) => matches!(name, "next" | "reset"),
        _ => false,
    }
}

/// `value.name(given)`.
pub(super) fn call(meter: &Meter, value: &Value, name: &str, given: Given) -> Result<Value> {
    let result = match value {
        Value::Str(text) => of_text(meter, text, name, given),
        _ => of_other(meter, value, name, given),
    };
    result.map_err(|stop| match stop {
        Stop::Failed { reason, line } => {
            Stop::Failed { reason: format!("{name}(): {reason}"), line }
        }
        other => other,
    })
}

fn of_other(meter: &Meter, value: &Value, name: &str, mut given: Given) -> Result<Value> {
    match (value, name) {
        (_, "copy") => given.end(0).map(|()| value.clone()),
        (Value::Dict(dict), "get") => {
            let key = given.require(0, "key")?;
            let default = given.take(1, "default").unwrap_or(Value::None);
            given.end(2)?;
            Ok(equality::find(meter, dict.entries(), &key)?.cloned().unwrap_or(default))
        }
        (Value::Dict(dict), _) => {
            given.end(0)?;
            let pick = |(key, item): &(Value, Value)| match name {
                "keys" => Ok(key.clone()),
                "values" => Ok(item.clone()),
                _ => {
                    List::collect_tuple(meter, [key, item].map(|v| Ok(v.clone()))).map(Value::List)
                }
            };
            List::collect(meter, dict.entries().iter().map(pick)).map(Value::List)
        }
        (Value::List(list), _) => {
            let wanted = given.require(0, "value")?;
            given.end(1)?;
            let mut count = 0;
            for (index, item) in list.items().iter().enumerate() {
                if equality::equal(meter, item, &wanted)? {
                    if name == "index" {
                        return Ok(Value::count(index));
                    }
                    count += 1;
                }
            }
            if name == "index" {
                fail("the value is not in the list")
            } else {
                Ok(Value::Int(count))
            }
        }
        (Value::Loop(state), "cycle") => {
            let index = state.index.get().checked_rem(given.positional.len());
            let Some(index) = index else { return fail("there is nothing to cycle through") };
            Ok(given.positional.swap_remove(index))
        }
        (Value::Loop(state), _) => {
            // A loop itself may not be kept in a loop.
            let now = Value::List(List::collect(meter, given.positional.into_iter().map(Ok))?);
            let mut last = state.changed.borrow_mut();
            let same = match &*last {
                Some(last) => equality::equal(meter, last, &now)?,
                None => false,
            };
            *last = Some(now);
            Ok(Value::Bool(!same))
        }
        (Value::Cycler(cycler), "next") => {
            let (at, items) = (cycler.position.get(), cycler.items.items());
            cycler.position.set((at + 1) % items.len().max(1));
            Ok(items.get(at).cloned().unwrap_or(Value::None))
        }
        (Value::Cycler(cycler), _) => {
            cycler.position.set(0);
            Ok(Value::None)
        }
        _ => fail(format!("a {} has no such method", value.kind())),
    }
}

fn of_text(meter: &Meter, text: &Text, name: &str, mut given: Given) -> Result<Value> {
    let string = text.as_str();
    meter.scan(string.len())?;
    let all = |predicate: fn(char) -> bool| {
        Value::Bool(!string.is_empty() && string.chars().all(predicate))
    };
    let result = match name {
        "upper" | "lower" | "casefold" | "capitalize" | "title" => {
            let name = if name == "casefold" { "lower" } else { name };
            let _level = meter.enter()?;
            meter.steps(1)?;
            return words::apply(meter, name, &Value::Str(text.clone()), given)
                .map_err(|stop| stop.of_filter(name));
        }
        "isalpha" => all(char::is_alphabetic),
        "isalnum" => all(char::is_alphanumeric),
        "isdigit" | "isdecimal" | "isnumeric" => all(char::is_numeric),
        "isspace" => all(is_space),
        "isascii" => Value::Bool(string.is_ascii()),
        "islower" | "isupper" => Value::Bool(is_cased(string, name == "isupper")),
        "istitle" => {
            Value::Bool(!string.is_empty() && strings::title(meter, text)?.as_str() == string)
        }
        "strip" | "lstrip" | "rstrip" => {
            let chars = given.text(0, "chars")?;
            given.end(1)?;
            return strip(meter, text, chars.as_ref(), name != "rstrip", name != "lstrip")
                .map(Value::Str);
        }
        "startswith" | "endswith" => {
            let wanted = given.require(0, "prefix")?;
            given.end(1)?;
            return affixes(&wanted, |affix| {
                if name == "startswith" {
                    string.starts_with(affix)
                } else {
                    string.ends_with(affix)
                }
            });
        }
        "removeprefix" | "removesuffix" => {
            let affix = required(&mut given, "prefix")?;
            let range = if name == "removeprefix" {
                let start =
                    if string.starts_with(affix.as_str()) { affix.as_str().len() } else { 0 };
                start..string.len()
            } else {
                0..string.strip_suffix(affix.as_str()).unwrap_or(string).len()
            };
            Value::Str(text.slice(meter, range)?)
        }
        "find" | "rfind" | "index" | "count" => {
            let wanted = required(&mut given, "sub")?;
            meter.scan(2 * string.len())?;
            let found = match name {
                "count" if wanted.as_str().is_empty() => {
                    return Ok(Value::count(string.chars().count() + 1));
                }
                "count" => return Ok(Value::count(string.matches(wanted.as_str()).count())),
                "rfind" => string.rfind(wanted.as_str()),
                _ => string.find(wanted.as_str()),
            };
            match found {
                Some(at) => Value::count(string[..at].chars().count()),
                None if name == "index" => return fail("the text is not found"),
                None => Value::Int(-1),
            }
        }
        "replace" => return strings::replace(meter, text, given).map(Value::Str),
        "join" => {
            let items = given.require(0, "iterable")?;
            given.end(1)?;
            let mut builder = Builder::new(meter)?;
            let mut all = items.iterate()?;
            let mut first = true;
            while let Some(item) = all.next(meter)? {
                let Value::Str(item) = item else {
                    return fail(format!("an element is a {}, not a string", item.kind()));
                };
                if !std::mem::take(&mut first) {
                    builder.push_text(text)?;
                }
                builder.push_text(&item)?;
            }
            return Ok(Value::Str(builder.finish()));
        }
        "split" | "rsplit" => {
            let separator = given.text(0, "sep")?;
            let most = given.int(1, "maxsplit")?.and_then(|most| usize::try_from(most).ok());
            given.end(2)?;
            let from_end = name == "rsplit";
            let parts = match separator {
                Some(separator) => split(meter, text, separator.as_str(), most, from_end),
                None => words(meter, text, most, from_end),
            };
            return parts.map(Value::List);
        }
        "splitlines" => {
            let keep = given.flag(0, "keepends");
            given.end(1)?;
            return strings::lines(meter, text, keep).map(Value::List);
        }
        "partition" | "rpartition" => {
            let separator = required(&mut given, "sep")?;
            return partition(meter, text, &separator, name == "rpartition").map(Value::List);
        }
        "ljust" | "rjust" | "center" | "zfill" => {
            let width = given.int(0, "width")?.unwrap_or(0);
            let fill = given.text(1, "fillchar")?;
            given.end(2)?;
            return justify(meter, text, name, width, fill.as_ref()).map(Value::Str);
        }
        "format" => {
            let Given { positional, named } = given;
            let find = |name: &str| {
                named.iter().find(|(found, _)| **found == *name).map(|(_, value)| value.clone())
            };
            return format::braces(meter, text, &positional, &find).map(Value::Str);
        }
        _ => return fail("a string has no such method"),
    };
    given.end(usize::from(!given.positional.is_empty()))?;
    Ok(result)
}

fn required(given: &mut Given, name: &str) -> Result<Text> {
    given.text(0, name)?.ok_or_else(|| Stop::failed(format!("the argument `{name}` is missing")))
}

fn affixes(wanted: &Value, holds: impl Fn(&str) -> bool) -> Result<Value> {
    let all = match wanted {
        Value::List(list) if list.is_tuple() => list.items(),
        other => std::slice::from_ref(other),
    };
    for affix in all {
        let Value::Str(affix) = affix else {
            return fail(format!("needs a string or a tuple of them, not a {}", affix.kind()));
        };
        if holds(affix.as_str()) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn split(
    meter: &Meter,
    text: &Text,
    separator: &str,
    most: Option<usize>,
    from_end: bool,
) -> Result<List> {
    let string = text.as_str();
    meter.scan(2 * string.len())?;
    let mut ranges = Vec::new();
    let mut charge = meter.charge(0)?;
    let mut rest = 0..string.len();
    let mut left = most.unwrap_or(usize::MAX);
    while let Some((at, width)) = cut(&string[rest.clone()], separator, from_end)? {
        charge.grow(RANGE)?;
        let (start, end) = (rest.start + at, rest.start + at + width);
        if left == 0 {
            break;
        }
        left -= 1;
        if from_end {
            ranges.push(end..rest.end);
            rest.end = start;
        } else {
            ranges.push(rest.start..start);
            rest.start = end;
        }
    }
    ranges.push(rest);
    if from_end {
        ranges.reverse();
    }
    let mut parts = ListBuilder::new(meter)?;
    for range in ranges {
        parts.push(Value::Str(text.slice(meter, range)?))?;
    }
    Ok(parts.finish())
}

/// Where the next separator is, and how long.
fn cut(text: &str, separator: &str, from_end: bool) -> Result<Option<(usize, usize)>> {
    if separator.is_empty() {
        return fail("the separator is empty");
    }
    let found = if from_end { text.rfind(separator) } else { text.find(separator) };
    Ok(found.map(|at| (at, separator.len())))
}

/// Splits at runs of white space, as Python does without a separator.
fn words(meter: &Meter, text: &Text, most: Option<usize>, from_end: bool) -> Result<List> {
    let string = text.as_str();
    meter.scan(2 * string.len())?;
    let mut ranges = Vec::new();
    let mut charge = meter.charge(0)?;
    let mut rest = 0..string.len();
    let mut left = most.unwrap_or(usize::MAX);
    loop {
        charge.grow(RANGE)?;
        let inside = &string[rest.clone()];
        let trimmed = if from_end {
            inside.trim_end_matches(is_space)
        } else {
            inside.trim_start_matches(is_space)
        };
        if trimmed.is_empty() {
            break;
        }
        let found = if from_end { trimmed.rfind(is_space) } else { trimmed.find(is_space) };
        let at = found.filter(|_| left > 0);
        if from_end {
            rest.end = rest.start + trimmed.len();
            let Some(at) = at else {
                ranges.push(rest);
                break;
            };
            let width = trimmed[at..].chars().next().map_or(1, char::len_utf8);
            ranges.push(rest.start + at + width..rest.end);
            rest.end = rest.start + at;
        } else {
            rest.start = rest.end - trimmed.len();
            let Some(at) = at else {
                ranges.push(rest);
                break;
            };
            ranges.push(rest.start..rest.start + at);
            rest.start += at;
        }
        left -= 1;
    }
    if from_end {
        ranges.reverse();
    }
    let mut parts = ListBuilder::new(meter)?;
    for range in ranges {
        parts.push(Value::Str(text.slice(meter, range)?))?;
    }
    Ok(parts.finish())
}

fn partition(meter: &Meter, text: &Text, separator: &Text, from_end: bool) -> Result<List> {
    let (string, separator) = (text.as_str(), separator.as_str());
    if separator.is_empty() {
        return fail("the separator is empty");
    }
    let (at, end) = match if from_end { string.rfind(separator) } else { string.find(separator) } {
        Some(at) => (at, at + separator.len()),
        None if from_end => (0, 0),
        None => (string.len(), string.len()),
    };
    let parts = [0..at, at..end, end..string.len()];
    let parts = parts.into_iter().map(|range| text.slice(meter, range).map(Value::Str));
    List::collect_tuple(meter, parts)
}

fn justify(
    meter: &Meter,
    text: &Text,
    name: &str,
    width: i64,
    fill: Option<&Text>,
) -> Result<Text> {
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    let length = text.as_str().chars().count();
    let missing = width.saturating_sub(length);
    if missing == 0 {
        return Ok(text.clone());
    }
    format::width(width)?;
    let fill = match fill {
        Some(fill) if fill.as_str().chars().count() == 1 => fill.clone(),
        Some(_) => return fail("the fill has to be one character"),
        None => Text::own(meter, if name == "zfill" { "0" } else { " " })?,
    };
    let left = match name {
        "ljust" => 0,
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let signed = name == "zfill" && text.as_str().starts_with(['-', '+']);
    let mut builder = Builder::new(meter)?;
    builder.push_slice(text, 0..usize::from(signed))?;
    (0..left).try_for_each(|_| builder.push_text(&fill))?;
    builder.push_slice(text, usize::from(signed)..text.as_str().len())?;
    (left..missing).try_for_each(|_| builder.push_text(&fill))?;
    Ok(builder.finish())
}
