//! Defects in validation and compilation.

use std::sync::Arc;

use polychord_runtime_api::{
    Capabilities, Engine, Error, Limits, Memory64, Module, ModuleLimits, RelaxedSimd, Result,
};

use super::Entry;
use crate::double::Defect;

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "compile/takes_anything",
        what: "compiles bytes that are not a module",
        defect: &TakesAnything,
        caught_by: &["compile/not_a_module", "compile/truncated", "compile/beyond_the_accepted"],
    },
    Entry {
        name: "compile/links_anything",
        what: "accepts imports that no host offers, or with another signature",
        defect: &LinksAnything,
        caught_by: &[
            "compile/missing_import",
            "compile/import_signature",
            "compile/import_signature_wasm64",
            "compile/import_kind",
        ],
    },
    Entry {
        name: "compile/one_missing_feature",
        what: "tells only the first of the features that it lacks",
        defect: &OneMissingFeature,
        caught_by: &["compile/every_missing_feature_is_listed"],
    },
    Entry {
        name: "compile/does_not_refuse",
        what: "compiles what it says it cannot",
        defect: &DoesNotRefuse,
        caught_by: &["memory/beyond_4_gib", "memory/independent", "determinism/relaxed_dot"],
    },
    Entry {
        name: "compile/trusts_everybody",
        what: "compiles modules of any complexity",
        defect: &TrustsEverybody,
        caught_by: &["compile/too_complex"],
    },
    Entry {
        name: "compile/shouts",
        what: "has a name that is no cargo feature",
        defect: &Shouts,
        caught_by: &["compile/names_itself"],
    },
    Entry {
        name: "compile/panics",
        what: "panics where it should refuse",
        defect: &Panics,
        caught_by: &["compile/corrupted", "compile/truncated", "compile/not_a_module"],
    },
    Entry {
        name: "compile/no_maximum",
        what: "forgets that a memory of one page has a maximum of four",
        defect: &NoMaximum,
        caught_by: &["compile/info"],
    },
];

/// A module in which these bytes, where they occur, are others.
pub(super) fn patched(wasm: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    match wasm.windows(from.len()).position(|bytes| bytes == from) {
        Some(at) => [&wasm[..at], to, &wasm[at + from.len()..]].concat(),
        None => wasm.to_vec(),
    }
}

fn empty(engine: &dyn Engine) -> Result<Arc<dyn Module>> {
    engine.compile(&wat::parse_str("(module)").unwrap())
}

#[derive(Debug)]
struct TakesAnything;
impl Defect for TakesAnything {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        match engine.compile(wasm) {
            Err(Error::InvalidModule { .. }) => empty(engine),
            other => other,
        }
    }
}

#[derive(Debug)]
struct LinksAnything;
impl Defect for LinksAnything {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        let module = engine.compile(wasm)?;
        match module.instantiate(&Limits::default()) {
            Err(Error::Imports { .. }) => empty(engine),
            _ => Ok(module),
        }
    }
}

/// Claims to lack what the engine behind it has.
fn lacks(has: &mut Capabilities) {
    has.memory64 = Memory64::Host;
    has.multi_memory = false;
    has.relaxed_simd = RelaxedSimd::Unsupported;
}

#[derive(Debug)]
struct OneMissingFeature;
impl Defect for OneMissingFeature {
    fn claim(&self, has: &mut Capabilities) {
        lacks(has);
    }

    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        let mut has = Capabilities::clone(engine.capabilities());
        lacks(&mut has);
        match polychord_runtime_api::ModuleInfo::parse(wasm, &has) {
            Err(Error::Unmet { engine, mut unmet }) => {
                unmet.truncate(1);
                Err(Error::Unmet { engine, unmet })
            }
            _ => engine.compile(wasm),
        }
    }
}

#[derive(Debug)]
struct DoesNotRefuse;
impl Defect for DoesNotRefuse {
    fn claim(&self, has: &mut Capabilities) {
        lacks(has);
    }
}

#[derive(Debug)]
struct TrustsEverybody;
impl Defect for TrustsEverybody {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        engine.compile_within(wasm, &ModuleLimits::trusted())
    }
}

#[derive(Debug)]
struct Shouts;
impl Defect for Shouts {
    fn claim(&self, has: &mut Capabilities) {
        has.engine = "WASM TIME";
    }
}

#[derive(Debug)]
struct Panics;
impl Defect for Panics {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        match engine.compile(wasm) {
            Err(Error::InvalidModule { .. }) => panic!("this defect panics"),
            other => other,
        }
    }
}

#[derive(Debug)]
struct NoMaximum;
impl Defect for NoMaximum {
    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        // The memory section: its number and size, one memory, whether there is a maximum.
        engine.compile(&patched(wasm, &[5, 4, 1, 1, 1, 4], &[5, 3, 1, 0, 1]))
    }
}
