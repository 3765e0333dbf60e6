//! Errors of the report itself, and not of the engines.

use std::io;
use std::path::{Path, PathBuf};

/// Errors of the report itself, and not of the engines.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no engine {name}; there are {known} and all")]
    UnknownEngine { name: String, known: String },
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Adds to an error what was tried, and on which path.
pub(super) fn io(what: &'static str, path: &Path) -> impl Fn(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}
