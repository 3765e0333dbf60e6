//! A file on a server as ranges of bytes.

use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use polychord_runtime_api::layers::ByteRanges;
use sha2::{Digest as _, Sha256};

use crate::blocks::Blocks;
use crate::cache::Cache;
use crate::digests::{Digests, hex};
use crate::error::Error;
use crate::options::{Options, RangeDigest};
use crate::server::{Meta, Server};

/// A file on a server, and the thread that reads ahead.
#[derive(Debug)]
pub(crate) struct Remote {
    file: Arc<File>,
    /// Numbers of blocks that will be needed soon; none when it is dropped.
    ahead: Option<SyncSender<u64>>,
    thread: Option<JoinHandle<()>>,
}

/// What the threads share.
#[derive(Debug)]
struct File {
    server: Server,
    meta: Meta,
    block: u64,
    ahead: u64,
    attempts: u32,
    backoff: Duration,
    cache: Option<Cache>,
    /// Whether the server is never asked.
    offline: bool,
    blocks: Mutex<Blocks>,
    /// A block has come, or not.
    came: Condvar,
    digests: Mutex<Digests>,
    ending: AtomicBool,
}

/// Blocks in memory beside those that are read ahead.
const KEPT: usize = 4;
/// The longest wait between two attempts.
const MOST_BACKOFF: Duration = Duration::from_secs(5);
/// The longest wait that a server may ask for: one that asks for more is not waited for.
const MOST_ASKED: Duration = Duration::from_secs(30);

impl Remote {
    pub(crate) fn open(url: &str, options: &Options) -> Result<Self, Error> {
        let server = Server::new(url, options)?;
        let block = options.block.max(1) as u64;
        let (attempts, backoff) = (options.attempts, options.backoff);
        let place = server.place();
        let found = if options.offline {
            Err(Error::NotKept { url: url.to_owned(), start: 0, end: block })
        } else {
            again(attempts, backoff, &AtomicBool::new(false), || server.open(block))
        };
        let (meta, first) = match found {
            Ok((meta, first)) => (meta, Some(first)),
            Err(error) => (last_known(&place, &error, options).ok_or(error)?, None),
        };
        let cache = options.cache.clone();
        let cache = cache.map(|(path, most)| Cache::open(path, most, &place, &meta)).transpose()?;
        let mut digests = Digests::new(url, meta.len, &options.digests)?;
        let kept =
            usize::try_from(options.ahead / block).unwrap_or(usize::MAX).saturating_add(KEPT);
        let mut blocks = Blocks::new(kept);
        if let Some(first) = first {
            digests.is_as_before(0, &first);
            if let Some(cache) = &cache {
                cache.begin_with(&first);
            }
            blocks.end(0, Some(first.into()));
        }
        let file = Arc::new(File {
            server,
            meta,
            block,
            ahead: options.ahead / block,
            attempts,
            backoff,
            cache,
            offline: options.offline,
            blocks: Mutex::new(blocks),
            came: Condvar::new(),
            digests: Mutex::new(digests),
            ending: AtomicBool::new(false),
        });
        let (ahead, numbers) = sync_channel(64);
        let spawned = thread::Builder::new().name("polychord-remote".into()).spawn({
            let file = file.clone();
            move || file.read_ahead(&numbers)
        });
        // Without a thread everything only takes longer.
        let thread =
            spawned.inspect_err(|error| tracing::warn!(%error, "nothing is read ahead")).ok();
        Ok(Self { file, ahead: Some(ahead), thread })
    }

    /// What tells this version of the file from others.
    pub(crate) fn version(&self) -> String {
        self.file.meta.validator.to_string()
    }

    /// Tells the thread what may come next. If it is busy, it has enough to do.
    fn expect(&self, blocks: Range<u64>) {
        for number in blocks {
            let Some(ahead) = &self.ahead else { return };
            if ahead.try_send(number).is_err() {
                return;
            }
        }
    }
}

impl ByteRanges for Remote {
    fn name(&self) -> &str {
        &self.file.server.url
    }

    fn len(&self) -> u64 {
        self.file.meta.len
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = offset..offset.saturating_add(out.len() as u64);
        self.file.compare(&range)?;
        let next = range.end.div_ceil(self.file.block);
        let last = self.file.meta.len.div_ceil(self.file.block);
        self.expect(next..last.min(next.saturating_add(self.file.ahead)));
        let mut rest = out;
        self.file.each(&range, |bytes| {
            let (now, later) = std::mem::take(&mut rest).split_at_mut(bytes.len());
            now.copy_from_slice(bytes);
            rest = later;
        })?;
        Ok(())
    }

    fn read_ahead(&self, offset: u64, len: u64, stop: &AtomicBool) {
        let end = offset.saturating_add(len).min(self.file.meta.len);
        for number in offset / self.file.block..end.div_ceil(self.file.block) {
            // What fails now fails when it is read.
            if stop.load(Ordering::Relaxed) || self.file.fetch(number).is_err() {
                return;
            }
        }
    }
}

impl File {
    /// Compares all ranges that have digests and meet one that is to be read.
    fn compare(&self, range: &Range<u64>) -> Result<(), Error> {
        loop {
            let Some(digest) = self.digests().next(range) else { return Ok(()) };
            self.compare_one(&digest)?;
            self.digests().done(&digest);
        }
    }

    /// Reads a range as a whole. Its blocks may be forgotten afterwards: their own digests are not, so that
    /// what comes later in their place has to have the same bytes.
    fn compare_one(&self, digest: &RangeDigest) -> Result<(), Error> {
        let (start, end) = (digest.start, digest.start.saturating_add(digest.bytes));
        let mut hash = Sha256::new();
        self.each(&(start..end), |bytes| hash.update(bytes))?;
        let found = hash.finalize();
        if found[..] == digest.sha256 {
            return Ok(());
        }
        let (found, expected) = (hex(&found), hex(&digest.sha256));
        Err(Error::WrongDigest { url: self.server.url.clone(), start, end, found, expected })
    }

    /// Hands out bytes block by block.
    fn each(&self, range: &Range<u64>, mut take: impl FnMut(&[u8])) -> Result<(), Error> {
        let mut at = range.start;
        while at < range.end {
            let number = at / self.block;
            let start = number * self.block;
            let block = self.fetch(number)?;
            let end = range.end.min(start + block.len() as u64);
            let part = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
            take(block.get(part(at)..part(end)).unwrap_or_default());
            at = end.max(at + 1);
        }
        Ok(())
    }

    /// A block: from memory, from disk, or from the server.
    fn fetch(&self, number: u64) -> Result<Arc<[u8]>, Error> {
        let mut blocks = self.blocks();
        loop {
            if let Some(block) = blocks.get(number) {
                return Ok(block);
            }
            if blocks.begin(number) {
                break;
            }
            blocks = self.came.wait(blocks).unwrap_or_else(PoisonError::into_inner);
        }
        drop(blocks);
        let block = self.bring(number);
        self.blocks().end(number, block.as_ref().ok().cloned());
        self.came.notify_all();
        block
    }

    fn bring(&self, number: u64) -> Result<Arc<[u8]>, Error> {
        let start = number * self.block;
        let end = start.saturating_add(self.block).min(self.meta.len);
        let len = usize::try_from(end - start).unwrap_or(usize::MAX);
        let kept = self.cache.as_ref().and_then(|cache| cache.get(number, len));
        let (bytes, is_new) = match kept {
            Some(bytes) => (bytes, false),
            None => (self.ask(start, end)?, true),
        };
        if !self.digests().is_as_before(number, &bytes) {
            let what = format!("bytes {start} to {end} are not what they were");
            return Err(self.server.changed(what));
        }
        if let (true, Some(cache)) = (is_new, &self.cache) {
            cache.put(number, &bytes);
        }
        Ok(bytes.into())
    }

    fn ask(&self, start: u64, end: u64) -> Result<Vec<u8>, Error> {
        if self.offline {
            return Err(Error::NotKept { url: self.server.url.clone(), start, end });
        }
        again(self.attempts, self.backoff, &self.ending, || {
            self.server.range(&self.meta, start, end)
        })
    }

    /// What the thread does until the file is dropped.
    fn read_ahead(&self, numbers: &Receiver<u64>) {
        for number in numbers {
            if self.ending.load(Ordering::Relaxed) {
                return;
            }
            if let Err(error) = self.fetch(number) {
                tracing::debug!(%error, number, "not read ahead");
            }
        }
    }

    fn blocks(&self) -> MutexGuard<'_, Blocks> {
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn digests(&self) -> MutexGuard<'_, Digests> {
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the file was when a server could be asked, if the cache knows it: with a full cache a model opens without
/// the server, and blocks that are not there are asked for by its version.
fn last_known(place: &str, error: &Error, options: &Options) -> Option<Meta> {
    let no_server = error.is_temporary() || matches!(error, Error::NotKept { .. });
    let (path, _) = options.cache.as_ref().filter(|_| no_server)?;
    let meta = Cache::last_known(path, place)?;
    tracing::warn!(%error, version = %meta.validator, "the cache is used without the server");
    Some(meta)
}

/// Asks again, ever later, as long as that may help, and not before the server says that it may.
fn again<T>(
    attempts: u32,
    backoff: Duration,
    ending: &AtomicBool,
    ask: impl Fn() -> Result<T, Error>,
) -> Result<T, Error> {
    let mut wait = backoff;
    let mut attempt = 1;
    loop {
        match ask() {
            Err(error) if error.is_temporary() && attempt < attempts => {
                let asked = match &error {
                    Error::Busy { wait: Some(wait), .. } => *wait,
                    _ => Duration::ZERO,
                };
                if asked > MOST_ASKED || !slept(wait.max(asked), ending) {
                    return Err(error);
                }
                tracing::debug!(%error, attempt, "asking again");
                wait = wait.saturating_mul(2).min(MOST_BACKOFF);
                attempt += 1;
            }
            done => return done,
        }
    }
}

/// Whether nothing ended meanwhile.
fn slept(wait: Duration, ending: &AtomicBool) -> bool {
    const LOOK: Duration = Duration::from_millis(50);
    let until = Instant::now() + wait;
    loop {
        if ending.load(Ordering::Relaxed) {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return true;
        }
        thread::sleep(left.min(LOOK));
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.file.ending.store(true, Ordering::Relaxed);
        self.ahead = None;
        if let Some(thread) = self.thread.take() {
            // It does not panic; and if it did, there would be nothing left to do.
            _ = thread.join();
        }
    }
}
