//! Which guests hold which layers.

use std::collections::BTreeSet;

use polychord_abi::PAGE;
use polychord_runtime_api::{Capabilities, Group, Plan, PlannedMemory, Policy, SourceRange};

use crate::error::{Error, Result};
use crate::layout::Part;
use crate::model::Model;
use crate::session::SessionOptions;

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
    /// Layers take turns in windows that are smaller than all of them.
    Paged {
        /// Bytes of all windows together; by default three quarters of the free memory.
        resident_bytes: Option<u64>,
        /// Which layers stay.
        policy: Policy,
    },
    /// As a plan says that was made before.
    Planned(Plan),
}

/// A placement that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// `resident32`, `sharded32` or `paged`.
    pub name: &'static str,
    /// Why, in a few words.
    pub reason: String,
    /// Which layer is where.
    pub plan: Plan,
    /// Which layers stay, where they take turns.
    pub policy: Policy,
}

/// What counts when a placement is chosen.
struct Sizes {
    /// Most bytes of a guest's memory.
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
    /// [`Error::TooLargeForMemory32`] if the placement asked for has too little room, and
    /// [`Error::Runtime`] if a plan is for another model or does not hold together.
    pub fn place(&self, options: &SessionOptions, engine: &Capabilities) -> Result<Placed> {
        let context = options.context_of(self)?;
        let sizes = Sizes::new(self, engine, context, options.batch_of(context));
        match &options.placement {
            Placement::Auto => self.place_automatically(&sizes),
            Placement::Resident32 => self.place_resident(&sizes, "as asked for".into()),
            Placement::Sharded32 { memories } => {
                self.place_sharded(&sizes, *memories, "as asked for")
            }
            Placement::Paged { resident_bytes, policy } => {
                let budget = resident_bytes.or_else(default_budget).unwrap_or(sizes.limit / 2);
                self.place_paged(&sizes, budget, *policy, "as asked for")
            }
            Placement::Planned(plan) => self.place_planned(&sizes, plan),
        }
    }

    fn place_automatically(&self, sizes: &Sizes) -> Result<Placed> {
        let weights: u64 = self.layers().iter().map(|layer| layer.bytes).sum();
        if let Some(budget) = default_budget().filter(|budget| *budget < weights) {
            let reason = format!("{weights} bytes of weights are more than there is free memory");
            return self.place_paged(sizes, budget, Policy::default(), &reason);
        }
        let all = weights + u64::from(self.config().blocks) * sizes.cache + sizes.fixed;
        let reason = format!("weights and cache, {all} bytes, fit in one 32-bit memory");
        self.place_resident(sizes, reason).or_else(|_| {
            let reason = "as few 32-bit memories as hold weights and cache";
            self.place_sharded(sizes, None, reason)
        })
    }

    fn place_resident(&self, sizes: &Sizes, reason: String) -> Result<Placed> {
        let plan = self.split(sizes, 1)?;
        self.check_room("resident32", sizes, &plan)?;
        Ok(Placed { name: "resident32", reason, plan, policy: Policy::default() })
    }

    fn place_sharded(
        &self,
        sizes: &Sizes,
        memories: Option<usize>,
        reason: &str,
    ) -> Result<Placed> {
        let plan = match memories {
            Some(memories) => self.split(sizes, memories)?,
            None => self.split_least(sizes, Ok, "sharded32")?,
        };
        self.check_room("sharded32", sizes, &plan)?;
        let reason = format!("{reason}: {} of them", plan.memories.len());
        Ok(Placed { name: "sharded32", reason, plan, policy: Policy::default() })
    }

    fn place_paged(
        &self,
        sizes: &Sizes,
        budget: u64,
        policy: Policy,
        reason: &str,
    ) -> Result<Placed> {
        let windows = |plan: Plan| {
            let total: u64 = plan.memories.iter().map(|memory| memory.bytes).sum();
            // Each memory gets its share of the budget.
            let share = |memory: &PlannedMemory| {
                let share =
                    u128::from(budget) * u128::from(memory.bytes) / u128::from(total.max(1));
                u64::try_from(share).unwrap_or(u64::MAX)
            };
            let windows: Vec<_> = plan.memories.iter().map(share).collect();
            Ok(plan.paged(&windows)?)
        };
        let plan = self.split_least(sizes, windows, "paged")?;
        let reason = format!("{reason}: {budget} bytes of weights at a time");
        Ok(Placed { name: "paged", reason, plan, policy })
    }

    fn place_planned(&self, sizes: &Sizes, plan: &Plan) -> Result<Placed> {
        plan.validate()?;
        plan.check_model(self.layers())?;
        let name = match &plan.memories[..] {
            memories if memories.iter().any(|memory| memory.paged) => "paged",
            [_] => "resident32",
            _ => "sharded32",
        };
        self.check_room(name, sizes, plan)?;
        let reason = "as the plan says".into();
        Ok(Placed { name, reason, plan: plan.clone(), policy: Policy::default() })
    }

    /// The first plan, from one memory on, that has room for everything.
    fn split_least(
        &self,
        sizes: &Sizes,
        change: impl Fn(Plan) -> Result<Plan>,
        name: &'static str,
    ) -> Result<Plan> {
        let most = self.groups(sizes).len();
        let mut memories = 1;
        loop {
            let plan = change(self.split(sizes, memories)?)?;
            match self.check_room(name, sizes, &plan) {
                Ok(()) => return Ok(plan),
                Err(error) if memories == most => return Err(error),
                Err(_) => memories += 1,
            }
        }
    }

    fn split(&self, sizes: &Sizes, memories: usize) -> Result<Plan> {
        let layout = self.layout();
        let everywhere: Vec<_> = layout.layers_of(Part::RopeFreqs).cloned().collect();
        Ok(Plan::by_layer(&self.groups(sizes), memories, &everywhere)?)
    }

    /// Layers that cannot be apart: the embedding, each block, the output. An output that is
    /// tied to the embedding is computed where the embedding is.
    fn groups(&self, sizes: &Sizes) -> Vec<Group> {
        let layout = self.layout();
        let layers = |part| layout.layers_of(part).cloned().collect::<Vec<SourceRange>>();
        let (mut first, output) = (layers(Part::Embedding), layers(Part::Output));
        let tied = layout.is_tied();
        if tied {
            first.extend(output.iter().cloned());
        }
        let mut groups = vec![Group { layers: first, beside: 0 }];
        let block = |block| Group { layers: layers(Part::Block(block)), beside: sizes.cache };
        groups.extend((0..self.config().blocks).map(block));
        if !tied {
            groups.push(Group { layers: output, beside: 0 });
        }
        groups
    }

    /// Checks that each memory has room for its layers, its cache and the activations.
    fn check_room(&self, placement: &'static str, sizes: &Sizes, plan: &Plan) -> Result<()> {
        for (index, memory) in plan.memories.iter().enumerate() {
            let parts = plan.layers_of(index).filter_map(|it| self.layout().part(it.source.id));
            let blocks: BTreeSet<_> = parts.filter(|it| matches!(it, Part::Block(_))).collect();
            let cache =
                (blocks.len() as u64).saturating_mul(sizes.cache).saturating_add(sizes.fixed);
            if memory.bytes.saturating_add(cache) > sizes.limit {
                return Err(Error::TooLargeForMemory32 {
                    placement,
                    memory: index,
                    weights: memory.bytes,
                    cache,
                    context: sizes.context,
                    limit: sizes.limit,
                });
            }
        }
        Ok(())
    }
}

impl Sizes {
    fn new(model: &Model, engine: &Capabilities, context: u32, batch: u32) -> Self {
        let config = model.config();
        let product = |numbers: &[u32]| {
            numbers.iter().fold(4_u64, |product, number| product.saturating_mul((*number).into()))
        };
        let keys = config.kv_heads.saturating_mul(config.head_dim);
        let queries = config.heads.saturating_mul(config.head_dim);
        let rows = [
            config.dim, config.dim, config.dim, queries, queries, keys, keys, config.ffn,
            config.ffn,
        ];
        let activations: u64 = rows.iter().map(|width| product(&[batch, *width])).sum();
        let scores = product(&[config.heads / config.kv_heads.max(1), context]);
        let rope = product(&[batch, config.rope_dim]);
        Self {
            limit: engine.memory32_max_bytes,
            cache: product(&[keys, context, 2]),
            fixed: GUEST + activations + scores + rope + product(&[config.vocab]),
            context,
        }
    }
}

/// Room for the guest's stack, data, descriptor and odds and ends: 4 MiB.
const GUEST: u64 = 64 * PAGE;

/// Three quarters of the memory that could be had without swapping, where the system tells.
fn default_budget() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib.saturating_mul(1024) / 4 * 3)
}
