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
];

#[derive(Debug)]
struct Pretends;
impl Defect for Pretends {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        Ok(LoadedLayer { method: LoadMethod::Mapped, ..guest.inner.load_layer(id)? })
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
            return guest.inner.check_call(export, args);
        }
        guest.inner.call(export, args)
    }
}

#[derive(Debug)]
struct MapsWhatIsGone;
impl Defect for MapsWhatIsGone {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        match guest.inner.load_layer(id) {
            Err(Error::Truncated { .. }) => Ok(LoadedLayer {
                address: None,
                bytes: 0,
                method: LoadMethod::Mapped,
                took: std::time::Duration::ZERO,
            }),
            other => other,
        }
    }
}

#[derive(Debug)]
struct ComputesWithWhatIsGone;
impl Defect for ComputesWithWhatIsGone {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        match guest.inner.call(export, args) {
            Err(Error::Truncated { .. }) => guest.inner.check_call(export, args),
            other => other,
        }
    }
}
