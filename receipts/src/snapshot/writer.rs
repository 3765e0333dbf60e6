//! Writing sections.

use std::io::Write;

use super::WHAT;
use super::blocks::{BlockWriter, Compression};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Writes a snapshot, section by section, and keeps no more of it than a block.
///
/// ```
/// use polychord_receipts::snapshot::{Compression, Writer, tag};
///
/// let mut writer = Writer::new(Vec::new(), Compression::Zstd)?;
/// writer.begin(tag::TOKENS, 4)?;
/// writer.write(&7_u32.to_le_bytes())?;
/// println!("{}", writer.finish()?);
/// # Ok::<(), polychord_receipts::Error>(())
/// ```
pub struct Writer<W> {
    blocks: BlockWriter<W>,
    /// Bytes that the section still has to get.
    left: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it cannot be written.
    pub fn new(out: W, compression: Compression) -> Result<Self> {
        Ok(Self { blocks: BlockWriter::new(out, compression)?, left: 0 })
    }

    /// Begins a section of `bytes` bytes.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the section before is not complete, and [`Error::Io`].
    pub fn begin(&mut self, tag: [u8; 4], bytes: u64) -> Result<()> {
        self.check_complete()?;
        self.blocks.write(&tag)?;
        self.blocks.write(&bytes.to_le_bytes())?;
        self.left = bytes;
        Ok(())
    }

    /// Writes bytes of the section.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] for more than it has, and [`Error::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let left = self.left.checked_sub(bytes.len() as u64);
        self.left = left.ok_or_else(|| wrong("a section gets more bytes than it has"))?;
        self.blocks.write(bytes)
    }

    /// Writes the rest, and returns the digest of the whole snapshot.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the last section is not complete, and [`Error::Io`].
    pub fn finish(self) -> Result<Digest> {
        self.check_complete()?;
        self.blocks.finish()
    }

    fn check_complete(&self) -> Result<()> {
        if self.left > 0 {
            return Err(wrong("a section gets fewer bytes than it has"));
        }
        Ok(())
    }
}

impl<W> std::fmt::Debug for Writer<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Writer").field("left", &self.left).finish_non_exhaustive()
    }
}

fn wrong(reason: &str) -> Error {
    Error::damaged(WHAT, "what is written", reason)
}
