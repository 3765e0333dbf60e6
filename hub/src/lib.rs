//! The model cache: from what a user writes to a file that can be opened.
//!
//! ```no_run
//! use polychord_hub::{Hub, ModelRef, Silent};
//!
//! let model: ModelRef = "hf:owner/repo/model.gguf".parse()?;
//! let path = Hub::new()?.resolve(&model, &mut Silent)?;
//! # Ok::<(), polychord_hub::Error>(())
//! ```
//!
//! A model is fetched once, verified (the default one against a digest that is part of this library),
//! and put under its final name by a rename, so that an interrupted fetch never leaves half a model
//! and two processes never disturb each other. What is cached is hashed again only if its size or
//! time changed.

mod cache;
mod default_name;
mod digest;
mod error;
mod huggingface;
mod progress;
mod reference;
mod sources;
mod space;
#[cfg(test)]
mod tests;
mod wheel;

use std::io;
use std::path::{Path, PathBuf};

use cache::Slot;
pub use default_name::DEFAULT_NAME;
use digest::Expected;
pub use error::{Attempt, Cause, Error, Unavailable, chain};
pub use progress::{Progress, Silent};
pub use reference::{HfFile, ModelRef};
use sources::{Pinned, Settings, Source};

/// The models on this machine, and the ways to get more.
///
/// ```
/// use polychord_hub::{Hub, ModelRef};
///
/// let hub = Hub::with_cache_dir("/var/cache/models");
/// let model: ModelRef = "hf:owner/repo/model.gguf".parse()?;
/// // Asks no network.
/// match hub.cached(&model) {
///     Some(path) => println!("{model} is at {}", path.display()),
///     None => println!("{model} is not in {}", hub.cache_dir().display()),
/// }
/// # Ok::<(), polychord_hub::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Hub {
    root: PathBuf,
    settings: Settings,
    pinned: Pinned,
}

impl Hub {
    /// The user's cache: `$POLYCHORD_CACHE`, else `$XDG_CACHE_HOME/polychord`, else `polychord` in the
    /// platform's folder for caches (`~/.cache` on Linux). Creates nothing yet.
    ///
    /// `HF_ENDPOINT`, `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE` and `HF_HUB_OFFLINE` mean what they mean to
    /// Hugging Face's own tools; pip reads its own configuration.
    ///
    /// # Errors
    ///
    /// [`Error::NoCacheFolder`] if neither these variables nor the system name a folder.
    pub fn new() -> Result<Self, Error> {
        Ok(Self::with_cache_dir(cache::default_root()?))
    }

    /// The path of `model`: the file itself, which needs no cache, or one in the user's cache, which
    /// [`new`](Self::new) finds and [`resolve`](Self::resolve) fills.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`resolve`](Self::resolve), and of [`new`](Self::new) unless `model` is
    /// a path.
    pub fn find(model: &ModelRef, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        match model {
            ModelRef::Path(path) => existing_file(path),
            _ => Self::new()?.resolve(model, progress),
        }
    }

    /// A hub with its cache in `folder`.
    pub fn with_cache_dir(folder: impl Into<PathBuf>) -> Self {
        Self { root: folder.into(), settings: Settings::from_env(), pinned: sources::DEFAULT }
    }

    /// The folder of the cache.
    pub fn cache_dir(&self) -> &Path {
        &self.root
    }

    /// The path of `model`, if it is a file on this machine or cached and undamaged. Touches no network.
    pub fn cached(&self, model: &ModelRef) -> Option<PathBuf> {
        match model {
            ModelRef::Path(path) => path.is_file().then(|| path.clone()),
            ModelRef::HuggingFace(file) => self.slot_of(file).valid(&Expected::default()),
            ModelRef::Default => self.default_slot().valid(&self.pinned.expected()),
        }
    }

    /// The path of `model`; fetches it first if it is not cached, or damaged.
    ///
    /// Waits if another process is fetching the same model. An interrupted download from Hugging Face
    /// goes on where it stopped.
    ///
    /// # Errors
    ///
    /// - [`Error::NoSuchFile`] if `model` is a path, and no file is there.
    /// - [`Error::Cache`] if the cache folder cannot be used.
    /// - [`Error::UnsafeCache`] if another user could exchange what is written there.
    /// - [`Error::Unavailable`] if no source could provide the model.
    pub fn resolve(&self, model: &ModelRef, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        match model {
            ModelRef::Path(path) => existing_file(path),
            ModelRef::HuggingFace(file) => {
                let sources = [Source::LocalCache(file.clone()), Source::HuggingFace(file.clone())];
                let other_ways = sources::ways_to(file, &self.root);
                let request = Request { model, sources: &sources, other_ways };
                self.obtain(&self.slot_of(file), &Expected::default(), request, progress)
            }
            ModelRef::Default => {
                let request = Request {
                    model,
                    sources: &self.pinned.sources(),
                    other_ways: self.pinned.other_ways(&self.root),
                };
                self.obtain(&self.default_slot(), &self.pinned.expected(), request, progress)
            }
        }
    }

    /// Finds the model in its slot, or fetches it from the first source that has it.
    fn obtain(
        &self,
        slot: &Slot,
        expected: &Expected,
        request: Request<'_>,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, Error> {
        if let Some(path) = slot.valid(expected) {
            return Ok(path);
        }
        let outcome = self.fetch(slot, expected, request, progress);
        progress.finished();
        outcome
    }

    fn fetch(
        &self,
        slot: &Slot,
        expected: &Expected,
        request: Request<'_>,
        progress: &mut dyn Progress,
    ) -> Result<PathBuf, Error> {
        let guard = slot.lock(progress)?;
        // The previous holder of the lock may have fetched it.
        if let Some(path) = slot.valid(expected) {
            slot.clean(&guard);
            return Ok(path);
        }
        let mut attempts = Vec::new();
        for source in request.sources {
            match source.fetch(&self.settings, expected, &guard, progress) {
                Ok(Some(verified)) => {
                    let path = slot.commit(&guard, &verified)?;
                    slot.clean(&guard);
                    return Ok(path);
                }
                Ok(None) => {}
                Err(cause) => {
                    let source = source.to_string();
                    progress.failed(&source, &cause);
                    attempts.push(Attempt { source, cause });
                }
            }
        }
        let model = request.model.to_string();
        Err(Unavailable { model, attempts, other_ways: request.other_ways }.into())
    }

    fn slot_of(&self, file: &HfFile) -> Slot {
        // `~` stands in no name or revision.
        let revision = file.revision().replace('/', "~");
        let (owner, repo, path) = (file.owner(), file.repo(), file.path());
        Slot::new(&self.root, &format!("hf/{owner}/{repo}/{revision}/{path}"))
    }

    fn default_slot(&self) -> Slot {
        Slot::new(&self.root, self.pinned.file_name)
    }
}

/// What is wanted, and from where.
struct Request<'a> {
    model: &'a ModelRef,
    sources: &'a [Source],
    other_ways: Vec<String>,
}

fn existing_file(path: &Path) -> Result<PathBuf, Error> {
    let missing = |source| Error::NoSuchFile { path: path.into(), source };
    // Opened and not only looked at: neither a pipe nor a device is a model, nor is a file that
    // may not be read.
    match polychord_runtime_api::Source::open(path) {
        Ok(_) => Ok(path.into()),
        Err(polychord_runtime_api::Error::Io { source, .. }) => Err(missing(source)),
        Err(error @ polychord_runtime_api::Error::NotAFile { .. }) => {
            Err(missing(io::Error::other(error)))
        }
        Err(error) => Err(missing(io::Error::other(error))),
    }
}
