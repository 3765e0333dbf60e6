//! The host's side of a guest: what it is made of, its limits, its rank and its refusals.
//!
//! - `calls`: what is kept while the guest calls functions of the host.
//! - `memories`: making, growing and copying memories of 64-bit addresses.
//! - `images`: showing images in linear memories.
//! - `layers`: bringing layers into memories, and taking them out.

mod calls;
mod images;
mod layers;
mod memories;

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub(crate) use self::layers::CallState;
use crate::capability::Capabilities;
use crate::events::Events;
use crate::interrupt::Switch;
use crate::layers::layer::Layers;
use crate::limits::Limits;
use crate::memory::segment::LinearMemories;
use crate::memory::shown::Shown;
use crate::memory::space::Memories;
use crate::memory::stats::MemoryStats;
use crate::memory::view::View;
use crate::module::ModuleInfo;
use crate::ranks::Rank;
use crate::stats::{Counters, Stats};
use crate::value::AddressType;
use crate::{Error, Result};

/// The host's side of one guest: its memories, layers and counters.
///
/// Shared between the [`Runtime`](crate::Runtime) and the engine's host functions. The
/// guest's linear memories are not part of it: each call passes them, as the engine has them
/// at that moment.
///
/// ```
/// use polychord_runtime_api::Runtime;
///
/// fn explain(guest: &dyn Runtime) {
///     let host = guest.host();
///     println!("at most {} bytes in each linear memory", host.memory_limit());
///     if let Some(refusal) = host.last_refusal() {
///         println!("the last refusal: {refusal}");
///     }
/// }
/// ```
pub struct Host {
    capabilities: Arc<Capabilities>,
    module: Arc<ModuleInfo>,
    limits: Limits,
    /// How the memories that the module declares are found in those of the engine.
    view: View,
    counters: Counters,
    /// What the guest may still put into a log.
    events: Events,
    /// Set if the guest computes together with others.
    rank: OnceLock<Rank>,
    /// Set if a running call can be stopped.
    switch: OnceLock<Arc<Switch>>,
    /// How many calls of the guest run within each other.
    depth: AtomicU32,
    /// The state of the user, while the guest runs and no function of the host has it.
    user: Mutex<Option<UserState>>,
    /// Why a function of the host has ended the call, until the call has ended.
    pending: Mutex<Option<Error>>,
    state: Mutex<State>,
}

/// A value of the user that belongs to one guest.
pub(crate) type UserState = Box<dyn Any + Send>;

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("engine", &self.capabilities.engine).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    memories: Memories,
    layers: Layers,
    /// Pages of linear memories that show images.
    shown: Shown,
    /// The last pages of linear memories that were grown for a memory which could not be made.
    spare: BTreeMap<usize, Range<u64>>,
    last_refusal: Option<Arc<Error>>,
}

/// What a memory has to be for those imports that work with every one.
pub(crate) const ANY_KIND: &str = "of any kind";

impl Host {
    /// A host for one instance of a module.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] if a memory that the module starts with is beyond the limits.
    pub(crate) fn new(
        capabilities: Arc<Capabilities>,
        module: Arc<ModuleInfo>,
        limits: Limits,
        view: View,
    ) -> Result<Self> {
        let state = State { memories: Memories::seen_by(view.clone()), ..State::default() };
        let host = Self {
            capabilities,
            module,
            limits,
            view,
            counters: Counters::default(),
            events: Events::default(),
            rank: OnceLock::new(),
            switch: OnceLock::new(),
            depth: AtomicU32::new(0),
            user: Mutex::default(),
            pending: Mutex::default(),
            state: Mutex::new(state),
        };
        host.module.shape().check(&host.limits, host.memory_limit(), &host.limited_by())?;
        Ok(host)
    }

    /// What the engine can do.
    #[must_use]
    pub const fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    /// What the module imports and exports.
    #[must_use]
    pub const fn module(&self) -> &Arc<ModuleInfo> {
        &self.module
    }

    /// How the memories that the module declares are found in those of the engine.
    pub(crate) const fn view(&self) -> &View {
        &self.view
    }

    /// How much the guest may use.
    #[must_use]
    pub const fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Which of several guests that compute together this one is, if it is one.
    #[must_use]
    pub fn rank(&self) -> Option<&Rank> {
        self.rank.get()
    }

    /// Most bytes that each of the guest's linear memories may have, exported or not, by the limits
    /// and by the addresses of the one named `memory`. All together keep the limit of the total.
    #[must_use]
    pub fn memory_limit(&self) -> u64 {
        let by_type = match self.module.address() {
            AddressType::I32 => self.capabilities.memory32_max_bytes,
            AddressType::I64 => u64::MAX,
        };
        self.module.shape().memory_share(&self.limits).min(by_type)
    }

    /// Most elements that each of the guest's tables may have. All together keep the limit.
    #[must_use]
    pub fn table_limit(&self) -> u64 {
        self.module.table_limit(&self.limits)
    }

    /// The counters now.
    pub(crate) fn stats(&self, guest: &dyn LinearMemories) -> Stats {
        let memories = 0..self.module.memories().len();
        let guest_bytes = memories.map(|index| self.view.size(guest, index)).sum();
        let shared_bytes = self.state().shown.bytes();
        Stats { guest_bytes, shared_bytes, ..self.counters.snapshot() }
    }

    /// Statistics of each memory that was made.
    pub(crate) fn memory_stats(&self, guest: &dyn LinearMemories) -> Vec<MemoryStats> {
        let state = self.state();
        let mut stats = state.memories.stats(guest);
        for memory in &mut stats {
            memory.mapped_bytes = state.layers.mapped_bytes(memory.id);
        }
        stats
    }

    /// Why a request was refused last; a guest sees only a number.
    #[must_use]
    pub fn last_refusal(&self) -> Option<Arc<Error>> {
        self.state().last_refusal.clone()
    }

    pub(crate) fn join(&self, rank: Rank) -> Result<()> {
        self.rank.set(rank).map_err(|refused| {
            let rank = self.rank().unwrap_or(&refused);
            Error::HasRank { rank: rank.index(), ranks: rank.count() }
        })
    }

    /// Counts and remembers a refusal.
    pub(crate) fn refuse(&self, error: Error) -> Arc<Error> {
        self.counters.error();
        if tracing::enabled!(tracing::Level::DEBUG)
            && let Some(left_out) = self.events.admit()
        {
            tracing::debug!(engine = self.capabilities.engine, %error, left_out, "refused");
        }
        let error = Arc::new(error);
        self.state().last_refusal = Some(error.clone());
        error
    }

    /// Counts a refusal on its way to the caller.
    pub(crate) fn counted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(error) = &result {
            self.counters.error();
            tracing::debug!(engine = self.capabilities.engine, %error, "refused");
        }
        result
    }

    /// What sets the limit for a guest's linear memories.
    pub(crate) fn limited_by(&self) -> String {
        format!("{} with these limits", self.capabilities.engine)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // A panic in here is caught at the host function; the state is whole between calls.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
