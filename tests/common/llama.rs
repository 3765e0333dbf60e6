//! Small random models.
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
    /// Whether queries, keys and values have biases.
    pub(crate) biases: bool,
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
            biases: false,
            seed: u64::from(kind.number()),
        }
    }
}

impl Shape {
    /// A file with its metadata, before its tensors; `end` is the token that ends a text.
    pub(crate) fn metadata(&self, architecture: &str, end: usize) -> Writer {
        let mut writer = Writer::default();
        writer.text("general.architecture", architecture);
        for (key, value) in [
            ("context_length", self.context),
            ("embedding_length", self.dim),
            ("block_count", self.blocks),
            ("feed_forward_length", self.ffn),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.rope_dim),
        ] {
            writer.u32(&format!("{architecture}.{key}"), value as u32);
        }
        let key = |name: &str| format!("{architecture}.{name}");
        writer.f32(&key("attention.layer_norm_rms_epsilon"), EPSILON);
        writer.f32(&key("rope.freq_base"), self.rope_base);
        #[allow(clippy::float_cmp, reason = "as written")]
        if self.rope_factor != 1.0 {
            writer.text(&key("rope.scaling.type"), "linear");
            writer.f32(&key("rope.scaling.factor"), self.rope_factor);
        }
        put_vocabulary(&mut writer, self.vocab, end);
        writer
    }

    /// The tensors of a file, in its order.
    pub(crate) fn tensors(&self) -> Vec<Spec> {
        let Self { kind, ends, vocab, dim, ffn, head_dim, .. } = *self;
        let (q, kv) = (self.heads * head_dim, self.kv_heads * head_dim);
        let mut all =
            vec![Spec::matrix("token_embd.weight", ends, vocab, dim, (dim as f32).sqrt())];
        if self.rope_freqs {
            all.push(Spec::vector("rope_freqs.weight", self.rope_dim / 2));
        }
        for block in 0..self.blocks {
            let name = |part: &str| format!("blk.{block}.{part}.weight");
            all.extend([
                Spec::vector(name("attn_norm"), dim),
                Spec::matrix(name("attn_q"), kind, q, dim, 1.5),
                Spec::matrix(name("attn_k"), kind, kv, dim, 1.5),
                Spec::matrix(name("attn_v"), kind, kv, dim, 1.0),
                Spec::matrix(name("attn_output"), kind, dim, q, 1.0),
                Spec::vector(name("ffn_norm"), dim),
                Spec::matrix(name("ffn_gate"), kind, ffn, dim, 1.0),
                Spec::matrix(name("ffn_up"), kind, ffn, dim, 1.0),
                Spec::matrix(name("ffn_down"), kind, dim, ffn, 1.0),
            ]);
            if self.biases {
                let bias = |part: &str| format!("blk.{block}.{part}.bias");
                all.extend(
                    [("attn_q", q), ("attn_k", kv), ("attn_v", kv)]
                        .map(|(part, len)| Spec::vector(bias(part), len)),
                );
            }
        }
        all.push(Spec::vector("output_norm.weight", dim));
        if !self.tied {
            all.push(Spec::matrix("output.weight", ends, vocab, dim, 1.0));
        }
        all
    }
}

/// What a tensor of random weights looks like.
pub(crate) struct Spec {
    pub(crate) name: String,
    pub(crate) kind: GgmlType,
    /// The contiguous dimension first.
    pub(crate) dims: Vec<u64>,
    /// How large products with it are, compared with what they are products of; none for a
    /// vector, whose values are from 0.5 to 1.5.
    pub(crate) gain: Option<f32>,
}

impl Spec {
    fn matrix(
        name: impl Into<String>,
        kind: GgmlType,
        rows: usize,
        cols: usize,
        gain: f32,
    ) -> Self {
        Self { name: name.into(), kind, dims: vec![cols as u64, rows as u64], gain: Some(gain) }
    }

    fn vector(name: impl Into<String>, len: usize) -> Self {
        Self { name: name.into(), kind: GgmlType::F32, dims: vec![len as u64], gain: None }
    }

    pub(crate) fn elements(&self) -> u64 {
        self.dims.iter().product()
    }

    /// Stored bytes of `count` random weights of this tensor.
    pub(crate) fn random(&self, count: usize, random: &mut Random) -> Vec<u8> {
        let Some(gain) = self.gain else {
            return (0..count).flat_map(|_| (1.0 + 0.5 * random.uniform()).to_le_bytes()).collect();
        };
        ggml::random(self.kind, count, gain / (self.dims[0] as f32).sqrt(), random)
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
        Self::of("llama", shape)
    }

    /// A random model of any architecture.
    pub(crate) fn of(architecture: &str, shape: Shape) -> Self {
        let mut random = Random(shape.seed);
        let tensor = |spec: Spec| Tensor {
            bytes: spec.random(spec.elements() as usize, &mut random),
            name: spec.name,
            kind: spec.kind,
            dims: spec.dims,
        };
        let tensors = shape.tensors().into_iter().map(tensor).collect();
        let end = shape.vocab - 1;
        Self { shape, tensors, architecture: architecture.into(), end }
    }

    /// The tensor with this name.
    pub(crate) fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// A tensor by its name, to change it.
    pub(crate) fn tensor_mut(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    /// The model as a GGUF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut writer = self.shape.metadata(&self.architecture, self.end);
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

impl Llama {
    /// Writes the file in parts, as llama.cpp splits files: about as many tensors in each, wherever
    /// that cuts a block.
    pub(crate) fn save_parts(&self, folder: &Path, count: u16) -> Vec<PathBuf> {
        let each = self.tensors.len().div_ceil(count.into());
        let mut paths = Vec::new();
        for (number, tensors) in (0..).zip(self.tensors.chunks(each)) {
            let mut writer = match number {
                0 => self.shape.metadata(&self.architecture, self.end),
                _ => Writer::default(),
            };
            writer.u16("split.no", number);
            writer.u16("split.count", count);
            writer.i32("split.tensors.count", self.tensors.len() as i32);
            for Tensor { name, kind, dims, bytes } in tensors {
                writer.tensor(name, *kind, dims, bytes);
            }
            let path = folder.join(format!("model-{:05}-of-{count:05}.gguf", number + 1));
            std::fs::write(&path, writer.file()).unwrap();
            paths.push(path);
        }
        paths
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
