//! Opening model files, whole ones and those that are split over several.

use std::io;
use std::path::Path;

use polychord_model::gguf::{self, Gguf, Part};
use polychord_runtime_api as api;
use polychord_runtime_api::Source;

use crate::error::{Error, Result};
use crate::header::header_of;

/// Opens a model file, and the other parts if it is one of several, whichever is named: they are in
/// one folder, under names that end in `-00001-of-00003.gguf` and so on. Their weights are copied
/// into guests.
///
/// ```no_run
/// use polychord_session::{Model, open_source};
///
/// let source = open_source("models/large-00002-of-00003.gguf")?;
/// println!("{} files, {} bytes", source.parts().count(), source.len());
/// let model = Model::from_source("models/large-00002-of-00003.gguf", source)?;
/// # Ok::<(), polychord_session::Error>(())
/// ```
///
/// # Errors
///
/// [`Error::Runtime`] if the file cannot be opened, and [`Error::Gguf`] if it is damaged, or a part
/// whose name is not of that form or whose other parts are not there.
pub fn open_source(path: impl AsRef<Path>) -> Result<Source> {
    open_with(path.as_ref(), &|path| Source::open(path)).map(|(source, _)| source)
}

/// Opens a model file and its other parts as [`open_source`] does, for pages that are mapped into guests
/// where engine and system allow it.
///
/// ```no_run
/// # #[allow(unsafe_code)]
/// # fn main() -> Result<(), polychord_session::Error> {
/// // SAFETY: nothing writes to these files.
/// let source = unsafe { polychord_session::open_source_mapped("large-00001-of-00003.gguf")? };
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Returns the errors of [`open_source`].
///
/// # Safety
///
/// While the source or a guest that uses it lives, no part of the model may be written to or
/// truncated: see [`Source::open_mapped`].
#[allow(unsafe_code, reason = "the contract is the caller's")]
pub unsafe fn open_source_mapped(path: impl AsRef<Path>) -> Result<Source> {
    let open = |path: &Path| {
        // SAFETY: the caller has made this promise to us, for all parts of the model.
        unsafe { Source::open_mapped(path) }
    };
    open_with(path.as_ref(), &open).map(|(source, _)| source)
}

/// Opens a file by `open`, and its other parts, and reads their headers.
pub(crate) fn open_with(
    path: &Path,
    open: &dyn Fn(&Path) -> api::Result<Source>,
) -> Result<(Source, Gguf)> {
    let wrong = |reason| Error::Gguf { path: path.to_owned(), reason };
    let source = open(path)?;
    let header = header_of(&source).map_err(wrong)?;
    let Some(part) = header.part().map_err(wrong)? else { return Ok((source, header)) };
    let others = others(path, part).map_err(wrong)?;
    let mut sources = Vec::new();
    for (number, path) in (0..).zip(&others) {
        let source = match number == part.number {
            true => source.clone(),
            false => open(path).map_err(|error| wrong(missing(part, number, path, error)))?,
        };
        sources.push(source);
    }
    let mut headers = Vec::new();
    for (path, source) in others.iter().zip(&sources) {
        let wrong = |reason| Error::Gguf { path: path.clone(), reason };
        headers.push(header_of(source).map_err(wrong)?);
    }
    let starts = Gguf::starts(headers.iter().map(Gguf::file_len)).unwrap_or_default();
    let header = Gguf::joined(headers).map_err(wrong)?;
    Ok((Source::joined(starts.into_iter().zip(sources))?, header))
}

/// The paths of all parts, in order.
fn others(path: &Path, part: Part) -> Result<Vec<std::path::PathBuf>, gguf::Error> {
    let Part { number, count, .. } = part;
    let no_name = || gguf::Error::PartName { part: number + 1, count, path: path.to_owned() };
    let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(no_name)?;
    if Part::of_name(name) != Some(part) {
        return Err(no_name());
    }
    let other = |number| part.name_of(name, number).map(|name| path.with_file_name(name));
    (0..count).map(other).collect::<Option<_>>().ok_or_else(no_name)
}

fn missing(part: Part, number: u32, path: &Path, error: api::Error) -> gguf::Error {
    let source = match error {
        api::Error::Io { source, .. } => source,
        error => io::Error::other(error),
    };
    gguf::Error::PartMissing { part: number + 1, count: part.count, path: path.to_owned(), source }
}
