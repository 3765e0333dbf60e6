//! A thread that reads layers before they are needed.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Deref;

use memmap2::MmapMut;
use polychord_abi::PAGE;
use polychord_plan::{LayerId, SourceRange};

use crate::layers::source::Source;
use crate::sync::Arc;
use crate::sync::atomic::{AtomicBool, Ordering::Relaxed};
use crate::sync::mpsc::{Receiver, Sender, channel};
use crate::sync::thread::{Builder, JoinHandle};
use crate::{Error, Result};

/// Reads layers of one source, in the order in which they were asked for. The thread ends
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    /// None while it is being dropped.
    requests: Option<Sender<Request>>,
    results: Receiver<Result<Room>>,
    /// Set when no result is wanted any more.
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What the thread was asked for and has not answered, in its order.
    under_way: VecDeque<UnderWay>,
    /// What is read.
    ready: BTreeMap<LayerId, Ready>,
    /// Room that was used and will be again: new pages cost more than reading does.
    spare: Option<Room>,
}

/// The bytes of a layer that was read ahead.
#[derive(Debug)]
pub(crate) struct ReadLayer {
    room: Room,
    len: usize,
}

/// Pages for a layer.
#[derive(Debug)]
struct Room {
    bytes: MmapMut,
    /// How many pages of 64 KiB they are.
    pages: u64,
}

#[derive(Debug)]
struct UnderWay {
    id: LayerId,
    len: u64,
    pages: u64,
    /// Set when the layer is not wanted any more.
    cancelled: Arc<AtomicBool>,
}

#[derive(Debug)]
struct Ready {
    read: Result<ReadLayer>,
    pages: u64,
}

#[derive(Debug)]
enum Request {
    /// Into memory.
    Read { start: u64, len: u64, pages: u64, room: Option<Room>, cancelled: Arc<AtomicBool> },
    /// Into the cache of the system, without an answer.
    Advise { start: u64, len: u64 },
}

/// Bytes that are read before the thread looks whether it should stop.
const STEP: usize = 1 << 20;

impl Reader {
    pub(crate) fn start(source: Source) -> std::io::Result<Self> {
        let (requests, incoming) = channel();
        let (outgoing, results) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            while let Ok(request) = incoming.recv() {
                let answered = match request {
                    Request::Advise { start, len } => {
                        source.read_ahead(start, len, &stopped);
                        true
                    }
                    Request::Read { start, len, pages, room, cancelled } => {
                        let ends = || stopped.load(Relaxed) || cancelled.load(Relaxed);
                        let read = Room::ready(room, pages)
                            .and_then(|room| room.read(&source, start, len, ends));
                        outgoing.send(read).is_ok()
                    }
                };
                if stopped.load(Relaxed) || !answered {
                    return;
                }
            }
        };
        let thread = Builder::new().name("polychord-reader".into()).spawn(work)?;
        Ok(Self {
            requests: Some(requests),
            results,
            stop,
            thread: Some(thread),
            under_way: VecDeque::new(),
            ready: BTreeMap::new(),
            spare: None,
        })
    }

    /// Has a layer read into the cache of the system, and does not wait.
    pub(crate) fn advise(&self, layer: &SourceRange) -> bool {
        self.send(Request::Advise { start: layer.start, len: layer.bytes })
    }

    /// Has a layer read into memory of `pages` pages, and does not wait.
    pub(crate) fn ask(&mut self, layer: &SourceRange, pages: u64) -> bool {
        let room = self.spare.take_if(|spare| spare.pages >= pages);
        let pages = room.as_ref().map_or(pages, |room| room.pages);
        let (start, len) = (layer.start, layer.bytes);
        let cancelled = Arc::new(AtomicBool::new(false));
        let under_way = UnderWay { id: layer.id, len, pages, cancelled: cancelled.clone() };
        let sent = self.send(Request::Read { start, len, pages, room, cancelled });
        if sent {
            self.under_way.push_back(under_way);
        }
        sent
    }

    /// Whether a layer was asked for and not taken.
    pub(crate) fn has(&self, id: LayerId) -> bool {
        self.ready.contains_key(&id) || self.under_way.iter().any(|it| it.is_wanted(id))
    }

    /// Pages of all memory that it has, or will have when the thread has done what it was asked.
    pub(crate) fn pages(&self) -> u64 {
        let under_way = self.under_way.iter().map(|it| it.pages);
        let ready = self.ready.values().map(|it| it.pages);
        let spare = self.spare.iter().map(|it| it.pages);
        under_way.chain(ready).chain(spare).sum()
    }

    /// Pages that `ask(.., pages)` would newly allocate.
    pub(crate) fn grows_by(&self, pages: u64) -> u64 {
        let spare = self.spare.as_ref().is_some_and(|spare| spare.pages >= pages);
        if spare { 0 } else { pages }
    }

    /// The bytes of a layer that was asked for, when they are there; none if it was not.
    pub(crate) fn take(&mut self, id: LayerId) -> Option<Result<ReadLayer>> {
        while self.under_way.iter().any(|it| it.is_wanted(id)) {
            self.wait();
        }
        Some(self.ready.remove(&id)?.read)
    }

    /// Keeps the room of a layer that is not needed any more for another one.
    pub(crate) fn recycle(&mut self, layer: ReadLayer) {
        self.keep(layer.room);
    }

    /// Lets go of all layers but these, without waiting for those that are being read; false if
    /// there are none.
    pub(crate) fn forget_all_but(&mut self, ids: &[LayerId]) -> bool {
        while let Ok(read) = self.results.try_recv() {
            self.arrived(read);
        }
        let is_other = |id: &LayerId| !ids.contains(id);
        let others: Vec<_> = self.ready.keys().filter(|id| is_other(id)).copied().collect();
        let mut forgot = !others.is_empty();
        for id in others {
            match self.ready.remove(&id).map(|ready| ready.read) {
                Some(Ok(layer)) => self.keep(layer.room),
                Some(Err(error)) => {
                    tracing::warn!(layer = id.0, %error, "read-ahead of a cancelled layer failed");
                }
                None => {}
            }
        }
        for it in self.under_way.iter().filter(|it| is_other(&it.id)) {
            forgot |= !it.cancelled.swap(true, Relaxed);
        }
        forgot
    }

    /// Gives memory back that holds no layer; false if there is none.
    pub(crate) fn trim(&mut self) -> bool {
        self.spare.take().is_some()
    }

    /// Gives memory of cancelled layers back, too: waits until the thread is done with them. What
    /// could not be read has no memory any more, either.
    pub(crate) fn trim_all(&mut self) -> bool {
        let mut trimmed = false;
        while self.spare.is_none() && self.under_way.iter().any(UnderWay::is_cancelled) {
            self.wait();
            trimmed = true;
        }
        self.trim() || trimmed
    }

    /// Waits for the answer to one request. The thread answers every one, unless it is gone: then
    /// nothing is under way any more.
    fn wait(&mut self) {
        match self.results.recv() {
            Ok(read) => self.arrived(read),
            Err(_) => self.under_way.clear(),
        }
    }

    /// Takes what the thread has read next.
    fn arrived(&mut self, read: Result<Room>) {
        let Some(UnderWay { id, len, pages, cancelled }) = self.under_way.pop_front() else {
            return;
        };
        match read {
            Ok(room) if cancelled.load(Relaxed) => self.keep(room),
            Err(_) if cancelled.load(Relaxed) => {}
            read => {
                // It is as long as the room that was found for it.
                let len = usize::try_from(len).unwrap_or(usize::MAX);
                let pages = if read.is_ok() { pages } else { 0 };
                let read = read.map(|room| ReadLayer { room, len });
                self.ready.insert(id, Ready { read, pages });
            }
        }
    }

    /// Keeps room for the next layer: the largest, since that serves all.
    fn keep(&mut self, room: Room) {
        if self.spare.as_ref().is_none_or(|spare| spare.pages < room.pages) {
            self.spare = Some(room);
        }
    }

    fn send(&self, request: Request) -> bool {
        self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok())
    }
}

impl UnderWay {
    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Relaxed)
    }

    fn is_wanted(&self, id: LayerId) -> bool {
        self.id == id && !self.is_cancelled()
    }
}

impl Room {
    /// The room that there is, or new one.
    fn ready(room: Option<Self>, pages: u64) -> Result<Self> {
        if let Some(room) = room {
            return Ok(room);
        }
        let asked = pages.saturating_mul(PAGE);
        let no_room = |reason: String| Error::HostMemory {
            what: "a layer that is read ahead",
            asked,
            reason,
        };
        let len = usize::try_from(asked).map_err(|error| no_room(error.to_string()))?;
        let bytes = MmapMut::map_anon(len).map_err(|error| no_room(error.to_string()))?;
        Ok(Self { bytes, pages })
    }

    /// Reads a layer, unless it ends before.
    fn read(
        mut self,
        source: &Source,
        start: u64,
        len: u64,
        ends: impl Fn() -> bool,
    ) -> Result<Self> {
        let len = usize::try_from(len).unwrap_or(usize::MAX).min(self.bytes.len());
        let mut at = start;
        for part in self.bytes[..len].chunks_mut(STEP) {
            if ends() {
                break;
            }
            source.read_at(at, part)?;
            at += part.len() as u64;
        }
        Ok(self)
    }
}

impl Deref for ReadLayer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.room.bytes[..self.len]
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened, and concerns no layer any more.
            _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(id: u32, start: u64, bytes: u64) -> SourceRange {
        SourceRange::new(LayerId(id), format!("layer {id}"), start, bytes)
    }

    #[test]
    fn layers_are_read_and_errors_kept() {
        let bytes: Vec<u8> = (0..=255).cycle().take(STEP + 1000).collect();
        let mut reader = Reader::start(Source::from_bytes(bytes.clone())).unwrap();
        assert!(reader.ask(&layer(1, 10, 100), 1));
        assert!(reader.ask(&layer(2, bytes.len() as u64, 1), 2));
        assert!(reader.ask(&layer(3, 5, STEP as u64 + 900), 17));
        assert_eq!(reader.pages(), 20);
        assert!(reader.take(LayerId(0)).is_none());
        assert!(reader.take(LayerId(3)).unwrap().unwrap()[..] == bytes[5..STEP + 905]);
        assert!(matches!(reader.take(LayerId(2)), Some(Err(Error::OutOfRange { .. }))));
        assert!(reader.has(LayerId(1)) && !reader.has(LayerId(2)));
        assert_eq!(reader.take(LayerId(1)).unwrap().unwrap()[..], bytes[10..110]);
        assert!(reader.take(LayerId(1)).is_none());
        assert_eq!(reader.pages(), 0);
    }

    #[test]
    fn room_is_used_again_and_counted() {
        let bytes: Vec<u8> = (0..=255).cycle().take(200_000).collect();
        let mut reader = Reader::start(Source::from_bytes(bytes.clone())).unwrap();
        reader.ask(&layer(1, 7, 150_000), 3);
        let first = reader.take(LayerId(1)).unwrap().unwrap();
        let place = first.as_ptr();
        reader.recycle(first);
        assert_eq!((reader.pages(), reader.grows_by(2), reader.grows_by(4)), (3, 0, 4));
        reader.ask(&layer(2, 1, 100), 2);
        assert_eq!((reader.pages(), reader.grows_by(1)), (3, 1));
        let second = reader.take(LayerId(2)).unwrap().unwrap();
        assert!(second.as_ptr() == place && second[..] == bytes[1..101]);
        reader.recycle(second);
        assert!(reader.trim() && !reader.trim());
        assert_eq!(reader.pages(), 0);
    }

    #[test]
    fn what_is_not_wanted_is_counted_until_it_is_gone() {
        let mut reader = Reader::start(Source::from_bytes(vec![1; 1 << 20])).unwrap();
        for id in 0..20 {
            reader.ask(&layer(id, 0, 1 << 20), 16);
        }
        assert!(reader.forget_all_but(&[LayerId(19)]));
        assert!(!reader.forget_all_but(&[LayerId(19)]));
        assert!(reader.has(LayerId(19)) && !reader.has(LayerId(0)));
        // Asked for again, while the cancelled read still runs.
        reader.ask(&layer(0, 1, 5), 16);
        assert_eq!(reader.take(LayerId(19)).unwrap().unwrap().len(), 1 << 20);
        assert_eq!(reader.take(LayerId(0)).unwrap().unwrap()[..], [1; 5]);
        while reader.trim_all() {}
        assert_eq!(reader.pages(), 0);
    }

    #[test]
    fn a_cancelled_layer_that_cannot_be_read_gives_its_room_back() {
        let mut reader = Reader::start(Source::from_bytes(vec![1; 1000])).unwrap();
        reader.ask(&layer(1, 2000, 10), 1);
        reader.forget_all_but(&[]);
        // The answer may have been there already.
        let trimmed = reader.pages() == 0 || reader.trim_all();
        assert!(trimmed && reader.take(LayerId(1)).is_none());
        assert_eq!(reader.pages(), 0);
    }

    #[test]
    fn the_thread_ends_with_its_reader() {
        let source = Source::from_bytes(vec![1; 1000]);
        let mut reader = Reader::start(source).unwrap();
        for id in 0..100 {
            reader.ask(&layer(id, 0, 1000), 1);
        }
        let stop = reader.stop.clone();
        drop(reader);
        // The thread had the only other one.
        assert_eq!(Arc::strong_count(&stop), 1);
    }
}
