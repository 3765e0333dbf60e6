//! How many bytes the guests of a session need.

use std::collections::BTreeMap;

use polychord_abi::PAGE;
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
