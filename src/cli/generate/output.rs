//! What goes to stdout while tokens come.

use std::io::Write as _;

use super::args::Args;
use crate::cli::{Failure, terminal};

/// Text or ids as they come, unless a JSON object at the end has them.
pub(super) struct Output<'a> {
    pub(super) args: &'a Args,
    /// Whether ids are printed in place of text.
    pub(super) as_ids: bool,
    pub(super) text: String,
    pub(super) ids: Vec<u32>,
}

impl Output<'_> {
    pub(super) fn push(&mut self, id: u32, text: &str) -> Result<(), Failure> {
        let mut stdout = std::io::stdout();
        if !self.args.json {
            if self.as_ids {
                let space = if self.ids.is_empty() { "" } else { " " };
                write!(stdout, "{space}{id}")?;
            } else {
                write!(stdout, "{}", terminal::generated(text))?;
            }
            stdout.flush()?;
        }
        self.ids.push(id);
        self.text.push_str(text);
        Ok(())
    }

    pub(super) fn finish(&self) -> Result<(), Failure> {
        if !self.args.json {
            writeln!(std::io::stdout())?;
        }
        Ok(())
    }
}
