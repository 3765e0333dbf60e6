//! What comes from files, modules and models is data, also where it is shown: no character of it
//! may command a terminal.

use std::fmt::Display;
use std::io::{self, IsTerminal as _, Write};

use polychord::api::{Printable, is_hidden};

/// Text for one line of a table or a message.
pub(crate) fn line(text: impl Display) -> String {
    Printable(text).to_string()
}

/// Text of several lines, where line feeds and tabs are meant.
pub(crate) fn lines(text: &str) -> String {
    escape(text, |c| is_hidden(c) && !matches!(c, '\n' | '\t'))
}

/// What a model has written, as stdout gets it. A file or a pipe gets it as it is. On a terminal
/// control characters are written out, other than line feeds and tabs, and so are those that turn
/// the direction of what follows; characters that scripts and emoji are joined by stay.
pub(crate) fn generated(text: &str) -> String {
    if io::stdout().is_terminal() { on_terminal(text) } else { text.to_owned() }
}

fn on_terminal(text: &str) -> String {
    let turns = |c| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    escape(text, |c| (c.is_control() && !matches!(c, '\n' | '\t')) || turns(c))
}

/// Prints an object as one line, by one write if the system takes it: what passes lines on, as a launcher of
/// processes does, puts nothing into its middle then.
pub(crate) fn print_json(object: &serde_json::Value) -> io::Result<()> {
    let mut line = json(&object.to_string());
    line.push('\n');
    let mut out = io::stdout().lock();
    out.write_all(line.as_bytes())?;
    out.flush()
}

/// JSON without raw characters of these kinds: within its strings they have another spelling.
pub(crate) fn json(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_hidden(c) {
            let mut units = [0; 2];
            out.extend(c.encode_utf16(&mut units).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            out.push(c);
        }
    }
    out
}

fn escape(text: &str, hidden: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\r' if hidden(c) => out.push_str("\\r"),
            c if hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

/// A stream that people read: it gets [`lines`] of what is written.
pub(crate) struct Plain<W> {
    inner: W,
    /// The first bytes of a character whose last ones are to come.
    begun: Vec<u8>,
}

impl<W: Write> Plain<W> {
    pub(crate) const fn new(inner: W) -> Self {
        Self { inner, begun: Vec::new() }
    }
}

impl<W: Write> Write for Plain<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.begun.extend(bytes);
        let mut text = String::new();
        let all = std::mem::take(&mut self.begun);
        let mut rest = all.as_slice();
        while !rest.is_empty() {
            match std::str::from_utf8(rest) {
                Ok(valid) => {
                    text.push_str(valid);
                    break;
                }
                Err(error) => {
                    let (valid, after) = rest.split_at(error.valid_up_to());
                    text.push_str(std::str::from_utf8(valid).unwrap_or_default());
                    let Some(len) = error.error_len() else {
                        self.begun = after.to_vec();
                        break;
                    };
                    text.extend(after[..len].iter().map(|byte| format!("\\x{byte:02X}")));
                    rest = &after[len..];
                }
            }
        }
        self.inner.write_all(lines(&text).as_bytes())?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: &str = "a\x1b]0;x\x07\r\u{9b}2J\u{202e}b\n\tc";

    #[test]
    fn terminals_get_no_commands() {
        let expected = "a\\u{1b}]0;x\\u{7}\\r\\u{9b}2J\\u{202e}b\n\tc";
        assert_eq!(lines(BAD), expected);
        assert_eq!(on_terminal(BAD), expected);
        assert_eq!(line(BAD), expected.replace('\n', "\\n").replace('\t', "\\t"));
        // A family of three, and a word of Persian.
        let joined = "\u{1f468}\u{200d}\u{1f469}\u{200d}\u{1f467} \u{645}\u{6cc}\u{200c}\u{62e}";
        assert_eq!(on_terminal(joined), joined);
        // Tests have no terminal.
        assert!(io::stdout().is_terminal() || generated(BAD) == BAD);
    }

    #[test]
    fn json_means_the_same_without_them() {
        let text = format!("{BAD}\u{e0041}\u{7f}\"\\");
        let value = serde_json::json!({ &text: [&text] });
        for plain in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            let escaped = json(&plain);
            assert!(!escaped.contains(|c| c != '\n' && is_hidden(c)), "{escaped:?}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&escaped).unwrap(), value);
        }
    }

    #[test]
    fn characters_may_come_in_pieces() {
        let text = "é\u{9b}模\u{202e}\n".as_bytes();
        for size in 1..=text.len() {
            let mut out = Plain::new(Vec::new());
            text.chunks(size).for_each(|part| out.write_all(part).unwrap());
            assert_eq!(out.inner, "é\\u{9b}模\\u{202e}\n".as_bytes(), "{size}");
        }
        let mut out = Plain::new(Vec::new());
        out.write_all(b"a\xffb\xe8\x1b").unwrap();
        assert_eq!(out.inner, b"a\\xFFb\\xE8\\u{1b}");
    }
}
