//! What Polychord promises of every WebAssembly engine, and all that two engines could not
//! disagree about.
//!
//! For programs that run guests:
//!
//! - [`Engine`] compiles a guest; [`Capabilities`] says what the engine can do as configured,
//!   [`Requirements`] what a caller needs.
//! - [`Module`] is a compiled guest, ready to be instantiated many times.
//! - [`Runtime`] is one live guest, an instance with the host that serves it: the host API,
//!   [`create_memory64`](Runtime::create_memory64), [`register_layer`](Runtime::register_layer),
//!   [`load_layer`](Runtime::load_layer), [`stats`](Runtime::stats).
//! - [`Rank`] is one of several guests that compute together, each in a thread of its own.
//!
//! All three traits are object safe: a program picks its engine at run time.
//!
//! For backends, one for each engine: [`spi`] has the traits that they implement. They translate;
//! everything that is decided, checked or counted happens here, once.
//!
//! | module | has |
//! | --- | --- |
//! | [`memory`] | memories of 64-bit addresses, their regions, and the guest's linear memories |
//! | [`layers`] | layers and their sources |
//! | [`paging`] | layers that share a window |
//! | [`ranks`] | guests that compute together |
//! | [`stats`] | counters, histograms, page faults |
//! | [`plan`] | plans: which layer lies where |
//! | [`spi`] | what backends implement |
//! | [`abi`] | what guests import |

pub mod layers;
pub mod memory;
pub mod paging;
pub mod ranks;
pub mod spi;
pub mod stats;

mod address_space;
mod capability;
mod engine;
mod error;
mod host;
#[cfg(test)]
mod idle;
mod limits;
mod live;
mod module;
mod module_limits;
#[cfg(test)]
mod names;
mod runtime;
mod stack;
mod value;

pub use capability::{Capabilities, Memory64, RelaxedSimd, Requirements};
pub use engine::{Engine, Module};
pub use error::{Error, ErrorKind, LayerProblem, Result, TrapKind, Unmet};
pub use layers::{CopyReason, LayerSpec, LoadMethod, LoadedLayer, Source};
pub use limits::Limits;
pub use memory::{
    Backing, LinearMemories, MemoryId, MemoryKind, MemorySpec, MemoryStats, Region, RegionSpec,
    Segment,
};
pub use module::{LinearMemory, ModuleInfo};
pub use module_limits::ModuleLimits;
pub use paging::{Pager, PagerStats, Policy};
pub use polychord_abi as abi;
pub use polychord_plan as plan;
pub use polychord_plan::region::{ACTIVATIONS, EMBEDDINGS, KV, WEIGHTS};
pub use polychord_plan::{
    Group, Guests, Inventory, LayerId, Plan, PlannedLayer, PlannedMemory, Printable, SourceRange,
    Strategy, is_hidden,
};
pub use ranks::Rank;
pub use runtime::Runtime;
pub use stats::{Histogram, PageFaults, Stats};
pub use value::{AddressType, FunctionType, Value, ValueType};
