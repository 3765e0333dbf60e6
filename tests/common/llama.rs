//! Small random models of the llama architecture.
#![allow(clippy::cast_possible_truncation, reason = "small models")]

use std::path::{Path, PathBuf};

use polychord::model::gguf::GgmlType;

use super::ggml::{self, Random};
use super::gguf::Writer;

/// What a random model looks like.
#[derive(Clone, Debug)]
pub(crate) struct Shape {
    /// Type of the matrices in blocks.
    pub(crate) kind: GgmlType,
    /// Type of embedding and output.
    pub(crate) ends: GgmlType,
    pub(crate) vocab: usize,
    pub(crate) dim: usize,
    pub(crate) ffn: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rope_dim: usize,
    pub(crate) rope_base: f32,
    /// Of linear scaling; 1 is none.
    pub(crate) rope_factor: f32,
    /// Whether there is a `rope_freqs.weight`.
    pub(crate) rope_freqs: bool,
    pub(crate) blocks: usize,
    pub(crate) context: usize,
    /// Whether the output is the embedding.
    pub(crate) tied: bool,
    pub(crate) seed: u64,
}

impl Shape {
    /// Two blocks as small as the type allows, two query heads for each key head, an odd
    /// vocabulary, and an output of its own.
    pub(crate) fn of(kind: GgmlType) -> Self {
        let width = if kind.block_elements() > 32 { 256 } else { 64 };
        let ends = if kind.block_elements() > 1 { kind } else { GgmlType::F32 };
        Self {
            kind,
            ends,
            vocab: 97,
            dim: width,
            ffn: width + width.min(kind.block_elements() as usize),
            heads: 4,
            kv_heads: 2,
            head_dim: width / 4,
            rope_dim: width / 4,
            rope_base: 10_000.0,
            rope_factor: 1.0,
            rope_freqs: false,
            blocks: 2,
            context: 128,
            tied: false,
            seed: u64::from(kind.number()),
        }
    }
}

pub(crate) const EPSILON: f32 = 1e-5;

/// A model with its weights.
#[derive(Clone, Debug)]
pub(crate) struct Llama {
    pub(crate) shape: Shape,
    pub(crate) tensors: Vec<Tensor>,
    /// `general.architecture`.
    pub(crate) architecture: String,
    /// The token that ends a text; at first the last one.
    pub(crate) end: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) kind: GgmlType,
    /// The contiguous dimension first.
    pub(crate) dims: Vec<u64>,
    pub(crate) bytes: Vec<u8>,
}

impl Tensor {
    /// All weights as floats.
    pub(crate) fn expand(&self) -> Vec<f32> {
        ggml::expand(self.kind, &self.bytes)
    }
}

impl Llama {
    /// A model of random weights, of such sizes that activations stay near 1.
    pub(crate) fn random(shape: Shape) -> Self {
        let mut maker = Maker { random: Random(shape.seed), tensors: Vec::new() };
        let Shape { kind, ends, vocab, dim, ffn, head_dim, .. } = shape;
        let (q, kv) = (shape.heads * head_dim, shape.kv_heads * head_dim);
        maker.matrix("token_embd.weight".into(), ends, vocab, dim, (dim as f32).sqrt());
        if shape.rope_freqs {
            maker.vector("rope_freqs.weight".into(), shape.rope_dim / 2);
        }
        for block in 0..shape.blocks {
            let name = |part: &str| format!("blk.{block}.{part}.weight");
            maker.vector(name("attn_norm"), dim);
            maker.matrix(name("attn_q"), kind, q, dim, 1.5);
            maker.matrix(name("attn_k"), kind, kv, dim, 1.5);
            maker.matrix(name("attn_v"), kind, kv, dim, 1.0);
            maker.matrix(name("attn_output"), kind, dim, q, 1.0);
            maker.vector(name("ffn_norm"), dim);
            maker.matrix(name("ffn_gate"), kind, ffn, dim, 1.0);
            maker.matrix(name("ffn_up"), kind, ffn, dim, 1.0);
            maker.matrix(name("ffn_down"), kind, dim, ffn, 1.0);
        }
        maker.vector("output_norm.weight".into(), dim);
        if !shape.tied {
            maker.matrix("output.weight".into(), ends, vocab, dim, 1.0);
        }
        let end = vocab - 1;
        Self { shape, tensors: maker.tensors, architecture: "llama".into(), end }
    }

    /// The tensor with this name.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// The same, to change it.
    pub(crate) fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// The model as a GGUF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut writer = Writer::default();
        let shape = &self.shape;
        writer.text("general.architecture", &self.architecture);
        for (key, value) in [
            ("context_length", shape.context),
            ("embedding_length", shape.dim),
            ("block_count", shape.blocks),
            ("feed_forward_length", shape.ffn),
            ("attention.head_count", shape.heads),
            ("attention.head_count_kv", shape.kv_heads),
            ("attention.key_length", shape.head_dim),
            ("attention.value_length", shape.head_dim),
            ("rope.dimension_count", shape.rope_dim),
        ] {
            writer.u32(&format!("{}.{key}", self.architecture), value as u32);
        }
        writer.f32("llama.attention.layer_norm_rms_epsilon", EPSILON);
        writer.f32("llama.rope.freq_base", shape.rope_base);
        #[allow(clippy::float_cmp, reason = "as written")]
        if shape.rope_factor != 1.0 {
            writer.text("llama.rope.scaling.type", "linear");
            writer.f32("llama.rope.scaling.factor", shape.rope_factor);
        }
        put_vocabulary(&mut writer, shape.vocab, self.end);
        for Tensor { name, kind, dims, bytes } in &self.tensors {
            writer.tensor(name, *kind, dims, bytes);
        }
        writer.file()
    }

    /// Writes the file to a folder.
    pub(crate) fn save(&self, folder: &Path) -> PathBuf {
        let path = folder.join("model.gguf");
        std::fs::write(&path, self.file()).unwrap();
        path
    }
}

/// A vocabulary of printable ASCII, space and line feed, as byte-level BPE without merges.
fn put_vocabulary(writer: &mut Writer, vocab: usize, end: usize) {
    const NORMAL: i32 = 1;
    const CONTROL: i32 = 3;
    let characters = (0x21..0x7f_u8).map(char::from).chain(['Ġ', 'Ċ']).map(String::from);
    let others = (0..).map(|i| format!("<|{i}|>"));
    let tokens: Vec<_> = characters.chain(others).take(vocab).collect();
    let mut types = vec![NORMAL; vocab];
    types[end] = CONTROL;
    writer.text("tokenizer.ggml.model", "gpt2");
    writer.text("tokenizer.ggml.pre", "default");
    writer.texts("tokenizer.ggml.tokens", &tokens);
    writer.i32s("tokenizer.ggml.token_type", &types);
    writer.texts("tokenizer.ggml.merges", &[]);
    writer.u32("tokenizer.ggml.eos_token_id", end as u32);
    // Longer than what is shown of it.
    let template = "{# the words of each message, in angle brackets #}\
                    {% for message in messages %}<{{ message.content }}>{% endfor %}";
    writer.text("tokenizer.chat_template", template);
}

struct Maker {
    random: Random,
    tensors: Vec<Tensor>,
}

impl Maker {
    /// Rows whose products are `gain` times as large as what they are multiplied with.
    fn matrix(&mut self, name: String, kind: GgmlType, rows: usize, cols: usize, gain: f32) {
        let size = gain / (cols as f32).sqrt();
        let bytes = ggml::random(kind, rows * cols, size, &mut self.random);
        self.tensors.push(Tensor { name, kind, dims: vec![cols as u64, rows as u64], bytes });
    }

    /// Values from 0.5 to 1.5.
    fn vector(&mut self, name: String, len: usize) {
        let values = (0..len).flat_map(|_| (1.0 + 0.5 * self.random.uniform()).to_le_bytes());
        let bytes = values.collect();
        self.tensors.push(Tensor { name, kind: GgmlType::F32, dims: vec![len as u64], bytes });
    }
}
