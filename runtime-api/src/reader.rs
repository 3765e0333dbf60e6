//! A thread that reads layers before they are needed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;

use memmap2::MmapMut;

use crate::layer::LayerId;
use crate::plan::SourceRange;
use crate::source::Source;
use crate::{Error, Result};

/// Reads layers of one source, in the order in which they were asked for. The thread ends
/// when this is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    /// None while it is being dropped.
    requests: Option<Sender<Request>>,
    results: Receiver<(LayerId, Result<MmapMut>)>,
    /// Set when nobody waits for results any more.
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    /// What was asked for and not taken yet, with the 64 KiB pages that each is counted as.
    asked: BTreeMap<LayerId, u64>,
    /// Those of them that are read.
    ready: BTreeMap<LayerId, Result<MmapMut>>,
}

#[derive(Debug)]
struct Request {
    id: LayerId,
    start: u64,
    bytes: u64,
}

/// Bytes that are read before the thread looks whether it should stop.
const STEP: usize = 8 << 20;

impl Reader {
    pub(crate) fn start(source: Source) -> std::io::Result<Self> {
        let (requests, incoming) = channel();
        let (outgoing, results) = channel();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let work = move || {
            for Request { id, start, bytes } in incoming {
                let read = read(&source, start, bytes, &stopped);
                if stopped.load(Relaxed) || outgoing.send((id, read)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("polychord-reader".into()).spawn(work)?;
        let (asked, ready) = (BTreeMap::new(), BTreeMap::new());
        Ok(Self { requests: Some(requests), results, stop, thread: Some(thread), asked, ready })
    }

    /// Asks for a layer, and does not wait.
    pub(crate) fn ask(&mut self, layer: &SourceRange, pages: u64) {
        let request = Request { id: layer.id, start: layer.start, bytes: layer.bytes };
        let sent = self.requests.as_ref().is_some_and(|requests| requests.send(request).is_ok());
        if sent {
            self.asked.insert(layer.id, pages);
        }
    }

    /// The layers that were asked for and not taken.
    pub(crate) fn asked(&self) -> impl Iterator<Item = LayerId> {
        self.asked.keys().copied()
    }

    /// Whether a layer was asked for and not taken.
    pub(crate) fn has(&self, id: LayerId) -> bool {
        self.asked.contains_key(&id)
    }

    /// Pages that all layers are counted as which were asked for and not taken.
    pub(crate) fn pages(&self) -> u64 {
        self.asked.values().sum()
    }

    /// The bytes of a layer that was asked for, when they are there; none if it was not.
    pub(crate) fn take(&mut self, id: LayerId) -> Option<Result<MmapMut>> {
        self.asked.remove(&id)?;
        loop {
            if let Some(read) = self.ready.remove(&id) {
                return Some(read);
            }
            // The thread answers every request, unless it is gone: then nothing was read.
            let (done, read) = self.results.recv().ok()?;
            self.ready.insert(done, read);
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            // A panic in there was reported when it happened, and concerns nobody any more.
            _ = thread.join();
        }
    }
}

fn read(source: &Source, start: u64, bytes: u64, stop: &AtomicBool) -> Result<MmapMut> {
    let no_room = |reason: String| Error::OutOfMemory {
        engine: "the host",
        what: "room for a layer that is read ahead",
        asked: bytes,
        reason,
    };
    let len = usize::try_from(bytes).map_err(|error| no_room(error.to_string()))?;
    let mut room = MmapMut::map_anon(len).map_err(|error| no_room(error.to_string()))?;
    let mut at = start;
    for part in room.chunks_mut(STEP) {
        if stop.load(Relaxed) {
            break;
        }
        source.read_at(at, part)?;
        at += part.len() as u64;
    }
    Ok(room)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(id: u32, start: u64, bytes: u64) -> SourceRange {
        SourceRange { id: LayerId(id), name: format!("layer {id}"), start, bytes }
    }

    #[test]
    fn layers_are_read_and_errors_kept() {
        let bytes: Vec<u8> = (0..=255).cycle().take(STEP + 1000).collect();
        let mut reader = Reader::start(Source::from_bytes(bytes.clone())).unwrap();
        reader.ask(&layer(1, 10, 100), 1);
        reader.ask(&layer(2, bytes.len() as u64, 1), 2);
        reader.ask(&layer(3, 5, STEP as u64 + 900), 3);
        assert_eq!(reader.pages(), 6);
        assert!(reader.take(LayerId(0)).is_none());
        assert!(reader.take(LayerId(3)).unwrap().unwrap()[..] == bytes[5..STEP + 905]);
        assert!(matches!(reader.take(LayerId(2)), Some(Err(Error::OutOfRange { .. }))));
        assert_eq!(reader.asked().collect::<Vec<_>>(), [LayerId(1)]);
        assert_eq!(reader.take(LayerId(1)).unwrap().unwrap()[..], bytes[10..110]);
        assert!(reader.take(LayerId(1)).is_none());
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
