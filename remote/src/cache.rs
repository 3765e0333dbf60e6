//! Blocks of files on disk, of which the oldest make room for others.
//!
//! A block is a file named by what the file on the server is (address, ETag, length) and its number. It ends
//! in a digest, so that a block that was cut off or damaged is only missing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use polychord_folders::{Access, Folder};
use sha2::{Digest as _, Sha256};

use crate::digests::hex;
use crate::error::Error;
use crate::server::Meta;

/// A folder of blocks.
#[derive(Debug)]
pub(crate) struct Cache {
    path: PathBuf,
    /// Of the file on the server.
    key: String,
    most: u64,
    /// What this process has written since it last looked at what there is.
    written: Mutex<u64>,
}

const DIGEST: usize = 32;

impl Cache {
    pub(crate) fn open(path: PathBuf, most: u64, place: &str, meta: &Meta) -> Result<Self, Error> {
        Folder::make(&path, Access::Private).map_err(|error| Error::Cache(error.to_string()))?;
        let key = key(&format!("{place}\n{:?}\n{}", meta.validator, meta.len));
        let cache = Self { path, key, most, written: Mutex::new(u64::MAX) };
        cache.make_room(0);
        let known = known(&cache.path, place);
        let text = meta.to_text();
        if read(&known, text.len()).is_none_or(|old| old != text.as_bytes()) {
            cache.keep(&known, text.as_bytes());
        }
        Ok(cache)
    }

    /// What a file on a server was when it was opened last.
    pub(crate) fn last_known(path: &Path, place: &str) -> Option<Meta> {
        Folder::open(path, Access::Private).ok()?;
        let text = read(&known(path, place), MOST_KNOWN)?;
        Meta::from_text(str::from_utf8(&text).ok()?)
    }

    /// A block, if it is there and whole.
    pub(crate) fn get(&self, number: u64, len: usize) -> Option<Vec<u8>> {
        let path = self.block(number);
        let bytes = read(&path, len).filter(|bytes| bytes.len() == len)?;
        // What is used stays longer. If the system does not note it, it is read again some day.
        let now = fs::FileTimes::new().set_modified(SystemTime::now());
        _ = fs::File::options().write(true).open(&path).and_then(|file| file.set_times(now));
        Some(bytes)
    }

    /// Keeps the first block. One that has other bytes than before, with the same ETag, is of a file that the server
    /// does not tell from the one that others were read of: these are forgotten.
    pub(crate) fn begin_with(&self, first: &[u8]) {
        match self.get(0, first.len()) {
            Some(old) if old == first => return,
            Some(_) => {
                tracing::warn!(key = self.key, "the server has changed a file and not its ETag");
                let own = format!("{PREFIX}{}-", self.key);
                let is_own = |path: &Path| {
                    path.file_name()
                        .and_then(|it| it.to_str())
                        .is_some_and(|it| it.starts_with(&own))
                };
                let own = self.blocks().into_iter().map(|(.., path)| path).filter(|it| is_own(it));
                own.for_each(|path| _ = fs::remove_file(path));
            }
            None => {}
        }
        self.put(0, first);
    }

    /// Keeps a block. If that fails, it is read from the server again.
    pub(crate) fn put(&self, number: u64, bytes: &[u8]) {
        self.keep(&self.block(number), bytes);
    }

    fn keep(&self, path: &Path, bytes: &[u8]) {
        self.make_room((bytes.len() + DIGEST) as u64);
        if let Err(error) = write(path, bytes) {
            tracing::warn!(%error, path = %path.display(), "a block is not kept");
        }
    }

    /// Removes what was not used for the longest time, until there is room for `bytes`.
    fn make_room(&self, bytes: u64) {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        *written = written.saturating_add(bytes);
        // Looking at all of them each time would take longer than reading them.
        if bytes > 0 && *written < self.most / 16 {
            return;
        }
        *written = 0;
        let mut blocks = self.blocks();
        let mut total: u64 = blocks.iter().map(|(_, len, _)| *len).sum();
        // Room for what is written before the next look.
        let most = self.most - self.most / 8;
        blocks.sort_by_key(|(used, ..)| *used);
        for (_, len, path) in blocks {
            if total.saturating_add(bytes) <= most {
                break;
            }
            if fs::remove_file(&path).is_ok() {
                total -= len;
            }
        }
    }

    fn blocks(&self) -> Vec<(SystemTime, u64, PathBuf)> {
        let entries = fs::read_dir(&self.path).into_iter().flatten().flatten();
        let block = |entry: fs::DirEntry| {
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            // The caller may have other files there.
            entry.file_name().to_str()?.starts_with(PREFIX).then_some(())?;
            Some((metadata.modified().ok()?, metadata.len(), entry.path()))
        };
        entries.filter_map(block).collect()
    }

    fn block(&self, number: u64) -> PathBuf {
        self.path.join(format!("{PREFIX}{}-{number}", self.key))
    }
}

const PREFIX: &str = "block-";
/// Most bytes of what is known of a file: headers of a server have less.
const MOST_KNOWN: usize = 64 << 10;

/// Where it stands what a file on a server was. It makes room for others as blocks do.
fn known(path: &Path, place: &str) -> PathBuf {
    path.join(format!("{PREFIX}{}-file", key(place)))
}

fn key(name: &str) -> String {
    hex(&Sha256::digest(name))[..32].to_owned()
}

/// What `write` has written, if it is whole and no longer than this; anything else is removed.
fn read(path: &Path, most: usize) -> Option<Vec<u8>> {
    let file = fs::File::open(path).ok()?;
    let mut bytes = Vec::new();
    file.take((most + DIGEST) as u64 + 1).read_to_end(&mut bytes).ok()?;
    let len = bytes.len().checked_sub(DIGEST).filter(|len| *len <= most);
    let whole = len.filter(|len| Sha256::digest(&bytes[..*len])[..] == bytes[*len..]);
    if whole.is_none() {
        _ = fs::remove_file(path);
    }
    bytes.truncate(whole?);
    Some(bytes)
}

fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let part = path.with_extension(format!("part{}", std::process::id()));
    let mut file = fs::File::create(&part)?;
    file.write_all(bytes)?;
    file.write_all(&Sha256::digest(bytes))?;
    drop(file);
    // Readers see all of it or nothing.
    fs::rename(&part, path).inspect_err(|_| _ = fs::remove_file(&part))
}
