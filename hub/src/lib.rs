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
mod choice;
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
pub use reference::{HfFile, HfRepo, ModelRef};
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

    /// Touches no network, as with `HF_HUB_OFFLINE`, and starts no pip: what is on this machine has to
    /// do.
    #[must_use]
    pub fn offline(mut self, offline: bool) -> Self {
        self.settings.offline = offline;
        self
    }

    /// The folder of the cache.
    pub fn cache_dir(&self) -> &Path {
        &self.root
    }

    /// The path of `model`, if it is a file on this machine or cached and undamaged. Touches no network.
    pub fn cached(&self, model: &ModelRef) -> Option<PathBuf> {
        match model {
            ModelRef::Path(path) => path.is_file().then(|| path.clone()),
            ModelRef::HuggingFace(file) => self.cached_parts(file),
            ModelRef::Repository(repo) => {
                let paths = choice::files_below(&self.folder_of(repo));
                self.cached_parts(&repo.file(choice::choose(&paths, repo.tag())?)?)
            }
            ModelRef::Default => self.default_slot().valid(&self.pinned.expected()),
        }
    }

    /// The path of `model`; fetches it first if it is not cached, or damaged.
    ///
    /// Waits if another process is fetching the same model. An interrupted download from Hugging Face
    /// goes on where it stopped. Of a model in several parts all are fetched, and the path is that of
    /// the first, beside which the others lie.
    ///
    /// Of a repository, a file that is cached is preferred where no better one could be in the
    /// repository, which is then not asked.
    ///
    /// # Errors
    ///
    /// - [`Error::NoSuchFile`] if `model` is a path, and no file is there.
    /// - [`Error::Cache`] if the cache folder cannot be used.
    /// - [`Error::UnsafeCache`] if another user could exchange what is written there.
    /// - [`Error::Unavailable`] if no source could provide the model.
    /// - [`Error::NotInRepository`] if a repository has no file that could be meant.
    pub fn resolve(&self, model: &ModelRef, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        match model {
            ModelRef::Path(path) => existing_file(path),
            ModelRef::HuggingFace(file) => self.obtain_parts(file, progress),
            ModelRef::Repository(repo) => {
                let file = self.choose(repo, progress)?;
                self.obtain_parts(&file, progress)
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

    /// The file of a repository that is meant.
    fn choose(&self, repo: &HfRepo, progress: &mut dyn Progress) -> Result<HfFile, Error> {
        let settings = &self.settings.hugging_face;
        let mut cached = choice::files_below(&self.folder_of(repo));
        if let Some(folder) = huggingface::local_folder(settings, repo) {
            cached.extend(choice::files_below(&folder));
        }
        let here = choice::choose(&cached, repo.tag());
        if let Some(file) = here.filter(|path| choice::is_best(path, repo.tag())) {
            return repo.file(file).ok_or_else(|| self.not_in(repo, &cached));
        }
        let listed = match self.settings.is_offline() {
            true => Err(Cause::Offline),
            false => huggingface::list(settings, repo),
        };
        match (listed, here) {
            (Ok(paths), _) => {
                let file = choice::choose(&paths, repo.tag()).and_then(|path| repo.file(path));
                file.ok_or_else(|| self.not_in(repo, &paths))
            }
            (Err(cause), Some(here)) => {
                let cause = chain(&cause);
                progress.warn(&format!("cannot ask what is in {repo} ({cause}): taking {here}"));
                repo.file(here).ok_or_else(|| self.not_in(repo, &cached))
            }
            (Err(cause), None) => {
                let source = format!("Hugging Face ({}/{})", repo.owner(), repo.repo());
                let attempts = vec![Attempt { source, cause }];
                let other_ways = sources::ways_to(repo.owner(), repo.repo(), &self.root);
                Err(Unavailable { model: repo.to_string(), attempts, other_ways }.into())
            }
        }
    }

    fn not_in(&self, repo: &HfRepo, paths: &[String]) -> Error {
        let has = paths.iter().filter(|path| path.ends_with(".gguf")).cloned().collect();
        Error::NotInRepository { repo: repo.to_string(), has }
    }

    /// The first part of a model, if all are cached.
    fn cached_parts(&self, file: &HfFile) -> Option<PathBuf> {
        let valid = |file: &HfFile| self.slot_of(file).valid(&Expected::default());
        let paths: Vec<_> = file.parts().iter().map(valid).collect::<Option<_>>()?;
        paths.into_iter().next()
    }

    /// Finds or fetches all parts of a model; gives the path of the first.
    fn obtain_parts(&self, file: &HfFile, progress: &mut dyn Progress) -> Result<PathBuf, Error> {
        let mut first = None;
        for file in file.parts() {
            let sources = [Source::LocalCache(file.clone()), Source::HuggingFace(file.clone())];
            let request = Request {
                model: &ModelRef::HuggingFace(file.clone()),
                sources: &sources,
                other_ways: sources::ways_to(file.owner(), file.repo(), &self.root),
            };
            let slot = self.slot_of(&file);
            let path = self.obtain(&slot, &Expected::default(), request, progress)?;
            first.get_or_insert(path);
        }
        // There is always one.
        first.ok_or_else(|| Error::Reference {
            text: file.to_string(),
            reason: "it is part of nothing".into(),
        })
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
        if attempts.is_empty() {
            let source = request.sources.last().map(Source::to_string).unwrap_or_default();
            attempts.push(Attempt { source, cause: Cause::Offline });
        }
        let model = request.model.to_string();
        Err(Unavailable { model, attempts, other_ways: request.other_ways }.into())
    }

    fn slot_of(&self, file: &HfFile) -> Slot {
        let folder = folder(file.owner(), file.repo(), file.revision());
        Slot::new(&self.root, &format!("{folder}/{}", file.path()))
    }

    /// Where the cached files of a repository are.
    fn folder_of(&self, repo: &HfRepo) -> PathBuf {
        Slot::folder(&self.root, &folder(repo.owner(), repo.repo(), repo.revision()))
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

/// The folder of a repository, below that of models.
fn folder(owner: &str, repo: &str, revision: &str) -> String {
    // `~` stands in no name or revision.
    format!("hf/{owner}/{repo}/{}", revision.replace('/', "~"))
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
