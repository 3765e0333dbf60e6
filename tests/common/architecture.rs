//! Small models whose weights follow from the names of their tensors, as other programs make them
//! too: those that `tests/data/architectures` has llama.cpp's results for.
#![allow(clippy::cast_possible_truncation, reason = "small models")]
#![allow(clippy::cast_precision_loss, reason = "small models")]

use std::path::{Path, PathBuf};

use polychord::model::gguf::GgmlType;
use sha2::{Digest, Sha256};

use super::ggml::Random;
use super::gguf::Writer;

/// What a model looks like: `model` of the test data. What is not there is 0.
#[derive(Clone, Debug, Default, serde::Deserialize)]
#[serde(default)]
pub(crate) struct Shape {
    dim: usize,
    layers: usize,
    heads: usize,
    kv: usize,
    /// Width of a head, if it is not `dim / heads`.
    hd: usize,
    ffn: Widths,
    tied: bool,
    base: f32,
    eps: f32,
    ctx: usize,
    /// The pre-tokenizer, or `spm`.
    vocab: String,
    /// How many elements of a head are rotated, if not all.
    rot: usize,
    /// Deviations.
    emb: f64,
    out: f64,
    qk: f64,
    g_attn: f64,
    g_ffn: f64,
    post: f64,
    outnorm: f64,
    qkv_bias: f64,
    fused_qkv: bool,
    window: usize,
    experts: usize,
    used: usize,
    ff_exp: usize,
    shexp: usize,
    qk_norm: f64,
    attn_bias: bool,
    /// Kind, factor and original length.
    scaling: Option<(String, f32, u32)>,
    attn_factor: f32,
    beta: Option<(f32, f32)>,
    log_mul: f32,
    temp: f32,
    rope_freqs: Option<(f64, f64, f64, f64)>,
    longrope: u32,
    attn_cap: f32,
    final_cap: f32,
    scales: Option<(f32, f32, f32, f32)>,
    moe_step: usize,
    /// Which blocks have a window, and how wide their heads are.
    swa: Vec<u8>,
    hd_swa: usize,
    kv_full: usize,
    no_v: bool,
    /// How many of the last blocks use keys and values of others.
    shared: usize,
    /// Width of what each block gets beside the hidden state.
    ple: usize,
    /// Which blocks are convolutions (`c`), and over how many positions.
    pattern: String,
    lcache: usize,
    /// Blocks in front that have no experts.
    lead: usize,
    /// Of delta nets: key heads, heads, their width, taps, and how often attention is between them.
    ssm_k: usize,
    ssm_v: usize,
    ssm_d: usize,
    conv: usize,
    interval: usize,
    /// Of latent attention.
    q_lora: usize,
    kv_lora: usize,
    nope: usize,
    vdim: usize,
    /// Whether the matrices of keys and values are apart, if not all are.
    split: Option<bool>,
    n_shared: usize,
    wscale: f32,
    wnorm: bool,
    gating: u32,
    groups: u32,
    groups_used: u32,
    probs_b: bool,
    temp_len: u32,
    /// Whether experts are rounded to MXFP4.
    mxfp4: bool,
    /// How matrices are stored, if not as 32-bit floats.
    #[serde(skip)]
    kind: Option<GgmlType>,
}

/// The width of the feed-forward part of all blocks, or of each.
#[derive(Clone, Debug, serde::Deserialize)]
#[serde(untagged)]
enum Widths {
    All(usize),
    Each(Vec<usize>),
}

impl Default for Widths {
    fn default() -> Self {
        Self::All(0)
    }
}

impl Widths {
    fn of(&self, block: usize) -> usize {
        match self {
            Self::All(width) => *width,
            Self::Each(widths) => widths[block],
        }
    }
}

impl Shape {
    /// With matrices of this type.
    pub(crate) fn quantized(self, kind: GgmlType) -> Self {
        Self { kind: Some(kind), ..self }
    }
}

/// A model of one architecture: what a file in `tests/data/architectures` says of it.
#[derive(Clone, Debug, serde::Deserialize)]
pub(crate) struct Family {
    pub(crate) architecture: String,
    pub(crate) seed: u64,
    #[serde(rename = "model")]
    pub(crate) shape: Shape,
}

/// A file in the making.
struct File<'a> {
    family: &'a Family,
    writer: Writer,
    vocab: usize,
}

impl Family {
    /// The model of such a file.
    pub(crate) fn of(json: &str) -> Self {
        serde_json::from_str(json).unwrap()
    }

    /// Writes it to a folder.
    pub(crate) fn save(&self, folder: &Path) -> PathBuf {
        let path = folder.join(format!("{}-{}.gguf", self.architecture, self.seed));
        std::fs::write(&path, self.file()).unwrap();
        path
    }

    /// With another length of the context, which changes nothing but that.
    pub(crate) fn with_context(mut self, context: u32) -> Self {
        self.shape.ctx = context as usize;
        self
    }

    /// The model as a GGUF file.
    pub(crate) fn file(&self) -> Vec<u8> {
        let mut file = File { family: self, writer: Writer::default(), vocab: 0 };
        file.metadata();
        file.outside();
        for block in 0..self.shape.layers {
            file.attention(block);
            file.feed_forward(block);
        }
        let mut bytes = file.writer.file();
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes
    }

    fn is(&self, names: &[&str]) -> bool {
        names.contains(&self.architecture.as_str())
    }

    fn head(&self) -> usize {
        if self.shape.hd == 0 { self.shape.dim / self.shape.heads } else { self.shape.hd }
    }

    fn is_local(&self, block: usize) -> bool {
        self.shape.swa.get(block) == Some(&1)
    }

    /// How wide the heads of a block are, and how many of keys and values there are.
    fn heads_of(&self, block: usize) -> (usize, usize) {
        let Shape { kv, kv_full, hd_swa, .. } = self.shape;
        match (self.shape.swa.is_empty(), self.is_local(block)) {
            (false, true) => (hd_swa, kv),
            (false, false) if kv_full != 0 => (self.head(), kv_full),
            _ => (self.head(), kv),
        }
    }

    fn rotated(&self) -> usize {
        if self.shape.rot == 0 { self.head() } else { self.shape.rot }
    }

    fn expert_width(&self) -> usize {
        if self.shape.ff_exp == 0 { self.shape.ffn.of(0) } else { self.shape.ff_exp }
    }

    /// Whether a block is a short convolution.
    fn is_conv(&self, block: usize) -> bool {
        self.shape.pattern.as_bytes().get(block) == Some(&b'c')
    }

    /// Whether a block is a delta net.
    fn is_delta_net(&self, block: usize) -> bool {
        self.shape.interval != 0 && !(block + 1).is_multiple_of(self.shape.interval)
    }

    /// Whether a block has keys and values of its own.
    fn has_keys(&self, block: usize) -> bool {
        block < self.shape.layers - self.shape.shared
    }

    fn is_latent(&self) -> bool {
        self.shape.kv_lora != 0
    }

    fn is_split(&self) -> bool {
        self.shape.split.unwrap_or(true)
    }

    /// Numbers of a normal distribution, more or less: sums of four of 16 bits each.
    fn normal(&self, name: &str, count: usize, deviation: f64, mean: f64) -> Vec<f32> {
        let hash = Sha256::digest(format!("{}:{name}", self.seed));
        let mut random = Random(hash.first_chunk().map_or(0, |key| u64::from_le_bytes(*key)));
        let factor = (deviation / 37_837.227_4) as f32;
        let one = |_| {
            let z = random.next();
            let sum: u64 = [z, z >> 16, z >> 32, z >> 48].iter().map(|part| part & 0xffff).sum();
            (sum as f32 - 131_070.0) * factor + mean as f32
        };
        (0..count).map(one).collect()
    }
}

impl File<'_> {
    fn metadata(&mut self) {
        let Family { architecture, shape, .. } = self.family;
        let writer = &mut self.writer;
        let key = |name: &str| format!("{architecture}.{name}");
        writer.text("general.architecture", architecture);
        writer.text("general.name", "small random model");
        writer.u32("general.quantization_version", 2);
        for (name, value) in [
            ("block_count", shape.layers),
            ("context_length", shape.ctx),
            ("embedding_length", shape.dim),
        ] {
            writer.u32(&key(name), value as u32);
        }
        match &shape.ffn {
            Widths::All(width) => writer.u32(&key("feed_forward_length"), *width as u32),
            Widths::Each(widths) => {
                let widths: Vec<_> = widths.iter().map(|width| *width as i32).collect();
                writer.i32s(&key("feed_forward_length"), &widths);
            }
        }
        writer.u32(&key("attention.head_count"), shape.heads as u32);
        let rms = if self.family.is(&["cohere2"]) { "" } else { "rms_" };
        writer.f32(&key(&format!("attention.layer_norm_{rms}epsilon")), shape.eps);
        writer.f32(&key("rope.freq_base"), shape.base);
        let full = if shape.kv_full == 0 { shape.kv } else { shape.kv_full };
        let kv = |local: &u8| if *local == 1 { shape.kv as i32 } else { full as i32 };
        match shape.swa.as_slice() {
            _ if !shape.pattern.is_empty() => {
                let kv = |block| if self.family.is_conv(block) { 0 } else { shape.kv as i32 };
                let each: Vec<_> = (0..shape.layers).map(kv).collect();
                writer.i32s(&key("attention.head_count_kv"), &each);
            }
            [] if self.family.is_latent() => {
                let heads = if self.family.is_split() { 1 } else { shape.heads };
                writer.u32(&key("attention.head_count_kv"), heads as u32);
            }
            [] => writer.u32(&key("attention.head_count_kv"), shape.kv as u32),
            local => {
                let each: Vec<_> = local.iter().map(kv).collect();
                writer.i32s(&key("attention.head_count_kv"), &each);
            }
        }
        writer.u32(&key("rope.dimension_count"), self.family.rotated() as u32);
        let head = self.family.head();
        let names_head = ["gemma", "gpt-oss", "qwen3"];
        if self.family.is_latent() {
            let (turned, heads) = (self.family.rotated(), shape.nope + shape.rot);
            let (keys, values) = match self.family.is_split() {
                true => (shape.kv_lora + turned, shape.kv_lora),
                false => (heads, shape.vdim),
            };
            for (name, value) in [
                ("attention.q_lora_rank", shape.q_lora),
                ("attention.kv_lora_rank", shape.kv_lora),
                ("attention.key_length", keys),
                ("attention.value_length", values),
            ] {
                if value != 0 {
                    writer.u32(&key(name), value as u32);
                }
            }
            if self.family.is_split() {
                writer.u32(&key("attention.key_length_mla"), heads as u32);
                writer.u32(&key("attention.value_length_mla"), shape.vdim as u32);
            }
        } else if head != shape.dim / shape.heads
            || names_head.iter().any(|start| architecture.starts_with(start))
        {
            writer.u32(&key("attention.key_length"), head as u32);
            writer.u32(&key("attention.value_length"), head as u32);
        }
        if let Some((kind, factor, original)) = &shape.scaling {
            writer.text(&key("rope.scaling.type"), kind);
            writer.f32(&key("rope.scaling.factor"), *factor);
            if *original != 0 {
                writer.u32(&key("rope.scaling.original_context_length"), *original);
            }
        }
        if shape.longrope != 0 {
            writer.u32(&key("rope.scaling.original_context_length"), shape.longrope);
        }
        let mut float = |name: &str, value: f32| {
            if value != 0.0 {
                writer.f32(&key(name), value);
            }
        };
        float("rope.scaling.attn_factor", shape.attn_factor);
        let (fast, slow) = shape.beta.unwrap_or_default();
        float("rope.scaling.yarn_beta_fast", fast);
        float("rope.scaling.yarn_beta_slow", slow);
        float("rope.scaling.yarn_log_multiplier", shape.log_mul);
        float("attention.temperature_scale", shape.temp);
        if shape.temp_len != 0 {
            writer.u32(&key("attention.temperature_length"), shape.temp_len);
        }
        if shape.window != 0 {
            writer.u32(&key("attention.sliding_window"), shape.window as u32);
        }
        let mut float = |name: &str, value: f32| {
            if value != 0.0 {
                writer.f32(&key(name), value);
            }
        };
        float("attn_logit_softcapping", shape.attn_cap);
        float("final_logit_softcapping", shape.final_cap);
        let (embedding, residual, logits, attention) = shape.scales.unwrap_or_default();
        float("embedding_scale", embedding);
        float("residual_scale", residual);
        float("attention.scale", attention);
        float("logit_scale", logits);
        for (name, value) in [
            ("expert_count", shape.experts),
            ("expert_used_count", shape.used),
            ("expert_feed_forward_length", shape.ff_exp),
            ("expert_shared_feed_forward_length", shape.shexp),
        ] {
            if value != 0 {
                writer.u32(&key(name), value as u32);
            }
        }
        if shape.experts != 0 && self.family.is_latent() {
            writer.u32(&key("expert_shared_count"), shape.n_shared as u32);
            writer.u32(&key("leading_dense_block_count"), shape.lead as u32);
            writer.f32(&key("expert_weights_scale"), shape.wscale);
            writer.bool(&key("expert_weights_norm"), shape.wnorm);
            writer.u32(&key("expert_gating_func"), shape.gating);
            if shape.groups != 0 {
                writer.u32(&key("expert_group_count"), shape.groups);
                writer.u32(&key("expert_group_used_count"), shape.groups_used);
            }
        }
        if self.family.is(&["lfm2moe"]) {
            writer.u32(&key("leading_dense_block_count"), shape.lead as u32);
            writer.u32(&key("expert_gating_func"), 2);
        }
        if !shape.pattern.is_empty() {
            writer.u32(&key("shortconv.l_cache"), shape.lcache as u32);
        }
        if shape.interval != 0 {
            for (name, value) in [
                ("ssm.conv_kernel", shape.conv),
                ("ssm.state_size", shape.ssm_d),
                ("ssm.group_count", shape.ssm_k),
                ("ssm.time_step_rank", shape.ssm_v),
                ("ssm.inner_size", shape.ssm_d * shape.ssm_v),
                ("full_attention_interval", shape.interval),
            ] {
                writer.u32(&key(name), value as u32);
            }
            if self.family.is(&["qwen35", "qwen35moe"]) {
                let sixth = shape.rot as i32 / 6;
                let sections = [shape.rot as i32 / 2 - 2 * sixth, sixth, sixth, 0];
                writer.i32s(&key("rope.dimension_sections"), &sections);
            }
        }
        if shape.moe_step != 0 {
            writer.u32(&key("interleave_moe_layer_step"), shape.moe_step as u32);
        }
        if !shape.swa.is_empty() {
            let local: Vec<_> = shape.swa.iter().map(|local| *local == 1).collect();
            writer.bools(&key("attention.sliding_window_pattern"), &local);
            writer.f32(&key("rope.freq_base_swa"), 10_000.0);
            for name in [
                "attention.key_length_swa",
                "attention.value_length_swa",
                "rope.dimension_count_swa",
            ] {
                writer.u32(&key(name), shape.hd_swa as u32);
            }
            writer.u32(&key("embedding_length_per_layer_input"), shape.ple as u32);
            writer.u32(&key("attention.shared_kv_layers"), shape.shared as u32);
        }
        self.vocab = match shape.vocab.as_str() {
            "spm" => put_pieces(writer),
            pre => put_vocabulary(writer, pre),
        };
        writer.u32(&key("vocab_size"), self.vocab as u32);
    }

    fn outside(&mut self) {
        let Family { shape, .. } = self.family;
        let (vocab, dim, rotated) = (self.vocab, shape.dim, self.family.rotated());
        let family_is_gemma4 = self.family.is(&["gemma4"]);
        self.put("token_embd.weight", &[vocab, dim], shape.emb, 0.0);
        if !shape.tied {
            self.matrix("output.weight", vocab, dim, shape.out);
        }
        let norm = if shape.pattern.is_empty() { "output_norm" } else { "token_embd_norm" };
        self.vector(&format!("{norm}.weight"), dim, shape.outnorm, 0.2);
        if let Some((factor, low, high, original)) = shape.rope_freqs {
            let factor = |pair: usize| {
                let power = 2.0 * pair as f64 / rotated as f64;
                let length = 2.0 * std::f64::consts::PI * f64::from(shape.base).powf(power);
                let x = (original / length - low) / (high - low);
                if length < original / high {
                    1.0
                } else if length > original / low {
                    factor
                } else {
                    1.0 / ((1.0 - x) / factor + x)
                }
            };
            let factors: Vec<_> = (0..rotated / 2).map(|pair| factor(pair) as f32).collect();
            self.floats("rope_freqs.weight", &[rotated / 2], &factors);
        }
        if family_is_gemma4 {
            let pairs = self.family.head() / 2;
            let factors: Vec<_> =
                (0..pairs).map(|pair| if pair < pairs / 4 { 1.0 } else { 1e30 }).collect();
            self.floats("rope_freqs.weight", &[pairs], &factors);
        }
        if shape.longrope != 0 {
            let pairs = (0..rotated / 2).map(|pair| pair as f64);
            let long: Vec<_> =
                pairs.clone().map(|i| (1.0 + 0.7 * i * (1.0 + i / 8.0)) as f32).collect();
            let short: Vec<_> = pairs.map(|i| (1.0 + 0.05 * i) as f32).collect();
            self.floats("rope_factors_long.weight", &[rotated / 2], &long);
            self.floats("rope_factors_short.weight", &[rotated / 2], &short);
        }
        if shape.ple != 0 {
            let width = shape.ple * shape.layers;
            self.put("per_layer_token_embd.weight", &[vocab, width], 0.3, 0.0);
            self.matrix("per_layer_model_proj.weight", width, dim, 2.0);
            self.vector("per_layer_proj_norm.weight", shape.ple, 1.0, 0.2);
        }
    }

    /// What mixes positions in the place of attention with heads; false if nothing does.
    fn mixer(&mut self, block: usize) -> bool {
        let Family { shape, .. } = self.family;
        let (family, dim) = (self.family, shape.dim);
        let name = |tensor: &str| format!("blk.{block}.{tensor}");
        if family.is_latent() {
            let (turned, heads) = (family.rotated(), shape.heads);
            let rows = heads * (shape.nope + turned);
            if shape.q_lora == 0 {
                self.matrix(&name("attn_q.weight"), rows, dim, shape.qk);
            } else {
                self.matrix(&name("attn_q_a.weight"), shape.q_lora, dim, 1.0);
                self.vector(&name("attn_q_a_norm.weight"), shape.q_lora, 1.0, 0.2);
                self.matrix(&name("attn_q_b.weight"), rows, shape.q_lora, shape.qk);
            }
            self.matrix(&name("attn_kv_a_mqa.weight"), shape.kv_lora + turned, dim, 1.0);
            self.vector(&name("attn_kv_a_norm.weight"), shape.kv_lora, 1.0, 0.2);
            if family.is_split() {
                self.matrices(&name("attn_k_b.weight"), heads, shape.kv_lora, shape.nope, 1.0);
                self.matrices(&name("attn_v_b.weight"), heads, shape.vdim, shape.kv_lora, 1.0);
            } else {
                let rows = heads * (shape.nope + shape.vdim);
                self.matrix(&name("attn_kv_b.weight"), rows, shape.kv_lora, shape.qk);
            }
            let gain = 2.0 * shape.g_attn;
            self.matrix(&name("attn_output.weight"), dim, heads * shape.vdim, gain);
            return true;
        }
        if family.is_conv(block) {
            self.matrix(&name("shortconv.in_proj.weight"), 3 * dim, dim, 1.0);
            self.plain(&name("shortconv.conv.weight"), dim, shape.lcache, 1.5);
            self.matrix(&name("shortconv.out_proj.weight"), dim, dim, shape.g_attn);
            return true;
        }
        if family.is_delta_net(block) {
            let (heads, values) = (shape.ssm_v, shape.ssm_v * shape.ssm_d);
            let channels = 2 * shape.ssm_k * shape.ssm_d + values;
            self.matrix(&name("attn_qkv.weight"), channels, dim, 1.0);
            self.matrix(&name("attn_gate.weight"), values, dim, 1.0);
            self.plain(&name("ssm_conv1d.weight"), channels, shape.conv, 2.0);
            self.vector(&name("ssm_dt.bias"), heads, 0.0, 1.0);
            let decay = family.normal(&name("ssm_a"), heads, 0.3, 0.5);
            let decay: Vec<_> = decay.into_iter().map(|it| -it.abs()).collect();
            self.floats(&name("ssm_a"), &[heads], &decay);
            if family.is(&["qwen35", "qwen35moe"]) {
                self.plain(&name("ssm_beta.weight"), heads, dim, 1.5);
                self.plain(&name("ssm_alpha.weight"), heads, dim, 1.5);
            } else {
                self.plain(&name("ssm_ba.weight"), 2 * heads, dim, 1.5);
            }
            self.vector(&name("ssm_norm.weight"), shape.ssm_d, 1.0, 0.2);
            self.matrix(&name("ssm_out.weight"), dim, values, shape.g_attn * 1.5);
            return true;
        }
        false
    }

    /// The norms between the two halves of a block.
    fn norms(&mut self, block: usize) {
        let Family { shape, .. } = self.family;
        let (family, dim) = (self.family, shape.dim);
        let name = |tensor: &str| format!("blk.{block}.{tensor}");
        if family.is(&["gemma2", "gemma3", "gemma4", "olmo2", "glm4", "exaone4"]) {
            for norm in ["post_attention_norm.weight", "post_ffw_norm.weight"] {
                self.vector(&name(norm), dim, shape.post, 0.2 * shape.post);
            }
        }
        match family.architecture.as_str() {
            "gpt-oss" | "seed_oss" | "qwen35" | "qwen35moe" | "qwen3next" => {
                self.vector(&name("post_attention_norm.weight"), dim, 1.0, 0.2);
            }
            "olmo2" | "exaone4" | "cohere2" => {}
            _ => self.vector(&name("ffn_norm.weight"), dim, 1.0, 0.2),
        }
    }

    fn attention(&mut self, block: usize) {
        let Family { shape, .. } = self.family;
        let (family, dim) = (self.family, shape.dim);
        let (head, kv) = family.heads_of(block);
        let name = |tensor: &str| format!("blk.{block}.{tensor}");
        if !family.is(&["olmo2", "exaone4"]) {
            self.vector(&name("attn_norm.weight"), dim, 1.0, 0.2);
        }
        if self.mixer(block) {
            return self.norms(block);
        }
        // Each head of queries has a gate beside delta nets.
        let gated = if shape.interval == 0 { 1 } else { 2 };
        let parts = [
            ("attn_q", gated * shape.heads * head, shape.qk),
            ("attn_k", kv * head, shape.qk),
            ("attn_v", kv * head, 1.0),
        ];
        if shape.fused_qkv {
            let part = |(part, rows, gain): (&str, usize, f64)| {
                let name = name(&format!("{part}.weight"));
                family.normal(&name, rows * dim, deviation(dim, gain), 0.0)
            };
            let rows = parts.iter().map(|(_, rows, _)| rows).sum();
            self.floats(&name("attn_qkv.weight"), &[rows, dim], &parts.map(part).concat());
        } else {
            for (part, rows, gain) in parts {
                let is_shared = part != "attn_q" && !family.has_keys(block);
                let is_key = part == "attn_v" && shape.no_v && !family.is_local(block);
                if is_shared || is_key {
                    continue;
                }
                self.matrix(&name(&format!("{part}.weight")), rows, dim, gain);
                if shape.qkv_bias != 0.0 || shape.attn_bias {
                    let bias = if shape.qkv_bias == 0.0 { 0.5 } else { shape.qkv_bias };
                    let bias = bias * if part == "attn_v" { 0.3 } else { 1.0 };
                    self.vector(&name(&format!("{part}.bias")), rows, 0.0, bias);
                }
            }
            if shape.qk_norm != 0.0 {
                let rows = family.is(&["olmo2"]);
                let [q, k] = [shape.heads, kv].map(|heads| if rows { heads } else { 1 });
                self.vector(&name("attn_q_norm.weight"), q * head, shape.qk_norm, 0.2);
                if family.has_keys(block) {
                    self.vector(&name("attn_k_norm.weight"), k * head, shape.qk_norm, 0.2);
                }
            }
        }
        let output = name("attn_output.weight");
        let gain = if family.is(&["gemma4"]) { 1.0 } else { 2.0 * shape.g_attn };
        self.matrix(&output, dim, shape.heads * head, gain);
        if family.is(&["gpt-oss"]) || shape.attn_bias {
            self.vector(&name("attn_output.bias"), dim, 0.0, 0.3);
        }
        if family.is(&["gpt-oss"]) {
            self.vector(&name("attn_sinks.weight"), shape.heads, 1.0, 1.0);
        }
        self.norms(block);
    }

    fn feed_forward(&mut self, block: usize) {
        let Family { shape, .. } = self.family;
        let (family, dim, ffn) = (self.family, shape.dim, shape.ffn.of(block));
        let name = |tensor: &str| format!("blk.{block}.{tensor}");
        let is_dense =
            block < shape.lead || shape.moe_step > 0 && !(block + 1).is_multiple_of(shape.moe_step);
        if family.is(&["gemma4"]) {
            return self.feed_forward_of_gemma4(block);
        }
        if shape.experts == 0 || is_dense {
            if family.is(&["phi3", "glm4"]) {
                self.matrix(&name("ffn_up.weight"), 2 * ffn, dim, 1.0);
            } else {
                if !family.is(&["arcee"]) {
                    self.matrix(&name("ffn_gate.weight"), ffn, dim, 1.0);
                }
                self.matrix(&name("ffn_up.weight"), ffn, dim, 1.0);
            }
            self.matrix(&name("ffn_down.weight"), dim, ffn, shape.g_ffn * 1.5);
            return;
        }
        let (count, width) = (shape.experts, family.expert_width());
        self.plain(&name("ffn_gate_inp.weight"), count, dim, 2.0);
        for (part, rows, cols, gain) in [
            ("ffn_gate_exps.weight", width, dim, 1.0),
            ("ffn_up_exps.weight", width, dim, 1.0),
            ("ffn_down_exps.weight", dim, width, shape.g_ffn * 2.0),
        ] {
            self.matrices(&name(part), count, rows, cols, gain);
        }
        if family.is(&["gpt-oss"]) {
            self.vector(&name("ffn_gate_inp.bias"), count, 0.0, 0.5);
            self.put(&name("ffn_gate_exps.bias"), &[count, width], 0.5, 0.0);
            self.put(&name("ffn_up_exps.bias"), &[count, width], 0.5, 0.0);
            self.put(&name("ffn_down_exps.bias"), &[count, dim], 0.3, 0.0);
        }
        if shape.probs_b || family.is(&["lfm2moe"]) {
            self.vector(&name("exp_probs_b.bias"), count, 0.0, 0.3);
        }
        let shared = match family.architecture.as_str() {
            "llama4" => width,
            _ if family.is_latent() => width * shape.n_shared,
            _ => shape.shexp,
        };
        if shared != 0 {
            self.matrix(&name("ffn_gate_shexp.weight"), shared, dim, 1.0);
            self.matrix(&name("ffn_up_shexp.weight"), shared, dim, 1.0);
            self.matrix(&name("ffn_down_shexp.weight"), dim, shared, shape.g_ffn * 1.5);
        }
        if family.is(&["qwen2moe", "qwen3next", "qwen35moe"]) {
            self.vector(&name("ffn_gate_inp_shexp.weight"), dim, 0.0, 0.2);
        }
    }

    /// The dense part, experts beside it, and what a block gets beside the hidden state.
    fn feed_forward_of_gemma4(&mut self, block: usize) {
        let Family { shape, .. } = self.family;
        let (dim, ffn) = (shape.dim, shape.ffn.of(block));
        let name = |tensor: &str| format!("blk.{block}.{tensor}");
        self.matrix(&name("ffn_gate.weight"), ffn, dim, 1.0);
        self.matrix(&name("ffn_up.weight"), ffn, dim, 1.0);
        self.matrix(&name("ffn_down.weight"), dim, ffn, shape.g_ffn * 1.5);
        let (count, width) = (shape.experts, self.family.expert_width());
        if count != 0 {
            self.vector(&name("ffn_gate_inp.scale"), dim, 6.0, 1.0);
            self.plain(&name("ffn_gate_inp.weight"), count, dim, 2.0);
            self.matrices(&name("ffn_gate_up_exps.weight"), count, 2 * width, dim, 1.0);
            let gain = shape.g_ffn * 2.0;
            self.matrices(&name("ffn_down_exps.weight"), count, dim, width, gain);
            self.vector(&name("ffn_down_exps.scale"), count, 1.0, 0.3);
            for norm in ["pre_ffw_norm_2", "post_ffw_norm_1", "post_ffw_norm_2"] {
                self.vector(&name(&format!("{norm}.weight")), dim, 1.0, 0.2);
            }
        }
        if shape.ple != 0 {
            self.matrix(&name("inp_gate.weight"), shape.ple, dim, 1.0);
            self.matrix(&name("proj.weight"), dim, shape.ple, 1.0);
            self.vector(&name("post_norm.weight"), dim, shape.post, 0.2 * shape.post);
        }
        self.vector(&name("layer_output_scale.weight"), 1, 0.9, 0.1);
    }

    /// A matrix that is never quantized.
    fn plain(&mut self, name: &str, rows: usize, cols: usize, gain: f64) {
        let weights = self.family.normal(name, rows * cols, deviation(cols, gain), 0.0);
        self.store(name, &[rows, cols], &weights);
    }

    /// Several matrices, one after the other.
    fn matrices(&mut self, name: &str, count: usize, rows: usize, cols: usize, gain: f64) {
        let dims = [count, rows, cols];
        let weights = self.family.normal(name, dims.iter().product(), deviation(cols, gain), 0.0);
        if !self.family.shape.mxfp4 {
            return self.floats(name, &dims, &weights);
        }
        let blocks: Vec<_> = weights.as_chunks().0.iter().map(mxfp4).collect();
        if self.family.shape.kind == Some(GgmlType::MXFP4) {
            let bytes: Vec<_> = blocks.iter().flat_map(|(bytes, _)| *bytes).collect();
            let dims: Vec<_> = dims.iter().rev().map(|dim| *dim as u64).collect();
            return self.writer.tensor(name, GgmlType::MXFP4, &dims, &bytes);
        }
        let weights: Vec<_> = blocks.iter().flat_map(|(_, weights)| *weights).collect();
        self.store(name, &dims, &weights);
    }

    fn matrix(&mut self, name: &str, rows: usize, cols: usize, gain: f64) {
        self.put(name, &[rows, cols], deviation(cols, gain), 0.0);
    }

    fn vector(&mut self, name: &str, len: usize, mean: f64, deviation: f64) {
        self.put(name, &[len], deviation, mean);
    }

    fn put(&mut self, name: &str, dims: &[usize], deviation: f64, mean: f64) {
        let weights = self.family.normal(name, dims.iter().product(), deviation, mean);
        self.floats(name, dims, &weights);
    }

    fn floats(&mut self, name: &str, dims: &[usize], weights: &[f32]) {
        let is_matrix = dims.len() > 1 && !self.family.shape.mxfp4;
        let stored = self.family.shape.kind.filter(|_| is_matrix);
        if let Some(kind) = stored {
            let seed =
                weights.iter().fold(1, |seed: u64, x| seed.rotate_left(5) ^ u64::from(x.to_bits()));
            let bytes = super::ggml::random(kind, weights.len(), 0.1, &mut Random(seed));
            let dims: Vec<_> = dims.iter().rev().map(|dim| *dim as u64).collect();
            return self.writer.tensor(name, kind, &dims, &bytes);
        }
        self.store(name, dims, weights);
    }

    fn store(&mut self, name: &str, dims: &[usize], weights: &[f32]) {
        let bytes: Vec<_> = weights.iter().flat_map(|weight| weight.to_le_bytes()).collect();
        let dims: Vec<_> = dims.iter().rev().map(|dim| *dim as u64).collect();
        self.writer.tensor(name, GgmlType::F32, &dims, &bytes);
    }
}

/// The nearest weights of MXFP4, as bytes and as floats: the largest gets the exponent of 4.
fn mxfp4(weights: &[f32; 32]) -> ([u8; 17], [f32; 32]) {
    const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];
    let largest = weights.iter().fold(0.0_f32, |most, weight| most.max(weight.abs()));
    let exponent = if largest > 0.0 { largest.log2().floor() as i32 - 2 + 127 } else { 0 };
    let exponent = u8::try_from(exponent.clamp(0, 255)).unwrap();
    let scale = 2.0_f32.powi(i32::from(exponent) - 128);
    let mut bytes = [0; 17];
    bytes[0] = exponent;
    let mut rounded = [0.0; 32];
    for (index, (weight, rounded)) in weights.iter().zip(&mut rounded).enumerate() {
        let off = |value: &i8| (scale * f32::from(*value) - weight).abs();
        let first = VALUES.iter().enumerate().min_by(|a, b| off(a.1).total_cmp(&off(b.1)));
        let (code, value) = first.unwrap();
        *rounded = scale * f32::from(*value);
        bytes[1 + index % 16] |= (code as u8) << (index / 16 * 4);
    }
    (bytes, rounded)
}

fn deviation(cols: usize, gain: f64) -> f64 {
    gain * (cols as f64).powf(-0.5)
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
    writer.u32("tokenizer.ggml.unknown_token_id", 0);
    writer.bool("tokenizer.ggml.add_bos_token", true);
    writer.bool("tokenizer.ggml.add_space_prefix", false);
    tokens.len()
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
