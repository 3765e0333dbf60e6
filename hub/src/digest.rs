//! Files that are hashed while they are written, and judged before they are used.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom, Write as _};
use std::path::PathBuf;

use polychord_folders::Folder;
use sha2::{Digest as _, Sha256};

use super::error::{Cause, Context as _};

/// How much is read at once.
const CHUNK: usize = 128 * 1024;

/// What is known about a file before it is here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) size: Option<u64>,
    /// In lower-case hexadecimal.
    pub(super) sha256: Option<String>,
}

/// A complete file that is what was expected, on disk for good, but not yet under its final name.
#[derive(Debug)]
pub(super) struct Verified {
    pub(super) path: PathBuf,
    pub(super) sha256: String,
}

/// A file being written.
#[derive(Debug)]
pub(super) struct Sink {
    path: PathBuf,
    file: File,
    hasher: Sha256,
    len: u64,
}

impl Sink {
    /// Starts an empty file, in place of whatever is there. It is a new file: what a link of this
    /// name leads to stays as it is.
    pub(super) fn create(work: &Folder, name: &str) -> Result<Self, Cause> {
        let file = work.create_file_anew(name, 0o644)?;
        Ok(Self { path: work.path().join(name), file, hasher: Sha256::new(), len: 0 })
    }

    /// Goes on after the bytes that are there, which are read once for their hash. A file that is
    /// not the user's own and no other's begins anew.
    pub(super) fn resume(work: &Folder, name: &str) -> Result<Self, Cause> {
        let Ok(Some(mut file)) = work.open_file_to_write(name) else {
            return Self::create(work, name);
        };
        let path = work.path().join(name);
        let mut hasher = Sha256::new();
        let len = hash_into(&mut hasher, &mut file).in_source("read", &path)?;
        Ok(Self { path, file, hasher, len })
    }

    /// How many bytes are there.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Forgets what is there.
    pub(super) fn restart(&mut self) -> Result<(), Cause> {
        self.file.set_len(0).in_source("empty", &self.path)?;
        self.file.seek(SeekFrom::Start(0)).in_source("rewind", &self.path)?;
        self.hasher = Sha256::new();
        self.len = 0;
        Ok(())
    }

    /// Takes all of `from`, but never much more than `expected`. `broken` words an error of reading.
    pub(super) fn fill(
        &mut self,
        from: &mut dyn Read,
        expected: &Expected,
        broken: impl Fn(io::Error) -> Cause,
        mut advanced: impl FnMut(u64),
    ) -> Result<(), Cause> {
        let mut chunk = vec![0; CHUNK];
        loop {
            advanced(self.len);
            let n = match from.read(&mut chunk) {
                Ok(0) => return Ok(()),
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(broken(e)),
            };
            let bytes = chunk.get(..n).unwrap_or_default();
            self.file.write_all(bytes).in_source("write", &self.path)?;
            self.hasher.update(bytes);
            self.len = self.len.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
            check_size_at_most(expected, self.len)?;
        }
    }

    /// Judges the whole file and makes it durable.
    pub(super) fn finish(mut self, expected: &Expected) -> Result<Verified, Cause> {
        let sha256 = hex(&self.hasher.finalize());
        check(expected, self.len, &sha256)?;
        check_magic(&mut self.file).in_source("read", &self.path)??;
        self.file.sync_all().in_source("flush", &self.path)?;
        Ok(Verified { path: self.path, sha256 })
    }
}

/// Judges a file that someone else wrote.
pub(super) fn verify(path: PathBuf, expected: &Expected) -> Result<Verified, Cause> {
    let mut file = File::open(&path).in_source("open", &path)?;
    let (len, sha256) = hash_file(&mut file).in_source("read", &path)?;
    check(expected, len, &sha256)?;
    check_magic(&mut file).in_source("read", &path)??;
    Ok(Verified { path, sha256 })
}

/// The size and the SHA-256 of a file that was just opened.
pub(super) fn hash_file(file: &mut File) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let len = hash_into(&mut hasher, file)?;
    Ok((len, hex(&hasher.finalize())))
}

fn hash_into(hasher: &mut Sha256, from: &mut dyn Read) -> io::Result<u64> {
    let mut chunk = vec![0; CHUNK];
    let mut len: u64 = 0;
    loop {
        let n = match from.read(&mut chunk) {
            Ok(0) => return Ok(len),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        };
        hasher.update(chunk.get(..n).unwrap_or_default());
        len = len.saturating_add(u64::try_from(n).unwrap_or(u64::MAX));
    }
}

/// The SHA-256 of a text.
pub(super) fn hash_text(text: &str) -> String {
    hex(&Sha256::digest(text.as_bytes()))
}

/// Whether `text` looks like a SHA-256 in hexadecimal.
pub(super) fn is_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())
}

fn check_size_at_most(expected: &Expected, found: u64) -> Result<(), Cause> {
    match expected.size {
        Some(expected) if found > expected => Err(Cause::Size { expected, found }),
        _ => Ok(()),
    }
}

fn check(expected: &Expected, size: u64, sha256: &str) -> Result<(), Cause> {
    if let Some(expected) = expected.size.filter(|&expected| expected != size) {
        return Err(Cause::Size { expected, found: size });
    }
    match &expected.sha256 {
        Some(expected) if expected != sha256 => {
            Err(Cause::Sha256 { expected: expected.clone(), found: sha256.into() })
        }
        _ => Ok(()),
    }
}

/// Reads the first bytes once more, of the file that was hashed.
fn check_magic(file: &mut File) -> io::Result<Result<(), Cause>> {
    let mut magic = Vec::with_capacity(4);
    file.seek(SeekFrom::Start(0))?;
    file.take(4).read_to_end(&mut magic)?;
    Ok(if magic == b"GGUF" { Ok(()) } else { Err(Cause::NotGguf) })
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    bytes
        .iter()
        .flat_map(|byte| [usize::from(byte >> 4), usize::from(byte & 15)])
        .filter_map(|digit| DIGITS.get(digit))
        .collect()
}
