//! What Polychord promises of every WebAssembly engine, and all that two engines could not
//! disagree about.
//!
//! A backend crate implements three small traits, [`Engine`], [`Module`] and [`Instance`],
//! and translates; everything that is decided, checked or counted happens here, once:
//!
//! - [`Engine`] compiles a guest; [`Capabilities`] says what the engine can do as configured,
//!   [`Requirements`] what a caller needs.
//! - [`Module`] is a compiled guest, ready to be instantiated many times.
//! - [`Instance`] is what an engine made of a module, with its [`LinearMemories`].
//! - [`Runtime`] is one live guest, an instance with the host that serves it: the host API,
//!   [`create_memory64`](Runtime::create_memory64), [`register_layer`](Runtime::register_layer),
//!   [`load_layer`](Runtime::load_layer), [`stats`](Runtime::stats).
//! - [`Rank`] is one of several guests that compute together, each in a thread of its own.
//! - [`imports`] is the host side of every function that a guest may import.
//!
//! All four traits are object safe: a program picks its engine at run time.

pub mod imports;

mod address_space;
mod anonymous;
mod capability;
mod engine;
mod error;
mod histogram;
mod host;
#[cfg(test)]
mod idle;
mod instance;
mod isolated;
mod layer;
mod limits;
mod live;
#[cfg(test)]
mod many;
mod mapping;
mod memory;
mod module;
mod module_limits;
mod pager;
mod place;
mod ranks;
mod reader;
mod region;
mod runtime;
mod segment;
mod signals;
mod source;
mod stack;
mod stats;
mod stop;
mod translate;
mod usage;
mod value;
mod watchdog;

pub use capability::{Capabilities, Memory64, RelaxedSimd, Requirements, Unmet};
pub use engine::{Engine, Module};
pub use error::{Error, Result, TrapKind};
pub use histogram::Histogram;
pub use host::Host;
pub use instance::{Instance, Start, Started};
pub use isolated::{CompilerCommand, serve_compiler};
pub use layer::{LayerSpec, LoadMethod, LoadedLayer};
pub use limits::Limits;
pub use mapping::WholePages;
pub use memory::{MemoryId, MemoryStats};
pub use module::{AddressType, FunctionType, Import, LinearMemory, ModuleInfo};
pub use module_limits::ModuleLimits;
pub use pager::{Pager, PagerStats, Policy};
pub use polychord_abi as abi;
pub use polychord_plan as plan;
pub use polychord_plan::region::{ACTIVATIONS, EMBEDDINGS, KV, WEIGHTS};
pub use polychord_plan::{
    Group, Guests, Inventory, LayerId, Plan, PlannedLayer, PlannedMemory, Printable, SourceRange,
    Strategy, is_hidden,
};
pub use ranks::Rank;
pub use region::{MemoryKind, MemorySpec, Region, RegionSpec};
pub use runtime::Runtime;
pub use segment::{LinearMemories, Realisation, Segment};
pub use signals::{SignalUse, claim_signals};
pub use source::Source;
pub use stack::GUEST_STACK;
pub use stats::Stats;
pub use stop::{Reads, TimeLimit, Variant, Variants};
pub use usage::PageFaults;
pub use value::{Value, ValueType};
pub use watchdog::{Alarm, Watchdog};
