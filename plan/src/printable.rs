//! Text of unknown origin in what people read: files, modules and names may say anything.

use std::fmt::{self, Write as _};

/// Text on one line without anything that a terminal obeys or hides: control characters and
/// those that change the direction of text or show nothing are written as `\n` or `\u{1b}`.
///
/// The messages of all errors here have names and reasons like that. Text without such characters
/// stays as it is, so that it may be applied twice.
///
/// ```
/// use polychord_plan::Printable;
///
/// assert_eq!(Printable("blk.0\x1b[2J").to_string(), r"blk.0\u{1b}[2J");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Printable<T>(pub T);

impl<T: fmt::Display> fmt::Display for Printable<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(Escaping(f), "{}", self.0)
    }
}

/// Whether a character is obeyed by terminals, or cannot be seen though it changes what is: a
/// control character, or one that Unicode has for directions, joining and tags.
#[must_use]
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

struct Escaping<'a, 'b>(&'a mut fmt::Formatter<'b>);

impl fmt::Write for Escaping<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut rest = text;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_hidden(*c)) {
            self.0.write_str(&rest[..at])?;
            match c {
                '\n' => self.0.write_str("\\n")?,
                '\r' => self.0.write_str("\\r")?,
                '\t' => self.0.write_str("\\t")?,
                c => write!(self.0, "{}", c.escape_unicode())?,
            }
            rest = &rest[at + c.len_utf8()..];
        }
        self.0.write_str(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Error, LayerId, Plan, PlannedMemory, SourceRange};

    #[test]
    fn what_terminals_obey_is_written_out() {
        let text = "a\x1b]0;x\x07\r\n\tb\u{9b}2J\u{202e}c\u{200d}\u{e0041}\u{7f}";
        let shown = Printable(text).to_string();
        let expected =
            concat!(r"a\u{1b}]0;x\u{7}\r\n\tb\u{9b}2J\u{202e}c\u{200d}\u{e0041}", r"\u{7f}");
        assert_eq!(shown, expected);
        assert_eq!(Printable(&shown).to_string(), shown);
        for plain in ["", "blk.0", r"C:\models", "模型 é ▁the \u{301}", "a\"b'c"] {
            assert_eq!(Printable(plain).to_string(), plain);
        }
    }

    #[test]
    fn errors_have_no_hidden_characters() {
        let text = || "a\x1b[2J\u{9b}\n\u{202e}".to_owned();
        let memory = PlannedMemory { guest: 0, region: text(), bytes: 0, paged: false };
        let source = SourceRange { id: LayerId(0), name: text(), start: 0, bytes: 1 };
        let no_place = Plan::new(vec![memory], vec![source.at(0, 0)]);
        for error in [
            no_place.validate().unwrap_err(),
            Error::InvalidPlan { reason: text() },
            Error::TooLarge { what: text(), asked: 0, limit: 0, limited_by: text() },
        ] {
            let message = error.to_string();
            assert!(!message.contains(is_hidden), "{message:?}");
            assert!(message.contains(r"a\u{1b}[2J\u{9b}\n\u{202e}"), "{message}");
        }
    }
}
