//! Defects in the host API: memories, layers, transfers.

use std::collections::HashMap;
use std::sync::{LazyLock, Mutex};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Error, LayerId, LayerSpec, LoadedLayer, MemoryId, MemoryKind, MemorySpec, Result, Stats,
};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "host_api/spoilt_ahead",
        what: "changes a byte of a layer that was read ahead",
        defect: &SpoiltAhead,
        caught_by: &["host_api/pager_ahead"],
    },
    Entry {
        name: "host_api/one_page_more",
        what: "makes memories a page too large",
        defect: &OnePageMore,
        caught_by: &["host_api/create_memory64", "memory/regions"],
    },
    Entry {
        name: "host_api/elsewhere",
        what: "makes a memory in the host that should be in the guest",
        defect: &Elsewhere,
        caught_by: &["host_api/create_memory64", "host_api/guest_and_host_memory_agree"],
    },
    Entry {
        name: "host_api/empty_memories",
        what: "makes memories without a byte",
        defect: &EmptyMemories,
        caught_by: &["host_api/create_memory64_refusals"],
    },
    Entry {
        name: "host_api/takes_any_layer",
        what: "takes layers that overlap or leave their memory",
        defect: &TakesAnyLayer,
        caught_by: &["host_api/register_layer_refusals", "memory/regions_touch"],
    },
    Entry {
        name: "host_api/loads_counted_twice",
        what: "counts a load twice",
        defect: &LoadsCountedTwice,
        caught_by: &[
            "host_api/load_layer",
            "host_api/pager",
            "abi/wasm32/loads",
            "threads/at_once",
        ],
    },
    Entry {
        name: "host_api/partial_load",
        what: "leaves bytes behind when a layer cannot be read",
        defect: &PartialLoad,
        caught_by: &["host_api/load_layer_refusals"],
    },
    Entry {
        name: "host_api/spoilt_load",
        what: "changes a byte of a layer on its way in",
        defect: &SpoiltLoad,
        caught_by: &[
            "host_api/load_layer",
            "host_api/pager",
            "host_api/anonymous_pager",
            "host_api/pager_ahead_failure",
            "host_api/pager_ahead_dropped",
            "mapping/equals_copying",
            "transformer/logits",
            "transformer/mapped",
        ],
    },
    Entry {
        name: "host_api/not_released",
        what: "leaves the bytes of a layer that is released",
        defect: &NotReleased,
        caught_by: &[
            "host_api/release_layer",
            "host_api/anonymous_layer_without_room",
            "mapping/release",
            "mapping/no_leak",
        ],
    },
    Entry {
        name: "host_api/loses_the_last_byte",
        what: "releases a layer without what was written to its last byte",
        defect: &LosesTheLastByte,
        caught_by: &["host_api/anonymous_layer"],
    },
    Entry {
        name: "host_api/cached_by_number",
        what: "takes layers of the same number and size for the same layer",
        defect: &CachedByNumber,
        caught_by: &["host_api/unregister_layer", "transformer/weights_matter"],
    },
    Entry {
        name: "host_api/left_behind",
        what: "forgets a layer and leaves its bytes",
        defect: &LeftBehind,
        caught_by: &["host_api/unregister_layer"],
    },
    Entry {
        name: "host_api/reads_on",
        what: "lets a read go on in the memory that follows",
        defect: &ReadsOn,
        caught_by: &["host_api/read_and_write_refusals", "memory/region_ends"],
    },
    Entry {
        name: "host_api/writes_not_counted",
        what: "does not count what is written",
        defect: &WritesNotCounted,
        caught_by: &["host_api/read_and_write", "abi/wasm32/transfers_count"],
    },
    Entry {
        name: "host_api/writes_beside",
        what: "writes one byte further than told",
        defect: &WritesBeside,
        caught_by: &["host_api/read_and_write", "memory/regions_touch", "mapping/host_writes"],
    },
];

#[derive(Debug)]
struct OnePageMore;
impl Defect for OnePageMore {
    fn create_memory64(&self, guest: &mut Guest, spec: &MemorySpec) -> Result<MemoryId> {
        let mut spec = spec.clone();
        for region in &mut spec.regions {
            region.bytes = region.bytes.saturating_add(PAGE);
            region.max_bytes = region.max_bytes.saturating_add(PAGE);
        }
        guest.inner.create_memory64(&spec)
    }
}

#[derive(Debug)]
struct Elsewhere;
impl Defect for Elsewhere {
    fn create_memory64(&self, guest: &mut Guest, spec: &MemorySpec) -> Result<MemoryId> {
        guest.inner.create_memory64(&MemorySpec::new(MemoryKind::Host, spec.regions.clone()))
    }
}

#[derive(Debug)]
struct EmptyMemories;
impl Defect for EmptyMemories {
    fn create_memory64(&self, guest: &mut Guest, spec: &MemorySpec) -> Result<MemoryId> {
        let mut spec = spec.clone();
        for region in &mut spec.regions {
            region.max_bytes = region.max_bytes.max(1);
        }
        guest.inner.create_memory64(&spec)
    }
}

#[derive(Debug)]
struct TakesAnyLayer;
impl Defect for TakesAnyLayer {
    fn register_layer(&self, guest: &mut Guest, spec: LayerSpec) -> Result<()> {
        match guest.inner.register_layer(spec) {
            Err(Error::InvalidLayer { .. }) => Ok(()),
            other => other,
        }
    }
}

#[derive(Debug)]
struct LoadsCountedTwice;
impl Defect for LoadsCountedTwice {
    fn stats(&self, guest: &Guest) -> Stats {
        let mut stats = guest.inner.stats();
        stats.loads *= 2;
        stats
    }
}

#[derive(Debug)]
struct PartialLoad;
impl Defect for PartialLoad {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let loaded = guest.inner.load_layer(id);
        if matches!(loaded, Err(Error::Truncated { .. })) {
            guest.inner.memory_mut().fill(7);
        }
        loaded
    }
}

#[derive(Debug)]
struct SpoiltLoad;
impl Defect for SpoiltLoad {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let loaded = guest.inner.load_layer(id)?;
        // A layer that was there already is not on its way.
        if let Some(address) = loaded.address.filter(|_| !loaded.took.is_zero()) {
            let index = usize::try_from(address + (loaded.bytes - 1) / 2).unwrap_or(0);
            guest.inner.memory_mut()[index] ^= 0x21;
        }
        Ok(loaded)
    }
}

#[derive(Debug)]
struct NotReleased;
impl Defect for NotReleased {
    fn release_layer(&self, guest: &mut Guest, id: LayerId) -> Result<()> {
        guest.inner.load_layer(id).map(drop)
    }
}

#[derive(Debug)]
struct LosesTheLastByte;
impl Defect for LosesTheLastByte {
    fn release_layer(&self, guest: &mut Guest, id: LayerId) -> Result<()> {
        let loaded = guest.inner.load_layer(id)?;
        if let Some([.., last]) = place(guest, &loaded) {
            *last = 0;
        }
        guest.inner.release_layer(id)
    }
}

#[derive(Debug)]
struct ReadsOn;
impl Defect for ReadsOn {
    fn read(&self, guest: &Guest, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()> {
        match guest.inner.read_memory64(memory, offset, out) {
            Err(Error::OutOfRange { .. }) => Ok(()),
            other => other,
        }
    }
}

#[derive(Debug)]
struct WritesNotCounted;
impl Defect for WritesNotCounted {
    fn stats(&self, guest: &Guest) -> Stats {
        let mut stats = guest.inner.stats();
        stats.writes = 0;
        stats
    }
}

#[derive(Debug)]
struct WritesBeside;
impl Defect for WritesBeside {
    fn write(&self, guest: &mut Guest, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        guest
            .inner
            .write_memory64(memory, offset + 1, data)
            .or_else(|_| guest.inner.write_memory64(memory, offset, data))
    }
}

#[derive(Debug)]
struct CachedByNumber;

type Layers = Mutex<HashMap<(LayerId, u64), Vec<u8>>>;
static LAYERS: LazyLock<Layers> = LazyLock::new(Mutex::default);

impl Defect for CachedByNumber {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let loaded = guest.inner.load_layer(id)?;
        if let Some(bytes) = place(guest, &loaded) {
            let mut layers = LAYERS.lock().unwrap();
            let first = layers.entry((id, loaded.bytes)).or_insert_with(|| bytes.to_vec());
            bytes.copy_from_slice(first);
        }
        Ok(loaded)
    }
}

#[derive(Debug)]
struct LeftBehind;
impl Defect for LeftBehind {
    fn unregister_layer(&self, guest: &mut Guest, id: LayerId) -> Result<()> {
        let loaded = guest.inner.load_layer(id)?;
        let bytes = place(guest, &loaded).map(|bytes| bytes.to_vec()).unwrap_or_default();
        guest.inner.unregister_layer(id)?;
        if let Some(place) = place(guest, &loaded) {
            place.copy_from_slice(&bytes);
        }
        Ok(())
    }
}

#[derive(Debug)]
struct SpoiltAhead;
impl Defect for SpoiltAhead {
    fn load_layer_from(&self, guest: &mut Guest, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer> {
        let mut bytes = bytes.to_vec();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        guest.inner.load_layer_from(id, &bytes)
    }
}

/// The bytes of a layer that is in the guest's memory.
fn place<'a>(guest: &'a mut Guest, loaded: &LoadedLayer) -> Option<&'a mut [u8]> {
    let start = usize::try_from(loaded.address?).ok()?;
    let len = usize::try_from(loaded.bytes).ok()?;
    guest.inner.memory_mut().get_mut(start..start + len)
}
