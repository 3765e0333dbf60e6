//! How many bytes the guests of a session need.

use std::collections::BTreeMap;

use polychord_abi::PAGE;
use polychord_abi::buffers::{Buffers, Run};
use polychord_model::Activations;
use polychord_model::layout::{Layout, Part};
use polychord_runtime_api::{Capabilities, Plan, PlannedLayer, PlannedMemory};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::SessionOptions;

/// What counts when a placement is chosen.
pub(super) struct Sizes {
    /// Most bytes of a guest's 32-bit memory.
    pub(super) limit: u64,
    /// Keys and values of one block, in bytes.
    pub(super) cache: u64,
    /// Activations, logits and the guest itself, in bytes.
    pub(super) fixed: u64,
    pub(super) context: u32,
}

impl Sizes {
    pub(super) fn new(
        model: &Model,
        engine: &Capabilities,
        options: &SessionOptions,
    ) -> Result<Self> {
        let context = options.context_of(model)?;
        let batch = options.batch_of(model, context)?;
        let config = model.config();
        let integers = options.activations == Activations::Int8;
        let run = Run { context, batch, integers };
        // One of several ranks needs no more than a guest that is alone.
        let block = |buffers: Buffers, block: u32| {
            let sizes = config.sizes(Some(block));
            buffers.with_block(&sizes, sizes.kv_heads, &run)
        };
        let outside = Buffers::new(&config.sizes(None), &run);
        let buffers = outside.and_then(|buffers| (0..config.blocks).try_fold(buffers, block));
        let ropes = config.ropes.len() as u64;
        let cache = buffers.and_then(|it| it.cache_bytes(options.cache_type.bytes()));
        let fixed = buffers.and_then(|it| it.bytes(ropes)?.checked_add(GUEST));
        Ok(Self {
            limit: engine.memory32_max_bytes,
            // What overflows fits nowhere.
            cache: cache.unwrap_or(u64::MAX),
            fixed: fixed.unwrap_or(u64::MAX),
            context,
        })
    }

    /// Bytes of each guest's weights, and of its cache and activations.
    pub(super) fn needs(&self, layout: &Layout, plan: &Plan) -> Result<Vec<(u64, u64)>> {
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
