//! `tojson`, as Hugging Face defines it: Python's `json.dumps`.

use super::limits::{Meter, Result, fail};
use super::operators;
use super::show;
use super::text::{Builder, Text};
use super::value::Value;

/// How JSON is laid out.
pub(super) struct Layout {
    /// Text for each level of indentation, if there are to be lines.
    pub(super) indent: Option<Text>,
    pub(super) item: Text,
    pub(super) key: Text,
    pub(super) ascii: bool,
    pub(super) sort: bool,
}

/// Writes a value. Shared parts are written each time, and paid for.
pub(super) fn dump(meter: &Meter, value: &Value, layout: &Layout) -> Result<Text> {
    let mut builder = Builder::new(meter)?;
    Writer { to: &mut builder, layout, meter }.value(value, 0)?;
    Ok(builder.finish())
}

struct Writer<'a> {
    to: &'a mut Builder,
    layout: &'a Layout,
    meter: &'a Meter,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value, level: usize) -> Result<()> {
        match value {
            Value::None => self.to.own("null"),
            Value::Bool(true) => self.to.own("true"),
            Value::Bool(false) => self.to.own("false"),
            Value::Int(value) => self.to.own(&value.to_string()),
            Value::Float(value) => self.to.own(&number(*value)),
            Value::Str(text) => self.string(text),
            Value::List(list) if list.items().is_empty() => self.to.own("[]"),
            Value::Dict(dict) if dict.entries().is_empty() => self.to.own("{}"),
            Value::List(list) => {
                self.to.own("[")?;
                for (index, item) in list.items().iter().enumerate() {
                    self.separate(index, level + 1)?;
                    self.value(item, level + 1)?;
                }
                self.line(level)?;
                self.to.own("]")
            }
            Value::Dict(dict) => {
                let entries: Vec<_> = dict.entries().iter().collect();
                let entries = if self.layout.sort {
                    operators::sort(entries, |a, b| {
                        Ok(operators::order(self.meter, &a.0, &b.0)?.is_some_and(|o| o.is_lt()))
                    })?
                } else {
                    entries
                };
                self.to.own("{")?;
                for (index, (key, value)) in entries.into_iter().enumerate() {
                    self.separate(index, level + 1)?;
                    self.key(key)?;
                    self.to.push_text(&self.layout.key)?;
                    self.value(value, level + 1)?;
                }
                self.line(level)?;
                self.to.own("}")
            }
            other => {
                other.defined()?;
                fail(format!("a {} cannot be written as JSON", other.kind()))
            }
        }
    }

    fn separate(&mut self, index: usize, level: usize) -> Result<()> {
        if index > 0 {
            self.to.push_text(&self.layout.item)?;
        }
        self.line(level)
    }

    fn line(&mut self, level: usize) -> Result<()> {
        let Some(indent) = &self.layout.indent else { return Ok(()) };
        self.to.own("\n")?;
        (0..level).try_for_each(|_| self.to.push_text(indent))
    }

    fn key(&mut self, key: &Value) -> Result<()> {
        match key {
            Value::Str(text) => self.string(text),
            Value::None | Value::Bool(_) | Value::Int(_) | Value::Float(_) => {
                self.to.own("\"")?;
                self.value(key, 0)?;
                self.to.own("\"")
            }
            other => fail(format!("a {} cannot be a key in JSON", other.kind())),
        }
    }

    fn string(&mut self, text: &Text) -> Result<()> {
        self.to.own("\"")?;
        for (c, origin) in text.chars() {
            match c {
                '"' => self.to.push("\\\"", origin)?,
                '\\' => self.to.push("\\\\", origin)?,
                '\n' => self.to.push("\\n", origin)?,
                '\r' => self.to.push("\\r", origin)?,
                '\t' => self.to.push("\\t", origin)?,
                '\x08' => self.to.push("\\b", origin)?,
                '\x0c' => self.to.push("\\f", origin)?,
                c if c < ' ' || self.layout.ascii && !c.is_ascii() => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.to.push(&format!("\\u{unit:04x}"), origin)?;
                    }
                }
                c => self.to.push_char(c, origin)?,
            }
        }
        self.to.own("\"")
    }
}

fn number(value: f64) -> String {
    match value {
        f64::INFINITY => "Infinity".to_owned(),
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value if value.is_nan() => "NaN".to_owned(),
        value => show::float(value),
    }
}
