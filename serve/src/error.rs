//! What can go wrong with a server.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a server cannot run, or an answer cannot be computed.
///
/// ```
/// let error = polychord_serve::Error::NoModel;
/// assert!(error.to_string().contains("no model"));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be loaded, or a session cannot be started.
    #[error(transparent)]
    Session(#[from] polychord_session::Error),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {reason}; choose another port, or end what listens there")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        reason: io::Error,
    },
    /// A file of keys that cannot be used.
    #[error("the file of API keys {} cannot be used: {reason}", path.display())]
    Keys {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A folder that is not that of the page for browsers.
    #[error(
        "{} has no {}: name the folder `web` of the repository, once scripts/build-web has run, or that of the \
         package @polychord/web",
        folder.display(), missing.display()
    )]
    Web {
        /// The folder.
        folder: PathBuf,
        /// The first file that is not there.
        missing: PathBuf,
    },
    /// There is nothing to serve.
    #[error("there is no model to serve: give one by its name")]
    NoModel,
    /// No session fits into the memory that was set aside.
    #[error(
        "a conversation of {context} tokens needs {needed} bytes beside the weights, and {budget} \
         were set aside: allow more, or a shorter context"
    )]
    Budget {
        /// Bytes of one session.
        needed: u64,
        /// Bytes for all of them.
        budget: u64,
        /// Most tokens of a conversation.
        context: u32,
    },
    /// Conversations that wait cannot be written where they are to be.
    #[error(
        "no file can be made in {} for conversations that wait: {reason}; give a folder that can be written to",
        folder.display()
    )]
    IdleFolder {
        /// The folder.
        folder: PathBuf,
        /// Why.
        reason: io::Error,
    },
    /// The system has no thread left.
    #[error("no thread can be started for the scheduler: {0}")]
    Thread(io::Error),
}

/// A result of this crate.
///
/// ```
/// fn nothing() -> polychord_serve::Result<()> {
///     Ok(())
/// }
/// assert!(nothing().is_ok());
/// ```
pub type Result<T, E = Error> = std::result::Result<T, E>;
