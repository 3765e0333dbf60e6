//! Keys that sign receipts, and the files in which they are.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::str::FromStr;

use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{from_hex, from_hex_text, to_hex};
use crate::error::{Error, Result};

/// A secret key of ed25519, by which receipts are signed.
///
/// Its file has two lines: `polychord ed25519 key 1`, and the 64 hexadecimal digits of its seed. On
/// Unix only its owner may have any access to it.
///
/// ```
/// use polychord_receipts::Key;
///
/// let folder = tempfile::tempdir()?;
/// let path = folder.path().join("key");
/// let key = Key::create(&path)?;
/// assert_eq!(Key::read(&path)?.public(), key.public());
/// // A key that is there is not replaced.
/// assert!(Key::create(&path).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Key(SigningKey);

/// The public part of a [`Key`], which tells whose receipt it is: 64 hexadecimal digits as text.
///
/// ```
/// use polychord_receipts::{Key, PublicKey};
///
/// let public = Key::from_seed([7; 32]).public();
/// assert_eq!(public.to_string().parse::<PublicKey>()?, public);
/// # Ok::<(), polychord_receipts::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKey([u8; 32]);

const FIRST_LINE: &str = "polychord ed25519 key 1";

impl Key {
    /// The key of a seed: 32 random bytes.
    #[must_use]
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// Makes a new key, and a file for it that no other user may read.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if the file is there already or cannot be written, or the system has no random
    /// numbers.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |reason: String| Error::Key { path: path.to_owned(), reason };
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|error| wrong(error.to_string()))?;
        let mut file = create_private(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => wrong("the file is there already".into()),
            _ => wrong(error.to_string()),
        })?;
        let written = write!(file, "{FIRST_LINE}\n{}\n", to_hex(&seed));
        written.and_then(|()| file.sync_all()).map_err(|error| wrong(error.to_string()))?;
        Ok(Self::from_seed(seed))
    }

    /// Reads the key that a file has.
    ///
    /// # Errors
    ///
    /// [`Error::Key`] if it cannot be read, other users have access to it, or it is no key.
    pub fn read(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let wrong = |reason: String| Error::Key { path: path.to_owned(), reason };
        let file = open(path).map_err(|error| wrong(error.to_string()))?;
        check_private(&file).map_err(wrong)?;
        let mut text = String::new();
        let read = file.take(256).read_to_string(&mut text);
        read.map_err(|error| wrong(error.to_string()))?;
        let seed = text.strip_prefix(FIRST_LINE).and_then(|rest| rest.strip_prefix('\n'));
        let seed = seed.map(|rest| rest.strip_suffix('\n').unwrap_or(rest));
        let seed = seed.and_then(|digits| from_hex(digits).ok());
        let no_key = || wrong("it is no key: polychord key writes one".into());
        Ok(Self::from_seed(seed.ok_or_else(no_key)?))
    }

    /// The part that anyone may know.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    pub(crate) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }
}

impl PublicKey {
    /// Whether a signature is that of a message by this key.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        let key = VerifyingKey::from_bytes(&self.0);
        key.is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for Key {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("public", &self.public()).finish_non_exhaustive()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&to_hex(&self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PublicKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        from_hex(text).map(Self)
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&to_hex(&self.0))
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        from_hex_text(deserializer).map(Self)
    }
}

#[cfg(unix)]
fn create_private(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

#[cfg(not(unix))]
fn create_private(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

/// Opens a file, and nothing that would be waited for.
fn open(path: &Path) -> io::Result<File> {
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("it is no file"));
    }
    File::open(path)
}

/// Looks at the file that is open, whatever its path leads to by then.
#[cfg(unix)]
fn check_private(file: &File) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt as _;
    let metadata = file.metadata().map_err(|error| error.to_string())?;
    let mode = metadata.mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!(
            "other users have access to it (mode {mode:o}): chmod 600, or make a new key"
        ));
    }
    Ok(())
}

#[cfg(not(unix))]
fn check_private(_: &File) -> Result<(), String> {
    Ok(())
}
