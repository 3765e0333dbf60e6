//! Small random models for embeddings, whose weights follow from the names of their tensors: those
//! that `tests/data/embeddings` has llama.cpp's results for.
#![allow(clippy::cast_possible_truncation, reason = "small models")]
#![allow(clippy::cast_precision_loss, reason = "small models")]

use polychord::model::gguf::GgmlType;
use sha2::{Digest, Sha256};

use super::ggml::Random;
use super::gguf::Writer;

/// What a model looks like: `model` of the test data. What is not there is 0.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
#[serde(default)]
pub(crate) struct Encoder {
    pub(crate) architecture: String,
    seed: u64,
    dim: usize,
    layers: usize,
    heads: usize,
    kv: usize,
    head: usize,
    ffn: usize,
    context: usize,
    /// Of blocks that have one.
    window: usize,
    pooling: u32,
    /// Rows of the two matrices behind the network.
    dense: Option<(usize, usize)>,
}

struct File<'a> {
    model: &'a Encoder,
    writer: Writer,
    vocab: usize,
}

impl Encoder {
    /// The model as a GGUF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = File { model: self, writer: Writer::default(), vocab: 0 };
        file.metadata();
        file.outside();
        (0..self.layers).for_each(|block| file.block(block));
        let mut bytes = file.writer.file();
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes
    }

    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.architecture.as_str())
    }

    fn is_bert(&self) -> bool {
        self.is(&["bert", "nomic-bert"])
    }
}

impl File<'_> {
    fn metadata(&mut self) {
        let Encoder { architecture, dim, layers, heads, kv, head, ffn, .. } = self.model;
        let key = |name: &str| format!("{architecture}.{name}");
        let writer = &mut self.writer;
        writer.text("general.architecture", architecture);
        writer.text("general.name", "small random model");
        for (name, value) in [
            ("block_count", layers),
            ("context_length", &self.model.context),
            ("embedding_length", dim),
            ("feed_forward_length", ffn),
            ("attention.head_count", heads),
            ("attention.head_count_kv", kv),
        ] {
            writer.u32(&key(name), *value as u32);
        }
        writer.u32(&key("pooling_type"), self.model.pooling);
        if self.model.is_bert() {
            writer.f32(&key("attention.layer_norm_epsilon"), 1e-12);
            writer.bool(&key("attention.causal"), false);
            writer.u32("tokenizer.ggml.token_type_count", 2);
        } else {
            writer.f32(&key("attention.layer_norm_rms_epsilon"), 1e-6);
            writer.u32(&key("attention.key_length"), *head as u32);
            writer.u32(&key("attention.value_length"), *head as u32);
        }
        if !self.model.is(&["bert"]) {
            let base = if self.model.is(&["nomic-bert"]) { 1000.0 } else { 1e6 };
            writer.f32(&key("rope.freq_base"), base);
        }
        if self.model.window != 0 {
            writer.u32(&key("attention.sliding_window"), self.model.window as u32);
        }
        if let Some((inner, outer)) = self.model.dense {
            for (name, value) in [
                ("dense_2_feat_in", *dim),
                ("dense_2_feat_out", inner),
                ("dense_3_feat_in", inner),
                ("dense_3_feat_out", outer),
            ] {
                writer.u32(&key(name), value as u32);
            }
        }
        self.vocab = if self.model.is_bert() { put_words(writer) } else { put_pieces(writer) };
    }

    fn outside(&mut self) {
        let Encoder { dim, context, dense, .. } = *self.model;
        let vocab = self.vocab;
        let scale = if self.model.is(&["gemma-embedding"]) { 0.1 } else { 1.0 };
        self.put("token_embd.weight", &[vocab, dim], scale, 0.0);
        if self.model.is_bert() {
            self.put("token_types.weight", &[2, dim], 0.5, 0.0);
            self.norm("token_embd_norm");
        } else {
            self.put("output_norm.weight", &[dim], 0.2, 1.0);
        }
        if self.model.is(&["bert"]) {
            self.put("position_embd.weight", &[context, dim], 0.5, 0.0);
        }
        if let Some((inner, outer)) = dense {
            self.matrix("dense_2.weight", inner, dim, 1.0);
            self.matrix("dense_3.weight", outer, inner, 1.0);
        }
    }

    fn block(&mut self, block: usize) {
        let Encoder { dim, heads, kv, head, ffn, .. } = *self.model;
        let name = |tensor: &str| format!("blk.{block}.{tensor}");
        let is_bert = self.model.is(&["bert"]);
        if self.model.is(&["nomic-bert"]) {
            self.matrix(&name("attn_qkv.weight"), (heads + 2 * kv) * head, dim, 1.3);
        } else {
            for (part, heads) in [("attn_q", heads), ("attn_k", kv), ("attn_v", kv)] {
                self.matrix(&name(&format!("{part}.weight")), heads * head, dim, 1.3);
                if is_bert {
                    self.put(&name(&format!("{part}.bias")), &[heads * head], 0.3, 0.0);
                }
            }
        }
        self.matrix(&name("attn_output.weight"), dim, heads * head, 2.0);
        if is_bert {
            self.put(&name("attn_output.bias"), &[dim], 0.3, 0.0);
        } else {
            self.matrix(&name("ffn_gate.weight"), ffn, dim, 1.0);
        }
        self.matrix(&name("ffn_up.weight"), ffn, dim, 1.0);
        self.matrix(&name("ffn_down.weight"), dim, ffn, 1.5);
        if is_bert {
            self.put(&name("ffn_up.bias"), &[ffn], 0.3, 0.0);
            self.put(&name("ffn_down.bias"), &[dim], 0.3, 0.0);
        }
        if self.model.is_bert() {
            self.norm(&name("attn_output_norm"));
            self.norm(&name("layer_output_norm"));
            return;
        }
        for norm in ["attn_norm", "ffn_norm"] {
            self.put(&name(&format!("{norm}.weight")), &[dim], 0.2, 1.0);
        }
        for norm in ["attn_q_norm", "attn_k_norm"] {
            self.put(&name(&format!("{norm}.weight")), &[head], 0.2, 1.2);
        }
        if self.model.is(&["gemma-embedding"]) {
            for norm in ["post_attention_norm", "post_ffw_norm"] {
                self.put(&name(&format!("{norm}.weight")), &[dim], 0.2, 1.0);
            }
        }
    }

    /// Weights and biases of a norm.
    fn norm(&mut self, name: &str) {
        self.put(&format!("{name}.weight"), &[self.model.dim], 0.2, 1.0);
        self.put(&format!("{name}.bias"), &[self.model.dim], 0.2, 0.0);
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize, gain: f64) {
        self.put(name, &[rows, cols], gain * (cols as f64).powf(-0.5), 0.0);
    }

    fn put(&mut self, name: &str, dims: &[usize], deviation: f64, mean: f32) {
        let hash = Sha256::digest(format!("{}:{name}", self.model.seed));
        let mut random = Random(hash.first_chunk().map_or(0, |key| u64::from_le_bytes(*key)));
        let factor = (deviation / 37_837.227_4) as f32;
        // Sums of four numbers of 16 bits, which are distributed normally, more or less.
        let one = |_| {
            let z = random.next();
            let sum: u64 = [z, z >> 16, z >> 32, z >> 48].iter().map(|part| part & 0xffff).sum();
            (sum as f32 - 131_070.0) * factor + mean
        };
        let weights = (0..dims.iter().product::<usize>()).map(one);
        let bytes: Vec<_> = weights.flat_map(f32::to_le_bytes).collect();
        let dims: Vec<_> = dims.iter().rev().map(|dim| *dim as u64).collect();
        self.writer.tensor(name, GgmlType::F32, &dims, &bytes);
    }
}

/// A vocabulary of bytes; returns the number of its tokens.
fn put_pieces(writer: &mut Writer) -> usize {
    let special = ["<unk>", "<s>", "</s>"].map(String::from);
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let tokens: Vec<String> = special.into_iter().chain(bytes).collect();
    let types: Vec<_> = [2, 3, 3].into_iter().chain([6; 256]).collect();
    writer.text("tokenizer.ggml.model", "llama");
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.f32s("tokenizer.ggml.scores", &vec![0.0; tokens.len()]);
    writer.i32s("tokenizer.ggml.token_type", &types);
    writer.u32("tokenizer.ggml.bos_token_id", 1);
    writer.u32("tokenizer.ggml.eos_token_id", 2);
    writer.bool("tokenizer.ggml.add_bos_token", true);
    writer.bool("tokenizer.ggml.add_eos_token", true);
    writer.bool("tokenizer.ggml.add_space_prefix", false);
    tokens.len()
}

/// A vocabulary of pieces of words; returns the number of its tokens.
fn put_words(writer: &mut Writer) -> usize {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"].map(String::from);
    let letters: Vec<_> = ('a'..='z').chain('0'..='9').map(String::from).collect();
    let words = ["the", "cat", "sat", "on", "mat", "word", "un", "uber", "naive", "e", "中", "."];
    let inner = ["ing", "ed", "er", "est", "able", "ß", "д"];
    let tokens: Vec<String> = special
        .into_iter()
        .chain(letters.iter().map(|letter| format!("▁{letter}")))
        .chain(letters.iter().cloned())
        .chain(words.iter().filter(|word| **word != "e").map(|word| format!("▁{word}")))
        .chain(["▁!", "▁,", "▁[", "▁]", "▁$", "▁д", "▁ß"].map(String::from))
        .chain(inner.map(String::from))
        .collect();
    let types: Vec<_> = (0..tokens.len()).map(|id| if id < 5 { 3 } else { 1 }).collect();
    writer.text("tokenizer.ggml.model", "bert");
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.i32s("tokenizer.ggml.token_type", &types);
    for (name, id) in [("padding", 0), ("unknown", 1), ("bos", 2), ("seperator", 3), ("mask", 4)] {
        writer.u32(&format!("tokenizer.ggml.{name}_token_id"), id);
    }
    tokens.len()
}
