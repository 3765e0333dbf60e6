//! What the shared files take from their own crate, as far as they use it.

use std::time::{Duration, Instant};

pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug)]
#[allow(dead_code, reason = "only made")]
pub(crate) enum Error {
    Trap { engine: &'static str, operation: String, kind: TrapKind },
    NotInterruptible,
    NoWatchdog { reason: String },
    HostMemory { what: &'static str, asked: u64, reason: String },
    OutOfRange,
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self:?}")
    }
}

#[derive(Clone, Copy, Debug)]
#[allow(dead_code, reason = "only made")]
pub(crate) enum TrapKind {
    Unreachable,
    Interrupted,
    DeadlineExceeded(Duration),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline {
    pub(crate) at: Instant,
    pub(crate) limit: Duration,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) rank: u32,
    pub(crate) reason: String,
    pub(crate) limit: Option<Duration>,
}

impl Failure {
    pub(crate) fn new(rank: u32, reason: impl std::fmt::Display) -> Self {
        Self { rank, reason: reason.to_string(), limit: None }
    }

    pub(crate) fn waited(rank: u32, limit: Duration) -> Self {
        Self { limit: Some(limit), ..Self::new(rank, "it waited") }
    }
}

/// The bytes of a model.
#[derive(Debug)]
pub(crate) struct Source(Vec<u8>);

impl Source {
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<()> {
        let start = usize::try_from(offset).map_err(|_| Error::OutOfRange)?;
        let bytes = self.0.get(start..start + out.len()).ok_or(Error::OutOfRange)?;
        out.copy_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn read_ahead(&self, _: u64, _: u64, _: &crate::sync::atomic::AtomicBool) {}
}
