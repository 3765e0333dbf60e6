//! Defects in guests on several threads.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, LazyLock, Mutex};

use polychord_runtime_api::{Engine, LayerId, LoadedLayer, Module, Result, Stats, Value};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "threads/bound_to_one",
        what: "does nothing in another thread than the first",
        defect: &BoundToOne,
        caught_by: &["threads/moved"],
    },
    Entry {
        name: "threads/one_counter",
        what: "has one counter for all guests",
        defect: &OneCounter,
        caught_by: &["threads/at_once"],
    },
    Entry {
        name: "threads/confused_cache",
        what: "takes modules of the same length for the same module",
        defect: &ConfusedCache,
        caught_by: &["threads/compile_at_once"],
    },
];

#[derive(Debug)]
struct BoundToOne;
impl Defect for BoundToOne {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        if guest.thread == std::thread::current().id() {
            return guest.inner.call(export, args);
        }
        Ok(guest.zeros(export))
    }
}

#[derive(Debug)]
struct OneCounter;

static LOADS: AtomicU64 = AtomicU64::new(0);

impl Defect for OneCounter {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        LOADS.fetch_add(1, Relaxed);
        guest.inner.load_layer(id)
    }

    fn stats(&self, guest: &Guest) -> Stats {
        let mut stats = guest.inner.stats();
        stats.loads = LOADS.load(Relaxed);
        stats
    }
}

#[derive(Debug)]
struct ConfusedCache;

type Cache = Mutex<HashMap<usize, Arc<dyn Module>>>;
static CACHE: LazyLock<Cache> = LazyLock::new(Mutex::default);

impl Defect for ConfusedCache {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        let mut cache = CACHE.lock().unwrap();
        if let Some(module) = cache.get(&wasm.len()) {
            return Ok(module.clone());
        }
        let module = engine.compile(wasm)?;
        cache.insert(wasm.len(), module.clone());
        Ok(module)
    }
}
