//! Small models whose weights follow from the names of their tensors, as other programs make them
//! too: those that `tests/data/architectures` has llama.cpp's results for.
#![allow(clippy::cast_possible_truncation, reason = "small models")]

use polychord::model::gguf::GgmlType;
use sha2::{Digest, Sha256};

use super::ggml::Random;
use super::gguf::Writer;

/// What a model looks like; queries, keys and values have biases.
#[derive(Clone, Debug)]
pub(crate) struct Family {
    pub(crate) architecture: &'static str,
    /// The pre-tokenizer.
    pub(crate) pre: &'static str,
    pub(crate) seed: u64,
    pub(crate) dim: usize,
    pub(crate) blocks: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) ffn: usize,
    pub(crate) rope_base: f32,
    pub(crate) tied: bool,
    /// Deviation of the embedding.
    pub(crate) embedding: f64,
    /// How large the results of a block's parts are.
    pub(crate) gain: f64,
}

impl Family {
    /// A configuration of Qwen 2, by its name in the test data.
    pub(crate) fn qwen2(config: &str) -> Self {
        let small = Self {
            architecture: "qwen2",
            pre: "qwen2",
            seed: 20,
            dim: 64,
            blocks: 4,
            heads: 4,
            kv_heads: 2,
            ffn: 96,
            rope_base: 10_000.0,
            tied: false,
            embedding: 1.0,
            gain: 1.0,
        };
        match config {
            "wide" => Self {
                seed: 21,
                dim: 96,
                blocks: 3,
                heads: 6,
                kv_heads: 1,
                ffn: 128,
                rope_base: 1e6,
                ..small
            },
            "tied" => Self { seed: 22, blocks: 5, tied: true, embedding: 0.3, gain: 2.5, ..small },
            _ => small,
        }
    }

    /// The model as a GGUF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let (mut writer, vocab) = self.metadata();
        let Self { dim, ffn, .. } = *self;
        let head = dim / self.heads;
        let mut put = |name: &str, dims: &[usize], deviation: f64, mean: f32| {
            let factor = (deviation / 37_837.227_4) as f32;
            let weights = self.integers(name, dims.iter().product());
            let weights = weights.map(|x| x * factor + mean);
            let bytes: Vec<_> = weights.flat_map(f32::to_le_bytes).collect();
            let dims: Vec<_> = dims.iter().rev().map(|dim| *dim as u64).collect();
            writer.tensor(name, GgmlType::F32, &dims, &bytes);
        };
        let matrix = |cols: usize, gain: f64| gain * (cols as f64).powf(-0.5);
        put("token_embd.weight", &[vocab, dim], self.embedding, 0.0);
        if !self.tied {
            put("output.weight", &[vocab, dim], matrix(dim, 3.0), 0.0);
        }
        put("output_norm.weight", &[dim], 0.2, 1.0);
        for block in 0..self.blocks {
            let name = |tensor: &str| format!("blk.{block}.{tensor}");
            put(&name("attn_norm.weight"), &[dim], 0.2, 1.0);
            for (part, heads, gain, bias) in [
                ("attn_q", self.heads, 1.5, 1.0),
                ("attn_k", self.kv_heads, 1.5, 1.0),
                ("attn_v", self.kv_heads, 1.0, 0.3),
            ] {
                let rows = heads * head;
                put(&name(&format!("{part}.weight")), &[rows, dim], matrix(dim, gain), 0.0);
                put(&name(&format!("{part}.bias")), &[rows], 0.7 * bias, 0.0);
            }
            put(&name("attn_output.weight"), &[dim, dim], matrix(dim, 2.0 * self.gain), 0.0);
            put(&name("ffn_norm.weight"), &[dim], 0.2, 1.0);
            put(&name("ffn_gate.weight"), &[ffn, dim], matrix(dim, 1.0), 0.0);
            put(&name("ffn_up.weight"), &[ffn, dim], matrix(dim, 1.0), 0.0);
            put(&name("ffn_down.weight"), &[dim, ffn], matrix(ffn, 1.5 * self.gain), 0.0);
        }
        let mut file = writer.file();
        file.resize(file.len().next_multiple_of(32), 0);
        file
    }

    /// The sums of four 16-bit numbers each, around zero.
    fn integers(&self, name: &str, count: usize) -> impl Iterator<Item = f32> {
        let hash = Sha256::digest(format!("{}:{name}", self.seed));
        let mut random = Random(hash.first_chunk().map_or(0, |key| u64::from_le_bytes(*key)));
        (0..count).map(move |_| {
            let z = random.next();
            let sum: u64 = [z, z >> 16, z >> 32, z >> 48].iter().map(|part| part & 0xffff).sum();
            sum as f32 - 131_070.0
        })
    }

    /// A file with its metadata, before its tensors, and the number of its tokens.
    fn metadata(&self) -> (Writer, usize) {
        let mut writer = Writer::default();
        let key = |name: &str| format!("{}.{name}", self.architecture);
        writer.text("general.architecture", self.architecture);
        writer.text("general.name", "small random model");
        writer.u32("general.quantization_version", 2);
        for (name, value) in [
            ("block_count", self.blocks),
            ("context_length", 2048),
            ("embedding_length", self.dim),
            ("feed_forward_length", self.ffn),
            ("attention.head_count", self.heads),
        ] {
            writer.u32(&key(name), value as u32);
        }
        writer.f32(&key("attention.layer_norm_rms_epsilon"), 1e-6);
        writer.f32(&key("rope.freq_base"), self.rope_base);
        writer.u32(&key("attention.head_count_kv"), self.kv_heads as u32);
        writer.u32(&key("rope.dimension_count"), (self.dim / self.heads) as u32);
        let vocab = put_vocabulary(&mut writer, self.pre);
        writer.u32(&key("vocab_size"), vocab as u32);
        (writer, vocab)
    }
}

/// A byte-level vocabulary with some merges; returns the number of its tokens.
fn put_vocabulary(writer: &mut Writer, pre: &str) -> usize {
    let is_printable = |byte: &u8| matches!(byte, 33..=126 | 161..=172 | 174..=255);
    let mut others = (256..).filter_map(char::from_u32);
    let character = |byte: u8| match is_printable(&byte) {
        true => char::from(byte),
        false => others.next().unwrap(),
    };
    let mut tokens: Vec<String> = (0..=255).map(character).map(String::from).collect();
    let space = tokens[32].clone();
    let mut pairs: Vec<(String, String)> = Vec::new();
    for word in ["the", "in", "er", "on", "re", "at", "en", "or"] {
        pairs.extend((1..word.len()).map(|at| (word[..at].into(), word[at..=at].into())));
    }
    let after_space = ["t", "a", "s", "w", "o", "the"];
    pairs.extend(after_space.map(|word| (space.clone(), word.into())));
    let more = "o u,ou r,i s,a n,an d,l l,h e,r o,_a n,_an d";
    pairs.extend(more.split(',').filter_map(|pair| {
        let (first, second) = pair.split_once(' ')?;
        Some((first.replace('_', &space), second.into()))
    }));
    let mut merges = Vec::new();
    for (first, second) in pairs {
        let token = format!("{first}{second}");
        if !tokens.contains(&token) {
            merges.push(format!("{first} {second}"));
            tokens.push(token);
        }
    }
    let normal = tokens.len();
    tokens.extend(["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(String::from));
    let types: Vec<_> = (0..tokens.len()).map(|id| if id < normal { 1 } else { 3 }).collect();
    writer.text("tokenizer.ggml.model", "gpt2");
    writer.text("tokenizer.ggml.pre", pre);
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.i32s("tokenizer.ggml.token_type", &types);
    writer.texts("tokenizer.ggml.merges", &merges);
    writer.u32("tokenizer.ggml.bos_token_id", normal as u32);
    writer.u32("tokenizer.ggml.eos_token_id", normal as u32 + 2);
    writer.bool("tokenizer.ggml.add_bos_token", false);
    tokens.len()
}
