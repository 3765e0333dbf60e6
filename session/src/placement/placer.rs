//! Choosing a placement, and making its plan.

use polychord_model::layout::Cut;
use polychord_model::placing::{
    MEMORIES, NoWindows, fewest_guests, first_without_room, plan_windows,
};
use polychord_runtime_api as api;
use polychord_runtime_api::{
    Capabilities, Guests, Hosts, Inventory, Memory64, Plan, Policy, Requirements, Strategy,
};

use super::budget::default_budget;
use super::placed::Placed;
use super::sizes::Sizes;
use crate::build::Build;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::{MultiSplit, Placement, SessionOptions, ShardSplit, Split, check_number};

/// What decides about the placement of a model.
pub(super) struct Placer<'a> {
    model: &'a Model,
    engine: &'a Capabilities,
    sizes: Sizes,
}

impl<'a> Placer<'a> {
    /// Computes what counts for a session with some options.
    pub(super) fn new(
        model: &'a Model,
        options: &SessionOptions,
        engine: &'a Capabilities,
    ) -> Result<Self> {
        let sizes = Sizes::new(model, engine, options)?;
        Ok(Self { model, engine, sizes })
    }

    /// Decides which guests hold which layers, and checks that they may have as much memory.
    pub(super) fn place(&self, options: &SessionOptions) -> Result<Placed> {
        let mut placed = self.choose(options)?;
        placed.guest_needs = self.all_needs(&placed.plan)?;
        self.check_total(options, &placed)?;
        Ok(placed)
    }

    /// Divides the layers over hosts, and those of each host over guests.
    pub(super) fn place_on(&self, hosts: &Hosts, options: &SessionOptions) -> Result<Placed> {
        let (guests, split) = match options.placement {
            Placement::Auto { split: Split::CacheApart } => (None, ShardSplit::CacheApart),
            Placement::Auto { .. } => (None, ShardSplit::ByLayer),
            Placement::Sharded32 { memories, split } => (memories, split),
            _ => {
                let reason =
                    "layers are divided over hosts with the placements auto and sharded32 alone";
                return Err(Error::Plan { reason: reason.into() });
            }
        };
        let guests = guests.map_or(Guests::OfBytes(self.sizes.limit), Guests::Exactly);
        let strategy = match split {
            ShardSplit::ByLayer => Strategy::ByLayer(guests),
            ShardSplit::CacheApart => Strategy::CacheApart(guests),
        };
        let plan = strategy.plan_on(&self.parts(Cut::ByPart), hosts)?;
        self.check_room("sharded32", &plan)?;
        let reason = format!("{} guests on {} hosts", plan.guests(), plan.host_count());
        let mut placed = Placed::in_memory32("sharded32", reason, plan, &self.sizes);
        placed.guest_needs = self.all_needs(&placed.plan)?;
        Ok(placed)
    }

    /// What each guest of a plan needs.
    fn all_needs(&self, plan: &Plan) -> Result<Vec<u64>> {
        let needs = self.sizes.needs(self.model.layout_of(plan)?, plan)?;
        Ok(needs.into_iter().map(|(weights, cache)| weights.saturating_add(cache)).collect())
    }

    fn choose(&self, options: &SessionOptions) -> Result<Placed> {
        match &options.placement {
            Placement::Auto { split } => self.place_automatically(*split, self.copies(options)?),
            Placement::Resident32 { split } => self.place_resident(*split, "as asked for".into()),
            Placement::Sharded32 { memories, split } => {
                self.place_sharded(*memories, *split, "as asked for")
            }
            Placement::Paged { resident_bytes, policy } => {
                let copies = self.copies(options)?;
                let free = || default_budget(copies);
                let budget = resident_bytes.or_else(free).unwrap_or(self.sizes.limit / 2);
                self.place_paged(budget, *policy, "as asked for")
            }
            Placement::Multi32 { split } => self.place_multi(*split),
            Placement::Native64 { split } => {
                let needs = Requirements::NONE.native_memory64();
                let checked = needs.check(self.engine);
                checked.map_err(|error| options.placement.unavailable(error))?;
                self.place_wide("native64", self.one_guest(*split)?, 0, "as asked for")
            }
            Placement::Flat64 { split, weights_from } => {
                self.place_wide("flat64", self.one_guest(*split)?, *weights_from, "as asked for")
            }
            Placement::Planned(plan) => {
                plan.validate()?;
                self.model.layout_of(plan)?;
                let reason = "as the plan says";
                match options.placement.build() {
                    Build::Memory32 => self.place_planned(plan),
                    Build::Memory64 => {
                        let is_native = matches!(self.engine.memory64, Memory64::Native { .. });
                        let name = if is_native { "native64" } else { "flat64" };
                        self.place_wide(name, plan.clone(), 0, reason)
                    }
                    Build::Memories32 => self.check_multi(plan.clone(), reason),
                }
            }
        }
    }

    /// How often weights are in memory: mapped ones are the same pages for all ranks.
    fn copies(&self, options: &SessionOptions) -> Result<u64> {
        let ranks = options.ranks_here(self.model, self.engine)?;
        let is_mapped = self.model.source().is_mapped() && self.engine.mapping;
        Ok(if is_mapped { 1 } else { ranks as u64 })
    }

    /// Checks what all guests of all ranks need together against what the options allow.
    fn check_total(&self, options: &SessionOptions, placed: &Placed) -> Result<()> {
        let Some(limit) = options.memory_bytes else { return Ok(()) };
        let ranks = options.ranks_here(self.model, self.engine)?;
        let least = placed.least_bytes().saturating_mul(ranks as u64);
        if least <= limit {
            return Ok(());
        }
        let guests = placed.guest_needs.len() * ranks;
        Err(Error::MemoryBytes { placement: placed.name, guests, least, limit })
    }

    fn place_automatically(&self, split: Split, copies: u64) -> Result<Placed> {
        let weights: u64 = self.model.layers().iter().map(|layer| layer.bytes).sum();
        if let Some(budget) = default_budget(copies).filter(|budget| *budget < weights) {
            let each = if copies > 1 { " for each rank" } else { "" };
            let reason =
                format!("{weights} bytes of weights{each} are more than there is free memory");
            return self.place_paged(budget, Policy::default(), &reason);
        }
        let demand = &self.sizes.demand;
        let all = demand.all_caches().saturating_add(demand.fixed).saturating_add(weights);
        let reason = format!("weights and cache, {all} bytes, fit in one 32-bit memory");
        self.place_resident(split, reason).or_else(|_| {
            let split = match split {
                Split::CacheApart => ShardSplit::CacheApart,
                // Kinds are in one guest only.
                Split::ByLayer | Split::ByKind => ShardSplit::ByLayer,
            };
            let reason = "as few 32-bit memories as hold weights and cache";
            self.place_sharded(None, split, reason)
        })
    }

    fn place_resident(&self, split: Split, reason: String) -> Result<Placed> {
        let plan = self.one_guest(split)?;
        self.check_room("resident32", &plan)?;
        Ok(Placed::in_memory32("resident32", reason, plan, &self.sizes))
    }

    /// Checks that the engine has a 64-bit memory of the size that the only guest needs.
    fn place_wide(
        &self,
        name: &'static str,
        plan: Plan,
        weights_from: u64,
        reason: &str,
    ) -> Result<Placed> {
        let needs = self.sizes.needs(self.model.layout_of(&plan)?, &plan)?;
        let (weights, cache) = needs.first().copied().unwrap_or_default();
        let guest_bytes = weights.saturating_add(cache).saturating_add(weights_from);
        let needs = Requirements::NONE.memory64_bytes(guest_bytes);
        let placement =
            if name == "native64" { Placement::native64() } else { Placement::flat64() };
        needs.check(self.engine).map_err(|error| placement.unavailable(error))?;
        let (policy, guest_needs) = (Policy::default(), Vec::new());
        let reason = reason.to_owned();
        Ok(Placed { name, reason, plan, policy, guest_needs, guest_bytes, weights_from })
    }

    /// The fewest memories that hold the layers in order, or one for each kind of tensor; and one for
    /// the cache.
    fn place_multi(&self, split: MultiSplit) -> Result<Placed> {
        let plan = match split {
            MultiSplit::ByKind => Strategy::ByKind.plan(&self.kinds())?,
            MultiSplit::ByLayer => Strategy::OneGuest { memory_bytes: self.sizes.limit }
                .plan(&self.parts(Cut::ByPart))?,
        };
        self.check_multi(plan, "as asked for")
    }

    /// Checks that the guest has a memory for each of a plan's, and one of them for the cache.
    fn check_multi(&self, plan: Plan, reason: &str) -> Result<Placed> {
        let needs = Requirements::NONE.multi_memory();
        needs.check(self.engine).map_err(|error| Placement::multi32().unavailable(error))?;
        self.sizes.needs(self.model.layout_of(&plan)?, &plan)?;
        let memories = plan.memories.len();
        let largest = plan.memories.iter().map(|memory| memory.bytes).max().unwrap_or(0);
        if memories > MEMORIES || largest > self.sizes.limit {
            let reason = format!(
                "it needs {memories} memories of up to {largest} bytes in one guest, which has \
                 {MEMORIES} of up to {}: use the placement sharded32",
                self.sizes.limit
            );
            return Err(Error::Plan { reason });
        }
        let reason = format!("{reason}: {memories} memories");
        Ok(Placed::in_memory32("multi32", reason, plan, &self.sizes))
    }

    fn one_guest(&self, split: Split) -> Result<Plan> {
        let one = Guests::Exactly(1);
        Ok(match split {
            Split::ByKind => Strategy::ByKind.plan(&self.kinds())?,
            Split::ByLayer => Strategy::ByLayer(one).plan(&self.parts(Cut::ByPart))?,
            Split::CacheApart => Strategy::CacheApart(one).plan(&self.parts(Cut::ByPart))?,
        })
    }

    fn place_sharded(
        &self,
        guests: Option<usize>,
        split: ShardSplit,
        reason: &str,
    ) -> Result<Placed> {
        let strategy = match split {
            ShardSplit::ByLayer => Strategy::ByLayer,
            ShardSplit::CacheApart => Strategy::CacheApart,
        };
        let plan = match guests {
            Some(guests) => {
                let parts = self.parts(Cut::ByPart);
                check_number("memories", guests as u64, parts.groups.len() as u64)?;
                strategy(Guests::Exactly(guests)).plan(&parts)?
            }
            None => fewest_guests(&self.parts(Cut::ByPart), self.sizes.limit, strategy)?,
        };
        self.check_room("sharded32", &plan)?;
        let reason = format!("{reason}: {} of them", plan.guests());
        Ok(Placed::in_memory32("sharded32", reason, plan, &self.sizes))
    }

    fn place_paged(&self, resident_bytes: u64, policy: Policy, reason: &str) -> Result<Placed> {
        let plan = self.plan_windows(resident_bytes)?;
        self.check_room("paged", &plan)?;
        let reason = format!("{reason}: {resident_bytes} bytes of weights at a time");
        Ok(Placed { policy, ..Placed::in_memory32("paged", reason, plan, &self.sizes) })
    }

    /// A plan whose windows have room for what is used at once.
    fn plan_windows(&self, resident_bytes: u64) -> Result<Plan> {
        let (layout, inventory) = (self.model.layout(Cut::ByExpert), self.parts(Cut::ByExpert));
        let plan = plan_windows(layout, &inventory, self.sizes.limit, resident_bytes);
        plan.map_err(|error| match error {
            NoWindows::Plan(error) => error.into(),
            NoWindows::TooSmall { least } => Error::Runtime(api::Error::TooLarge {
                what: "what has to be in memory at once with the placement paged,".into(),
                asked: least,
                limit: resident_bytes,
                limited_by: "resident_bytes (--resident)".into(),
            }),
            other => Error::Plan { reason: other.to_string() },
        })
    }

    fn place_planned(&self, plan: &Plan) -> Result<Placed> {
        let name = match plan.guests() {
            _ if plan.memories.iter().any(|memory| memory.paged) => "paged",
            1 => "resident32",
            _ => "sharded32",
        };
        self.check_room(name, plan)?;
        let reason = "as the plan says".into();
        Ok(Placed::in_memory32(name, reason, plan.clone(), &self.sizes))
    }

    /// Layers that cannot be apart.
    fn parts(&self, cut: Cut) -> Inventory {
        self.sizes.demand.parts(self.model.config(), self.model.layout(cut))
    }

    /// Layers of each kind.
    fn kinds(&self) -> Inventory {
        self.sizes.demand.kinds(self.model.layout(Cut::ByKind))
    }

    /// Checks that each guest has room for its layers, its cache and the activations.
    fn check_room(&self, placement: &'static str, plan: &Plan) -> Result<()> {
        let needs = self.sizes.needs(self.model.layout_of(plan)?, plan)?;
        let Some((guest, weights, cache)) = first_without_room(&needs, self.sizes.limit) else {
            return Ok(());
        };
        let Sizes { context, limit, .. } = self.sizes;
        Err(Error::TooLargeForMemory32 { placement, guest, weights, cache, context, limit })
    }
}

impl Placed {
    /// A placement in guests of which each may fill its 32-bit memory.
    fn in_memory32(name: &'static str, reason: String, plan: Plan, sizes: &Sizes) -> Self {
        let (policy, guest_needs) = (Policy::default(), Vec::new());
        Self { name, reason, plan, policy, guest_needs, guest_bytes: sizes.limit, weights_from: 0 }
    }
}
