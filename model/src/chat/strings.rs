//! Operations on texts that both filters and methods have.

use super::given::Given;
use super::lexer::is_space;
use super::limits::{Meter, Result};
use super::show;
use super::text::{Builder, Origin, Text};
use super::value::{List, ListBuilder, Value};

/// One of two mappings of a character.
pub(super) enum Case {
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
pub(super) fn title(meter: &Meter, text: &Text) -> Result<Text> {
    let mut after_letter = false;
    text.map(meter, |c| {
        let upper = !std::mem::replace(&mut after_letter, c.is_alphabetic());
        if upper { Case::Upper(c.to_uppercase()) } else { Case::Lower(c.to_lowercase()) }
    })
}

/// Takes characters (white space, if none are given) off the ends.
pub(super) fn strip(
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
pub(super) fn replace(meter: &Meter, text: &Text, mut given: Given) -> Result<Text> {
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
pub(super) fn lines(meter: &Meter, text: &Text, keep: bool) -> Result<List> {
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

/// Adds a text some times.
pub(super) fn push_times(
    builder: &mut Builder,
    text: &str,
    origin: Origin,
    count: usize,
) -> Result<()> {
    (0..count).try_for_each(|_| builder.push(text, origin))
}

/// `str.isupper` or `str.islower`: cased characters are of that case, and there is one.
pub(super) fn is_cased(text: &str, upper: bool) -> bool {
    let (mut wrong, mut right) = (false, false);
    for c in text.chars() {
        let (as_wanted, other) = (c.is_uppercase() == upper, c.is_lowercase() == upper);
        if c.is_uppercase() || c.is_lowercase() {
            right |= as_wanted;
            wrong |= other;
        }
    }
    right && !wrong
}
