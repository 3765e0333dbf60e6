//! What goes between the two processes: short frames on a socket, and the rest in a shared memory.
//!
//! The shared memory has a size that the parent sets and seals, and is read and written by position: no length
//! of the other side is believed beyond it, and it cannot be cut.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags};

/// Bytes of a frame: what, in 4, nothing, in 4, and a number, in 8; little-endian.
const FRAME: usize = 16;

/// Most bytes of an explanation.
pub(crate) const TEXT: usize = 64 << 10;

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    /// Evaluate this many tokens.
    Eval,
    /// Forget all but this many tokens, as [`Session::rewind`](polychord_session::Session::rewind) does.
    Rewind,
    /// It was done; how many tokens there are.
    Done,
    /// It was not; how many bytes of text say why.
    Failed,
}

const WORDS: [(Word, u32); 4] =
    [(Word::Eval, 1), (Word::Rewind, 2), (Word::Done, 3), (Word::Failed, 4)];

/// Where what is in the shared memory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    context: u64,
    vocabulary: u64,
}

impl Layout {
    pub(crate) fn new(context: u32, vocabulary: u32) -> Self {
        Self { context: context.into(), vocabulary: vocabulary.into() }
    }

    /// Tokens are at the beginning.
    const fn logits(self) -> u64 {
        self.context * 4
    }

    const fn text(self) -> u64 {
        self.logits() + self.vocabulary * 4
    }

    const fn len(self) -> u64 {
        self.text() + TEXT as u64
    }

    pub(crate) fn logits_len(self) -> usize {
        // Four times 32 bits.
        usize::try_from(self.vocabulary * 4).unwrap_or(usize::MAX)
    }
}

/// One end of it.
#[derive(Debug)]
pub(crate) struct Channel {
    stream: UnixStream,
    shared: File,
    layout: Layout,
}

impl Channel {
    /// Both ends: one to use, and socket and memory of the other one.
    pub(crate) fn pair(layout: Layout) -> io::Result<(Self, OwnedFd, OwnedFd)> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::NOEXEC_SEAL;
        let shared = rustix::fs::memfd_create("polychord-isolated", flags)
            // An older kernel does not know the last flag.
            .or_else(|_| {
                rustix::fs::memfd_create("polychord-isolated", flags - MemfdFlags::NOEXEC_SEAL)
            })?;
        rustix::fs::ftruncate(&shared, layout.len())?;
        rustix::fs::fcntl_add_seals(
            &shared,
            SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        )?;
        let (here, there) = UnixStream::pair()?;
        let other = shared.try_clone()?;
        Ok((Self { stream: here, shared: shared.into(), layout }, there.into(), other))
    }

    /// The end of a process that was started with the two as its standard streams.
    pub(crate) fn of_streams(socket: OwnedFd, shared: OwnedFd, layout: Layout) -> io::Result<Self> {
        let shared = File::from(shared);
        let len = shared.metadata()?.len();
        if len != layout.len() {
            let wanted = layout.len();
            let wrong = format!(
                "the shared memory has {len} bytes in place of {wanted}: model or context differ"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidData, wrong));
        }
        Ok(Self { stream: socket.into(), shared, layout })
    }

    pub(crate) const fn stream(&self) -> &UnixStream {
        &self.stream
    }

    pub(crate) fn send(&mut self, word: Word, number: u64) -> io::Result<()> {
        let mut frame = [0; FRAME];
        let code = WORDS.iter().find(|(it, _)| *it == word).map_or(0, |(_, code)| *code);
        frame[..4].copy_from_slice(&code.to_le_bytes());
        frame[8..].copy_from_slice(&number.to_le_bytes());
        self.stream.write_all(&frame)
    }

    /// The next frame; none if the other side has closed its end.
    pub(crate) fn receive(&mut self) -> io::Result<Option<(Word, u64)>> {
        let mut frame = [0; FRAME];
        match self.stream.read_exact(&mut frame) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        let (code, number) = (&frame[..4], &frame[8..]);
        let code = code.try_into().map_or(0, u32::from_le_bytes);
        let number = number.try_into().map_or(0, u64::from_le_bytes);
        match WORDS.iter().find(|(_, it)| *it == code) {
            Some((word, _)) => Ok(Some((*word, number))),
            None => Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("no frame begins with {code}"),
            )),
        }
    }

    /// Fails if there are more than the context has room for.
    pub(crate) fn write_tokens(&self, tokens: &[u32]) -> io::Result<()> {
        if tokens.len() as u64 > self.layout.context {
            return Err(too_many(tokens.len() as u64, self.layout.context));
        }
        let bytes: Vec<u8> = tokens.iter().flat_map(|token| token.to_le_bytes()).collect();
        self.shared.write_all_at(&bytes, 0)
    }

    pub(crate) fn read_tokens(&self, count: u64, tokens: &mut Vec<u32>) -> io::Result<()> {
        if count > self.layout.context {
            return Err(too_many(count, self.layout.context));
        }
        let mut bytes = vec![0; usize::try_from(count * 4).unwrap_or(usize::MAX)];
        self.shared.read_exact_at(&mut bytes, 0)?;
        let (words, _) = bytes.as_chunks::<4>();
        tokens.clear();
        tokens.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
        Ok(())
    }

    /// As many bytes as the layout has for them.
    pub(crate) fn write_logits(&self, logits: &[u8]) -> io::Result<()> {
        let len = logits.len().min(self.layout.logits_len());
        self.shared.write_all_at(&logits[..len], self.layout.logits())
    }

    pub(crate) fn read_logits(&self, logits: &mut [u8]) -> io::Result<()> {
        let len = logits.len().min(self.layout.logits_len());
        self.shared.read_exact_at(&mut logits[..len], self.layout.logits())
    }

    /// Returns how many bytes of the text there was room for.
    pub(crate) fn write_text(&self, text: &str) -> io::Result<u64> {
        let bytes = &text.as_bytes()[..text.len().min(TEXT)];
        self.shared.write_all_at(bytes, self.layout.text())?;
        Ok(bytes.len() as u64)
    }

    /// A text of the other side, of at most `len` bytes.
    pub(crate) fn read_text(&self, len: u64) -> io::Result<String> {
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(TEXT).min(TEXT)];
        self.shared.read_exact_at(&mut bytes, self.layout.text())?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

fn too_many(count: u64, context: u64) -> io::Error {
    let wrong = format!("{count} tokens, and the context has room for {context}");
    io::Error::new(io::ErrorKind::InvalidInput, wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> (Channel, Channel) {
        let layout = Layout::new(8, 4);
        let (here, socket, shared) = Channel::pair(layout).unwrap();
        (here, Channel::of_streams(socket, shared, layout).unwrap())
    }

    #[test]
    fn frames_and_what_is_shared_arrive() {
        let (mut here, mut there) = both();
        here.write_tokens(&[1, 2, u32::MAX]).unwrap();
        here.send(Word::Eval, 3).unwrap();
        assert_eq!(there.receive().unwrap(), Some((Word::Eval, 3)));
        let mut tokens = vec![9];
        there.read_tokens(3, &mut tokens).unwrap();
        assert_eq!(tokens, [1, 2, u32::MAX]);
        there.write_logits(&[7; 16]).unwrap();
        let len = there.write_text("no").unwrap();
        there.send(Word::Failed, len).unwrap();
        assert_eq!(here.receive().unwrap(), Some((Word::Failed, 2)));
        assert_eq!(here.read_text(2).unwrap(), "no");
        let mut logits = [0; 16];
        here.read_logits(&mut logits).unwrap();
        assert_eq!(logits, [7; 16]);
        drop(there);
        assert_eq!(here.receive().unwrap(), None);
    }

    #[test]
    fn lengths_are_not_believed() {
        let (mut here, mut there) = both();
        assert!(there.read_tokens(9, &mut Vec::new()).is_err());
        assert!(here.write_tokens(&[0; 9]).is_err());
        assert_eq!(here.read_text(u64::MAX).unwrap().len(), TEXT);
        there.stream.write_all(&[0xff; FRAME]).unwrap();
        assert!(here.receive().unwrap_err().to_string().contains("4294967295"));
        // Half a frame is the end.
        there.stream.write_all(&[1; 3]).unwrap();
        drop(there);
        assert_eq!(here.receive().unwrap(), None);
    }

    #[test]
    fn the_shared_memory_cannot_be_cut() {
        let (here, there) = both();
        assert!(there.shared.set_len(0).is_err());
        assert!(there.shared.set_len(1 << 30).is_err());
        assert!(here.read_text(10).is_ok());
    }

    #[test]
    fn another_model_is_noticed() {
        let (_here, socket, shared) = Channel::pair(Layout::new(8, 4)).unwrap();
        let error = Channel::of_streams(socket, shared, Layout::new(8, 5)).unwrap_err();
        assert!(error.to_string().contains("in place of"), "{error}");
    }
}
