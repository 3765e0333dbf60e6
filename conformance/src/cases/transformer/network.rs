//! A small network with weights made from a formula, in all types that the guest has kernels
//! for.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::abi::transformer::{
    Block, Descriptor, NO_FACTORS, Rope, Tensor, VERSION, ggml_type, role,
};

use crate::guest::{PAGE_LEN, pattern};

pub(super) const VOCAB: u32 = 64;
pub(super) const BLOCKS: u32 = 2;
/// Most tokens of a call.
pub(super) const BATCH: u32 = 4;
const CONTEXT: u32 = 16;
const DIM: u32 = 64;
const FFN: u32 = 96;
const HEADS: u32 = 4;
const KV_HEADS: u32 = 2;
const HEAD_DIM: u32 = 16;

/// Embedding, blocks and output. Each is one layer, in whole pages of the source.
pub(super) const LAYERS: u32 = BLOCKS + 2;
/// Pages that a layer may fill.
pub(super) const LAYER_PAGES: u64 = 1;

/// A tensor's role, type, rows and columns.
type Shape = (u32, u32, u32, u32);

const EMBEDDING: [Shape; 1] = [(role::TOKEN_EMBD, ggml_type::Q8_0, VOCAB, DIM)];
const OUTPUT: [Shape; 2] =
    [(role::OUTPUT_NORM, ggml_type::F32, 1, DIM), (role::OUTPUT, ggml_type::F16, VOCAB, DIM)];
const BLOCK: [Shape; 9] = [
    (role::ATTN_NORM, ggml_type::F32, 1, DIM),
    (role::ATTN_Q, ggml_type::Q4_1, HEADS * HEAD_DIM, DIM),
    (role::ATTN_K, ggml_type::Q4_0, KV_HEADS * HEAD_DIM, DIM),
    (role::ATTN_V, ggml_type::Q8_0, KV_HEADS * HEAD_DIM, DIM),
    (role::ATTN_OUTPUT, ggml_type::Q4_1, DIM, HEADS * HEAD_DIM),
    (role::FFN_NORM, ggml_type::F32, 1, DIM),
    (role::FFN_GATE, ggml_type::Q4_0, FFN, DIM),
    (role::FFN_UP, ggml_type::F32, FFN, DIM),
    (role::FFN_DOWN, ggml_type::Q8_0, DIM, FFN),
];

/// Bytes of which each changes the logits: the first of some tensors, behind their scale.
pub(super) const SAMPLES: [(&str, usize); 4] = [
    // The second row is that of token 1, which is the first one of the case.
    ("the embedding", 2 * 34 + 5),
    ("the first block's norm", PAGE_LEN + 2),
    ("the second block's queries", 2 * PAGE_LEN + 4 * 64 + 7),
    ("the output", 3 * PAGE_LEN + 4 * 64),
];

/// All layers, one after the other, each from a page's first byte on.
pub(super) fn weights() -> Vec<u8> {
    let mut bytes = Vec::new();
    for layer in 0..LAYERS {
        for (index, (_, kind, rows, cols)) in (0_u64..).zip(shapes(layer)) {
            let seed = u64::from(layer) * 100 + index;
            bytes.extend(tensor(*kind, (rows * cols) as usize, seed));
        }
        bytes.resize(bytes.len().next_multiple_of(PAGE_LEN), 0);
    }
    bytes
}

/// What `transformer_init` takes: the shape of the network and where its tensors are.
pub(super) fn descriptor() -> Vec<u8> {
    let mut tensors = Vec::new();
    for layer in 0..LAYERS {
        let mut offset = 0;
        for (role, kind, rows, cols) in shapes(layer).iter().copied() {
            let block = if (1..=BLOCKS).contains(&layer) { layer - 1 } else { 0 };
            let (pieces, step) = (1, 0);
            tensors.push(Tensor { role, block, layer, kind, rows, cols, pieces, step, offset });
            offset += bytes_of(kind, (rows * cols) as usize) as u64;
        }
    }
    let mut bytes = header(u32::try_from(tensors.len()).unwrap_or(0));
    tensors.iter().for_each(|tensor| bytes.extend(tensor.to_le_bytes()));
    bytes
}

fn header(tensors: u32) -> Vec<u8> {
    let model = Descriptor {
        version: VERSION.cast_unsigned(),
        ranks: 1,
        tensors,
        vocab: VOCAB,
        dim: DIM,
        ropes: 1,
        blocks: BLOCKS,
        context: CONTEXT,
        batch: BATCH,
        epsilon: 1e-5,
        embedding_scale: 1.0,
        residual_scale: 1.0,
        logit_scale: 1.0,
        ..Descriptor::default()
    };
    let rope = Rope {
        dim: HEAD_DIM,
        factors: NO_FACTORS,
        base: 10_000.0,
        scale: 1.0,
        yarn_low: -1.0,
        yarn_high: -1.0,
        magnitude: 1.0,
        ..Rope::default()
    };
    let block = Block {
        heads: HEADS,
        kv_heads: KV_HEADS,
        head_dim: HEAD_DIM,
        ffn: FFN,
        attention_scale: 0.25,
        positions: CONTEXT,
        ..Block::default()
    };
    let mut bytes = model.to_le_bytes().to_vec();
    bytes.extend(rope.to_le_bytes());
    (0..BLOCKS).for_each(|_| bytes.extend(block.to_le_bytes()));
    bytes
}

const fn shapes(layer: u32) -> &'static [Shape] {
    match layer {
        0 => &EMBEDDING,
        1..=BLOCKS => &BLOCK,
        _ => &OUTPUT,
    }
}

/// Bytes of a layer, which ends with its last tensor.
pub(super) fn layer_bytes(layer: u32) -> u64 {
    let bytes = |(_, kind, rows, cols): &Shape| bytes_of(*kind, (rows * cols) as usize) as u64;
    let sum = shapes(layer).iter().map(bytes).sum();
    debug_assert!(sum <= LAYER_PAGES * PAGE);
    sum
}

fn bytes_of(kind: u32, elements: usize) -> usize {
    match kind {
        ggml_type::F32 => elements * 4,
        ggml_type::F16 => elements * 2,
        ggml_type::Q4_0 => elements / 32 * 18,
        ggml_type::Q4_1 => elements / 32 * 20,
        _ => elements / 32 * 34,
    }
}

/// Weights around zero, small enough that activations stay finite.
fn tensor(kind: u32, elements: usize, seed: u64) -> Vec<u8> {
    let random = pattern(seed + 1, bytes_of(kind, elements));
    match kind {
        ggml_type::F32 => (0..elements)
            .flat_map(|index| (f32::from(random[index].cast_signed()) / 256.0 + 0.5).to_le_bytes())
            .collect(),
        ggml_type::F16 => random
            .chunks(2)
            // Both signs, 2^-5 to 2^-4, any mantissa.
            .flat_map(|pair| [pair[0], 0x28 | pair[1] & 0x83])
            .collect(),
        ggml_type::Q4_0 => blocks(random, 18, &SCALE),
        ggml_type::Q4_1 => blocks(random, 20, &[SCALE[0], SCALE[1], MINIMUM[0], MINIMUM[1]]),
        _ => blocks(random, 34, &SMALL_SCALE),
    }
}

/// Quantized blocks that all begin with the same scale.
fn blocks(mut bytes: Vec<u8>, size: usize, scale: &[u8]) -> Vec<u8> {
    for block in bytes.chunks_mut(size) {
        block[..scale.len()].copy_from_slice(scale);
    }
    bytes
}

/// 2^-6 as an f16.
const SCALE: [u8; 2] = 0x2400_u16.to_le_bytes();
/// -2^-3, the middle of a 4-bit weight with this scale.
const MINIMUM: [u8; 2] = 0xb000_u16.to_le_bytes();
/// 2^-10.
const SMALL_SCALE: [u8; 2] = 0x1400_u16.to_le_bytes();
