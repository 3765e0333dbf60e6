//! Lines that are typed, or come from a file.

use std::io::{BufRead as _, IsTerminal as _};

use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;

use crate::cli::Failure;

/// Where lines come from.
pub(super) enum Lines {
    /// A terminal, with a line editor and a history.
    Typed(Box<DefaultEditor>),
    /// A file or a pipe.
    Read,
}

/// What comes next.
pub(super) enum Line {
    Text(String),
    /// Ctrl-C.
    Interrupted,
    End,
}

impl Lines {
    pub(super) fn new() -> Result<Self, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Read);
        }
        let editor = DefaultEditor::new().map_err(|error| format!("no line editor: {error}"))?;
        Ok(Self::Typed(Box::new(editor)))
    }

    pub(super) const fn is_terminal(&self) -> bool {
        matches!(self, Self::Typed(_))
    }

    pub(super) fn next(&mut self) -> Result<Line, Failure> {
        match self {
            Self::Read => {
                let mut line = String::new();
                let read = std::io::stdin().lock().read_line(&mut line);
                match read.map_err(|error| format!("cannot read stdin: {error}"))? {
                    0 => Ok(Line::End),
                    _ => Ok(Line::Text(line)),
                }
            }
            Self::Typed(editor) => match editor.readline("> ") {
                Ok(line) => {
                    // A line that is not kept is no reason to stop.
                    _ = editor.add_history_entry(&line);
                    Ok(Line::Text(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(format!("cannot read a line: {error}").into()),
            },
        }
    }
}
