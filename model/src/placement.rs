//! Which guests hold which layers.

use std::collections::BTreeMap;

use polychord_abi::PAGE;
use polychord_runtime_api as api;
use polychord_runtime_api::{
    Capabilities, Group, Guests, Inventory, Plan, PlannedLayer, PlannedMemory, Policy,
    Requirements, Strategy,
};

use crate::error::{Error, Result};
use crate::layout::{Cut, Kind, Layout, Part};
use crate::model::Model;
use crate::session::SessionOptions;
use crate::transformer::Build;

/// How a model's layers are spread over guests and their memories.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Placement {
    /// One memory if all fits there; else several, or a window if there is less free memory
    /// than weights.
    #[default]
    Auto,
    /// All layers in one 32-bit memory.
    Resident32,
    /// Contiguous runs of layers in several guests, each with its own 32-bit memory and its
    /// own part of the key-value cache.
    Sharded32 {
        /// How many; by default as few as will do.
        memories: Option<usize>,
    },
    /// All layers in several 32-bit memories of one guest, and the cache in one more: for
    /// engines with several memories, and never chosen automatically.
    Multi32,
    /// All layers in one 64-bit memory, of any size: for engines that have such memories, and
    /// never chosen automatically, because 32-bit ones are faster.
    Native64,
    /// Layers take turns in windows that are smaller than all of them.
    Paged {
        /// Bytes of all windows together; by default three quarters of the free memory, which
        /// ranks that copy their weights share.
        resident_bytes: Option<u64>,
        /// Which layers stay.
        policy: Policy,
    },
    /// As a plan says that was made before.
    Planned(Plan),
}

/// How weights and cache are cut into memories; changes where bytes lie, never a result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Split {
    /// Layers of all kinds in one memory of each guest; guests allocate their caches.
    #[default]
    ByLayer,
    /// One guest, with a memory for each kind of tensor (embeddings, attention, feed-forward,
    /// output) and one for the key-value cache.
    ByKind,
    /// As by layer, with the key-value cache of each guest in a second memory.
    CacheApart,
}

/// A placement that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// `resident32`, `sharded32`, `multi32`, `native64` or `paged`.
    pub name: &'static str,
    /// Why, in a few words.
    pub reason: String,
    /// Which layer is where.
    pub plan: Plan,
    /// Which layers stay, where they take turns.
    pub policy: Policy,
    /// Most bytes that each linear memory of a guest may have.
    pub guest_bytes: u64,
}

/// What counts when a placement is chosen.
struct Sizes {
    /// Most bytes of a guest's 32-bit memory.
    limit: u64,
    /// Keys and values of one block, in bytes.
    cache: u64,
    /// Activations, logits and the guest itself, in bytes.
    fixed: u64,
    context: u32,
}

impl Model {
    /// Decides which guests hold which layers.
    ///
    /// # Errors
    ///
    /// [`Error::Context`] if the model does not allow the context,
    /// [`Error::TooLargeForMemory32`] if the placement asked for has too little room,
    /// [`Error::Unavailable`] if the engine has no memory for it, [`Error::Ranks`] if there cannot
    /// be so many ranks, [`Error::Plan`] if it cannot
    /// be split like that, and [`Error::Runtime`] if a plan is for another model or does not
    /// hold together.
    pub fn place(&self, options: &SessionOptions, engine: &Capabilities) -> Result<Placed> {
        let sizes = &Sizes::new(self, engine, options)?;
        let split = options.split;
        match &options.placement {
            Placement::Auto => {
                self.place_automatically(sizes, split, self.copies(options, engine)?)
            }
            Placement::Resident32 => self.place_resident(sizes, split, "as asked for".into()),
            Placement::Sharded32 { memories } => {
                self.place_sharded(sizes, split, *memories, "as asked for")
            }
            Placement::Paged { resident_bytes, policy } => {
                let copies = self.copies(options, engine)?;
                let free = || default_budget(copies);
                let budget = resident_bytes.or_else(free).unwrap_or(sizes.limit / 2);
                self.place_paged(sizes, split, budget, *policy, "as asked for")
            }
            Placement::Multi32 => self.place_multi(sizes, engine, split),
            Placement::Native64 => {
                let plan = self.one_guest(sizes, split)?;
                self.place_native(sizes, engine, plan, "as asked for")
            }
            Placement::Planned(plan) => {
                plan.validate()?;
                self.layout_of(plan)?;
                let reason = "as the plan says";
                match options.placement.build() {
                    Build::Memory32 => self.place_planned(sizes, plan),
                    Build::Memory64 => self.place_native(sizes, engine, plan.clone(), reason),
                    Build::Memories32 => self.check_multi(sizes, engine, plan.clone(), reason),
                }
            }
        }
    }

    /// How often weights are in memory: mapped ones are the same pages for all ranks.
    fn copies(&self, options: &SessionOptions, engine: &Capabilities) -> Result<u64> {
        let ranks = options.ranks.of(self, engine)?;
        let is_mapped = self.source().is_mapped() && engine.mapping;
        Ok(if is_mapped { 1 } else { ranks as u64 })
    }

    fn place_automatically(&self, sizes: &Sizes, split: Split, copies: u64) -> Result<Placed> {
        let weights: u64 = self.layers().iter().map(|layer| layer.bytes).sum();
        if let Some(budget) = default_budget(copies).filter(|budget| *budget < weights) {
            let each = if copies > 1 { " for each rank" } else { "" };
            let reason =
                format!("{weights} bytes of weights{each} are more than there is free memory");
            return self.place_paged(sizes, split, budget, Policy::default(), &reason);
        }
        let all = u64::from(self.config().blocks)
            .saturating_mul(sizes.cache)
            .saturating_add(sizes.fixed)
            .saturating_add(weights);
        let reason = format!("weights and cache, {all} bytes, fit in one 32-bit memory");
        self.place_resident(sizes, split, reason).or_else(|_| {
            let reason = "as few 32-bit memories as hold weights and cache";
            self.place_sharded(sizes, split, None, reason)
        })
    }

    fn place_resident(&self, sizes: &Sizes, split: Split, reason: String) -> Result<Placed> {
        let plan = self.one_guest(sizes, split)?;
        self.check_room("resident32", sizes, &plan)?;
        Ok(Placed::in_memory32("resident32", reason, plan, sizes))
    }

    /// Checks that the engine has a 64-bit memory of the size that the only guest needs.
    fn place_native(
        &self,
        sizes: &Sizes,
        engine: &Capabilities,
        plan: Plan,
        reason: &str,
    ) -> Result<Placed> {
        let needs = sizes.needs(self.layout_of(&plan)?, &plan)?;
        let (weights, cache) = needs.first().copied().unwrap_or_default();
        let guest_bytes = weights.saturating_add(cache);
        let needs = Requirements::NONE.memory64_bytes(guest_bytes);
        needs.check(engine).map_err(|error| Placement::Native64.unavailable(error))?;
        let (name, reason) = ("native64", reason.to_owned());
        Ok(Placed { name, reason, plan, policy: Policy::default(), guest_bytes })
    }

    /// As few memories as hold the layers in order, or one for each kind of tensor; and one for
    /// the cache.
    fn place_multi(&self, sizes: &Sizes, engine: &Capabilities, split: Split) -> Result<Placed> {
        let plan = match split {
            Split::ByKind => Strategy::ByKind.plan(&self.kinds(sizes))?,
            Split::ByLayer | Split::CacheApart => {
                Strategy::OneGuest { memory_bytes: sizes.limit }.plan(&self.parts(sizes))?
            }
        };
        self.check_multi(sizes, engine, plan, "as asked for")
    }

    /// Checks that the guest has a memory for each of a plan's, and one of them for the cache.
    fn check_multi(
        &self,
        sizes: &Sizes,
        engine: &Capabilities,
        plan: Plan,
        reason: &str,
    ) -> Result<Placed> {
        let needs = Requirements::NONE.multi_memory();
        needs.check(engine).map_err(|error| Placement::Multi32.unavailable(error))?;
        sizes.needs(self.layout_of(&plan)?, &plan)?;
        let memories = plan.memories.len();
        let largest = plan.memories.iter().map(|memory| memory.bytes).max().unwrap_or(0);
        if memories > MEMORIES || largest > sizes.limit {
            let reason = format!(
                "it needs {memories} memories of up to {largest} bytes in one guest, which has \
                 {MEMORIES} of up to {}: use the placement sharded32",
                sizes.limit
            );
            return Err(Error::Plan { reason });
        }
        let reason = format!("{reason}: {memories} memories");
        Ok(Placed::in_memory32("multi32", reason, plan, sizes))
    }

    fn one_guest(&self, sizes: &Sizes, split: Split) -> Result<Plan> {
        let one = Guests::Exactly(1);
        Ok(match split {
            Split::ByKind => Strategy::ByKind.plan(&self.kinds(sizes))?,
            Split::ByLayer => Strategy::ByLayer(one).plan(&self.parts(sizes))?,
            Split::CacheApart => Strategy::CacheApart(one).plan(&self.parts(sizes))?,
        })
    }

    fn place_sharded(
        &self,
        sizes: &Sizes,
        split: Split,
        guests: Option<usize>,
        reason: &str,
    ) -> Result<Placed> {
        let strategy = match split {
            Split::ByLayer => Strategy::ByLayer,
            Split::CacheApart => Strategy::CacheApart,
            Split::ByKind => return Err(not_by_kind("several guests")),
        };
        let plan = match guests {
            Some(guests) => {
                let parts = self.parts(sizes);
                check_number("memories", guests as u64, parts.groups.len() as u64)?;
                strategy(Guests::Exactly(guests)).plan(&parts)?
            }
            None => self.fewest_guests(sizes, strategy)?,
        };
        self.check_room("sharded32", sizes, &plan)?;
        let reason = format!("{reason}: {} of them", plan.guests());
        Ok(Placed::in_memory32("sharded32", reason, plan, sizes))
    }

    fn place_paged(
        &self,
        sizes: &Sizes,
        split: Split,
        resident_bytes: u64,
        policy: Policy,
        reason: &str,
    ) -> Result<Placed> {
        if split != Split::ByLayer {
            return Err(not_by_kind("windows, in which all layers take turns"));
        }
        let plan = self.plan_windows(sizes, resident_bytes)?;
        self.check_room("paged", sizes, &plan)?;
        let reason = format!("{reason}: {resident_bytes} bytes of weights at a time");
        Ok(Placed { policy, ..Placed::in_memory32("paged", reason, plan, sizes) })
    }

    /// A plan whose windows have room for what is used at once.
    fn plan_windows(&self, sizes: &Sizes, resident_bytes: u64) -> Result<Plan> {
        let plan = |resident_bytes: u64| -> Result<Option<Plan>> {
            let strategy = |guests| Strategy::Paged { guests, resident_bytes };
            match self.fewest_guests(sizes, strategy) {
                Ok(plan) if self.has_large_windows(&plan)? => Ok(Some(plan)),
                // A layer that is larger than its window.
                Ok(_) | Err(Error::Runtime(api::Error::InvalidPlan { .. })) => Ok(None),
                Err(error) => Err(error),
            }
        };
        if let Some(plan) = plan(resident_bytes)? {
            return Ok(plan);
        }
        // In pages: more than nothing, and no more than all layers in pages of their own.
        let all = self.layers().iter().map(|layer| layer.bytes / PAGE + 2);
        let (mut least, mut most) = (1, all.fold(1, u64::saturating_add));
        while least < most {
            let middle = least.midpoint(most);
            match plan(middle * PAGE)? {
                Some(_) => most = middle,
                None => least = middle + 1,
            }
        }
        let asked = least * PAGE;
        if plan(asked)?.is_none() {
            let reason = "layers do not fit in any window".into();
            return Err(Error::Plan { reason });
        }
        Err(Error::Runtime(api::Error::TooLarge {
            what: "what has to be in memory at once with the placement paged,".into(),
            asked,
            limit: resident_bytes,
            limited_by: "resident_bytes (--resident)".into(),
        }))
    }

    /// Whether each window of a plan holds the layers that are needed at once: those of a part,
    /// with what blocks and a tied output need beside.
    fn has_large_windows(&self, plan: &Plan) -> Result<bool> {
        let layout = self.layout_of(plan)?;
        for (memory, layers) in plan.memories.iter().zip(plan.layers_by_memory()) {
            let mut pages: BTreeMap<Part, u64> = BTreeMap::new();
            for source in layers.iter().map(|layer| &layer.source) {
                if let Some(part) = layout.part(source.id) {
                    let end = (source.start % PAGE).saturating_add(source.bytes);
                    *pages.entry(part).or_default() += end.div_ceil(PAGE);
                }
            }
            let of = |part| pages.get(&part).copied().unwrap_or(0);
            let needed = |part: &Part| match part {
                Part::Block(_) => of(*part).saturating_add(of(Part::RopeFreqs)),
                Part::Output if layout.is_tied() => of(*part).saturating_add(of(Part::Embedding)),
                _ => of(*part),
            };
            let needed = pages.keys().map(needed).max().unwrap_or(0);
            if memory.paged && needed > memory.bytes / PAGE {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn place_planned(&self, sizes: &Sizes, plan: &Plan) -> Result<Placed> {
        let name = match plan.guests() {
            _ if plan.memories.iter().any(|memory| memory.paged) => "paged",
            1 => "resident32",
            _ => "sharded32",
        };
        self.check_room(name, sizes, plan)?;
        let reason = "as the plan says".into();
        Ok(Placed::in_memory32(name, reason, plan.clone(), sizes))
    }

    /// The plan with the fewest guests that have room for everything; if there is none, one
    /// that [`check_room`](Self::check_room) refuses.
    fn fewest_guests(&self, sizes: &Sizes, of: impl Fn(Guests) -> Strategy) -> Result<Plan> {
        let inventory = self.parts(sizes);
        match of(Guests::OfBytes(sizes.limit)).plan(&inventory) {
            Err(api::plan::Error::TooLarge { .. }) => {
                Ok(of(Guests::Exactly(inventory.groups.len())).plan(&inventory)?)
            }
            plan => Ok(plan?),
        }
    }

    /// Layers that cannot be apart: the embedding, each block, the output. An output that is
    /// tied to the embedding is computed where the embedding is.
    fn parts(&self, sizes: &Sizes) -> Inventory {
        let layout = self.layout(Cut::ByPart);
        let layers = |part| layout.layers_of(part).cloned().collect::<Vec<_>>();
        let group = |layers: Vec<_>, cache| Group::new(Kind::Any.region(), layers).cache(cache);
        let (mut first, output) = (layers(Part::Embedding), layers(Part::Output));
        let tied = layout.is_tied();
        if tied {
            first.extend(output.iter().cloned());
        }
        let mut groups = vec![group(first, 0)];
        let blocks = 0..self.config().blocks;
        groups.extend(blocks.map(|block| group(layers(Part::Block(block)), sizes.cache)));
        if !tied {
            groups.push(group(output, 0));
        }
        Inventory::new(groups).replicated(layers(Part::RopeFreqs)).overhead(sizes.fixed)
    }

    /// Layers of each kind; keys and values go with the attention.
    fn kinds(&self, sizes: &Sizes) -> Inventory {
        let layout = self.layout(Cut::ByKind);
        let cache = u64::from(self.config().blocks).saturating_mul(sizes.cache);
        let group = |kind: Kind| {
            let group = Group::new(kind.region(), layout.layers_of_kind(kind).cloned());
            group.cache(if kind == Kind::Attention { cache } else { 0 })
        };
        let kinds = [Kind::Embeddings, Kind::Attention, Kind::FeedForward, Kind::Output];
        let replicated = layout.layers_of(Part::RopeFreqs).cloned();
        Inventory::new(kinds.map(group)).replicated(replicated).overhead(sizes.fixed)
    }

    /// Checks that each guest has room for its layers, its cache and the activations.
    fn check_room(&self, placement: &'static str, sizes: &Sizes, plan: &Plan) -> Result<()> {
        let needs = sizes.needs(self.layout_of(plan)?, plan)?;
        for (guest, (weights, cache)) in (0..).zip(needs) {
            if weights.saturating_add(cache) > sizes.limit {
                let Sizes { context, limit, .. } = *sizes;
                let error =
                    Error::TooLargeForMemory32 { placement, guest, weights, cache, context, limit };
                return Err(error);
            }
        }
        Ok(())
    }
}

impl Placement {
    /// The build of the guest that sessions run.
    pub(crate) fn build(&self) -> Build {
        match self {
            Self::Native64 => Build::Memory64,
            Self::Multi32 => Build::Memories32,
            Self::Planned(plan) if plan.guests() == 1 && plan_bytes(plan) > MEMORY32 => {
                let cached = |memory: &PlannedMemory| memory.region == PlannedMemory::KV;
                let small = plan.memories.iter().all(|memory| memory.bytes <= MEMORY32);
                match small && plan.memories.iter().any(cached) {
                    true => Build::Memories32,
                    false => Build::Memory64,
                }
            }
            _ => Build::Memory32,
        }
    }

    /// What to say where an engine has no memory of the kind that this is about.
    pub(crate) fn unavailable(&self, error: api::Error) -> Error {
        match self.build() {
            Build::Memory32 => error.into(),
            Build::Memories32 => Error::Unavailable {
                placement: "multi32",
                reason: error,
                available: "engines that run guests with several memories (multi_memory)",
            },
            Build::Memory64 => Error::Unavailable {
                placement: "native64",
                reason: error,
                available: "engines that have 64-bit memories of that size (native memory64)",
            },
        }
    }
}

impl Placed {
    /// A placement in guests of which each may fill its 32-bit memory.
    fn in_memory32(name: &'static str, reason: String, plan: Plan, sizes: &Sizes) -> Self {
        Self { name, reason, plan, policy: Policy::default(), guest_bytes: sizes.limit }
    }
}

/// How many blocks each guest has, if it has any.
fn blocks_of(layout: &Layout, plan: &Plan) -> BTreeMap<u32, u64> {
    let block = |layer| match layout.part(layer) {
        Some(Part::Block(block)) => Some(block),
        _ => None,
    };
    let held = |it: &PlannedLayer| Some((plan.guest_of(it)?, block(it.source.id)?));
    let mut blocks: Vec<_> = plan.layers.iter().filter_map(held).collect();
    blocks.sort_unstable();
    blocks.dedup();
    let mut counts = BTreeMap::new();
    blocks.iter().for_each(|(guest, _)| *counts.entry(*guest).or_default() += 1);
    counts
}

/// The bytes of all memories.
fn plan_bytes(plan: &Plan) -> u64 {
    plan.memories.iter().fold(0, |sum, memory| sum.saturating_add(memory.bytes))
}

/// Checks a number that an option gives.
pub(crate) fn check_number(option: &'static str, asked: u64, most: u64) -> Result<()> {
    match asked {
        0 => Err(Error::Number { option, asked, least: 1, most }),
        _ if asked > most => Err(Error::Number { option, asked, least: 1, most }),
        _ => Ok(()),
    }
}

fn not_by_kind(what: &str) -> Error {
    Error::Plan { reason: format!("{what} can only be split by layer") }
}

impl Sizes {
    fn new(model: &Model, engine: &Capabilities, options: &SessionOptions) -> Result<Self> {
        let context = options.context_of(model)?;
        let batch = options.batch_of(context)?;
        let config = model.config();
        let product = |unit: u64, numbers: &[u32]| {
            numbers.iter().fold(unit, |product, number| product.saturating_mul((*number).into()))
        };
        let floats = |numbers: &[u32]| product(4, numbers);
        let keys = config.kv_heads.saturating_mul(config.head_dim);
        let queries = config.heads.saturating_mul(config.head_dim);
        let rows = [
            config.dim, config.dim, config.dim, queries, queries, keys, keys, config.ffn,
            config.ffn,
        ];
        let activations = rows.iter().map(|width| floats(&[batch, *width]));
        let activations = activations.fold(0, u64::saturating_add);
        let scores = floats(&[config.heads / config.kv_heads.max(1), context]);
        let rope = floats(&[batch, config.rope_dim]);
        // Room for a batch of activations that are quantised, rows of weights that are unpacked
        // for it, and two rows that are expanded: see `guest/src/kernels/activations.rs`.
        let widest = u64::from(config.dim.max(config.ffn).max(queries));
        let a_column = u64::from(batch).next_multiple_of(8).saturating_mul(5) + 32;
        let integers = widest.saturating_mul(a_column);
        Ok(Self {
            limit: engine.memory32_max_bytes,
            cache: product(options.cache_type.bytes(), &[keys, context, 2]),
            fixed: [activations, scores, rope, integers, floats(&[config.vocab])]
                .into_iter()
                .fold(GUEST, u64::saturating_add),
            context,
        })
    }

    /// Bytes of each guest's weights, and of its cache and activations.
    fn needs(&self, layout: &Layout, plan: &Plan) -> Result<Vec<(u64, u64)>> {
        let mut needs = vec![(0_u64, 0_u64); plan.guests() as usize];
        let mut caches = vec![None; needs.len()];
        for memory in &plan.memories {
            let guest = memory.guest as usize;
            match memory.region == PlannedMemory::KV {
                true => caches[guest] = caches[guest].or(Some(memory)),
                false => needs[guest].0 = needs[guest].0.saturating_add(memory.bytes),
            }
        }
        for (guest, blocks) in blocks_of(layout, plan) {
            needs[guest as usize].1 = blocks.saturating_mul(self.cache);
        }
        for ((_, cache), kv) in needs.iter_mut().zip(caches) {
            *cache = match kv {
                Some(kv) if kv.bytes < *cache => return Err(self.cache_too_small(kv, *cache)),
                Some(kv) => kv.bytes,
                None => *cache,
            };
            *cache = cache.saturating_add(self.fixed);
        }
        Ok(needs)
    }

    fn cache_too_small(&self, kv: &PlannedMemory, needed: u64) -> Error {
        let Self { context, .. } = self;
        let reason = format!(
            "its cache of {} bytes was planned for a shorter context or for smaller numbers: \
             {context} tokens need {needed}",
            kv.bytes
        );
        Error::Plan { reason }
    }
}

/// Room for the guest's stack, data, descriptor and odds and ends: 4 MiB.
const GUEST: u64 = 64 * PAGE;

/// How many memories the guest has beside its own, in the build that has several: see
/// `guest/src/memories.rs`.
const MEMORIES: usize = 9;

/// What 32 bits can address.
const MEMORY32: u64 = 1 << 32;

/// Three quarters of the memory that could be had without swapping, where the system tells,
/// divided by how many want as much.
fn default_budget(copies: u64) -> Option<u64> {
    budget(&std::fs::read_to_string("/proc/meminfo").ok()?, copies)
}

fn budget(meminfo: &str, copies: u64) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024) / 4 * 3 / copies.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_share_what_is_free() {
        let text = "MemTotal: 9 kB\nMemAvailable:   4096 kB\n";
        let mib = 1 << 20;
        assert_eq!(budget(text, 1), Some(3 * mib));
        assert_eq!(budget(text, 3), Some(mib));
        assert_eq!(budget("MemTotal: 9 kB\n", 1), None);
        assert_eq!(budget("MemAvailable: many", 1), None);
    }
}
