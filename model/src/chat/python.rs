//! What templates expect of Python's Jinja as Hugging Face sets it up.

use std::time::SystemTime;

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde::Serialize;
use serde_json::ser::{Formatter, PrettyFormatter, Serializer};

/// Marks an error as the template's own decision.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refusal(String);

pub(super) fn environment() -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    environment.set_syntax(SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", to_json);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message.clone()).with_source(Refusal(message)))
    });
    Ok(environment)
}

/// Defines `strftime_now`.
pub(super) fn set_date(environment: &mut Environment<'static>, now: SystemTime) {
    environment.add_function("strftime_now", move |format: String| -> Result<String, Error> {
        let failed =
            |error: jiff::Error| Error::new(ErrorKind::InvalidOperation, error.to_string());
        let now = jiff::Timestamp::try_from(now).map_err(failed)?;
        jiff::fmt::strtime::format(&format, now).map_err(failed)
    });
}

/// What the template said when it called `raise_exception`.
pub(super) fn refusal(error: &Error) -> Option<String> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(Refusal(reason)) = error.downcast_ref() {
            return Some(reason.clone());
        }
        source = error.source();
    }
    None
}

/// `json.dumps(value, ensure_ascii=False, indent=indent)`.
fn to_json(value: &Value, options: Kwargs) -> Result<String, Error> {
    let indent: Option<usize> = options.get("indent")?;
    // Accepted and without effect: text is never escaped beyond JSON, keys keep their order.
    let _: Option<bool> = options.get("ensure_ascii")?;
    options.assert_all_used()?;
    let written = match indent {
        Some(indent) => dump(value, PrettyFormatter::with_indent(&vec![b' '; indent.min(16)])),
        None => dump(value, Spaced),
    };
    written.map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
}

fn dump(value: &Value, formatter: impl Formatter) -> serde_json::Result<String> {
    let mut json = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut json, formatter))?;
    Ok(String::from_utf8_lossy(&json).into_owned())
}

/// Python's separators: `, ` and `: `.
struct Spaced;

impl Formatter for Spaced {
    fn begin_array_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_key<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
        first: bool,
    ) -> std::io::Result<()> {
        if first { Ok(()) } else { writer.write_all(b", ") }
    }

    fn begin_object_value<W: ?Sized + std::io::Write>(
        &mut self,
        writer: &mut W,
    ) -> std::io::Result<()> {
        writer.write_all(b": ")
    }
}
