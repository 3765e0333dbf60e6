//! Filters of text.

use super::super::lexer::is_space;
use super::super::limits::{Meter, Result, Stop, fail};
use super::super::run::Given;
use super::super::text::{Builder, Origin, Text};
use super::super::value::{List, ListBuilder, Value};
use super::super::{format, show};
use super::{escape, push_times};

pub(super) fn apply(meter: &Meter, name: &str, value: &Value, mut given: Given) -> Result<Value> {
    let text = &show::text(meter, value)?;
    meter.scan(text.as_str().len())?;
    let result = match name {
        "upper" => text.map(meter, char::to_uppercase)?,
        "lower" => text.map(meter, char::to_lowercase)?,
        "capitalize" => {
            let mut first = true;
            text.map(meter, |c| {
                let first = std::mem::take(&mut first);
                if first { Case::Upper(c.to_uppercase()) } else { Case::Lower(c.to_lowercase()) }
            })?
        }
        "title" => title_words(meter, text)?,
        "trim" => {
            let chars = given.text(0, "chars")?;
            given.end(1)?;
            return strip(meter, text, chars.as_ref(), true, true).map(Value::Str);
        }
        "escape" | "e" | "forceescape" => escape(meter, text)?,
        "indent" => return indent(meter, text, given).map(Value::Str),
        "center" => {
            let width = given.int(0, "width")?.unwrap_or(80);
            given.end(1)?;
            let missing = usize::try_from(width.max(0))
                .unwrap_or(usize::MAX)
                .saturating_sub(text.as_str().chars().count());
            format::width(missing)?;
            // As Python's: an odd space goes to the left of an even width's text.
            let odd = missing & usize::try_from(width.max(0)).unwrap_or(0) & 1;
            let left = missing / 2 + odd;
            let mut builder = Builder::new(meter)?;
            push_times(&mut builder, " ", Origin::Template, left)?;
            builder.push_text(text)?;
            push_times(&mut builder, " ", Origin::Template, missing - left)?;
            return Ok(Value::Str(builder.finish()));
        }
        "replace" => return replace(meter, text, given).map(Value::Str),
        "truncate" => return truncate(meter, text, given).map(Value::Str),
        _ => {
            given.end(0)?;
            let is_word = |word: &&str| !word.is_empty();
            let words = text.as_str().split(|c: char| !c.is_alphanumeric() && c != '_');
            return Ok(Value::count(words.filter(is_word).count()));
        }
    };
    given.end(0)?;
    Ok(Value::Str(result))
}

/// One of two mappings of a character.
enum Case {
    Upper(std::char::ToUppercase),
    Lower(std::char::ToLowercase),
}

impl Iterator for Case {
    type Item = char;

    fn next(&mut self) -> Option<char> {
        match self {
            Self::Upper(chars) => chars.next(),
            Self::Lower(chars) => chars.next(),
        }
    }
}

/// Python's `str.title`: a letter that follows no letter is upper case.
pub(in super::super) fn title(meter: &Meter, text: &Text) -> Result<Text> {
    let mut after_letter = false;
    text.map(meter, |c| {
        let upper = !std::mem::replace(&mut after_letter, c.is_alphabetic());
        if upper { Case::Upper(c.to_uppercase()) } else { Case::Lower(c.to_lowercase()) }
    })
}

/// Jinja's `title`: what follows white space, a hyphen or an opening bracket is upper case.
fn title_words(meter: &Meter, text: &Text) -> Result<Text> {
    let mut starts = true;
    text.map(meter, |c| {
        let upper = std::mem::replace(&mut starts, is_space(c) || "-({[<".contains(c));
        if upper { Case::Upper(c.to_uppercase()) } else { Case::Lower(c.to_lowercase()) }
    })
}

/// Takes characters (white space, if none are given) off the ends.
pub(in super::super) fn strip(
    meter: &Meter,
    text: &Text,
    chars: Option<&Text>,
    left: bool,
    right: bool,
) -> Result<Text> {
    let string = text.as_str();
    let set: Option<Vec<char>> = chars.map(|chars| chars.as_str().chars().take(1024).collect());
    let weight = set.as_ref().map_or(1, |set| 1 + set.len());
    meter.scan(string.len().saturating_mul(2 * weight))?;
    let off = |c: char| set.as_ref().map_or_else(|| is_space(c), |set| set.contains(&c));
    let start = if left { string.len() - string.trim_start_matches(off).len() } else { 0 };
    let rest = &string[start..];
    let length = if right { rest.trim_end_matches(off).len() } else { rest.len() };
    text.slice(meter, start..start + length)
}

/// `replace(old, new, count)`.
pub(in super::super) fn replace(meter: &Meter, text: &Text, mut given: Given) -> Result<Text> {
    let mut argument = |index, name: &str| -> Result<Text> {
        let value = given.require(index, name)?;
        show::text(meter, &value)
    };
    let (old, new) = (argument(0, "old")?, argument(1, "new")?);
    let most = given.int(2, "count")?.and_then(|count| usize::try_from(count).ok());
    given.end(3)?;
    meter.scan(2 * text.as_str().len())?;
    let mut builder = Builder::new(meter)?;
    let mut done = 0;
    for (at, found) in text.as_str().match_indices(old.as_str()).take(most.unwrap_or(usize::MAX)) {
        builder.push_slice(text, done..at)?;
        builder.push_text(&new)?;
        meter.steps(1)?;
        done = at + found.len();
    }
    builder.push_slice(text, done..text.as_str().len())?;
    Ok(builder.finish())
}

/// Lines of a text, as `str.splitlines` cuts it.
pub(in super::super) fn lines(meter: &Meter, text: &Text, keep: bool) -> Result<List> {
    let string = text.as_str();
    let mut parts = ListBuilder::new(meter)?;
    let is_end = |c: char| {
        matches!(
            c,
            '\n' | '\r' | '\x0b' | '\x0c' | '\x1c'..='\x1e' | '\u{85}' | '\u{2028}' | '\u{2029}'
        )
    };
    let mut start = 0;
    while start < string.len() {
        let length = string[start..].find(is_end).unwrap_or(string.len() - start);
        let rest = &string[start + length..];
        let end = if rest.starts_with("\r\n") {
            2
        } else {
            rest.chars().next().map_or(0, char::len_utf8)
        };
        let range = start..start + length + if keep { end } else { 0 };
        parts.push(Value::Str(text.slice(meter, range)?))?;
        start += length + end;
    }
    Ok(parts.finish())
}

fn indent(meter: &Meter, text: &Text, mut given: Given) -> Result<Text> {
    let prefix = match given.take(0, "width") {
        None => Text::own(meter, "    ")?,
        Some(Value::Str(prefix)) => prefix,
        Some(other) => {
            let Some(width) = other.as_int() else { return fail("`width` has to be a number") };
            let width = format::width(usize::try_from(width.max(0)).unwrap_or(usize::MAX))?;
            Text::own(meter, &" ".repeat(width))?
        }
    };
    let (first, blank) = (given.flag(1, "first"), given.flag(2, "blank"));
    given.end(3)?;
    let lines = lines(meter, text, false)?;
    let trailing = text.as_str().is_empty() || text.as_str().ends_with(['\n', '\r']);
    let mut builder = Builder::new(meter)?;
    for (index, line) in lines.items().iter().enumerate() {
        let Value::Str(line) = line else { continue };
        if index > 0 {
            builder.own("\n")?;
        }
        if (index > 0 && (blank || !line.as_str().is_empty())) || (index == 0 && first) {
            builder.push_text(&prefix)?;
        }
        builder.push_text(line)?;
    }
    if trailing && !lines.items().is_empty() {
        builder.own("\n")?;
        if blank {
            builder.push_text(&prefix)?;
        }
    }
    if lines.items().is_empty() && first {
        builder.push_text(&prefix)?;
    }
    Ok(builder.finish())
}

fn truncate(meter: &Meter, text: &Text, mut given: Given) -> Result<Text> {
    let length = given.int(0, "length")?.unwrap_or(255);
    let kill_words = given.flag(1, "killwords");
    let end = given.text(2, "end")?;
    let leeway = given.int(3, "leeway")?.unwrap_or(5);
    given.end(4)?;
    let end = end.map_or_else(|| Text::own(meter, "..."), Ok)?;
    let count = i64::try_from(text.as_str().chars().count()).unwrap_or(i64::MAX);
    let kept =
        length.saturating_sub(i64::try_from(end.as_str().chars().count()).unwrap_or(i64::MAX));
    let Ok(kept) = usize::try_from(kept) else {
        return Err(Stop::failed("the length is shorter than what ends the text"));
    };
    if count <= length.saturating_add(leeway) {
        return Ok(text.clone());
    }
    let at = text.as_str().char_indices().nth(kept).map_or(text.as_str().len(), |(at, _)| at);
    let at = if kill_words { at } else { text.as_str()[..at].rfind(' ').unwrap_or(at) };
    let mut builder = Builder::new(meter)?;
    builder.push_slice(text, 0..at)?;
    builder.push_text(&end)?;
    Ok(builder.finish())
}
