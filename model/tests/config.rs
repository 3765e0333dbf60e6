//! Shapes read from metadata, and models that must be refused.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use polychord_abi::transformer::{feature, role};
use polychord_model::config::{Block, Config, Error, NO_ROPE, gating};
use polychord_model::gguf::{Array, GgmlType, Value};
use support::{Writer, read, string, strings, test_data};

/// One block, width 64, 4 heads of 16, 2 of them for keys, 96 wide inside, 40 tokens.
fn model() -> Writer {
    let metadata = Writer::default()
        .pair("general.architecture", string("llama"))
        .pair("llama.block_count", Value::U32(1))
        .pair("llama.context_length", Value::U32(128))
        .pair("llama.embedding_length", Value::U32(64))
        .pair("llama.feed_forward_length", Value::U32(96))
        .pair("llama.attention.head_count", Value::U32(4))
        .pair("llama.attention.head_count_kv", Value::U32(2))
        .pair("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    TENSORS.iter().fold(metadata, |writer, (name, dims)| {
        let kind = if dims.len() == 1 { GgmlType::F32 } else { GgmlType::Q4_1 };
        writer.tensor(name, kind, dims)
    })
}

const TENSORS: [(&str, &[u64]); 11] = [
    ("token_embd.weight", &[64, 40]),
    ("blk.0.attn_norm.weight", &[64]),
    ("blk.0.attn_q.weight", &[64, 64]),
    ("blk.0.attn_k.weight", &[64, 32]),
    ("blk.0.attn_v.weight", &[64, 32]),
    ("blk.0.attn_output.weight", &[64, 64]),
    ("blk.0.ffn_norm.weight", &[64]),
    ("blk.0.ffn_gate.weight", &[64, 96]),
    ("blk.0.ffn_up.weight", &[64, 96]),
    ("blk.0.ffn_down.weight", &[96, 64]),
    ("output_norm.weight", &[64]),
];

fn with(key: &str, value: Value) -> Writer {
    model().without(key).pair(key, value)
}

fn error(writer: &Writer) -> Error {
    Config::from_gguf(&read(&writer.file()).unwrap()).unwrap_err()
}

#[test]
fn a_small_model_is_read() {
    let gguf = read(&model().file()).unwrap();
    let (config, tensors) = Config::from_gguf(&gguf).unwrap();
    assert_eq!((config.dim, config.ffn, config.blocks, config.vocab), (64, 96, 1, 40));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (4, 2, 16));
    assert_eq!((config.q_dim(), config.kv_dim(), config.context_length), (64, 32, 128));
    let [rope] = config.ropes[..] else { panic!("{:?}", config.ropes) };
    assert_eq!((rope.dim, rope.base, rope.scale, rope.halves), (16, 10_000.0, 1.0, 0));
    assert_eq!((config.epsilon, config.layers[0].attention_scale), (1e-5, 0.25));
    assert!(config.tied);
    let roles: Vec<u32> = tensors.iter().map(|tensor| tensor.role).collect();
    assert_eq!(roles, [0, 4, 5, 6, 7, 8, 9, 10, 11, 12, 1]);
    let down = tensors.iter().find(|tensor| tensor.role == role::FFN_DOWN).unwrap();
    assert_eq!(
        (down.rows, down.cols, down.block, down.info.name.as_str()),
        (64, 96, Some(0), "blk.0.ffn_down.weight")
    );
}

#[test]
fn optional_parts_are_read() {
    let writer = with("llama.rope.freq_base", Value::F32(5e5))
        .pair("llama.rope.scaling.type", string("linear"))
        .pair("llama.rope.scaling.factor", Value::F32(4.0))
        .pair("llama.attention.key_length", Value::U32(16))
        .pair("llama.attention.value_length", Value::U32(16))
        .pair("tokenizer.ggml.tokens", strings((0..40).map(|id| id.to_string())))
        .tensor("output.weight", GgmlType::F16, &[64, 40])
        .tensor("rope_freqs.weight", GgmlType::F32, &[8]);
    let gguf = read(&writer.file()).unwrap();
    let (config, tensors) = Config::from_gguf(&gguf).unwrap();
    let rope = config.ropes[0];
    assert_eq!((rope.base, rope.scale, rope.factors), (5e5, 0.25, role::ROPE_FREQS));
    assert!(!config.tied);
    assert_eq!(tensors[1].role, role::ROPE_FREQS);
    assert_eq!(tensors.last().unwrap().role, role::OUTPUT);
}

/// What llama.cpp runs as well, since its meaning is clear.
#[test]
fn harmless_mistakes_of_converters_are_overlooked() {
    let (expected, _) = Config::from_gguf(&read(&model().file()).unwrap()).unwrap();
    let tokens = ("tokenizer.ggml.tokens", strings((0..40).map(|id| id.to_string())));
    for writer in [
        with("llama.vocab_size", Value::U32(41)).pair(tokens.0, tokens.1),
        with("llama.feed_forward_length", Value::Array(Array::I32(vec![96]))),
        with("llama.attention.head_count_kv", Value::Array(Array::U32(vec![2, 2]))),
        with("llama.rope.scaling.type", string("linear"))
            .pair("llama.rope.scaling.factor", Value::F32(0.0)),
        with("llama.rope.scale_linear", Value::F32(0.0)),
    ] {
        let gguf = read(&writer.file()).unwrap();
        assert_eq!(Config::from_gguf(&gguf).unwrap().0, expected);
    }
}

#[test]
fn other_architectures_and_options_are_named() {
    assert!(
        matches!(error(&with("general.architecture", string("mamba"))), Error::Architecture { found, .. } if found == "mamba")
    );
    for name in [
        "attn_logit_softcapping",
        "residual_scale",
        "attention.temperature_scale",
        "ssm.state_size",
    ] {
        let key = format!("llama.{name}");
        let message = error(&with(&key, Value::F32(8.0))).to_string();
        assert!(message.contains(&key) && message.contains("is 8"), "{message}");
    }
    assert!(matches!(error(&with("llama.logit_scale", Value::F32(0.5))), Error::Option { .. }));
    assert!(matches!(
        error(&with("llama.attention.causal", Value::Bool(false))),
        Error::Option { .. }
    ));
    assert!(
        matches!(error(&with("llama.rope.scaling.type", string("dynamic"))), Error::RopeScaling { kind } if kind == "dynamic")
    );
}

#[test]
fn missing_and_impossible_values_are_named() {
    for name in [
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "attention.head_count",
        "attention.layer_norm_rms_epsilon",
    ] {
        let key = format!("llama.{name}");
        assert!(
            matches!(error(&model().without(&key)), Error::Missing { key: named } if named == key)
        );
        let zero = if name.ends_with("epsilon") { Value::F32(0.0) } else { Value::U32(0) };
        assert!(
            matches!(error(&with(&key, zero)), Error::Range { .. } | Error::Float { .. }),
            "{key}"
        );
        assert!(matches!(error(&with(&key, string("7"))), Error::Gguf(_)), "{key}");
    }
    assert!(matches!(
        error(&with("llama.block_count", Value::U32(4097))),
        Error::Range { value: 4097, .. }
    ));
    assert!(matches!(error(&with("llama.block_count", Value::U64(u64::MAX))), Error::Range { .. }));
    assert!(matches!(
        error(&with("llama.attention.head_count", Value::U32(3))),
        Error::HeadDim { .. }
    ));
    assert!(matches!(
        error(&with("llama.attention.head_count_kv", Value::U32(3))),
        Error::HeadGroups { .. }
    ));
    assert!(matches!(
        error(&with("llama.attention.value_length", Value::U32(8))),
        Error::ValueLength { .. }
    ));
    assert!(matches!(
        error(&with("llama.attention.key_length", Value::U32(u32::MAX))),
        Error::HeadWidth { .. }
    ));
    for rope_dim in [15, 18] {
        assert!(matches!(
            error(&with("llama.rope.dimension_count", Value::U32(rope_dim))),
            Error::RopeDim { .. }
        ));
    }
    for base in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        assert!(matches!(
            error(&with("llama.rope.freq_base", Value::F32(base))),
            Error::Float { .. }
        ));
    }
    assert!(matches!(error(&with("llama.vocab_size", Value::U32(41))), Error::Vocab { .. }));
    let differ = Value::Array(Array::U32(vec![96, 64]));
    assert!(matches!(
        error(&with("llama.feed_forward_length", differ)),
        Error::ArrayLength { key, found: 2, blocks: 1 } if key == "llama.feed_forward_length"
    ));
    let floats = Value::Array(Array::F32(vec![96.0]));
    assert!(matches!(
        error(&with("llama.feed_forward_length", floats)),
        Error::PerBlock { key } if key == "llama.feed_forward_length"
    ));
    assert!(matches!(
        error(&with("llama.feed_forward_length", Value::U32(u32::MAX))),
        Error::FeedForwardWidth { .. }
    ));
    assert!(matches!(
        error(&with("tokenizer.ggml.tokens", strings(["a"]))),
        Error::Vocab { tokens: 1, rows: 40, .. }
    ));
}

#[test]
fn every_tensor_is_needed_and_no_other_allowed() {
    for (index, (name, _)) in TENSORS.iter().enumerate() {
        let mut writer = model();
        writer.tensors.remove(index);
        assert!(matches!(error(&writer), Error::MissingTensor { name: named } if named == *name));
    }
    for name in
        ["blk.0.ffn_up.bias", "blk.0.ffn_gate_inp.weight", "blk.1.attn_norm.weight", "other"]
    {
        let writer = model().tensor(name, GgmlType::F32, &[64]);
        assert!(
            matches!(error(&writer), Error::UnknownTensor { name: named, .. } if named == name)
        );
    }
}

/// A network of Qwen 2 has biases: one without them is a mistake of a converter.
#[test]
fn qwen2_is_read_by_its_own_keys() {
    let mut writer = Writer::default().pair("general.architecture", string("qwen2"));
    for (name, value) in [
        ("block_count", 1),
        ("context_length", 128),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        writer = writer.pair(&format!("qwen2.{name}"), Value::U32(value));
    }
    writer = writer.pair("qwen2.attention.layer_norm_rms_epsilon", Value::F32(1e-6));
    for (name, dims) in TENSORS {
        writer = writer.tensor(name, GgmlType::F32, dims);
    }
    // As llama.cpp has it; in part is not enough.
    let without = read(&writer.file()).unwrap();
    assert_eq!(Config::from_gguf(&without).unwrap().0.features, feature::TIED_OUTPUT);
    let some = error(&writer.clone().tensor("blk.0.attn_k.bias", GgmlType::F32, &[32]));
    assert!(matches!(some, Error::MissingTensor { name } if name == "blk.0.attn_q.bias"));
    for (name, len) in [("attn_q", 64), ("attn_k", 32), ("attn_v", 32)] {
        writer = writer.tensor(&format!("blk.0.{name}.bias"), GgmlType::F32, &[len]);
    }
    let gguf = read(&writer.file()).unwrap();
    let (config, tensors) = Config::from_gguf(&gguf).unwrap();
    let features = feature::QKV_BIAS | feature::TIED_OUTPUT;
    assert_eq!((config.features, config.epsilon, tensors.len()), (features, 1e-6, 14));
    assert_eq!(config.ropes[0].halves, 1);
}

/// A network of another family, with the same sizes as [`model`] and no tensors of blocks.
fn family(name: &str, pairs: &[(&str, Value)]) -> Writer {
    let mut writer = Writer::default().pair("general.architecture", string(name));
    let sizes = [
        ("block_count", 4),
        ("context_length", 128),
        ("embedding_length", 64),
        ("feed_forward_length", 96),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ];
    let floats = ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"];
    for (key, value) in sizes
        .map(|(key, value)| (key, Value::U32(value)))
        .into_iter()
        .chain(floats.map(|key| (key, Value::F32(1e-6))))
    {
        if !pairs.iter().any(|(other, _)| *other == key) {
            writer = writer.pair(&format!("{name}.{key}"), value);
        }
    }
    for (key, value) in pairs {
        writer = writer.pair(&format!("{name}.{key}"), value.clone());
    }
    writer.tensor("token_embd.weight", GgmlType::F32, &[64, 40])
}

/// Each says which key or tensor, with which numbers.
#[test]
fn what_experts_cannot_be_is_named() {
    let refused = |pairs: &[(&str, Value)], part: &str| {
        let message = error(&family("qwen3moe", pairs)).to_string();
        assert!(message.contains(part), "{message}");
    };
    let count = |value| ("expert_count", Value::U32(value));
    let used = |value| ("expert_used_count", Value::U32(value));
    refused(&[], "\"qwen3moe.expert_count\" is missing");
    refused(&[count(8)], "\"qwen3moe.expert_used_count\" is missing");
    refused(&[count(1_000_000_000), used(2)], "is 1000000000, allowed are 1 to 65536");
    refused(&[count(8), used(9)], "is 9, allowed are 1 to 8");
    refused(&[count(8), used(2), ("expert_gating_func", Value::U32(4))], "is 4");
    refused(&[count(8), used(2), ("expert_weights_scale", Value::F32(f32::NAN))], "is NaN");
    refused(&[count(8), used(2), ("expert_group_count", Value::U32(4))], "expert_group_count");
    refused(&[count(8), ("expert_used_count", string("2"))], "expert_used_count");
    let wide = ("expert_feed_forward_length", Value::U32(u32::MAX));
    refused(&[count(8), used(2), wide], "expert_count 8 with 4294967295 rows");
    refused(&[count(8), used(2)], "blk.0.attn_norm.weight");
    let message = error(&with("llama.expert_used_count", Value::U32(2))).to_string();
    assert!(message.contains("expert_count"), "{message}");
}

#[test]
fn windows_are_numbers_or_arrays() {
    let refused = |name: &str, pairs: &[(&str, Value)], part: &str| {
        let message = error(&family(name, pairs)).to_string();
        assert!(message.contains(part), "{message}");
    };
    let window = ("attention.sliding_window", Value::U32(8));
    let pattern =
        |local: Vec<bool>| ("attention.sliding_window_pattern", Value::Array(Array::Bool(local)));
    refused("gemma3", &[window.clone(), pattern(vec![true])], "has 1 elements for 4 blocks");
    refused("gemma3", &[("attention.sliding_window_pattern", Value::U32(0))], "is 0");
    refused("gemma3", &[("attention.sliding_window", Value::F32(8.0))], "sliding_window");
    refused("gemma3", &[("rope.freq_base_swa", Value::F32(f32::NAN))], "rope.freq_base_swa");
    refused("gemma2", &[("attn_logit_softcapping", Value::F32(-1.0))], "is -1");
    refused("cohere2", &[window], "\"cohere2.logit_scale\" is missing");
    refused("gpt-oss", &[], "expert_count");
    refused("granite", &[], "\"granite.logit_scale\" is missing");
    refused("qwen3", &[("attention.sliding_window", Value::U32(8))], "sliding_window");
}

/// What stands in the place of attention and of a cache: each key by its name, with its number.
#[test]
fn what_states_and_latent_keys_cannot_be_is_named() {
    let refused = |name: &str, pairs: &[(&str, Value)], part: &str| {
        let message = error(&family(name, pairs)).to_string();
        assert!(message.contains(part), "{name} {pairs:?}: {message}");
    };
    let number = |key: &'static str, value| (key, Value::U32(value));
    let each = |values: &[u32]| Value::Array(Array::U32(values.to_vec()));
    // Heads of keys may be none where a convolution stands in their place, and nowhere else.
    let some = ("attention.head_count_kv", each(&[0, 2, 2, 0]));
    refused("llama", std::slice::from_ref(&some), "\"llama.attention.head_count_kv\" is 0");
    refused("lfm2", std::slice::from_ref(&some), "\"lfm2.shortconv.l_cache\" is missing");
    refused("lfm2", &[some.clone(), number("shortconv.l_cache", 1)], "shortconv.l_cache");
    refused("lfm2", &[some.clone(), number("shortconv.l_cache", 1 << 30)], "is 1073741824");
    refused("lfm2", &[some, number("shortconv.l_cache", 3)], "blk.0.attn_norm.weight");
    let short = ("attention.head_count_kv", each(&[0, 2]));
    refused("lfm2", &[short], "has 2 elements for 4 blocks");

    let net = |heads, inner| {
        [
            number("ssm.conv_kernel", 4),
            number("ssm.state_size", 16),
            number("ssm.group_count", 2),
            number("ssm.time_step_rank", heads),
            number("ssm.inner_size", inner),
        ]
    };
    refused("qwen35", &[], "\"qwen35.ssm.conv_kernel\" is missing");
    refused("qwen35", &net(4, 65), "ssm.inner_size");
    refused("qwen35", &net(3, 48), "ssm.group_count");
    refused("qwen35", &net(1 << 20, 1 << 24), "is 1048576");
    refused("qwen35", &net(4, 64), "blk.0.attn_norm.weight");
    refused("qwen3", &net(4, 64), "ssm.conv_kernel");

    let latent = |turned, rank, keys, values| {
        [
            number("rope.dimension_count", turned),
            number("attention.kv_lora_rank", rank),
            number("attention.key_length_mla", keys),
            number("attention.value_length_mla", values),
            number("expert_count", 8),
            number("expert_used_count", 2),
        ]
    };
    refused("deepseek2", &[], "\"deepseek2.attention.kv_lora_rank\" is missing");
    refused("deepseek2", &latent(8, 32, 8, 16), "rope.dimension_count");
    refused("deepseek2", &latent(8, 32, 24, 41), "attention.value_length");
    refused("deepseek2", &latent(8, u32::MAX, 24, 16), "rope.dimension_count");
    refused("deepseek2", &latent(8, u32::MAX - 8, 24, 16), "attention.kv_lora_rank");
    refused("llama", &latent(8, 32, 24, 16), "attention.key_length_mla");
    let with_groups = |count, used| {
        let groups = [number("expert_group_count", count), number("expert_group_used_count", used)];
        [&latent(8, 32, 24, 16)[..], &groups].concat()
    };
    refused("deepseek2", &with_groups(3, 1), "expert_group_count");
    refused("deepseek2", &with_groups(65, 1), "is 65, allowed are 1 to 64");
    refused("deepseek2", &with_groups(8, 1), "expert_group_used_count");
    refused("deepseek2", &with_groups(4, 5), "is 5, allowed are 1 to 4");
    refused("deepseek2", &with_groups(4, 2), "blk.0.attn_norm.weight");

    let shared = |local: [bool; 4], count| {
        let local = Array::Bool(local.to_vec());
        [
            number("attention.sliding_window", 8),
            ("attention.sliding_window_pattern", Value::Array(local)),
            number("attention.shared_kv_layers", count),
        ]
    };
    refused("gemma4", &shared([true, false, true, false], 4), "shared_kv_layers");
    refused("gemma4", &shared([true, true, true, false], 2), "shared_kv_layers");
    refused("gemma4", &shared([true, false, true, false], 2), "blk.0.attn_norm.weight");
    let input = number("embedding_length_per_layer_input", u32::MAX);
    let wide = [&shared([true, false, true, false], 2)[..], &[input]].concat();
    refused("gemma4", &wide, "embedding_length_per_layer_input");
}

/// What an array says of each block is there in each block.
#[test]
fn blocks_may_differ() {
    let mut writer = model()
        .without("llama.block_count")
        .without("llama.feed_forward_length")
        .pair("llama.block_count", Value::U32(2))
        .pair("llama.feed_forward_length", Value::Array(Array::I32(vec![96, 32])));
    for (name, dims) in TENSORS.into_iter().filter(|(name, _)| name.starts_with("blk.")) {
        let dims: Vec<u64> = dims.iter().map(|dim| if *dim == 96 { 32 } else { *dim }).collect();
        let kind = if dims.len() == 1 { GgmlType::F32 } else { GgmlType::Q4_1 };
        writer = writer.tensor(&name.replace("blk.0", "blk.1"), kind, &dims);
    }
    let (config, _) = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap();
    assert_eq!(config.layers.iter().map(|block| block.ffn).collect::<Vec<_>>(), [96, 32]);
    assert_eq!(config.ffn, 96);
}

/// Mixtral: a Llama with experts.
#[test]
fn experts_are_read() {
    let mut writer = model()
        .pair("llama.expert_count", Value::U32(8))
        .pair("llama.expert_used_count", Value::U32(2));
    let is_dense = |name: &[u8]| name.starts_with(b"blk.0.ffn_") && !name.ends_with(b"norm.weight");
    writer.tensors.retain(|tensor| !is_dense(&tensor.name));
    let writer = writer
        .tensor("blk.0.ffn_gate_inp.weight", GgmlType::F32, &[64, 8])
        .tensor("blk.0.ffn_gate_exps.weight", GgmlType::Q4_0, &[64, 96, 8])
        .tensor("blk.0.ffn_up_exps.weight", GgmlType::Q4_0, &[64, 96, 8])
        .tensor("blk.0.ffn_down_exps.weight", GgmlType::Q4_0, &[96, 64, 8]);
    let (config, _) = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap();
    let Block { experts, experts_used, expert_ffn, ffn, gating: weighs, features, rope, .. } =
        config.layers[0];
    assert_eq!((experts, experts_used, expert_ffn, ffn, rope), (8, 2, 96, 0, 0));
    assert_eq!(weighs, gating::SOFTMAX);
    assert!(features & feature::EXPERTS != 0 && features & feature::EXPERT_RENORM != 0);
    let mut wrong = writer;
    let down = wrong.tensors.iter_mut().find(|it| it.name.ends_with(b"down_exps.weight")).unwrap();
    down.dims = vec![96, 8, 64];
    assert!(
        matches!(error(&wrong), Error::TensorShape { expected, .. } if expected == [96, 64, 8])
    );
}

#[test]
fn blocks_that_do_not_rotate_are_told() {
    let mut writer = family("smollm3", &[]);
    for block in 0..4 {
        for (name, dims) in TENSORS.into_iter().filter(|(name, _)| name.starts_with("blk.")) {
            let name = name.replace("blk.0", &format!("blk.{block}"));
            writer = writer.tensor(&name, GgmlType::F32, dims);
        }
    }
    let writer = writer.tensor("output_norm.weight", GgmlType::F32, &[64]);
    let (config, _) = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap();
    let ropes: Vec<_> = config.layers.iter().map(|block| block.rope).collect();
    assert_eq!(ropes, [0, 0, 0, NO_ROPE]);
}

/// Biases of queries, keys and values are used where they are, but then in each block.
#[test]
fn biases_are_all_there_or_none_is() {
    const BIASES: [(&str, u32, u64); 3] = [
        ("blk.0.attn_q.bias", role::ATTN_Q_BIAS, 64),
        ("blk.0.attn_k.bias", role::ATTN_K_BIAS, 32),
        ("blk.0.attn_v.bias", role::ATTN_V_BIAS, 32),
    ];
    let all = BIASES
        .iter()
        .fold(model(), |writer, (name, _, len)| writer.tensor(name, GgmlType::F32, &[*len]));
    let gguf = read(&all.file()).unwrap();
    let (config, tensors) = Config::from_gguf(&gguf).unwrap();
    assert_eq!(config.features, feature::QKV_BIAS | feature::TIED_OUTPUT);
    for (name, role, len) in BIASES {
        let bias = tensors.iter().find(|tensor| tensor.role == role).unwrap();
        assert_eq!((bias.info.name.as_str(), bias.rows, u64::from(bias.cols)), (name, 1, len));
        let alone = model().tensor(name, GgmlType::F32, &[len]);
        assert!(matches!(error(&alone), Error::MissingTensor { .. }), "{name} alone");
    }
    let later = model().tensor("blk.1.attn_q.bias", GgmlType::F32, &[64]);
    assert!(matches!(error(&later), Error::UnknownTensor { .. }));
}

#[test]
fn shapes_and_types_must_fit() {
    for (index, (name, dims)) in TENSORS.iter().enumerate().skip(1) {
        let mut writer = model();
        writer.tensors[index].dims = dims.iter().map(|dim| dim / 2).collect();
        writer.tensors[index].kind = GgmlType::F32.number();
        writer.tensors[index].dims.push(1);
        assert!(
            matches!(error(&spread(writer)), Error::TensorShape { name: named, .. } if named == *name)
        );
    }
    let mut writer = model();
    writer.tensors[2].kind = GgmlType::Q8_1.number();
    let message = error(&spread(writer)).to_string();
    assert!(
        message.contains("attn_q") && message.contains("Q8_1") && message.contains("Q8_0"),
        "{message}"
    );
    let mut writer = model();
    writer.tensors[1].kind = GgmlType::F16.number();
    assert!(matches!(error(&writer), Error::VectorType { .. }));
}

/// Moves the tensors so far apart that none overlap.
fn spread(mut writer: Writer) -> Writer {
    (0..).zip(&mut writer.tensors).for_each(|(index, tensor)| tensor.offset = 32_768 * index);
    writer
}

#[test]
fn smollm2_is_read() {
    let Some(path) = test_data("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let gguf = support::open(path);
    let (config, tensors) = Config::from_gguf(&gguf).unwrap();
    assert_eq!((config.dim, config.ffn, config.blocks, config.vocab), (576, 1536, 30, 49_152));
    assert_eq!((config.heads, config.kv_heads, config.head_dim), (9, 3, 64));
    assert_eq!((config.ropes[0].base, config.tied, tensors.len()), (1e5, true, 272));
}

#[test]
fn a_vocabulary_is_no_model() {
    let Some(path) = test_data("ggml-vocab-llama-spm.gguf") else { return };
    let gguf = support::open(path);
    assert!(
        matches!(Config::from_gguf(&gguf), Err(Error::MissingTensor { name }) if name == "token_embd.weight")
    );
}
