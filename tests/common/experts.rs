//! A file in the shape of Qwen3-30B-A3B, almost all of which is a hole.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "sizes of one tensor")]

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use polychord::model::gguf::GgmlType;

use super::ggml::{self, Random};
use super::gguf::Writer;

/// By its published configuration: 48 blocks of 128 experts, of which each token chooses 8.
pub(crate) const BLOCKS: u64 = 48;
pub(crate) const EXPERTS: u64 = 128;
pub(crate) const USED: u64 = 8;
const DIM: u64 = 2048;
const WIDTH: u64 = 768;
const HEADS: u64 = 32;
const KV_HEADS: u64 = 4;
const HEAD: u64 = 128;
const VOCAB: u64 = 151_936;

/// Tokens whose rows of the embedding are not zero.
pub(crate) const TOKENS: u64 = 64;

/// Writes it: norms, routers and a few rows of the embedding are there, so that tokens choose
/// different experts; all other weights are zeros, which take no room on disk. Returns its size.
pub(crate) fn write(path: &Path) -> u64 {
    let mut writer = Writer::default();
    let key = |name: &str| format!("qwen3moe.{name}");
    writer.text("general.architecture", "qwen3moe");
    for (name, value) in [
        ("block_count", BLOCKS),
        ("context_length", 40_960),
        ("embedding_length", DIM),
        ("feed_forward_length", 6144),
        ("expert_feed_forward_length", WIDTH),
        ("expert_count", EXPERTS),
        ("expert_used_count", USED),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("attention.key_length", HEAD),
        ("attention.value_length", HEAD),
        ("vocab_size", VOCAB),
    ] {
        writer.u32(&key(name), value as u32);
    }
    writer.f32(&key("attention.layer_norm_rms_epsilon"), 1e-6);
    writer.f32(&key("rope.freq_base"), 1e6);

    let mut random = Random(1);
    let mut parts: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut put = |name: &str, kind: GgmlType, dims: &[u64], bytes: Vec<u8>| {
        let len = dims.iter().product::<u64>() / kind.block_elements() * kind.block_bytes();
        parts.push((writer.declare(name, kind, dims, len), bytes));
    };
    let ones = |len: u64| (0..len).flat_map(|_| 1.0_f32.to_le_bytes()).collect::<Vec<_>>();
    let rows = ggml::random(GgmlType::Q4_K, (TOKENS * DIM) as usize, 1.0, &mut random);
    put("token_embd.weight", GgmlType::Q4_K, &[DIM, VOCAB], rows);
    put("output.weight", GgmlType::Q6_K, &[DIM, VOCAB], Vec::new());
    put("output_norm.weight", GgmlType::F32, &[DIM], ones(DIM));
    for block in 0..BLOCKS {
        let name = |tensor: &str| format!("blk.{block}.{tensor}.weight");
        for norm in ["attn_norm", "ffn_norm"] {
            put(&name(norm), GgmlType::F32, &[DIM], ones(DIM));
        }
        for norm in ["attn_q_norm", "attn_k_norm"] {
            put(&name(norm), GgmlType::F32, &[HEAD], ones(HEAD));
        }
        for (tensor, cols, rows) in [
            ("attn_q", DIM, HEADS * HEAD),
            ("attn_k", DIM, KV_HEADS * HEAD),
            ("attn_v", DIM, KV_HEADS * HEAD),
            ("attn_output", HEADS * HEAD, DIM),
        ] {
            put(&name(tensor), GgmlType::Q4_K, &[cols, rows], Vec::new());
        }
        let router = (0..DIM * EXPERTS).flat_map(|_| random.uniform().to_le_bytes()).collect();
        put(&name("ffn_gate_inp"), GgmlType::F32, &[DIM, EXPERTS], router);
        put(&name("ffn_gate_exps"), GgmlType::Q4_K, &[DIM, WIDTH, EXPERTS], Vec::new());
        put(&name("ffn_up_exps"), GgmlType::Q4_K, &[DIM, WIDTH, EXPERTS], Vec::new());
        put(&name("ffn_down_exps"), GgmlType::Q6_K, &[WIDTH, DIM, EXPERTS], Vec::new());
    }
    let header = writer.header();
    let file = File::create(path).unwrap();
    file.write_all_at(&header, 0).unwrap();
    for (start, bytes) in parts {
        file.write_all_at(&bytes, header.len() as u64 + start).unwrap();
    }
    // The last tensor is a hole.
    let end = header.len() as u64 + writer.data_bytes();
    file.set_len(end).unwrap();
    end
}
