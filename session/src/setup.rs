//! What the guests of a session have in common.

use polychord_model::descriptor::Settings;
use polychord_model::layout::Layout;
use polychord_model::{Activations, CacheType};
use polychord_runtime_api::{Limits, Module, Plan, PlannedLayer, PlannedMemory, Rank, Source};

use crate::model::Model;
use crate::options::{SessionOptions, Stage, TouchAhead};
use crate::placement::Placed;

/// A memory of a plan, and the layers in it.
pub(crate) struct Held<'a> {
    pub(crate) memory: &'a PlannedMemory,
    pub(crate) layers: Vec<&'a PlannedLayer>,
}

impl<'a> Held<'a> {
    /// The memories of each guest of a plan, in the order of the plan.
    pub(crate) fn by_guest(plan: &'a Plan) -> Vec<Vec<Self>> {
        let mut guests: Vec<_> = (0..plan.guests()).map(|_| Vec::new()).collect();
        for (memory, layers) in plan.memories.iter().zip(plan.layers_by_memory()) {
            guests[memory.guest as usize].push(Self { memory, layers });
        }
        guests
    }
}

/// What is the same for all shards of a rank.
pub(crate) struct Setup<'a> {
    pub(crate) module: &'a dyn Module,
    pub(crate) model: &'a Model,
    /// Its bytes, and what the plan says that they are.
    pub(crate) source: &'a Source,
    pub(crate) layout: &'a Layout,
    pub(crate) placed: &'a Placed,
    /// What each guest of the plan has.
    pub(crate) guests: &'a [Vec<Held<'a>>],
    /// What each guest of the plan may have.
    pub(crate) limits: &'a [Limits],
    pub(crate) context: u32,
    pub(crate) batch: u32,
    pub(crate) activations: Activations,
    pub(crate) cache_type: CacheType,
    /// Whether the parts of blocks are timed.
    pub(crate) profile: bool,
    /// Whether guests touch weights ahead.
    pub(crate) touch_ahead: TouchAhead,
    /// Which of several ranks its guests are.
    pub(crate) rank: Option<&'a Rank>,
    /// Which of several stages this process is.
    pub(crate) stage: Option<&'a Stage>,
}

impl Setup<'_> {
    /// What the guests are told about how to compute.
    pub(crate) fn settings(&self) -> Settings {
        // No more than there are heads, whose number is a `u32`.
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (rank, ranks) =
            self.rank.map_or((0, 1), |rank| (number(rank.index()), number(rank.count())));
        Settings::new(self.context, self.batch)
            .numbers(self.activations, self.cache_type)
            .rank(rank, ranks)
    }
}

/// What each guest of a plan may have, which has `memories` linear memories.
///
/// Within the bytes that a session may have, a guest may have what it needs and an equal part of
/// what is left.
pub(crate) fn limits(
    placed: &Placed,
    options: &SessionOptions,
    ranks: usize,
    memories: u64,
) -> Vec<Limits> {
    let spare = options.memory_bytes.map(|most| {
        let left = (most / ranks as u64).saturating_sub(placed.least_bytes());
        left / placed.guest_needs.len().max(1) as u64
    });
    let limits = |needs: &u64| {
        let most = spare.map_or(u64::MAX, |spare| needs.saturating_add(spare));
        let bytes = placed.guest_bytes.min(most);
        Limits::default()
            .memory_bytes(bytes)
            .total_bytes(bytes.saturating_mul(memories))
            .call_time(options.call_time)
    };
    placed.guest_needs.iter().map(limits).collect()
}
