//! Conversations that wait without a session: as snapshots, compressed, in memory or in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom, Write};
use std::path::PathBuf;

use polychord_session::{
    Error as SessionError, Model, Result as SessionResult, SaveOptions, Session,
};

use super::options::SchedulerOptions;
use super::shared::gauge;
use super::slot::WORTH_A_COPY;
use super::turn::common;
use crate::error::{Error, Result};
use crate::metrics::ModelMetrics;

/// Conversations that wait without a session, the one that was put here first in front.
pub(super) struct Shelf {
    kept: VecDeque<Kept>,
    bytes: u64,
    budget: u64,
    /// Where files are; none for memory.
    folder: Option<PathBuf>,
}

/// One of them.
pub(super) struct Kept {
    tokens: Vec<u32>,
    snapshot: Snapshot,
    bytes: u64,
}

enum Snapshot {
    Memory(Vec<u8>),
    /// It has no name, so that nothing is left of it when this process ends, however that is.
    File(File),
}

/// Each may have a file that is open.
const MOST_KEPT: usize = 256;

impl Shelf {
    /// A shelf, if one is wanted. Reads all of the model once, for its digest: snapshots have it.
    pub(super) fn new(model: &Model, options: &SchedulerOptions) -> Result<Option<Self>> {
        let Some(budget) = options.idle_bytes.filter(|bytes| *bytes > 0) else { return Ok(None) };
        let folder = options.idle_folder.clone();
        if let Some(folder) = &folder {
            let wrong = |reason| Error::IdleFolder { folder: folder.clone(), reason };
            tempfile::tempfile_in(folder).map_err(wrong)?;
        }
        model.digests()?;
        Ok(Some(Self { kept: VecDeque::new(), bytes: 0, budget, folder }))
    }

    /// Keeps the sequence of a session. If it cannot be written, it is lost, and computed again.
    pub(super) fn put(&mut self, session: &Session, metrics: &ModelMetrics) {
        if let Err(error) = self.try_put(session) {
            tracing::warn!(%error, "a conversation that waits is not kept");
        }
        self.count(metrics);
    }

    /// Takes a conversation away that begins as a prompt does, for more than `known` tokens, which a session has.
    pub(super) fn take(
        &mut self,
        prompt: &[u32],
        known: usize,
        metrics: &ModelMetrics,
    ) -> Option<Kept> {
        let kept = self.find(prompt, known).and_then(|index| self.kept.remove(index))?;
        self.bytes -= kept.bytes;
        self.count(metrics);
        Some(kept)
    }

    /// What was put here first makes room.
    fn try_put(&mut self, session: &Session) -> SessionResult<()> {
        let tokens = session.tokens();
        if tokens.len() < WORTH_A_COPY || self.kept.iter().any(|it| it.tokens.starts_with(tokens)) {
            return Ok(());
        }
        // The same conversation, before it went on.
        self.retain(|it| !tokens.starts_with(&it.tokens));
        let kept = self.write(session)?;
        self.bytes += kept.bytes;
        self.kept.push_back(kept);
        while self.bytes > self.budget || self.kept.len() > MOST_KEPT {
            let Some(oldest) = self.kept.pop_front() else { break };
            self.bytes -= oldest.bytes;
        }
        Ok(())
    }

    fn count(&self, metrics: &ModelMetrics) {
        metrics.kept.set(gauge(self.kept.len()));
        metrics.kept_bytes.set(i64::try_from(self.bytes).unwrap_or(i64::MAX));
    }

    fn retain(&mut self, is_kept: impl Fn(&Kept) -> bool) {
        self.kept.retain(is_kept);
        self.bytes = self.kept.iter().map(|it| it.bytes).sum();
    }

    /// Writes a snapshot of no more than the budget.
    fn write(&self, session: &Session) -> SessionResult<Kept> {
        let options = SaveOptions::new().compress();
        let (snapshot, bytes) = match &self.folder {
            None => {
                let mut out = Bounded { to: Vec::new(), bytes: 0, most: self.budget };
                session.save_with(&mut out, &options)?;
                // What it grew by beyond is not counted.
                out.to.shrink_to_fit();
                (Snapshot::Memory(out.to), out.bytes)
            }
            Some(folder) => {
                let file = tempfile::tempfile_in(folder).map_err(cannot_write)?;
                let to = io::BufWriter::with_capacity(128 << 10, file);
                let mut out = Bounded { to, bytes: 0, most: self.budget };
                session.save_with(&mut out, &options)?;
                let file = out.to.into_inner().map_err(|error| cannot_write(error.into_error()))?;
                (Snapshot::File(file), out.bytes)
            }
        };
        Ok(Kept { tokens: session.tokens().to_vec(), snapshot, bytes })
    }

    /// The one that begins as a prompt does, for more than `more_than` tokens and long enough to be worth it.
    fn find(&self, prompt: &[u32], more_than: usize) -> Option<usize> {
        let of = |it: &Kept| common(&it.tokens, prompt);
        let best = (0..self.kept.len()).max_by_key(|index| of(&self.kept[*index]))?;
        let common = of(&self.kept[best]);
        (common >= WORTH_A_COPY.max(more_than + 1)).then_some(best)
    }
}

impl Kept {
    /// Starts a session that goes on where the conversation was.
    pub(super) fn restore(
        self,
        restore: impl FnOnce(&mut dyn Read) -> SessionResult<Session>,
        metrics: &ModelMetrics,
    ) -> SessionResult<Session> {
        let session = match self.snapshot {
            Snapshot::Memory(bytes) => restore(&mut &bytes[..])?,
            Snapshot::File(mut file) => {
                file.seek(SeekFrom::Start(0)).map_err(|source| io_error("read", source))?;
                restore(&mut BufReader::with_capacity(128 << 10, file))?
            }
        };
        metrics.restored.inc();
        Ok(session)
    }
}

/// Takes no more than it may.
struct Bounded<W> {
    to: W,
    bytes: u64,
    most: u64,
}

impl<W: Write> Write for Bounded<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let after = self.bytes + bytes.len() as u64;
        if after > self.most {
            let reason = format!("it has more than the {} bytes that are set aside", self.most);
            return Err(io::Error::other(reason));
        }
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

fn cannot_write(source: io::Error) -> SessionError {
    io_error("write", source)
}

fn io_error(operation: &'static str, source: io::Error) -> SessionError {
    SessionError::Receipt(polychord_receipts::Error::Io { operation, source })
}
