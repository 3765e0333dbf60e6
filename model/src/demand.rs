//! What a network needs beside its weights, and what of it can be in guests or memories of its own.

use std::collections::BTreeSet;

use polychord_abi::PAGE;
use polychord_abi::buffers::{Buffers, Kept};
use polychord_plan::{Group, Inventory, Plan, PlannedLayer, PlannedMemory};

use crate::config::Config;
use crate::descriptor::Settings;
use crate::layout::{Kind, Layout, Part};

/// What a guest needs beside weights, in bytes: for keys and values, activations, and itself.
///
/// ```
/// use polychord_model::config::Config;
/// use polychord_model::demand::Demand;
/// use polychord_model::descriptor::Settings;
///
/// fn beside_weights(config: &Config) -> u64 {
///     let demand = Demand::new(config, &Settings::new(4096, 64));
///     demand.all_caches().saturating_add(demand.fixed)
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Demand {
    /// Keys and values of each block.
    pub caches: Vec<u64>,
    /// Activations, logits, states of all blocks, and the guest itself.
    pub fixed: u64,
}

/// A memory for keys and values that is too small for the context.
///
/// ```
/// use polychord_model::demand::CacheTooSmall;
///
/// fn more(error: &CacheTooSmall) -> u64 {
///     error.needed - error.bytes
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "its cache of {bytes} bytes was planned for a shorter context or for smaller numbers: {context} tokens need {needed}"
)]
#[non_exhaustive]
pub struct CacheTooSmall {
    /// Bytes of the memory.
    pub bytes: u64,
    /// Bytes that the context takes.
    pub needed: u64,
    /// Tokens of the context.
    pub context: u32,
}

impl Demand {
    /// What a network needs for these settings. What overflows is as large as can be, and fits nowhere.
    #[must_use]
    pub fn new(config: &Config, settings: &Settings) -> Self {
        let run = settings.run();
        // One of several ranks needs no more than a guest that is alone.
        let sizes: Vec<_> = (0..config.blocks).map(|block| config.sizes_of(block, &run)).collect();
        let outside = Buffers::new(&config.sizes(None), &run);
        let buffers = outside.and_then(|buffers| {
            let mut blocks = sizes.iter();
            blocks.try_fold(buffers, |buffers, its| buffers.with_block(its, its.kv_heads, &run))
        });
        let ropes = config.ropes.len() as u64;
        let cache_type = settings.cache_type.number();
        let kept = sizes.iter().map(|its| Kept::new(its, its.heads, its.kv_heads));
        let caches = kept.clone().map(|kept| kept.and_then(|kept| kept.cache_bytes(cache_type)));
        let states = kept
            .map(|kept| kept?.state_bytes())
            .try_fold(0, |sum: u64, bytes| sum.checked_add(bytes?));
        let fixed =
            buffers.and_then(|it| it.bytes(ropes)?.checked_add(GUEST)?.checked_add(states?));
        Self {
            caches: caches.map(|bytes| bytes.unwrap_or(u64::MAX)).collect(),
            fixed: fixed.unwrap_or(u64::MAX),
        }
    }

    /// Keys and values of a block, in bytes.
    #[must_use]
    pub fn cache(&self, block: u32) -> u64 {
        self.caches.get(block as usize).copied().unwrap_or(0)
    }

    /// Keys and values of all blocks, in bytes.
    #[must_use]
    pub fn all_caches(&self) -> u64 {
        self.caches.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }

    /// Bytes of the weights of each guest of a plan, and of its cache and activations together.
    ///
    /// # Errors
    ///
    /// [`CacheTooSmall`] if the plan has a memory for keys and values that is too small for `context`.
    pub fn of_guests(
        &self,
        layout: &Layout,
        plan: &Plan,
        context: u32,
    ) -> Result<Vec<(u64, u64)>, CacheTooSmall> {
        let mut needs = vec![(0_u64, 0_u64); plan.guests() as usize];
        let mut caches = vec![None; needs.len()];
        for memory in &plan.memories {
            let guest = memory.guest as usize;
            match memory.region == PlannedMemory::KV {
                true => caches[guest] = caches[guest].or(Some(memory.bytes)),
                false => needs[guest].0 = needs[guest].0.saturating_add(memory.bytes),
            }
        }
        for (guest, block) in blocks_of(layout, plan) {
            let cache = &mut needs[guest as usize].1;
            *cache = cache.saturating_add(self.cache(block));
        }
        for ((_, cache), kv) in needs.iter_mut().zip(caches) {
            *cache = match kv {
                Some(bytes) if bytes < *cache => {
                    return Err(CacheTooSmall { bytes, needed: *cache, context });
                }
                Some(bytes) => bytes,
                None => *cache,
            };
            *cache = cache.saturating_add(self.fixed);
        }
        Ok(needs)
    }

    /// Layers that cannot be apart: the embedding, each block or those that share keys, the output. An
    /// output that is tied to the embedding is computed where the embedding is. `layout` is that of
    /// [`Cut::ByPart`](crate::layout::Cut::ByPart) or [`Cut::ByExpert`](crate::layout::Cut::ByExpert).
    #[must_use]
    pub fn parts(&self, config: &Config, layout: &Layout) -> Inventory {
        let layers = |part| layout.layers_of(part).cloned().collect::<Vec<_>>();
        let group = |layers: Vec<_>, cache| Group::new(Kind::Any.region(), layers).cache(cache);
        let (mut first, output) = (layers(Part::Embedding), layers(Part::Output));
        let tied = layout.is_tied();
        if tied {
            first.extend(output.iter().cloned());
        }
        let mut groups = vec![group(first, 0)];
        let together = config.tied_blocks().unwrap_or(0..0);
        for (block, shape) in (0..).zip(&config.layers) {
            let (mut its, cache) = (layers(Part::Block(block)), self.cache(block));
            let experts = 0..shape.experts;
            its.extend(experts.flat_map(|expert| layers(Part::Expert { block, expert })));
            // Blocks that use keys and values of others are where these are.
            match groups.last_mut().filter(|_| together.contains(&block) && block > together.start)
            {
                Some(last) => {
                    last.layers.extend(its);
                    last.cache = last.cache.saturating_add(cache);
                }
                None => groups.push(group(its, cache)),
            }
        }
        if !tied {
            groups.push(group(output, 0));
        }
        Inventory::new(groups).replicated(layers(Part::RopeFreqs)).overhead(self.fixed)
    }

    /// Layers of each kind; keys and values go with the attention. `layout` is that of
    /// [`Cut::ByKind`](crate::layout::Cut::ByKind).
    #[must_use]
    pub fn kinds(&self, layout: &Layout) -> Inventory {
        let cache = self.all_caches();
        let group = |kind: Kind| {
            let group = Group::new(kind.region(), layout.layers_of_kind(kind).cloned());
            group.cache(if kind == Kind::Attention { cache } else { 0 })
        };
        let kinds = [Kind::Embeddings, Kind::Attention, Kind::FeedForward, Kind::Output];
        let replicated = layout.layers_of(Part::RopeFreqs).cloned();
        Inventory::new(kinds.map(group)).replicated(replicated).overhead(self.fixed)
    }
}

/// Which guest has which block.
fn blocks_of(layout: &Layout, plan: &Plan) -> BTreeSet<(u32, u32)> {
    let block = |layer| match layout.part(layer) {
        Some(Part::Block(block)) => Some(block),
        _ => None,
    };
    let held = |it: &PlannedLayer| Some((plan.guest_of(it)?, block(it.source.id)?));
    plan.layers.iter().filter_map(held).collect()
}

/// Room for the guest's stack, data, descriptor and odds and ends: 4 MiB.
const GUEST: u64 = 64 * PAGE;
