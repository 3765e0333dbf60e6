//! Defects in mapped layers.

use polychord_runtime_api::{Error, LayerId, LoadMethod, LoadedLayer, Result, Value};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "mapping/pretends",
        what: "copies, and says that it has mapped",
        defect: &Pretends,
        caught_by: &["mapping/unaligned", "mapping/in_the_host", "mapping/during_a_call"],
    },
    Entry {
        name: "mapping/maps_unasked",
        what: "maps although it says that it cannot",
        defect: &MapsUnasked,
        caught_by: &["mapping/equals_copying"],
    },
    Entry {
        name: "mapping/left_behind",
        what: "leaves files mapped when their guest is gone",
        defect: &LeftBehind,
        caught_by: &["mapping/unmapped_with_the_guest"],
    },
    Entry {
        name: "mapping/lost_by_growth",
        what: "loses what is mapped when the guest grows",
        defect: &LostByGrowth,
        caught_by: &["mapping/grow"],
    },
    Entry {
        name: "mapping/read_only",
        what: "ends the write of a guest to a mapped page",
        defect: &ReadOnly,
        caught_by: &["mapping/copy_on_write", "mapping/bulk_writes"],
    },
    Entry {
        name: "mapping/maps_what_is_gone",
        what: "maps a file that has become too short",
        defect: &MapsWhatIsGone,
        caught_by: &["mapping/truncated"],
    },
    Entry {
        name: "mapping/computes_with_what_is_gone",
        what: "goes on when a mapped file has shrunk",
        defect: &ComputesWithWhatIsGone,
        caught_by: &["mapping/shrinks_in_use"],
    },
    Entry {
        name: "mapping/keeps_the_rest",
        what: "leaves what was written around a layer when it is loaded",
        defect: &KeepsTheRest,
        caught_by: &["mapping/zeros_around"],
    },
    Entry {
        name: "mapping/keeps_what_was_read",
        what: "leaves the first bytes of a layer that cannot be read whole",
        defect: &KeepsWhatWasRead,
        caught_by: &["mapping/half_read"],
    },
    Entry {
        name: "mapping/keeps_its_mappings",
        what: "keeps layers mapped that are released",
        defect: &KeepsItsMappings,
        caught_by: &["mapping/many_layers"],
    },
];

#[derive(Debug)]
struct Pretends;
impl Defect for Pretends {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let mut loaded = guest.inner.load_layer(id)?;
        loaded.method = LoadMethod::Mapped;
        Ok(loaded)
    }
}

#[derive(Debug)]
struct MapsUnasked;
impl Defect for MapsUnasked {
    fn claim(&self, has: &mut polychord_runtime_api::Capabilities) {
        has.mapping = false;
    }
}

#[derive(Debug)]
struct LeftBehind;
impl Defect for LeftBehind {
    fn leaks(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct LostByGrowth;
impl Defect for LostByGrowth {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let before = guest.inner.memory().len();
        let results = guest.inner.call(export, args);
        if guest.inner.memory().len() > before {
            guest.inner.memory_mut()[..before].fill(0);
        }
        results
    }
}

#[derive(Debug)]
struct ReadOnly;
impl Defect for ReadOnly {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        if guest.inner.stats().maps > 0 && matches!(export, "store" | "fill") {
            return Ok(guest.zeros(export));
        }
        guest.inner.call(export, args)
    }
}

#[derive(Debug)]
struct MapsWhatIsGone;
impl Defect for MapsWhatIsGone {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        match guest.inner.load_layer(id) {
            Err(Error::Truncated { .. }) => Ok(LoadedLayer::new(0, LoadMethod::Mapped)),
            other => other,
        }
    }
}

#[derive(Debug)]
struct ComputesWithWhatIsGone;
impl Defect for ComputesWithWhatIsGone {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        match guest.inner.call(export, args) {
            Err(Error::Truncated { .. }) => Ok(guest.zeros(export)),
            other => other,
        }
    }
}

#[derive(Debug)]
struct KeepsTheRest;
impl Defect for KeepsTheRest {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let loaded = guest.inner.load_layer(id)?;
        let end = loaded.address.map_or(0, |address| address + loaded.bytes);
        if let Ok(end) = usize::try_from(end)
            && !end.is_multiple_of(65_536)
        {
            guest.inner.memory_mut()[end] = 0x77;
        }
        Ok(loaded)
    }
}

#[derive(Debug)]
struct KeepsWhatWasRead;
impl Defect for KeepsWhatWasRead {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let loaded = guest.inner.load_layer(id);
        if loaded.is_err() {
            guest.inner.memory_mut()[2 * 65_536] = b'0';
        }
        loaded
    }
}

/// Only of layers that are mapped: those are the ones that have mappings.
#[derive(Debug)]
struct KeepsItsMappings;
impl Defect for KeepsItsMappings {
    fn release_layer(&self, guest: &mut Guest, id: LayerId) -> Result<()> {
        match guest.inner.load_layer(id)?.method {
            LoadMethod::Mapped => {
                guest.inner.memory_mut()[(2 * id.0 as usize + 1) * 65_536] = 0;
                Ok(())
            }
            _ => guest.inner.release_layer(id),
        }
    }
}
