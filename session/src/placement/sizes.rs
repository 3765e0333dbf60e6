//! How many bytes the guests of a session need.

use std::collections::BTreeSet;

use polychord_abi::PAGE;
use polychord_abi::buffers::{Buffers, Kept, Run};
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
    /// Keys and values of each block, in bytes.
    pub(super) caches: Vec<u64>,
    /// Activations, logits, states of all blocks, and the guest itself, in bytes.
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
        let sizes: Vec<_> = (0..config.blocks).map(|block| config.sizes_of(block, &run)).collect();
        let outside = Buffers::new(&config.sizes(None), &run);
        let buffers = outside.and_then(|buffers| {
            let mut blocks = sizes.iter();
            blocks.try_fold(buffers, |buffers, its| buffers.with_block(its, its.kv_heads, &run))
        });
        let ropes = config.ropes.len() as u64;
        let number = options.cache_type.bytes();
        let kept = sizes.iter().map(|its| Kept::new(its, its.heads, its.kv_heads));
        let caches = kept.clone().map(|kept| kept.and_then(|kept| kept.cache_bytes(number)));
        let states = kept
            .map(|kept| kept?.state_bytes())
            .try_fold(0, |sum: u64, bytes| sum.checked_add(bytes?));
        let fixed =
            buffers.and_then(|it| it.bytes(ropes)?.checked_add(GUEST)?.checked_add(states?));
        Ok(Self {
            limit: engine.memory32_max_bytes,
            // What overflows fits nowhere.
            caches: caches.map(|bytes| bytes.unwrap_or(u64::MAX)).collect(),
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
        for (guest, block) in blocks_of(layout, plan) {
            let cache = &mut needs[guest as usize].1;
            *cache = cache.saturating_add(self.cache(block));
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

    /// Keys and values of a block, in bytes.
    pub(super) fn cache(&self, block: u32) -> u64 {
        self.caches.get(block as usize).copied().unwrap_or(0)
    }

    /// Keys and values of all blocks, in bytes.
    pub(super) fn all_caches(&self) -> u64 {
        self.caches.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
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
