//! Blocks of 64 KiB with a chain of hashes.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};
use zstd_safe::{CCtx, DCtx};

use super::{VERSION, WHAT};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// Bytes of each block but the last, before compression.
const BLOCK: usize = 64 << 10;

/// How a file begins, with what a transfer as text would change.
const MAGIC: [u8; 8] = *b"\x89PCSNAP\n";

/// Bytes before each block: how many are stored, how many these are, how, and whether it is the last.
const HEADER: usize = 12;

/// The fastest of zstd's usual levels.
const LEVEL: i32 = 1;

/// Whether blocks are compressed.
///
/// Keys and values are numbers with many digits, of which zstd saves a tenth or so; those of a
/// cache that is hardly filled, more.
///
/// ```
/// use polychord_receipts::snapshot::Compression;
///
/// assert_eq!(Compression::default(), Compression::None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compression {
    /// As they are.
    #[default]
    None,
    /// By zstd, those that become smaller.
    Zstd,
}

/// Cuts bytes into blocks and writes them.
pub(super) struct BlockWriter<W> {
    out: W,
    plain: Vec<u8>,
    zstd: Option<(CCtx<'static>, Vec<u8>)>,
    chain: Digest,
}

impl<W: Write> BlockWriter<W> {
    pub(super) fn new(mut out: W, compression: Compression) -> Result<Self> {
        let zstd = match compression {
            Compression::None => None,
            Compression::Zstd => {
                let context = CCtx::try_create().ok_or_else(no_memory)?;
                Some((context, vec![0; zstd_safe::compress_bound(BLOCK)]))
            }
        };
        let mut start = [0; 16];
        start[..8].copy_from_slice(&MAGIC);
        start[8..12].copy_from_slice(&VERSION.to_le_bytes());
        write(&mut out, &start)?;
        Ok(Self { out, plain: Vec::with_capacity(BLOCK), zstd, chain: Digest::of(start) })
    }

    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            // A full block waits, as the last one is marked.
            if self.plain.len() == BLOCK {
                self.flush(false)?;
            }
            let (now, later) = bytes.split_at(bytes.len().min(BLOCK - self.plain.len()));
            self.plain.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    /// Writes the last block, and returns the digest of all.
    pub(super) fn finish(mut self) -> Result<Digest> {
        self.flush(true)?;
        self.out.flush().map_err(|source| Error::Io { operation: "write the snapshot", source })?;
        Ok(self.chain)
    }

    fn flush(&mut self, is_last: bool) -> Result<()> {
        let Self { out, plain, zstd, chain } = self;
        let mut stored = (&plain[..], 0);
        if let Some((context, packed)) = zstd {
            let len = context.compress(&mut packed[..], plain, LEVEL).map_err(|_| no_memory())?;
            if len < plain.len() {
                stored = (&packed[..len], 1);
            }
        }
        let (bytes, encoding) = stored;
        let mut header = [0; HEADER];
        header[..4].copy_from_slice(&length(bytes.len()).to_le_bytes());
        header[4..8].copy_from_slice(&length(plain.len()).to_le_bytes());
        header[8] = encoding;
        header[9] = u8::from(is_last);
        *chain = link(chain, &header, bytes);
        for part in [&header, bytes, chain.as_bytes()] {
            write(out, part)?;
        }
        plain.clear();
        Ok(())
    }
}

/// Reads blocks, and lets none of their bytes out before they are verified.
pub(super) struct BlockReader<R> {
    input: R,
    plain: Vec<u8>,
    /// How many bytes of the block were taken.
    taken: usize,
    stored: Vec<u8>,
    zstd: Option<DCtx<'static>>,
    chain: Digest,
    /// How many blocks were read.
    blocks: u64,
    is_last: bool,
}

impl<R: Read> BlockReader<R> {
    pub(super) fn new(mut input: R) -> Result<Self> {
        let mut start = [0; 16];
        read(&mut input, &mut start, || "its first 16 bytes".into())?;
        let [magic, version, zero] = [&start[..8], &start[8..12], &start[12..]];
        if magic != MAGIC {
            return Err(Error::Foreign { what: WHAT, reason: "it begins otherwise".into() });
        }
        let found = number(version);
        if found != VERSION {
            return Err(Error::Version { what: WHAT, found: found.into(), known: VERSION });
        }
        if zero != [0; 4] {
            return Err(Error::damaged(WHAT, "its first 16 bytes", "the last four are not zero"));
        }
        Ok(Self {
            input,
            plain: Vec::new(),
            taken: 0,
            stored: Vec::new(),
            zstd: None,
            chain: Digest::of(start),
            blocks: 0,
            is_last: false,
        })
    }

    /// Fills `out` with the next bytes.
    pub(super) fn read(&mut self, out: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < out.len() {
            if !self.has_more()? {
                return Err(Error::Cut { what: WHAT, place: "a section".into() });
            }
            let rest = &self.plain[self.taken..];
            let count = rest.len().min(out.len() - filled);
            out[filled..][..count].copy_from_slice(&rest[..count]);
            filled += count;
            self.taken += count;
        }
        Ok(())
    }

    /// Whether another byte follows, whose block is read then.
    pub(super) fn has_more(&mut self) -> Result<bool> {
        while self.taken == self.plain.len() {
            if self.is_last {
                return Ok(false);
            }
            self.next_block()?;
        }
        Ok(true)
    }

    /// Makes sure that nothing follows, and returns the digest of all.
    pub(super) fn finish(mut self) -> Result<Digest> {
        if self.has_more()? {
            return Err(Error::damaged(WHAT, self.place(), "bytes follow the last section"));
        }
        loop {
            match self.input.read(&mut [0]) {
                Ok(0) => return Ok(self.chain),
                Ok(_) => {
                    let reason = "bytes follow the last block";
                    return Err(Error::damaged(WHAT, self.place(), reason));
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(Error::Io { operation: READ, source }),
            }
        }
    }

    fn next_block(&mut self) -> Result<()> {
        let block = self.blocks;
        let place = || format!("block {block}");
        let mut header = [0; HEADER];
        read(&mut self.input, &mut header, place)?;
        let [stored, plain] = [&header[..4], &header[4..8]].map(|bytes| number(bytes) as usize);
        let (encoding, is_last) = (header[8], header[9] == 1);
        let is_possible = plain <= BLOCK
            && (is_last || plain == BLOCK)
            && header[9] <= 1
            && header[10..] == [0; 2]
            && match encoding {
                0 => stored == plain,
                1 => stored < plain,
                _ => false,
            };
        if !is_possible {
            return Err(Error::damaged(WHAT, place(), "its header cannot be"));
        }
        self.stored.resize(stored, 0);
        read(&mut self.input, &mut self.stored, place)?;
        let mut digest = [0; 32];
        read(&mut self.input, &mut digest, place)?;
        self.chain = link(&self.chain, &header, &self.stored);
        if *self.chain.as_bytes() != digest {
            return Err(Error::damaged(WHAT, place(), "its bytes are not those that were written"));
        }
        if encoding == 0 {
            std::mem::swap(&mut self.plain, &mut self.stored);
        } else {
            self.decompress(plain)?;
        }
        (self.taken, self.is_last, self.blocks) = (0, is_last, block + 1);
        Ok(())
    }

    fn decompress(&mut self, plain: usize) -> Result<()> {
        let place = self.place();
        let zstd = match &mut self.zstd {
            Some(zstd) => zstd,
            none => none.insert(DCtx::try_create().ok_or_else(no_memory)?),
        };
        self.plain.resize(plain, 0);
        match zstd.decompress(&mut self.plain[..], &self.stored) {
            Ok(len) if len == plain => Ok(()),
            _ => Err(Error::damaged(WHAT, place, "zstd cannot decompress it")),
        }
    }

    fn place(&self) -> String {
        format!("block {}", self.blocks)
    }
}

const READ: &str = "read the snapshot";

/// The digest of all blocks up to one.
fn link(before: &Digest, header: &[u8], stored: &[u8]) -> Digest {
    let mut hash = Sha256::new();
    [before.as_bytes(), header, stored].into_iter().for_each(|part| hash.update(part));
    Digest::from_bytes(hash.finalize().into())
}

fn write(out: &mut dyn Write, bytes: &[u8]) -> Result<()> {
    out.write_all(bytes).map_err(|source| Error::Io { operation: "write the snapshot", source })
}

fn read(input: &mut dyn Read, out: &mut [u8], place: impl Fn() -> String) -> Result<()> {
    input.read_exact(out).map_err(|source| match source.kind() {
        io::ErrorKind::UnexpectedEof => Error::Cut { what: WHAT, place: place() },
        _ => Error::Io { operation: READ, source },
    })
}

/// A number of four bytes.
fn number(bytes: &[u8]) -> u32 {
    bytes.first_chunk().map_or(u32::MAX, |bytes| u32::from_le_bytes(*bytes))
}

/// No more than a block.
fn length(len: usize) -> u32 {
    u32::try_from(len).unwrap_or(u32::MAX)
}

fn no_memory() -> Error {
    let source = io::Error::new(io::ErrorKind::OutOfMemory, "zstd has no memory");
    Error::Io { operation: "compress the snapshot", source }
}
