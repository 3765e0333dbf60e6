//! What a program can do about an error of a model file or of its use.

/// What went wrong, for programs that act on it: each error of this crate has a `kind`.
///
/// ```
/// use polychord_model::gguf::Gguf;
/// use polychord_model::{ErrorKind, Sampling};
///
/// let no_model = b"not a model";
/// let error = Gguf::read(&mut &no_model[..], no_model.len() as u64).unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::InvalidFile);
///
/// let sampling = Sampling::new().temperature(-1.0);
/// assert_eq!(sampling.validate().unwrap_err().kind(), ErrorKind::InvalidArgument);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file, or what is asked of it, is sound, but this version cannot do it.
    Unsupported,
    /// The file is damaged, or not what it is taken for.
    InvalidFile,
    /// An option or an argument is out of range.
    InvalidArgument,
    /// Reading failed.
    Io,
}

polychord_plan::named!(ErrorKind, "kind of error", {
    Unsupported = "unsupported",
    InvalidFile = "invalid_file",
    InvalidArgument = "invalid_argument",
    Io = "io",
});
