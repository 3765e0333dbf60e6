//! Errors of commands, and what the shell is told of them.

use std::error::Error;
use std::io::{ErrorKind, Write};
use std::process::ExitCode;

use super::terminal;

/// Why a command failed, and what the shell is told.
#[derive(Debug)]
pub(crate) struct Failure {
    error: Box<dyn Error>,
    /// True if the command line itself is at fault.
    usage: bool,
}

impl Failure {
    /// A mistake on the command line.
    pub(crate) fn usage(error: impl Into<Box<dyn Error>>) -> Self {
        Self { error: error.into(), usage: true }
    }

    /// Writes the error and its causes as one paragraph to stderr.
    pub(crate) fn report(&self) -> ExitCode {
        if self.is_broken_pipe() {
            // The reader of the output has seen enough.
            return ExitCode::SUCCESS;
        }
        let _ = writeln!(std::io::stderr(), "error: {}", terminal::lines(&self.message()));
        ExitCode::from(if self.usage { 2 } else { 1 })
    }

    /// Whether the command line itself is at fault.
    pub(crate) const fn is_usage(&self) -> bool {
        self.usage
    }

    /// The error and its causes as one paragraph.
    pub(crate) fn message(&self) -> String {
        let mut message = self.error.to_string();
        let mut cause = self.error.source();
        while let Some(error) = cause {
            let text = error.to_string();
            // Some libraries repeat the cause in their own message.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            cause = error.source();
        }
        message
    }

    fn is_broken_pipe(&self) -> bool {
        let error = self.error.downcast_ref::<std::io::Error>();
        error.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
    }
}

impl<E: Into<Box<dyn Error>>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self { error: error.into(), usage: false }
    }
}
