//! Filters of text.

use super::super::given::Given;
use super::super::lexer::is_space;
use super::super::limits::{Meter, Result, Stop, fail};
use super::super::strings::{Case, lines, push_times, replace, strip};
use super::super::text::{Builder, Origin, Text};
use super::super::value::Value;
use super::super::{format, show};

/// `value|name(given)`.
pub(in super::super) fn apply(
    meter: &Meter,
    name: &str,
    value: &Value,
    mut given: Given,
) -> Result<Value> {
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

/// Jinja's `title`: what follows white space, a hyphen or an opening bracket is upper case.
fn title_words(meter: &Meter, text: &Text) -> Result<Text> {
    let mut starts = true;
    text.map(meter, |c| {
        let upper = std::mem::replace(&mut starts, is_space(c) || "-({[<".contains(c));
        if upper { Case::Upper(c.to_uppercase()) } else { Case::Lower(c.to_lowercase()) }
    })
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

/// `escape`, for HTML.
fn escape(meter: &Meter, text: &Text) -> Result<Text> {
    let mut builder = Builder::new(meter)?;
    for (c, origin) in text.chars() {
        let replaced = match c {
            '&' => "&amp;",
            '<' => "&lt;",
            '>' => "&gt;",
            '"' => "&#34;",
            '\'' => "&#39;",
            c => {
                builder.push_char(c, origin)?;
                continue;
            }
        };
        builder.push(replaced, origin)?;
    }
    Ok(builder.finish())
}
