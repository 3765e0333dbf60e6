//! Which bytes of the file form a layer, and where in it each tensor is.

use polychord_abi::PAGE;
use polychord_abi::network::{self, ROLES, Size, role};
use polychord_abi::transformer::Tensor;
use polychord_plan::{LayerId, Plan, PlannedMemory, SourceRange};

use crate::config::ModelTensor;

/// The layers of a model file, and what the guest needs to find tensors in them.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layout {
    /// Embedding, blocks and output, in the order in which they are used.
    pub layers: Vec<SourceRange>,
    /// What each of these layers is a part of, and the kind of its tensors; in order.
    pub parts: Vec<(Part, Kind)>,
    /// Where each tensor is, as the guest is told.
    pub tensors: Vec<Tensor>,
}

/// How finely a model is cut into layers. Exhaustive: a model has one layout for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// A layer for each part.
    ByPart,
    /// A layer for the tensors of each kind in each part.
    ByKind,
    /// A layer for each part, without the matrices of experts: of those, each expert has layers of
    /// its own.
    ByExpert,
}

/// What tensors are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// All kinds, where they are not apart.
    Any,
    /// The embedding of tokens.
    Embeddings,
    /// Attention of all blocks.
    Attention,
    /// Feed-forward networks of all blocks.
    FeedForward,
    /// The output norm and matrix.
    Output,
}

impl Kind {
    /// The name of the region of a plan that holds these tensors.
    #[must_use]
    pub const fn region(self) -> &'static str {
        match self {
            Self::Any => PlannedMemory::WEIGHTS,
            Self::Embeddings => "embeddings",
            Self::Attention => "attention",
            Self::FeedForward => "feed_forward",
            Self::Output => "output",
        }
    }
}

/// The part of a network that is loaded as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Part {
    /// The embedding of tokens.
    Embedding,
    /// The factors of rotary frequencies.
    RopeFreqs,
    /// The block of this number, from 0.
    Block(u32),
    /// The output norm and matrix.
    Output,
    /// The matrices of one expert, where they are apart from its block.
    Expert {
        /// The number of the block, from 0.
        block: u32,
        /// The number of the expert in the block, from 0.
        expert: u32,
    },
}

/// Most layers of experts; the largest known models have some 75,000.
const MOST_OF_EXPERTS: u64 = Plan::MAX_LAYERS as u64 / 2;

impl Layout {
    /// Groups tensors. Those of a group are one layer if they are neighbors in the file, as
    /// the tensors of a part are in all files in the usual order; else it has several, since
    /// a layer is a contiguous range.
    #[must_use]
    pub fn new(tensors: &[ModelTensor<'_>], cut: Cut) -> Self {
        let group = |tensor: &ModelTensor<'_>| match (part(tensor), cut) {
            (Part::RopeFreqs, _) => (Part::RopeFreqs, Kind::Any),
            (part, Cut::ByPart | Cut::ByExpert) => (part, Kind::Any),
            (part, Cut::ByKind) => (part, kind(tensor)),
        };
        let pieces = tensors.iter().map(|tensor| u64::from(experts(tensor)));
        let is_divided =
            cut == Cut::ByExpert && pieces.fold(0, u64::saturating_add) <= MOST_OF_EXPERTS;
        let (apart, rest): (Vec<_>, Vec<_>) =
            tensors.iter().partition(|tensor| is_divided && experts(tensor) > 0);
        let mut sorted: Vec<_> = rest.into_iter().map(|tensor| (group(tensor), tensor)).collect();
        sorted.sort_by_key(|(group, tensor)| (*group, tensor.info.offset));
        let mut layout = Self { layers: Vec::new(), parts: Vec::new(), tensors: Vec::new() };
        let mut last = None;
        for (group, tensor) in sorted {
            let open = layout.layers.last_mut().filter(|_| last == Some(group));
            match open.filter(|layer| tensor.info.offset - (layer.start + layer.bytes) < PAGE) {
                Some(layer) => layer.bytes = tensor.info.offset + tensor.info.bytes - layer.start,
                None => layout.open_layer(group, last == Some(group), tensor),
            }
            last = Some(group);
            layout.add_tensor(tensor);
        }
        for of_block in apart.chunk_by(|a, b| a.block == b.block) {
            layout.add_experts(of_block);
        }
        layout
    }

    /// Adds the matrices of all experts of a block, expert by expert.
    fn add_experts(&mut self, tensors: &[&ModelTensor<'_>]) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (first, step) = (number(self.layers.len()), number(tensors.len()));
        let block = tensors.first().and_then(|tensor| tensor.block).unwrap_or(0);
        let count = tensors.iter().map(|tensor| experts(tensor)).max().unwrap_or(0);
        for expert in 0..count {
            for tensor in tensors {
                let name = tensor.info.name.trim_end_matches(".weight");
                let name = format!("{name} of expert {expert}");
                let bytes = tensor.info.bytes / u64::from(count);
                let start = tensor.info.offset + bytes * u64::from(expert);
                let id = LayerId(number(self.layers.len()));
                self.layers.push(SourceRange::new(id, name, start, bytes));
                self.parts.push((Part::Expert { block, expert }, Kind::Any));
            }
        }
        for (tensor, layer) in tensors.iter().zip(first..) {
            self.tensors.push(Tensor {
                pieces: count,
                step,
                ..stored(tensor, layer, tensor.info.offset)
            });
        }
    }

    /// What a layer is a part of, if there is one of this number.
    #[must_use]
    pub fn part(&self, layer: LayerId) -> Option<Part> {
        self.parts.get(layer.0 as usize).map(|(part, _)| *part)
    }

    /// The layers of one part.
    pub fn layers_of(&self, part: Part) -> impl Iterator<Item = &SourceRange> {
        // They were sorted by it.
        let start = self.parts.partition_point(|(its, _)| *its < part);
        let end = self.parts.partition_point(|(its, _)| *its <= part);
        self.layers[start..end].iter()
    }

    /// The layers of one kind.
    pub fn layers_of_kind(&self, kind: Kind) -> impl Iterator<Item = &SourceRange> {
        let wanted = move |part: Part, its: Kind| its == kind && part != Part::RopeFreqs;
        let both = self.layers.iter().zip(&self.parts);
        both.filter_map(move |(layer, (part, kind))| wanted(*part, *kind).then_some(layer))
    }

    /// Whether the output is computed with the embedding's matrix.
    #[must_use]
    pub fn is_tied(&self) -> bool {
        !self.tensors.iter().any(|tensor| tensor.role == role::OUTPUT)
    }

    fn open_layer(&mut self, group: (Part, Kind), again: bool, tensor: &ModelTensor<'_>) {
        let id = LayerId(u32::try_from(self.layers.len()).unwrap_or(u32::MAX));
        let name = match group.0 {
            Part::Embedding => "token_embd".to_owned(),
            Part::RopeFreqs => "rope_freqs".to_owned(),
            Part::Block(block) if group.1 == Kind::Any => format!("blk.{block}"),
            Part::Block(block) => format!("blk.{block} {}", group.1.region()),
            // Layers of experts have names by their tensors.
            Part::Output | Part::Expert { .. } => "output".to_owned(),
        };
        let name = if again { format!("{name} ({})", tensor.info.name) } else { name };
        let (start, bytes) = (tensor.info.offset, tensor.info.bytes);
        self.layers.push(SourceRange::new(id, name, start, bytes));
        self.parts.push(group);
    }

    fn add_tensor(&mut self, tensor: &ModelTensor<'_>) {
        let Some(layer) = self.layers.last() else { return };
        self.tensors.push(stored(tensor, layer.id.0, layer.start));
    }
}

/// A tensor in one layer, which begins at byte `start` of the file.
fn stored(tensor: &ModelTensor<'_>, layer: u32, start: u64) -> Tensor {
    Tensor {
        role: tensor.role,
        block: tensor.block.unwrap_or(0),
        layer,
        kind: tensor.info.dtype.number(),
        rows: tensor.rows,
        cols: tensor.cols,
        pieces: 1,
        step: 0,
        offset: tensor.info.offset - start,
    }
}

/// How many experts a tensor has a matrix for; 0 if it is of no experts.
fn experts(tensor: &ModelTensor<'_>) -> u32 {
    match ROLES[tensor.role as usize].rows {
        // The last dimension, which may be left out if there is one.
        Size::ExpertRows | Size::ExpertPairs | Size::ExpertDowns => {
            let experts = tensor.info.dims.get(2).copied().unwrap_or(1);
            u32::try_from(experts).unwrap_or(u32::MAX)
        }
        _ => 0,
    }
}

/// The section of the network that a tensor belongs to, by the table.
fn section(tensor: &ModelTensor<'_>) -> network::Section {
    ROLES[tensor.role as usize].section
}

fn part(tensor: &ModelTensor<'_>) -> Part {
    match section(tensor) {
        network::Section::Embedding => Part::Embedding,
        network::Section::Rope => Part::RopeFreqs,
        network::Section::Attention | network::Section::FeedForward => {
            Part::Block(tensor.block.unwrap_or(0))
        }
        network::Section::Output => Part::Output,
    }
}

fn kind(tensor: &ModelTensor<'_>) -> Kind {
    match section(tensor) {
        network::Section::Embedding | network::Section::Rope => Kind::Embeddings,
        network::Section::Attention => Kind::Attention,
        network::Section::FeedForward => Kind::FeedForward,
        network::Section::Output => Kind::Output,
    }
}
