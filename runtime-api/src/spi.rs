//! What a backend implements, and what it is given for that.
//!
//! A backend implements [`Engine`], [`Module`] and [`Instance`] for one engine. It translates:
//! whatever is validated, counted or decided is done before and around these methods, once for
//! all engines, and cannot be overridden.
//!
//! | method | called by | when |
//! | --- | --- | --- |
//! | [`Engine::translate`] | [`Engine::compile`](crate::Engine::compile) | with a module that has been validated, on a stack with room; panics are caught |
//! | [`Module::start`] | [`Module::instantiate`](crate::Module::instantiate) | when the limits are checked; runs the start function, under the time limit |
//! | [`Instance::grow`] | [`Runtime::create_memory64`](crate::Runtime::create_memory64) | between calls, with whole pages that the limits allow |
//! | [`Instance::invoke`] | [`Runtime::call`](crate::Runtime::call), [`call_into`](crate::Runtime::call_into) | with a name and types that the module has, on a stack with room |
//! | [`LinearMemories`] | the host | at any time but during `grow` and `invoke`; during a call by the bytes that the import passes on |
//! | [`imports::HostFunction::call`] | the backend | for each import that the guest calls |
//!
//! What the host gives to a backend: [`Start`] and [`Host`], the imports that a module wants
//! ([`Import`]), the division of its limits ([`Host::memory_limit`]), stopping by a word in memory
//! ([`TimeLimit`], [`Variants`]), a [`Watchdog`], a compiler in a process of its own
//! ([`CompilerCommand`]), and [`claim_signals`].
//!
//! docs/vendors.md tells how to write a backend, and examples/wasmi is a whole one.

pub mod imports;

mod engine;
mod instance;
mod isolated;
mod signals;
mod stop;
mod translate;
mod watchdog;

pub use self::engine::{Engine, Module};
pub use self::instance::{Instance, Start, Started};
pub use self::isolated::{CompilerCommand, serve_compiler};
pub use self::signals::{SignalUse, claim_signals};
pub use self::stop::{Reads, TimeLimit, Variant, Variants};
pub use self::watchdog::{Alarm, Watchdog};
pub use crate::host::Host;
pub use crate::memory::{LinearMemories, WholePages};
pub use crate::module::{Import, LinearMemory, ModuleInfo};
pub use crate::stack::GUEST_STACK;
pub use crate::value::{AddressType, FunctionType};
