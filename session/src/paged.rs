//! Layers that are brought in when they are needed: parts of the network in its order, experts when they were
//! chosen.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use polychord_abi::PAGE;
use polychord_model::layout::{Layout, Part};
use polychord_runtime_api::{
    LayerId, Pager, PagerStats, PlannedLayer, PlannedMemory, Policy, Runtime, Source, SourceRange,
    UnorderedLayers,
};

use crate::error::Result;
use crate::model::Model;
use crate::stats::expert_stats::ExpertStats;
use crate::stats::profile::timed;

/// Layers that are brought in when they are needed.
pub(crate) struct Paged {
    pager: Pager,
    embedding: Vec<LayerId>,
    /// One for each block that the guest holds.
    blocks: Vec<Block>,
    output: Vec<LayerId>,
    head: Vec<LayerId>,
    /// Time that the pager took.
    pub(crate) time: Duration,
}

/// The layers of a block.
struct Block {
    number: u32,
    /// Without layers of experts, if experts are apart.
    layers: Vec<LayerId>,
    /// The layers of each expert; none if experts are not apart.
    experts: Vec<Expert>,
    /// How many experts each token chooses.
    used: usize,
}

#[derive(Default)]
struct Expert {
    layers: Vec<LayerId>,
    tokens: u64,
    hits: u64,
    misses: u64,
}

impl Paged {
    /// Makes the window of a guest that holds some blocks.
    pub(crate) fn new(
        runtime: &mut dyn Runtime,
        (model, source): (&Model, &Source),
        layout: &Layout,
        (memory, layers): (&PlannedMemory, &[&PlannedLayer]),
        policy: Policy,
        blocks: Range<u32>,
    ) -> Result<Self> {
        let mut parts: BTreeMap<Part, Vec<LayerId>> = BTreeMap::new();
        let (mut ordered, mut unordered) = (Vec::new(), Vec::new());
        for source in layers.iter().map(|layer| &layer.source) {
            let Some(part) = layout.part(source.id) else { continue };
            parts.entry(part).or_default().push(source.id);
            match part {
                Part::Expert { .. } => unordered.push(source.clone()),
                _ => ordered.push(source.clone()),
            }
        }
        let of = |part: Part| parts.get(&part).cloned().unwrap_or_default();
        let block = |number: u32| {
            let shape = model.config().layers.get(number as usize).copied().unwrap_or_default();
            let expert = |expert| Expert {
                layers: of(Part::Expert { block: number, expert }),
                ..Expert::default()
            };
            let is_apart = !of(Part::Expert { block: number, expert: 0 }).is_empty();
            Block {
                number,
                layers: [of(Part::Block(number)), of(Part::RopeFreqs)].concat(),
                experts: (0..if is_apart { shape.experts } else { 0 }).map(expert).collect(),
                used: shape.experts_used as usize,
            }
        };
        let blocks: Vec<_> = blocks.map(block).collect();
        let output = of(Part::Output);
        let mut head = output.clone();
        if layout.is_tied() {
            head.extend(of(Part::Embedding));
        }
        let unordered = UnorderedLayers::new(unordered, room(&blocks, &ordered, layers));
        let source = source.clone();
        let pager =
            Pager::with_unordered(runtime, source, ordered, unordered, memory.bytes, policy)?;
        let embedding = of(Part::Embedding);
        Ok(Self { pager, embedding, blocks, output, head, time: Duration::ZERO })
    }

    /// Brings in the embedding.
    pub(crate) fn require_embedding(&mut self, runtime: &mut dyn Runtime) -> Result<()> {
        let Self { pager, embedding, time, .. } = self;
        timed(time, || Ok(pager.require(runtime, embedding)?))
    }

    /// Brings in what logits are computed with.
    pub(crate) fn require_head(&mut self, runtime: &mut dyn Runtime) -> Result<()> {
        let Self { pager, head, time, .. } = self;
        timed(time, || Ok(pager.require(runtime, head)?))
    }

    /// Brings in the norm behind the last block, and what is multiplied behind it.
    pub(crate) fn require_output(&mut self, runtime: &mut dyn Runtime) -> Result<()> {
        let Self { pager, output, time, .. } = self;
        timed(time, || Ok(pager.require(runtime, output)?))
    }

    /// Brings in a block but for experts that are apart, and has the one after it read ahead.
    pub(crate) fn require_block(&mut self, runtime: &mut dyn Runtime, index: usize) -> Result<()> {
        let Self { pager, blocks, time, .. } = self;
        timed(time, || {
            pager.require(runtime, &blocks[index].layers)?;
            // After the last block comes the first, for the next token.
            Ok(pager.prefetch(runtime, &blocks[(index + 1) % blocks.len()].layers)?)
        })
    }

    /// How many experts each token chooses in a block whose experts are apart.
    pub(crate) fn experts_used(&self, index: usize) -> Option<usize> {
        let block = &self.blocks[index];
        (!block.experts.is_empty()).then_some(block.used)
    }

    /// Counts the experts that tokens have chosen, and divides them into groups that can be in the
    /// window together. How they are divided depends on the plan alone, so that all ranks do the same.
    pub(crate) fn divide(&mut self, index: usize, chosen: &[u32]) -> Vec<Vec<u32>> {
        let Block { layers, experts, .. } = &mut self.blocks[index];
        let mut distinct = chosen.to_vec();
        distinct.sort_unstable();
        for expert in &distinct {
            if let Some(expert) = experts.get_mut(*expert as usize) {
                expert.tokens += 1;
            }
        }
        distinct.dedup();
        let layers_of =
            |expert: &u32| experts.get(*expert as usize).map_or(&[][..], |it| &it.layers);
        let (mut groups, mut rest) = (Vec::new(), &distinct[..]);
        while !rest.is_empty() {
            let count = self.pager.count_fitting(layers, rest.iter().map(layers_of));
            // If not even one fits, the pager says so.
            let (group, later) = rest.split_at(count.max(1));
            groups.push(group.to_vec());
            rest = later;
        }
        groups
    }

    /// Brings in experts of a block, and what is used beside them.
    pub(crate) fn require_experts(
        &mut self,
        runtime: &mut dyn Runtime,
        index: usize,
        group: &[u32],
    ) -> Result<()> {
        let Self { pager, blocks, time, .. } = self;
        let Block { layers, experts, .. } = &mut blocks[index];
        let mut needed = layers.clone();
        for expert in group {
            let Some(expert) = experts.get_mut(*expert as usize) else { continue };
            let is_here = expert.layers.iter().all(|layer| pager.has(*layer));
            *if is_here { &mut expert.hits } else { &mut expert.misses } += 1;
            needed.extend(&expert.layers);
        }
        timed(time, || Ok(pager.require(runtime, &needed)?))
    }

    /// Counters of the pager.
    pub(crate) const fn stats(&self) -> PagerStats {
        self.pager.stats()
    }

    /// Statistics of each expert that was chosen.
    pub(crate) fn expert_stats(&self) -> impl Iterator<Item = ExpertStats> {
        self.blocks.iter().flat_map(|block| {
            let chosen = (0..).zip(&block.experts).filter(|(_, expert)| expert.tokens > 0);
            chosen.map(|(number, expert)| ExpertStats {
                block: block.number,
                expert: number,
                tokens: expert.tokens,
                hits: expert.hits,
                misses: expert.misses,
            })
        })
    }
}

/// Bytes of a window that are left to experts: enough for those of a token in one block, and for one
/// of them beside all other layers of a block.
fn room(blocks: &[Block], ordered: &[SourceRange], layers: &[&PlannedLayer]) -> u64 {
    if layers.len() == ordered.len() {
        return 0;
    }
    let sources = layers.iter().map(|layer| (layer.source.id, &layer.source));
    let sources: BTreeMap<_, _> = sources.collect();
    let bytes = |ids: &[LayerId]| {
        let sources = ids.iter().filter_map(|id| sources.get(id));
        // Each begins in a page of its own.
        let bytes = sources.map(|source| source.bytes.saturating_add(2 * PAGE));
        bytes.fold(0, u64::saturating_add)
    };
    let of_block = |block: &Block| {
        let expert = block.experts.iter().map(|expert| bytes(&expert.layers)).max().unwrap_or(0);
        let chosen = expert.saturating_mul(block.used as u64);
        chosen.max(bytes(&block.layers).saturating_add(expert))
    };
    blocks.iter().map(of_block).max().unwrap_or(0)
}
