//! Reading sections.

use std::io::Read;

use super::WHAT;
use super::blocks::BlockReader;
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Reads a snapshot, section by section, and keeps no more of it than a block.
///
/// Bytes are verified before they are given out, a block at a time.
///
/// ```
/// use polychord_receipts::snapshot::Reader;
///
/// assert!(Reader::new(&b"no snapshot, but some text"[..]).is_err());
/// ```
pub struct Reader<R> {
    blocks: BlockReader<R>,
    /// Bytes of the section that were not read yet.
    left: u64,
    /// A section that was looked at, and is still to come.
    next: Option<Section>,
}

/// How a section begins.
///
/// ```
/// use polychord_receipts::snapshot::{Section, tag};
///
/// fn is_known(section: &Section) -> bool {
///     section.tag == tag::ROWS && section.bytes < 1 << 40
/// }
/// # let _ = is_known;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Section {
    /// Its name.
    pub tag: [u8; 4],
    /// How many bytes it says that it has.
    pub bytes: u64,
}

impl<R: Read> Reader<R> {
    /// Reads how a snapshot begins.
    ///
    /// # Errors
    ///
    /// [`Error::Foreign`] if it is something else, [`Error::Version`] if it is of a newer version,
    /// [`Error::Cut`] and [`Error::Io`].
    pub fn new(input: R) -> Result<Self> {
        Ok(Self { blocks: BlockReader::new(input)?, left: 0, next: None })
    }

    /// The next section; none behind the last one. What was not read of the one before is skipped.
    ///
    /// # Errors
    ///
    /// [`Error::Cut`], [`Error::Damaged`] and [`Error::Io`].
    pub fn next_section(&mut self) -> Result<Option<Section>> {
        if let Some(section) = self.next.take() {
            self.left = section.bytes;
            return Ok(Some(section));
        }
        self.skip()?;
        if !self.blocks.has_more()? {
            return Ok(None);
        }
        let (mut tag, mut bytes) = ([0; 4], [0; 8]);
        self.blocks.read(&mut tag)?;
        self.blocks.read(&mut bytes)?;
        self.left = u64::from_le_bytes(bytes);
        Ok(Some(Section { tag, bytes: self.left }))
    }

    /// The next section if it has that name. Sections before it that need not be known are skipped.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`], and those of [`next_section`](Self::next_section).
    pub fn find_section(&mut self, tag: [u8; 4]) -> Result<Option<Section>> {
        while let Some(section) = self.next_section()? {
            if section.tag == tag {
                return Ok(Some(section));
            }
            if KNOWN.contains(&section.tag) {
                self.next = Some(section);
                // Not to be skipped, as it is still to come.
                self.left = 0;
                return Ok(None);
            }
            check_skippable(section.tag)?;
        }
        Ok(None)
    }

    /// Makes sure that no section follows that has to be known.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownSection`], or [`Error::Damaged`] for one that comes too late, and those of
    /// [`next_section`](Self::next_section).
    pub fn expect_end(&mut self) -> Result<()> {
        while let Some(Section { tag, .. }) = self.next_section()? {
            if KNOWN.contains(&tag) {
                let place = format!("the section {}", String::from_utf8_lossy(&tag));
                return Err(Error::damaged(WHAT, place, "it comes twice, or in the wrong order"));
            }
            check_skippable(tag)?;
        }
        Ok(())
    }

    /// Fills `out` with bytes of the section.
    ///
    /// # Errors
    ///
    /// [`Error::Cut`] if it has fewer, [`Error::Damaged`] and [`Error::Io`].
    pub fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let left = self.left.checked_sub(out.len() as u64);
        self.left = left.ok_or_else(|| Error::Cut { what: WHAT, place: "a section".into() })?;
        self.blocks.read(out)
    }

    /// Bytes of the section that were not read yet.
    #[must_use]
    pub const fn left(&self) -> u64 {
        self.left
    }

    /// All of the section, which may have at most `most` bytes. Memory is taken as bytes come.
    pub(super) fn read_all(&mut self, tag: [u8; 4], most: u64) -> Result<Vec<u8>> {
        if self.left > most {
            let what = match tag {
                super::tag::TOKENS => "tokens of a snapshot (in bytes)",
                _ => "a section of a snapshot (in bytes)",
            };
            return Err(Error::TooLarge { what, asked: self.left, limit: most });
        }
        let mut all = Vec::new();
        while self.left > 0 {
            let from = all.len();
            all.resize(from + usize::try_from(self.left).unwrap_or(PIECE).min(PIECE), 0);
            self.read(&mut all[from..])?;
        }
        Ok(all)
    }

    /// Makes sure that the snapshot ends here, and returns its digest.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if it does not, [`Error::Cut`] and [`Error::Io`].
    pub fn finish(mut self) -> Result<Digest> {
        self.skip()?;
        self.blocks.finish()
    }

    fn skip(&mut self) -> Result<()> {
        let mut scratch = [0; 4096];
        while self.left > 0 {
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(scratch.len());
            self.read(&mut scratch[..count])?;
        }
        Ok(())
    }
}

impl<R> std::fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("left", &self.left).finish_non_exhaustive()
    }
}

/// Refuses a section that this version does not know, unless it need not.
fn check_skippable(tag: [u8; 4]) -> Result<()> {
    if tag[0].is_ascii_lowercase() {
        return Ok(());
    }
    Err(Error::UnknownSection { tag: String::from_utf8_lossy(&tag).into_owned() })
}

/// Bytes that are read at once into memory that grows.
const PIECE: usize = 64 << 10;

/// Sections of this version.
const KNOWN: [[u8; 4]; 6] = {
    use super::tag::{ANSWER, LOGITS, META, ROWS, TOKENS, TURNS};
    [META, TOKENS, ANSWER, TURNS, LOGITS, ROWS]
};
