//! The bytes by which the guest learns the shape of the network.

use std::ops::Range;

use polychord_abi::transformer::{Model as Header, Tensor, VERSION};

use crate::activations::Activations;
use crate::model::Model;

/// A header and tensors, as `transformer_init` takes them, for a guest that holds some blocks.
pub(crate) fn bytes(
    model: &Model,
    blocks: Range<u32>,
    tensors: &[Tensor],
    context: u32,
    batch: u32,
    activations: Activations,
) -> Vec<u8> {
    let config = model.config();
    let header = Header {
        version: VERSION.cast_unsigned(),
        // At most 13 tensors in each of 4,096 blocks.
        tensors: u32::try_from(tensors.len()).unwrap_or(u32::MAX),
        vocab: config.vocab,
        dim: config.dim,
        ffn: config.ffn,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_dim: config.head_dim,
        rope_dim: config.rope_dim,
        first_block: blocks.start,
        blocks: blocks.end - blocks.start,
        context,
        batch,
        rms_epsilon: config.rms_epsilon,
        rope_base: config.rope_base,
        rope_scale: config.rope_scale,
        activations: activations.number(),
    };
    let mut bytes = header_words(&header).map(u32::to_le_bytes).concat();
    tensors.iter().for_each(|tensor| push_tensor(tensor, &mut bytes));
    bytes
}

/// The fields of a header in the order of its declaration.
const fn header_words(header: &Header) -> [u32; size_of::<Header>() / 4] {
    [
        header.version,
        header.tensors,
        header.vocab,
        header.dim,
        header.ffn,
        header.heads,
        header.kv_heads,
        header.head_dim,
        header.rope_dim,
        header.first_block,
        header.blocks,
        header.context,
        header.batch,
        header.rms_epsilon.to_bits(),
        header.rope_base.to_bits(),
        header.rope_scale.to_bits(),
        header.activations,
    ]
}

fn push_tensor(tensor: &Tensor, bytes: &mut Vec<u8>) {
    let Tensor { role, block, layer, kind, rows, cols, offset } = *tensor;
    for word in [role, block, layer, kind, rows, cols] {
        bytes.extend(word.to_le_bytes());
    }
    bytes.extend(offset.to_le_bytes());
}
