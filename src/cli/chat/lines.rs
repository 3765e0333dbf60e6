//! Lines that are typed, or come from a file.

use std::io::{BufRead as _, IsTerminal as _, Write as _};

use rustyline::error::ReadlineError;
use rustyline::{Config, DefaultEditor};

use super::history::{self, History};
use crate::cli::{Failure, terminal};

/// Where lines come from.
pub(super) enum Lines {
    /// A terminal, with a line editor and a history.
    Typed(Box<DefaultEditor>, Option<History>),
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
    /// With the lines of earlier conversations, if they are wanted.
    pub(super) fn new(has_history: bool) -> Result<Self, Failure> {
        if !std::io::stdin().is_terminal() {
            return Ok(Self::Read);
        }
        let wrong = |error| format!("no line editor: {error}");
        let config = Config::builder().max_history_size(history::MOST).map_err(wrong)?.build();
        let mut editor = DefaultEditor::with_config(config).map_err(wrong)?;
        let history = if has_history { History::open() } else { Ok(None) };
        let history = history.and_then(|history| {
            let lines = history.as_ref().map(History::lines).transpose()?;
            Ok((history, lines.unwrap_or_default()))
        });
        let (history, lines) = match history {
            Ok(history) => history,
            Err(error) => {
                let reason = terminal::lines(&error.to_string());
                writeln!(std::io::stderr(), "lines are not kept: {reason}")?;
                (None, Vec::new())
            }
        };
        for line in lines {
            // A line that is not taken is no reason to stop.
            _ = editor.add_history_entry(line);
        }
        Ok(Self::Typed(Box::new(editor), history))
    }

    pub(super) const fn is_terminal(&self) -> bool {
        matches!(self, Self::Typed(..))
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
            Self::Typed(editor, history) => match editor.readline("> ") {
                Ok(line) => {
                    // A line that is not kept is no reason to stop.
                    _ = editor.add_history_entry(&line);
                    _ = history.as_ref().map(|history| history.add(&line));
                    Ok(Line::Text(line))
                }
                Err(ReadlineError::Interrupted) => Ok(Line::Interrupted),
                Err(ReadlineError::Eof) => Ok(Line::End),
                Err(error) => Err(format!("cannot read a line: {error}").into()),
            },
        }
    }
}
