//! What a backend implements, and what it is given for that.
//!
//! A backend implements [`Engine`], [`Module`] and [`Instance`] for one engine. It translates:
//! whatever is validated, counted or decided is done before and around these methods, once for
//! all engines, and cannot be overridden.
//!
//! | method | called by | when |
//! | --- | --- | --- |
//! | [`Engine::translate`] | [`Engine::compile`](crate::Engine::compile) | with a module that has been validated, on a stack with room; panics are caught |
//! | [`Module::start`] | [`Module::instantiate_with`](crate::Module::instantiate_with) | when limits and imports are checked; the module has no start function any more, which the host calls afterwards |
//! | [`Instance::grow`] | [`Runtime::create_memory64`](crate::Runtime::create_memory64) | between calls, with whole pages that the limits allow |
//! | [`Instance::invoke`] | [`Runtime::call`](crate::Runtime::call), [`call_into`](crate::Runtime::call_into), [`Caller::call`](crate::imports::Caller::call) | with a name and types that the module has, on a stack with room |
//! | [`Instance::global`], [`Instance::set_global`] | [`Runtime::global`](crate::Runtime::global), [`set_global`](crate::Runtime::set_global) | with a global that the module has |
//! | [`LinearMemories`] | the host | at any time but during `grow` and `invoke`; during a call, of the instance that is passed to the function of the host |
//! | [`HostFunction::call`], [`call_slots`](HostFunction::call_slots) | the backend | for each import that the guest calls, with the guest as it is in the middle of that call |
//!
//! What the host gives to a backend: [`Start`] and [`Host`], what a module imports
//! ([`Start::imports`]), the division of its limits ([`Host::memory_limit`]), stopping by a word in memory
//! ([`TimeLimit`], [`Variants`]), a [`Watchdog`], a compiler in a process of its own
//! ([`CompilerCommand`]), and [`claim_signals`].
//!
//! docs/vendors.md tells how to write a backend, and examples/wasmi is a whole one.

mod engine;
mod instance;
mod isolated;
mod signals;
mod start;
mod stop;
mod translate;
mod watchdog;

pub use self::engine::{Engine, Module};
pub use self::instance::Instance;
pub use self::isolated::{CompilerCommand, serve_compiler};
pub use self::signals::{SignalUse, claim_signals};
pub use self::start::{Start, Started};
pub use self::stop::{Reads, TimeLimit, Variant, Variants};
pub use self::translate::with_values;
pub use self::watchdog::{Alarm, Watchdog};
pub use crate::host::Host;
pub use crate::imports::{GlobalType, HostFunction, Item, MemoryType, Slot, Stopped};
pub use crate::memory::{LinearMemories, WholePages};
pub use crate::module::{GlobalAt, LinearMemory, ModuleInfo};
pub use crate::stack::GUEST_STACK;
pub use crate::value::{AddressType, FunctionType};
