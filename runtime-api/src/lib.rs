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
//! ```no_run
//! use std::sync::Arc;
//!
//! use polychord_runtime_api::{
//!     Engine, LayerId, LayerSpec, Limits, MemorySpec, Result, Source, Value,
//! };
//!
//! // `polychord::open("wasmtime")` gives such an engine.
//! fn run(engine: &Arc<dyn Engine>, wasm: &[u8]) -> Result<Vec<Value>> {
//!     let mut guest = engine.compile(wasm)?.instantiate(&Limits::default())?;
//!     let source = Source::open("weights.bin")?;
//!     let memory = guest.create_memory64(&MemorySpec::guest(source.len()))?;
//!     guest.register_layer(LayerSpec::new(LayerId(0), memory, &source))?;
//!     guest.load_layer(LayerId(0))?;
//!     guest.call("run", &[])
//! }
//! ```
//!
//! # The way of data
//!
//! ```text
//! file      a GGUF model, or any other regular file
//!   |
//!   |  Source::open
//!   v
//! source    its bytes, of which nothing is read yet
//!   |
//!   |  register_layer(LayerSpec), as a Plan says
//!   v
//! layer     a range of the source, and a place in a memory, by a number (LayerId)
//!   |
//!   |  load_layer: copied or mapped; for a window, by a Pager, which reads ahead
//!   v
//! memory    64-bit addresses, divided into regions
//!   |
//!   +--- in the guest: segments of its linear memories ---> guest uses the bytes in place
//!   |                                                       (memory64_map_layer: their address)
//!   +--- in the host: pages of the host ------------------> guest copies them
//!                                                           (memory64_load_layer, memory64_read)
//! ```
//!
//! A layer is *copied* by reading it, or *mapped*: pages of the file take the place of pages of
//! the memory. It is mapped if its source was opened for that ([`Source::open_mapped`]), the engine
//! lends the pages of its memory ([`spi::WholePages`]), and the guest does not run; otherwise
//! [`LoadedLayer::reason`] says why it was copied.
//!
//! # Who validates what
//!
//! If two engines could disagree about something, it is a backend's code or a field of
//! [`Capabilities`]; everything else is checked here, before a backend is called.
//!
//! | what | checked by | refused with |
//! | --- | --- | --- |
//! | bytes of a module: syntax, types, exports | [`ModuleInfo::parse`], in [`Engine::compile`] | [`Error::InvalidModule`] |
//! | its imports: names and types, against [`Imports`] | [`Module::instantiate_with`] | [`Error::Imports`], with all that do not match |
//! | features that the engine lacks | [`ModuleInfo::parse`], [`Requirements::check`] | [`Error::Unmet`] |
//! | what compiling it may cost | [`ModuleLimits`], counted while it is validated | [`Error::TooComplex`] |
//! | memories and tables that a guest starts with | [`Module::instantiate`], against [`Limits`] | [`Error::TooLarge`], [`Error::TooMany`] |
//! | growth that a guest asks for | the engine, under [`spi::Host::memory_limit`] | the guest gets -1 |
//! | names and types of calls | [`Runtime::call`], [`Runtime::call_into`] | [`Error::MissingExport`], [`Error::Signature`] |
//! | memories and their regions | [`Runtime::create_memory64`] | [`Error::InvalidMemory`], [`Error::TooLarge`] |
//! | layers: number, place, source, overlap | [`Runtime::register_layer`] | [`Error::InvalidLayer`] |
//! | files: what they are, and whether they have shrunk | [`Source::open`], and each load and call | [`Error::NotAFile`], [`Error::Truncated`] |
//! | plans from elsewhere | [`Plan::from_json`], [`Plan::validate`] | [`plan::Error::InvalidPlan`] |
//! | pointers and lengths that a guest passes to functions of `env` | [`imports::LAYER_FUNCTIONS`], before anything is read | a negative [`abi::code`] |
//! | pointers and lengths that a guest passes to functions of the user | [`Caller`], before anything is read | [`Error::PointerOutOfBounds`] |
//! | sizes of exchanges among ranks | [`Rank`], before the [`Transport`](ranks::Transport) | [`Error::BadChunk`] |
//!
//! # Modules
//!
//! | module | has |
//! | --- | --- |
//! | [`imports`] | what guests import: functions, memories and globals of the program that runs them |
//! | [`memory`] | memories of 64-bit addresses, their regions, and the guest's linear memories |
//! | [`layers`] | layers and their sources |
//! | [`paging`] | layers that share a window |
//! | [`ranks`] | guests that compute together |
//! | [`stats`] | counters, histograms, page faults |
//! | [`plan`] | plans: which layer lies where |
//! | [`spi`] | what backends implement |
//! | [`abi`] | what guests import |

pub mod imports;
pub mod layers;
pub mod memory;
pub mod paging;
pub mod ranks;
pub mod spi;
pub mod stats;
mod sync;

mod address_space;
mod capability;
mod engine;
mod error;
mod events;
mod host;
#[cfg(test)]
mod idle;
mod instantiation;
mod interrupt;
mod limits;
mod live;
mod lowering;
mod module;
mod module_limits;
#[cfg(test)]
mod names;
mod runtime;
mod stack;
mod typed;
mod value;

pub use capability::{Capabilities, Memory64, Memory64Choice, RelaxedSimd, Requirements};
pub use engine::{Engine, Module};
pub use error::{Error, ErrorKind, LayerProblem, Result, TrapKind, Unmet};
pub use imports::{Caller, HostError, Imports};
pub use instantiation::Instantiation;
pub use interrupt::Interrupter;
pub use layers::{AddedLayers, CopyReason, LayerSpec, LoadMethod, LoadedLayer, Source};
pub use limits::Limits;
pub use memory::{
    Backing, Image, ImageBuilder, ImageRoom, LinearMemories, MemoryId, MemoryKind, MemorySpec,
    MemoryStats, Region, RegionSpec, Segment,
};
pub use module::{LinearMemory, ModuleInfo};
pub use module_limits::ModuleLimits;
pub use paging::{Pager, PagerStats, Policy, UnorderedLayers};
pub use polychord_abi as abi;
pub use polychord_plan as plan;
pub use polychord_plan::region::{ACTIVATIONS, EMBEDDINGS, KV, WEIGHTS};
pub use polychord_plan::{
    Group, Guests, Hosts, Inventory, LayerHash, LayerId, Plan, PlannedLayer, PlannedMemory,
    Printable, SourceRange, Strategy, is_hidden,
};
pub use ranks::Rank;
pub use runtime::Runtime;
pub use stats::{Histogram, PageFaults, Stats};
pub use value::{AddressType, FunctionType, Value, ValueType};
