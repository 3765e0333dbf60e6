//! Conversations that wait without a session: as snapshots, compressed, in memory or in a file.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom, Write};
use std::path::PathBuf;

use polychord_session::{
    Error as SessionError, Model, Result as SessionResult, SaveOptions, Session, SessionOptions,
    Transformer,
};

use super::super::options::SchedulerOptions;
use super::super::shared::gauge;
use super::super::slot::{Candidate, Place, Slot, WORTH_A_COPY, choose};
use super::super::turn::common;
use super::Worker;
use crate::error::{Error, Result};

/// Conversations that wait without a session, the one that was put here first in front.
pub(super) struct Shelf {
    kept: VecDeque<Kept>,
    bytes: u64,
    budget: u64,
    /// Where files are; none for memory.
    folder: Option<PathBuf>,
}

/// One of them.
struct Kept {
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

    /// Keeps the sequence of a session; what was put here first makes room.
    fn put(&mut self, session: &Session) -> SessionResult<()> {
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

    /// The one that begins as a prompt does, for more than so many tokens and long enough to be worth it.
    fn find(&self, prompt: &[u32], more_than: usize) -> Option<usize> {
        let of = |it: &Kept| common(&it.tokens, prompt);
        let best = (0..self.kept.len()).max_by_key(|index| of(&self.kept[*index]))?;
        let common = of(&self.kept[best]);
        (common >= WORTH_A_COPY.max(more_than + 1)).then_some(best)
    }

    /// Starts a session that goes on where a conversation was, which is then not here any more.
    fn take(
        &mut self,
        index: usize,
        transformer: &Transformer,
        model: &Model,
        options: &SessionOptions,
    ) -> SessionResult<Option<Session>> {
        let Some(kept) = self.kept.remove(index) else { return Ok(None) };
        self.bytes -= kept.bytes;
        let restored = match kept.snapshot {
            Snapshot::Memory(bytes) => transformer.restore(model, &bytes[..], options)?,
            Snapshot::File(mut file) => {
                file.seek(SeekFrom::Start(0)).map_err(|source| io_error("read", source))?;
                let reader = BufReader::with_capacity(128 << 10, file);
                transformer.restore(model, reader, options)?
            }
        };
        Ok(Some(restored.session))
    }
}

impl Worker {
    /// A slot for a conversation that is on the shelf, and that no session knows better.
    pub(super) fn unshelve(&mut self, candidates: &[Candidate], prompt: &[u32]) -> Option<usize> {
        let known = candidates.iter().map(|it| it.common).max().unwrap_or(0);
        let found = self.shelf.as_ref()?.find(prompt, known)?;
        let strangers: Vec<_> =
            candidates.iter().map(|it| Candidate { common: 0, ..*it }).collect();
        let place = choose(&strangers, self.parallel);
        let shelf = self.shelf.as_mut()?;
        let taken = shelf.take(found, &self.transformer, &self.model, &self.options);
        let session = match taken {
            Ok(session) => session?,
            Err(error) => {
                tracing::warn!(%error, "a conversation that waited is lost");
                return None;
            }
        };
        self.shared.metrics.restored.inc();
        let index = match place {
            Place::Idle(index) => {
                self.shelve(index);
                self.slots[index] = Slot::new(session);
                index
            }
            _ => {
                self.slots.push(Slot::new(session));
                self.count_sessions();
                self.slots.len() - 1
            }
        };
        self.count_shelf();
        Some(index)
    }

    /// Keeps the conversation of a slot that is to have another.
    pub(super) fn shelve(&mut self, index: usize) {
        let Some(shelf) = &mut self.shelf else { return };
        if let Err(error) = shelf.put(&self.slots[index].session) {
            tracing::warn!(%error, "a conversation that waits is not kept");
        }
        self.count_shelf();
    }

    /// The same, if little of it is in the prompt.
    pub(super) fn shelve_other(&mut self, index: usize, prompt: &[u32]) {
        let tokens = self.slots[index].session.tokens();
        if common(tokens, prompt) < tokens.len().div_ceil(2) {
            self.shelve(index);
        }
    }

    fn count_shelf(&self) {
        let (metrics, Some(shelf)) = (&self.shared.metrics, &self.shelf) else { return };
        metrics.kept.set(gauge(shelf.kept.len()));
        metrics.kept_bytes.set(i64::try_from(shelf.bytes).unwrap_or(i64::MAX));
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
