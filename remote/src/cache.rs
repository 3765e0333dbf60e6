//! Blocks of files on disk, of which the oldest make room for others.
//!
//! A block is a file named by what the file on the server is (address, ETag, length) and its number. It ends
//! in a digest, so that a block that was cut off or damaged is only missing.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
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
    pub(crate) fn open(path: PathBuf, most: u64, url: &str, meta: &Meta) -> Result<Self, Error> {
        Folder::make(&path, Access::Private).map_err(|error| Error::Cache(error.to_string()))?;
        let mut hash = Sha256::new();
        let name = format!("{url}\n{:?}\n{}", meta.validator, meta.len);
        hash.update(name);
        let key = hex(&hash.finalize())[..32].to_owned();
        let cache = Self { path, key, most, written: Mutex::new(u64::MAX) };
        cache.make_room(0);
        Ok(cache)
    }

    /// A block, if it is there and whole.
    pub(crate) fn get(&self, number: u64, len: usize) -> Option<Vec<u8>> {
        let path = self.block(number);
        let mut bytes = Vec::with_capacity(len + DIGEST);
        let file = fs::File::open(&path).ok()?;
        file.take((len + DIGEST) as u64 + 1).read_to_end(&mut bytes).ok()?;
        let whole =
            bytes.len() == len + DIGEST && Sha256::digest(&bytes[..len])[..] == bytes[len..];
        if !whole {
            _ = fs::remove_file(&path);
            return None;
        }
        bytes.truncate(len);
        // What is used stays longer. If the system does not note it, it is read again some day.
        let now = fs::FileTimes::new().set_modified(SystemTime::now());
        _ = fs::File::options().write(true).open(&path).and_then(|file| file.set_times(now));
        Some(bytes)
    }

    /// Keeps a block. If that fails, it is read from the server again.
    pub(crate) fn put(&self, number: u64, bytes: &[u8]) {
        self.make_room((bytes.len() + DIGEST) as u64);
        if let Err(error) = self.write(number, bytes) {
            tracing::warn!(%error, path = %self.path.display(), "a block is not kept");
        }
    }

    fn write(&self, number: u64, bytes: &[u8]) -> std::io::Result<()> {
        let path = self.block(number);
        let part = path.with_extension(format!("part{}", std::process::id()));
        let mut file = fs::File::create(&part)?;
        file.write_all(bytes)?;
        file.write_all(&Sha256::digest(bytes))?;
        drop(file);
        // Readers see all of it or nothing.
        fs::rename(&part, &path).inspect_err(|_| _ = fs::remove_file(&part))
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
