//! Native code that engines have compiled, kept where no other user can change it.
//!
//! A compiled guest is native code that runs with all rights of the user, so what is loaded
//! must be exactly what this user compiled: the folder and its files belong to
//! the user alone, and each file ends with a hash of itself and of its source.
//! That hash has no key: it finds damage, and the permissions keep other users away. A file is
//! opened once, and the bytes that were checked are the bytes that are returned.

mod key;
mod room;
mod seal;

use std::fmt::Display;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use polychord_folders::{Access, Folder};

pub use key::Key;
pub use polychord_folders::Error as FolderError;

/// Compiled code in a folder of the user's own. Clones share it.
///
/// ```
/// use polychord_code_cache::{CodeCache, Key};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let cache = CodeCache::open(folder.join("code"))?;
/// let key = Key::new("engine", "1.0", b"settings", b"module");
/// assert_eq!(cache.find(&key)?, None);
/// cache.keep(&key, b"code")?;
/// assert_eq!(cache.find(&key)?.as_deref(), Some(&b"code"[..]));
/// # Ok::<(), polychord_code_cache::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct CodeCache {
    folder: Arc<Folder>,
    max_bytes: u64,
}

/// Most bytes that a cache keeps by default: 1 GiB. The guest of a model takes 1 to 3 MB, a language
/// runtime up to 100.
const MAX_BYTES: u64 = 1 << 30;

/// Why code can be neither found nor kept.
///
/// ```
/// use polychord_code_cache::{CodeCache, Error};
///
/// // No folder can be made in a file.
/// let error = CodeCache::open("/dev/null/code").unwrap_err();
/// assert!(matches!(error, Error::Folder(_)), "{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The user has no folder for caches, and `POLYCHORD_CACHE` names none.
    #[error("there is no folder for compiled code: set POLYCHORD_CACHE")]
    NoFolder,
    /// The folder or a file in it cannot be used, or others could change it.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

/// Result with the [`Error`] of this crate.
///
/// ```
/// use polychord_code_cache::{CodeCache, Result};
///
/// fn small() -> Result<CodeCache> {
///     Ok(CodeCache::open_default()?.max_bytes(64 << 20))
/// }
/// ```
pub type Result<T> = std::result::Result<T, Error>;

impl CodeCache {
    /// Uses a folder, or makes it.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] if it cannot be made, or if another user could change it or what leads to it.
    pub fn open(folder: impl AsRef<Path>) -> Result<Self> {
        let folder = Folder::make(folder.as_ref(), Access::Private)?;
        Ok(Self { folder: Arc::new(folder), max_bytes: MAX_BYTES })
    }

    /// Uses the folder `aot` in `$POLYCHORD_CACHE`, or in `polychord` in the user's cache folder.
    ///
    /// # Errors
    ///
    /// [`Error::NoFolder`] if there is neither; otherwise returns the errors of [`open`](Self::open).
    pub fn open_default() -> Result<Self> {
        Self::open(Self::default_folder().ok_or(Error::NoFolder)?)
    }

    /// The folder that [`open_default`](Self::open_default) uses, whether it can be used or not; none if
    /// the user has no folder for caches.
    #[must_use]
    pub fn default_folder() -> Option<PathBuf> {
        let set = std::env::var_os("POLYCHORD_CACHE").filter(|value| !value.is_empty());
        let cache =
            set.map(PathBuf::from).or_else(|| Some(dirs::cache_dir()?.join("polychord")))?;
        Some(cache.join("aot"))
    }

    /// A cache in a folder within this one, with the same bound.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`open`](Self::open).
    pub fn within(&self, name: &str) -> Result<Self> {
        Ok(Self::open(self.path().join(name))?.max_bytes(self.max_bytes))
    }

    /// Sets how many bytes are kept: what was not used for the longest time is removed first.
    #[must_use]
    pub fn max_bytes(self, most: u64) -> Self {
        Self { max_bytes: most, ..self }
    }

    /// The path of the folder, without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Checks again that no other user can change the folder or what leads to it.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] names what others could change.
    pub fn check(&self) -> Result<()> {
        Ok(self.folder.check()?)
    }

    /// The code that is kept for a key, if it is there, is the user's own, and is what was written.
    /// A file that is damaged is no error: it is as if there were none.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] if others could have written it, or if it cannot be read.
    pub fn find(&self, key: &Key) -> Result<Option<Vec<u8>>> {
        self.check()?;
        let name = key.file_name();
        let Some(mut file) = self.folder.open_file(&name)? else { return Ok(None) };
        let path = self.path().join(&name);
        let mut bytes = Vec::new();
        let read = file.read_to_end(&mut bytes);
        let failed = |source| FolderError::Io { action: "read", path: path.clone(), source };
        read.map_err(failed)?;
        let Some(code) = seal::code_len(&bytes, key) else {
            let (file, len) = (path.display(), bytes.len());
            tracing::warn!(%file, len, "compiled code is damaged; compiling it again");
            return Ok(None);
        };
        tracing::debug!(file = %path.display(), "compiled code found");
        // It is the last that makes room. A file system that has no times removes what it likes.
        _ = file.set_modified(SystemTime::now());
        bytes.truncate(code);
        Ok(Some(bytes))
    }

    /// Keeps code for a key: all of it, or nothing. What was not used for the longest time makes room;
    /// code that has no room at all is not kept.
    ///
    /// # Errors
    ///
    /// [`Error::Folder`] if others could change the folder, or if it cannot be written.
    pub fn keep(&self, key: &Key, code: &[u8]) -> Result<()> {
        self.check()?;
        if code.len() as u64 > self.max_bytes {
            let (len, most) = (code.len(), self.max_bytes);
            tracing::debug!(len, most, "compiled code is larger than the cache, and not kept");
            return Ok(());
        }
        let name = key.file_name();
        // Loaders of object files go by their headers and ignore what follows.
        self.folder.replace(&name, &[code, &seal::of(code, key), key::MAGIC], 0o600)?;
        room::make(&self.folder, self.max_bytes, &name);
        Ok(())
    }

    /// Loads the code that is kept for a key; or compiles, keeps and loads it. For engines that do
    /// not need a cache: one that cannot be used is as if it were empty, which the log tells.
    ///
    /// `load` gets bytes that `compile` has returned, now or in a process of this user before. Code
    /// that it refuses is compiled again.
    ///
    /// # Errors
    ///
    /// Returns the errors of `compile`, and those of `load` for what was just compiled.
    pub fn load<T, E: Display>(
        &self,
        key: &Key,
        compile: impl FnOnce() -> std::result::Result<Vec<u8>, E>,
        load: impl Fn(&[u8]) -> std::result::Result<T, E>,
    ) -> std::result::Result<T, E> {
        let found = self.find(key).unwrap_or_else(|error| {
            tracing::warn!("compiled code is not looked for: {error}");
            None
        });
        if let Some(code) = found {
            match load(&code) {
                Ok(loaded) => return Ok(loaded),
                Err(error) => {
                    tracing::warn!("compiled code is of no use, compiling again: {error}")
                }
            }
        }
        let code = compile()?;
        if let Err(error) = self.keep(key, &code) {
            tracing::warn!("compiled code is not kept: {error}");
        }
        load(&code)
    }
}
