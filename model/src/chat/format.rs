//! Formatted text: Python's `%` and the plain part of `str.format`.

use std::iter::Peekable;

use super::limits::{Meter, Result, Stop, WIDTH, fail};
use super::show;
use super::text::{Builder, Origin, Text};
use super::value::Value;

/// `format % arguments`.
pub(super) fn percent(meter: &Meter, format: &Text, arguments: &Value) -> Result<Text> {
    let mut builder = Builder::new(meter)?;
    let all = match arguments {
        Value::List(list) if list.is_tuple() => list.items(),
        other => std::slice::from_ref(other),
    };
    let mut values = Values { all, used: 0, mapping: arguments };
    let mut chars = format.chars().peekable();
    while let Some((c, origin)) = chars.next() {
        if c != '%' {
            builder.push_char(c, origin)?;
            continue;
        }
        let mut name = None;
        if chars.next_if(|(c, _)| *c == '(').is_some() {
            let mut text = String::new();
            while let Some((c, _)) = chars.next_if(|(c, _)| *c != ')') {
                meter.steps(1)?;
                text.push(c);
            }
            chars.next();
            name = Some(text);
        }
        let mut spec = Spec::default();
        while let Some((flag, _)) = chars.next_if(|(c, _)| "-+ 0#".contains(*c)) {
            match flag {
                '-' => spec.left = true,
                '+' => spec.plus = true,
                '0' => spec.zero = true,
                ' ' => spec.space = true,
                _ => {}
            }
        }
        spec.width = width(number(&mut chars))?;
        if chars.next_if(|(c, _)| *c == '.').is_some() {
            spec.precision = Some(width(number(&mut chars))?);
        }
        let Some((conversion, _)) = chars.next() else { return fail("a format ends with %") };
        if conversion == '%' {
            builder.push_char('%', origin)?;
            continue;
        }
        let value = match &name {
            Some(name) => values.named(meter, name)?,
            None => values.next()?,
        };
        spec.write(meter, &mut builder, conversion, &value)?;
    }
    if values.used < values.all.len() && matches!(arguments, Value::List(list) if list.is_tuple()) {
        return fail("not all arguments of a format are used");
    }
    Ok(builder.finish())
}

/// Decimal digits that stand next; none are 0.
fn number(chars: &mut Peekable<impl Iterator<Item = (char, Origin)>>) -> usize {
    let mut number = 0_usize;
    while let Some((digit, _)) = chars.next_if(|(c, _)| c.is_ascii_digit()) {
        let digit = digit.to_digit(10).unwrap_or(0) as usize;
        number = number.saturating_mul(10).saturating_add(digit);
    }
    number
}

/// Checks a width or precision.
pub(super) fn width(width: usize) -> Result<usize> {
    if width > WIDTH {
        return Err(Stop::Limit { what: "characters of width or precision", limit: WIDTH });
    }
    Ok(width)
}

struct Values<'a> {
    all: &'a [Value],
    used: usize,
    mapping: &'a Value,
}

impl Values<'_> {
    fn next(&mut self) -> Result<Value> {
        self.used += 1;
        let value = self.all.get(self.used - 1).cloned();
        value.ok_or_else(|| Stop::failed("a format has too few arguments"))
    }

    fn named(&self, meter: &Meter, name: &str) -> Result<Value> {
        let Value::Dict(dict) = self.mapping else { return fail("a format needs a dictionary") };
        dict.get(meter, name)?.ok_or_else(|| Stop::failed("a name in a format is unknown"))
    }
}

/// A conversion of `%`.
#[derive(Debug, Default)]
struct Spec {
    left: bool,
    plus: bool,
    space: bool,
    zero: bool,
    width: usize,
    precision: Option<usize>,
}

impl Spec {
    fn write(
        &self,
        meter: &Meter,
        to: &mut Builder,
        conversion: char,
        value: &Value,
    ) -> Result<()> {
        let text = match conversion {
            's' => {
                let text = show::text(meter, value)?;
                self.cut(meter, text)?
            }
            'r' | 'a' => {
                let mut builder = Builder::new(meter)?;
                show::repr(&mut builder, value)?;
                self.cut(meter, builder.finish())?
            }
            'c' => match value {
                Value::Str(text) if text.as_str().chars().count() == 1 => text.clone(),
                _ => return fail("%c needs a character"),
            },
            'd' | 'i' | 'u' => {
                let number = match value {
                    #[allow(clippy::cast_possible_truncation, reason = "Python's int()")]
                    Value::Float(value) => Some(*value as i64),
                    other => other.as_int(),
                };
                let Some(number) = number else { return self.no_number(value) };
                Text::own(meter, &self.signed(number < 0, &number.unsigned_abs().to_string()))?
            }
            'x' | 'X' | 'o' => {
                let Some(number) = value.as_int() else { return self.no_number(value) };
                let digits = number.unsigned_abs();
                let digits = match conversion {
                    'x' => format!("{digits:x}"),
                    'X' => format!("{digits:X}"),
                    _ => format!("{digits:o}"),
                };
                Text::own(meter, &self.signed(number < 0, &digits))?
            }
            'f' | 'F' | 'e' | 'E' | 'g' => {
                let Some(number) = value.as_float() else { return self.no_number(value) };
                let precision = self.precision.unwrap_or(6);
                let digits = match conversion {
                    'f' | 'F' => format!("{:.precision$}", number.abs()),
                    'e' | 'E' => exponent(&format!("{:.precision$e}", number.abs())),
                    _ => return fail("%g is not supported: use %f"),
                };
                Text::own(meter, &self.signed(number.is_sign_negative(), &digits))?
            }
            other => return fail(format!("unknown conversion %{other} in a format")),
        };
        let length = text.as_str().chars().count();
        meter.scan(text.as_str().len())?;
        let pad = " ".repeat(self.width.saturating_sub(length));
        if self.left {
            to.push_text(&text)?;
            to.own(&pad)
        } else {
            to.own(&pad)?;
            to.push_text(&text)
        }
    }

    fn no_number(&self, value: &Value) -> Result<()> {
        fail(format!("a format needs a number, not a {}", value.kind()))
    }

    fn cut(&self, meter: &Meter, text: Text) -> Result<Text> {
        let Some(precision) = self.precision else { return Ok(text) };
        let end =
            text.as_str().char_indices().nth(precision).map_or(text.as_str().len(), |(at, _)| at);
        text.slice(meter, 0..end)
    }

    fn signed(&self, negative: bool, digits: &str) -> String {
        let sign = match (negative, self.plus, self.space) {
            (true, ..) => "-",
            (_, true, _) => "+",
            (_, _, true) => " ",
            _ => "",
        };
        let zeros = if self.zero && !self.left {
            self.width.saturating_sub(digits.len() + sign.len())
        } else {
            0
        };
        format!("{sign}{}{digits}", "0".repeat(zeros))
    }
}

/// Python's exponents have a sign and at least two digits.
fn exponent(text: &str) -> String {
    let (digits, exponent) = text.split_once('e').unwrap_or((text, "0"));
    let number: i32 = exponent.parse().unwrap_or(0);
    let sign = if number < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", number.unsigned_abs())
}

/// `format.format(...)`, with `{}`, `{0}` and `{name}`.
pub(super) fn braces(
    meter: &Meter,
    format: &Text,
    positional: &[Value],
    named: &dyn Fn(&str) -> Option<Value>,
) -> Result<Text> {
    let mut builder = Builder::new(meter)?;
    let mut next = 0;
    let mut chars = format.chars().peekable();
    while let Some((c, origin)) = chars.next() {
        if (c == '{' || c == '}') && chars.next_if(|(next, _)| *next == c).is_some() {
            builder.push_char(c, origin)?;
        } else if c == '{' {
            let mut field = String::new();
            while let Some((c, _)) = chars.next_if(|(c, _)| *c != '}') {
                meter.steps(1)?;
                field.push(c);
            }
            chars.next();
            let value = if field.is_empty() {
                next += 1;
                positional.get(next - 1).cloned()
            } else if let Ok(index) = field.parse::<usize>() {
                positional.get(index).cloned()
            } else {
                named(&field)
            };
            let Some(value) = value else {
                let shown: String = field.chars().take(40).collect();
                return fail(format!("a format's field {{{shown}}} is missing or not supported"));
            };
            show::write(&mut builder, &value)?;
        } else if c == '}' {
            return fail("a format has a single }");
        } else {
            builder.push_char(c, origin)?;
        }
    }
    Ok(builder.finish())
}
