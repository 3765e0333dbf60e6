//! Files of sequences: reading them, and replacing them as a whole.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write as _};
use std::path::Path;

use polychord::api::Printable;
use polychord::model::{Error, Model, Restored, SessionOptions, Transformer};

use super::Failure;

/// Starts a session that goes on from a snapshot.
pub(crate) fn restore(
    transformer: &Transformer,
    model: &Model,
    path: &Path,
    options: &SessionOptions,
) -> Result<Restored, Failure> {
    let restored = transformer.restore(model, open(path)?, options);
    restored.map_err(|error| match error {
        Error::Receipt(error) => refuse(path, &error),
        error => error.into(),
    })
}

/// Opens a file that is read as it comes.
pub(crate) fn open(path: &Path) -> Result<BufReader<File>, Failure> {
    let file =
        File::open(path).map_err(|error| format!("cannot open {}: {error}", path.display()))?;
    Ok(BufReader::with_capacity(128 << 10, file))
}

/// Writes a file beside the one that it then replaces, which stays as it was if that fails. Where there is no
/// file but a pipe or a device, it writes to that.
pub(crate) fn replace<T>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, Failure>,
) -> Result<T, Failure> {
    let wrong = |error: std::io::Error| format!("cannot write {}: {error}", path.display());
    if std::fs::metadata(path).is_ok_and(|found| !found.is_file()) {
        let file = File::options().write(true).open(path).map_err(wrong)?;
        let mut file = BufWriter::with_capacity(128 << 10, file);
        let value = write(&mut file)?;
        file.flush().map_err(wrong)?;
        return Ok(value);
    }
    // Not a link, but what it names.
    let path = &std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = path.with_file_name(name);
    let mut file = BufWriter::with_capacity(128 << 10, File::create(&partial).map_err(wrong)?);
    let named = |failure: Failure| wrong(std::io::Error::other(failure.message())).into();
    let written = write(&mut file).map_err(named).and_then(|value| {
        file.flush().map_err(wrong)?;
        // Or a loss of power could leave neither this file nor the one before.
        file.get_ref().sync_all().map_err(wrong)?;
        std::fs::rename(&partial, path).map_err(wrong)?;
        Ok(value)
    });
    if written.is_err() {
        // What is left of it is of no use; if it stays, it is refused.
        _ = std::fs::remove_file(&partial);
    }
    written
}

/// What is wrong with a file.
pub(crate) fn refuse(path: &Path, error: &polychord::receipts::Error) -> Failure {
    format!("cannot use {}: {}", Printable(path.display()), Printable(error)).into()
}
