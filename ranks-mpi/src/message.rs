//! What ranks say to each other.

use std::fmt;

/// Most bytes of a message: 128 KiB of a chunk, and what is said about it.
pub const MOST: usize = PIECE + HEADER;

/// Most bytes of a chunk in one message. Longer chunks take several exchanges, so that no guest decides how
/// much memory the host needs.
pub(crate) const PIECE: usize = 128 << 10;
const HEADER: usize = 32;
/// Most bytes of the reason of a failure.
const REASON: usize = 2048;
/// The protocol and its version.
const MAGIC: [u8; 4] = *b"Pcr2";

/// What a rank does: all have to do the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Exchanges the pieces at `at` of chunks of `chunk` bytes.
    Gather { chunk: u64, total: u64, at: u64 },
    /// Exchanges the piece at `at` of the `total` bytes of rank `from`.
    Broadcast { from: u64, total: u64, at: u64 },
    /// Has finished what all compute together.
    Finish,
}

/// A message of one rank to another.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Message<'a> {
    /// Its part of an exchange.
    Step(Step, &'a [u8]),
    /// That it lives.
    Beat,
    /// That all are stopped, by which rank and why.
    Failed { rank: u32, reason: &'a str },
    /// That it sends nothing any more.
    Left,
    /// A piece of what it sends to this rank alone, from byte `at` of `total` on.
    Note { total: u64, at: u64, bytes: &'a [u8] },
    /// How many pieces of notes it has taken so far.
    Taken { pieces: u64 },
}

const GATHER: u8 = 1;
const FINISH: u8 = 2;
const BEAT: u8 = 3;
const FAILED: u8 = 4;
const LEFT: u8 = 5;
const BROADCAST: u8 = 6;
const NOTE: u8 = 7;
const TAKEN: u8 = 8;

impl<'a> Message<'a> {
    /// Replaces `out` by the bytes of the message.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        let (kind, numbers, bytes) = match *self {
            Self::Step(Step::Gather { chunk, total, at }, bytes) => {
                (GATHER, [chunk, total, at], bytes)
            }
            Self::Step(Step::Broadcast { from, total, at }, bytes) => {
                (BROADCAST, [from, total, at], bytes)
            }
            Self::Step(Step::Finish, bytes) => (FINISH, [0; 3], bytes),
            Self::Beat => (BEAT, [0; 3], &[][..]),
            Self::Failed { rank, reason } => {
                let reason = &reason[..reason.floor_char_boundary(REASON)];
                (FAILED, [u64::from(rank), 0, 0], reason.as_bytes())
            }
            Self::Left => (LEFT, [0; 3], &[][..]),
            Self::Note { total, at, bytes } => (NOTE, [total, at, 0], bytes),
            Self::Taken { pieces } => (TAKEN, [pieces, 0, 0], &[][..]),
        };
        out.clear();
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&[kind, 0, 0, 0]);
        out.extend(numbers.iter().flat_map(|number| number.to_le_bytes()));
        out.extend_from_slice(bytes);
    }

    /// None for bytes that no rank of this version sends.
    pub(crate) fn read(message: &'a [u8]) -> Option<Self> {
        let (header, bytes) = message.split_first_chunk::<HEADER>()?;
        let (start, numbers) = header.split_first_chunk::<8>()?;
        let (numbers, _) = numbers.as_chunks::<8>();
        let [first, second, third] = *numbers.first_chunk()?;
        let [first, second, third] = [first, second, third].map(u64::from_le_bytes);
        if start[..4] != MAGIC || message.len() > MOST {
            return None;
        }
        Some(match start[4] {
            GATHER => Self::Step(Step::Gather { chunk: first, total: second, at: third }, bytes),
            BROADCAST => {
                Self::Step(Step::Broadcast { from: first, total: second, at: third }, bytes)
            }
            FINISH => Self::Step(Step::Finish, bytes),
            BEAT => Self::Beat,
            FAILED => {
                let reason = std::str::from_utf8(bytes).ok()?;
                Self::Failed { rank: u32::try_from(first).ok()?, reason }
            }
            LEFT => Self::Left,
            NOTE => Self::Note { total: first, at: second, bytes },
            TAKEN => Self::Taken { pieces: first },
            _ => return None,
        })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gather { chunk, total, .. } => {
                write!(f, "gathers {total} bytes in chunks of {chunk}")
            }
            Self::Broadcast { from, total, .. } => {
                write!(f, "takes {total} bytes of rank {from}")
            }
            Self::Finish => f.write_str("has finished"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else() {
        let long = "ä".repeat(REASON);
        let mut out = vec![7; 3];
        let gather = Step::Gather { chunk: 1 << 40, total: u64::MAX, at: 5 };
        for message in [
            Message::Step(gather, b"abc"),
            Message::Step(Step::Broadcast { from: 1, total: 3, at: 0 }, b"abc"),
            Message::Step(Step::Finish, b""),
            Message::Beat,
            Message::Failed { rank: 9, reason: "no disk" },
            Message::Left,
            Message::Note { total: 9, at: 6, bytes: b"abc" },
            Message::Taken { pieces: 7 },
        ] {
            message.write(&mut out);
            assert_eq!(Message::read(&out), Some(message));
            assert_eq!(Message::read(&out[..HEADER - 1]), None);
            out[0] ^= 1;
            assert_eq!(Message::read(&out), None);
        }
        Message::Failed { rank: 0, reason: &long }.write(&mut out);
        assert_eq!(out.len(), HEADER + REASON);
        out[4] = 99;
        assert_eq!(Message::read(&out), None);
    }
}
