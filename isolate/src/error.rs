//! Why a process cannot be confined, or a session in one cannot be used.

use std::io;
use std::path::PathBuf;

/// Result with the [`Error`] of this crate.
///
/// ```
/// fn enter(confinement: polychord_isolate::Confinement) -> polychord_isolate::Result<()> {
///     confinement.enter().map(|_| ())
/// }
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a process cannot be confined, or a session in one cannot be used.
///
/// ```
/// use polychord_isolate::{Confinement, Error};
///
/// let error = Confinement::new().readable("/no/such/model.gguf").enter().unwrap_err();
/// assert!(matches!(error, Error::Path { .. }), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file that was to stay open for the process cannot be named to the system.
    #[error("cannot allow {} to a confined process: {source}", path.display())]
    Path {
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There are other threads, which would stay as they are.
    #[error(
        "a process of {count} threads cannot be confined, since the others would not be: confine it before it starts any"
    )]
    Threads {
        /// How many there are.
        count: usize,
    },
    /// The kernel has no Landlock, or it is turned off.
    #[error(
        "the kernel does not confine files: it needs Linux 5.13 or newer with Landlock turned on (lsm=landlock); without --isolate the engine alone contains guests"
    )]
    NoLandlock,
    /// The system refused to confine the process.
    #[error("cannot confine the process: {reason}")]
    Refused {
        /// What it said.
        reason: String,
    },
    /// The other process cannot be started or spoken to.
    #[error("cannot {action} the process that computes: {source}")]
    Process {
        /// What was tried.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The other process ended, was late, or said what it must not.
    #[error("the process that computes {reason}")]
    Lost {
        /// What happened.
        reason: String,
    },
    /// The other process could not do what was asked, and says why.
    #[error("in the process that computes: {reason}")]
    Answered {
        /// Its words.
        reason: String,
    },
}
