//! Reading the header of a GGUF file through the source that its weights come from.

use std::io::{self, BufReader};
use std::path::Path;

use polychord_model::gguf::{Error, Gguf};
use polychord_runtime_api as api;
use polychord_runtime_api::Source;

/// Reads the header of the GGUF file at `path`.
///
/// ```no_run
/// let gguf = polychord_session::read_header("model.gguf")?;
/// println!("{:?}", gguf.metadata().str("general.name")?);
/// # Ok::<(), polychord_model::gguf::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Open`] if it cannot be opened, [`Error::NotAFile`] for directories, pipes and
/// devices, otherwise the errors of [`Gguf::read`].
pub fn read_header(path: impl AsRef<Path>) -> Result<Gguf, Error> {
    let path = path.as_ref();
    let source = Source::open(path).map_err(|error| match error {
        api::Error::Io { source, .. } => Error::Open { path: path.to_owned(), source },
        api::Error::NotAFile { found, .. } => Error::NotAFile { path: path.to_owned(), found },
        error => Error::Open { path: path.to_owned(), source: io::Error::other(error) },
    })?;
    header_of(&source)
}

/// Reads the header of an open file, the one whose layers are loaded later, whatever is found by
/// its path then; of a model in several parts those of all ([`Gguf::joined`]).
///
/// Only the header is read, by plain buffered reads, so that a file that is truncated meanwhile
/// gives an error and not a signal.
///
/// # Errors
///
/// Returns the errors of [`Gguf::read`] and [`Gguf::joined`].
pub fn header_of(source: &Source) -> Result<Gguf, Error> {
    let read =
        |part: &Source| Gguf::read(BufReader::with_capacity(64 * 1024, part.reader()), part.len());
    if source.parts().count() == 1 {
        return source.parts().next().map_or_else(|| read(source), |(_, part)| read(part));
    }
    Gguf::joined(source.parts().map(|(_, part)| read(part)).collect::<Result<_, _>>()?)
}
