//! Errors.

use std::io;
use std::path::PathBuf;

use polychord_runtime_api::Printable;

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a context cannot be made, or a call of a guest cannot be answered.
///
/// ```
/// use polychord_wasi::{Access, WasiBuilder};
///
/// let built = WasiBuilder::new().directory("/no/such/folder", "/data", Access::ReadOnly).build();
/// let error = built.map(|_| ()).unwrap_err().to_string();
/// assert!(error.contains("/no/such/folder") && error.contains("/data"), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A directory of the host cannot be opened.
    #[error(
        "cannot open the directory {}, which the guest would see as {}: {source}",
        Printable(host.display()),
        Printable(guest)
    )]
    Directory {
        /// Where it should be on the host.
        host: PathBuf,
        /// What the guest would call it.
        guest: String,
        /// What the operating system says.
        source: io::Error,
    },
    /// A path by which the guest should see a directory is not usable.
    #[error("the guest cannot see a directory as `{}`: {reason}", Printable(guest))]
    GuestPath {
        /// The path.
        guest: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The file that should be the guest's standard input cannot be opened.
    #[error("cannot open {} as the guest's standard input: {source}", Printable(path.display()))]
    Stdin {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// An argument or a variable of the environment that a guest cannot be given.
    #[error("the guest cannot be given the {what} `{}`: {reason}", Printable(text))]
    Text {
        /// Which kind.
        what: &'static str,
        /// What it is.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A guest passed a pointer that does not point into its memory. The specification has it trap.
    #[error("{function}: the guest passed a pointer that it cannot mean: {}", Printable(reason))]
    Pointer {
        /// Which function.
        function: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A guest called a function without having what it needs.
    #[error("{function} cannot work for this guest: {}", Printable(reason))]
    Guest {
        /// Which function.
        function: &'static str,
        /// What is missing, and what to do.
        reason: String,
    },
}
