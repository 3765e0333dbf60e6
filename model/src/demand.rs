//! What a network needs beside its weights, and what of it can be in guests or memories of its own.

use std::collections::BTreeMap;

use polychord_abi::PAGE;
use polychord_abi::buffers::{Buffers, Run};
use polychord_plan::{Group, Inventory, Plan, PlannedLayer, PlannedMemory};

use crate::Activations;
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
/// fn cache(config: &Config) -> u64 {
///     let demand = Demand::new(config, &Settings::new(4096, 64));
///     demand.cache * u64::from(config.blocks)
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Demand {
    /// Keys and values of one block.
    pub cache: u64,
    /// Activations, logits and the guest itself.
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
        let Settings { context, batch, activations, cache_type, .. } = *settings;
        let run = Run { context, batch, integers: activations == Activations::Int8 };
        // One of several ranks needs no more than a guest that is alone.
        let block = |buffers: Buffers, block: u32| {
            let sizes = config.sizes(Some(block));
            buffers.with_block(&sizes, sizes.kv_heads, &run)
        };
        let outside = Buffers::new(&config.sizes(None), &run);
        let buffers = outside.and_then(|buffers| (0..config.blocks).try_fold(buffers, block));
        let ropes = config.ropes.len() as u64;
        let cache = buffers.and_then(|it| it.cache_bytes(cache_type.bytes()));
        let fixed = buffers.and_then(|it| it.bytes(ropes)?.checked_add(GUEST));
        Self { cache: cache.unwrap_or(u64::MAX), fixed: fixed.unwrap_or(u64::MAX) }
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
                true => caches[guest] = caches[guest].or(Some(memory)),
                false => needs[guest].0 = needs[guest].0.saturating_add(memory.bytes),
            }
        }
        for (guest, blocks) in blocks_of(layout, plan) {
            needs[guest as usize].1 = blocks.saturating_mul(self.cache);
        }
        for ((_, cache), kv) in needs.iter_mut().zip(caches) {
            *cache = match kv.map(|kv| kv.bytes) {
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

    /// Layers that cannot be apart: the embedding, each block, the output. An output that is
    /// tied to the embedding is computed where the embedding is. `layout` is that of
    /// [`Cut::ByPart`](crate::layout::Cut::ByPart).
    #[must_use]
    pub fn parts(&self, layout: &Layout, blocks: u32) -> Inventory {
        let layers = |part| layout.layers_of(part).cloned().collect::<Vec<_>>();
        let group = |layers: Vec<_>, cache| Group::new(Kind::Any.region(), layers).cache(cache);
        let (mut first, output) = (layers(Part::Embedding), layers(Part::Output));
        let tied = layout.is_tied();
        if tied {
            first.extend(output.iter().cloned());
        }
        let mut groups = vec![group(first, 0)];
        groups.extend((0..blocks).map(|block| group(layers(Part::Block(block)), self.cache)));
        if !tied {
            groups.push(group(output, 0));
        }
        Inventory::new(groups).replicated(layers(Part::RopeFreqs)).overhead(self.fixed)
    }

    /// Layers of each kind; keys and values go with the attention. `layout` is that of
    /// [`Cut::ByKind`](crate::layout::Cut::ByKind).
    #[must_use]
    pub fn kinds(&self, layout: &Layout, blocks: u32) -> Inventory {
        let cache = u64::from(blocks).saturating_mul(self.cache);
        let group = |kind: Kind| {
            let group = Group::new(kind.region(), layout.layers_of_kind(kind).cloned());
            group.cache(if kind == Kind::Attention { cache } else { 0 })
        };
        let kinds = [Kind::Embeddings, Kind::Attention, Kind::FeedForward, Kind::Output];
        let replicated = layout.layers_of(Part::RopeFreqs).cloned();
        Inventory::new(kinds.map(group)).replicated(replicated).overhead(self.fixed)
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

/// Room for the guest's stack, data, descriptor and odds and ends: 4 MiB.
const GUEST: u64 = 64 * PAGE;
