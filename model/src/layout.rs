//! Which bytes of the file form a layer, and where in it each tensor is.

use polychord_abi::PAGE;
use polychord_abi::transformer::{Tensor, role};
use polychord_runtime_api::{LayerId, SourceRange};

use crate::config::ModelTensor;

/// The layers of a model file, and what the guest needs to find tensors in them.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    /// Embedding, blocks and output, in the order in which they are used.
    pub(crate) layers: Vec<SourceRange>,
    /// What each of these layers is a part of.
    pub(crate) parts: Vec<Part>,
    pub(crate) tensors: Vec<Tensor>,
}

/// The part of a network that is loaded as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    Embedding,
    RopeFreqs,
    Block(u32),
    Output,
}

impl Layout {
    /// Groups tensors by part. The tensors of a part are one layer if they are neighbours in
    /// the file, as they are in all files in the usual order; else it has several, since a
    /// layer is a contiguous range.
    pub(crate) fn new(tensors: &[ModelTensor<'_>]) -> Self {
        let mut sorted: Vec<_> = tensors.iter().map(|tensor| (part(tensor), tensor)).collect();
        sorted.sort_by_key(|(part, tensor)| (*part, tensor.info.offset));
        let mut layout = Self { layers: Vec::new(), parts: Vec::new(), tensors: Vec::new() };
        let mut last = None;
        for (part, tensor) in sorted {
            let open = layout.layers.last_mut().filter(|_| last == Some(part));
            match open.filter(|layer| tensor.info.offset - (layer.start + layer.bytes) < PAGE) {
                Some(layer) => layer.bytes = tensor.info.offset + tensor.info.bytes - layer.start,
                None => layout.open_layer(part, last == Some(part), tensor),
            }
            last = Some(part);
            layout.add_tensor(tensor);
        }
        layout
    }

    /// What a layer is a part of, if there is one of this number.
    pub(crate) fn part(&self, layer: LayerId) -> Option<Part> {
        self.parts.get(layer.0 as usize).copied()
    }

    /// The layers of one part.
    pub(crate) fn layers_of(&self, part: Part) -> impl Iterator<Item = &SourceRange> {
        let both = self.layers.iter().zip(&self.parts);
        both.filter_map(move |(layer, its)| (*its == part).then_some(layer))
    }

    /// Whether the output is computed with the embedding's matrix.
    pub(crate) fn is_tied(&self) -> bool {
        !self.tensors.iter().any(|tensor| tensor.role == role::OUTPUT)
    }

    fn open_layer(&mut self, part: Part, again: bool, tensor: &ModelTensor<'_>) {
        let id = LayerId(u32::try_from(self.layers.len()).unwrap_or(u32::MAX));
        let name = match part {
            Part::Embedding => "token_embd".to_owned(),
            Part::RopeFreqs => "rope_freqs".to_owned(),
            Part::Block(block) => format!("blk.{block}"),
            Part::Output => "output".to_owned(),
        };
        let name = if again { format!("{name} ({})", tensor.info.name) } else { name };
        let (start, bytes) = (tensor.info.offset, tensor.info.bytes);
        self.layers.push(SourceRange { id, name, start, bytes });
        self.parts.push(part);
    }

    fn add_tensor(&mut self, tensor: &ModelTensor<'_>) {
        let Some(layer) = self.layers.last() else { return };
        self.tensors.push(Tensor {
            role: tensor.role,
            block: tensor.block.unwrap_or(0),
            layer: layer.id.0,
            kind: tensor.info.kind.number(),
            rows: tensor.rows,
            cols: tensor.cols,
            offset: tensor.info.offset - layer.start,
        });
    }
}

fn part(tensor: &ModelTensor<'_>) -> Part {
    match (tensor.role, tensor.block) {
        (_, Some(block)) => Part::Block(block),
        (role::TOKEN_EMBD, None) => Part::Embedding,
        (role::ROPE_FREQS, None) => Part::RopeFreqs,
        _ => Part::Output,
    }
}
