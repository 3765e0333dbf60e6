//! What all families have in common: a network of each is read, nothing of it may be missing, and no
//! value of a key makes more than an error that names it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use polychord_model::config::{Block, Config, Error, gating};
use polychord_model::families::Family;
use polychord_model::gguf::{Array, GgmlType, Value};
use support::{Writer, read, string};

/// Keys of a small network of any family; those that one does not need change nothing there.
fn header(family: &str) -> Writer {
    let mut writer = Writer::default().pair("general.architecture", string(family));
    for (name, value) in [
        ("block_count", 4),
        ("context_length", 128),
        ("embedding_length", 16),
        ("feed_forward_length", 24),
        ("attention.head_count", 4),
        ("attention.head_count_kv", 2),
    ] {
        writer = writer.pair(&format!("{family}.{name}"), Value::U32(value));
    }
    for name in ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"] {
        writer = writer.pair(&format!("{family}.{name}"), Value::F32(1e-6));
    }
    let own: &[(&str, Value)] = match family {
        "granite" | "granitemoe" | "cohere2" => &[("logit_scale", Value::F32(0.5))],
        "gemma4" => {
            let local = Array::Bool(vec![true, true, false, true]);
            &[
                ("attention.sliding_window_pattern", Value::Array(local)),
                ("attention.key_length_swa", Value::U32(2)),
            ]
        }
        "llama4" => &[("interleave_moe_layer_step", Value::U32(2))],
        "lfm2" | "lfm2moe" => &[
            ("shortconv.l_cache", Value::U32(3)),
            ("attention.head_count_kv", Value::Array(Array::U32(vec![0, 2, 0, 2]))),
        ],
        "qwen35" | "qwen3next" => &[
            ("ssm.conv_kernel", Value::U32(4)),
            ("ssm.state_size", Value::U32(8)),
            ("ssm.group_count", Value::U32(2)),
            ("ssm.time_step_rank", Value::U32(4)),
            ("ssm.inner_size", Value::U32(32)),
        ],
        "deepseek2" | "mistral4" => &[
            ("attention.q_lora_rank", Value::U32(6)),
            ("attention.kv_lora_rank", Value::U32(10)),
            ("attention.key_length_mla", Value::U32(8)),
            ("attention.value_length_mla", Value::U32(5)),
            ("rope.dimension_count", Value::U32(4)),
            ("expert_shared_count", Value::U32(1)),
            ("leading_dense_block_count", Value::U32(1)),
        ],
        _ => &[],
    };
    for (name, value) in own {
        let key = format!("{family}.{name}");
        writer = writer.without(&key).pair(&key, value.clone());
    }
    if ["cohere2", "gemma4", "gpt-oss"].contains(&family) {
        writer = writer.pair(&format!("{family}.attention.sliding_window"), Value::U32(8));
    }
    if family.contains("moe")
        || ["gpt-oss", "llama4", "qwen3next", "deepseek2", "mistral4"].contains(&family)
    {
        writer = writer
            .pair(&format!("{family}.expert_count"), Value::U32(8))
            .pair(&format!("{family}.expert_used_count"), Value::U32(2));
    }
    if family.ends_with("bert") {
        writer = writer.pair(&format!("{family}.attention.causal"), Value::Bool(false));
    }
    writer.tensor("token_embd.weight", GgmlType::F32, &[16, 40])
}

/// Adds what the errors ask for, until there is none.
fn whole(mut writer: Writer) -> Writer {
    loop {
        match Config::from_gguf(&read(&writer.file()).unwrap()).map(|_| ()) {
            Ok(()) => return writer,
            Err(Error::MissingTensor { name }) => {
                writer = writer.tensor(&name, GgmlType::F32, &[1]);
            }
            Err(Error::TensorShape { name, expected, .. }) => {
                let tensors = std::mem::take(&mut writer.tensors);
                for tensor in tensors {
                    let its = String::from_utf8(tensor.name).unwrap();
                    let dims = if its == name { &expected } else { &tensor.dims };
                    writer = writer.tensor(&its, GgmlType::F32, dims);
                }
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn all_that_a_network_has_is_needed() {
    for family in Family::all() {
        let name = family.architecture();
        let writer = whole(header(name));
        let (config, tensors) = {
            let gguf = read(&writer.file()).unwrap();
            let (config, tensors) = Config::from_gguf(&gguf).unwrap();
            (config, tensors.len())
        };
        assert_eq!((config.layers.len(), tensors), (4, writer.tensors.len()), "{name}");
        for index in 0..writer.tensors.len() {
            let mut without = writer.clone();
            let missing = String::from_utf8(without.tensors.remove(index).name).unwrap();
            // Then values are the keys.
            if missing.ends_with("attn_v.weight") && name == "gemma4" {
                continue;
            }
            let error = Config::from_gguf(&read(&without.file()).unwrap()).unwrap_err();
            assert!(error.to_string().contains(&missing), "{name}: {missing}: {error}");
        }
        let more = writer.clone().tensor("blk.2.attn_more.weight", GgmlType::F32, &[64]);
        let error = Config::from_gguf(&read(&more.file()).unwrap()).unwrap_err();
        assert!(matches!(error, Error::UnknownTensor { .. }), "{name}: {error}");
        let Block { experts, gating, .. } = config.layers[3];
        assert_eq!(experts == 0, gating == 0, "{name}");
        assert!(gating <= gating::SIGMOID_OF_CHOSEN, "{name}");
    }
}

/// Keys that families read, and others.
const KEYS: &[&str] = &[
    "attention.head_count",
    "attention.head_count_kv",
    "attention.key_length",
    "attention.key_length_mla",
    "attention.key_length_swa",
    "attention.kv_lora_rank",
    "attention.q_lora_rank",
    "attention.value_length_mla",
    "full_attention_interval",
    "shortconv.l_cache",
    "ssm.conv_kernel",
    "ssm.group_count",
    "ssm.inner_size",
    "ssm.state_size",
    "ssm.time_step_rank",
    "expert_group_used_count",
    "expert_shared_count",
    "attention.layer_norm_rms_epsilon",
    "attention.scale",
    "attention.shared_kv_layers",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.temperature_scale",
    "attention.value_length",
    "attn_logit_softcapping",
    "block_count",
    "context_length",
    "embedding_length",
    "embedding_length_per_layer_input",
    "embedding_scale",
    "expert_count",
    "expert_feed_forward_length",
    "expert_gating_func",
    "expert_group_count",
    "expert_shared_feed_forward_length",
    "expert_used_count",
    "expert_weights_norm",
    "expert_weights_scale",
    "feed_forward_length",
    "final_logit_softcapping",
    "interleave_moe_layer_step",
    "leading_dense_block_count",
    "logit_scale",
    "nextn_predict_layers",
    "residual_scale",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.dimension_sections",
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.scale_linear",
    "rope.scaling.attn_factor",
    "rope.scaling.factor",
    "rope.scaling.finetuned",
    "rope.scaling.original_context_length",
    "rope.scaling.type",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_log_multiplier",
    "ssm.state_size",
    "vocab_size",
];

#[test]
fn no_value_of_a_key_is_more_than_an_error() {
    let values = [
        Value::U32(0),
        Value::U32(1),
        Value::U32(3),
        Value::U32(1_000_000_000),
        Value::U64(u64::MAX),
        Value::I32(-1),
        Value::F32(f32::NAN),
        Value::F32(f32::INFINITY),
        Value::F32(-0.0),
        Value::F32(f32::MIN_POSITIVE),
        Value::F32(1e38),
        Value::Bool(true),
        Value::Bool(false),
        string("yarn"),
        string("longrope"),
        Value::Array(Array::U32(vec![])),
        Value::Array(Array::U32(vec![0, 1, 2])),
        Value::Array(Array::I32(vec![1, 2, 3, -4])),
        Value::Array(Array::I64(vec![1, 2, i64::MAX, 4])),
        Value::Array(Array::Bool(vec![true])),
        Value::Array(Array::Bool(vec![false; 9])),
        Value::Array(Array::F32(vec![f32::NAN; 4])),
    ];
    for family in Family::all() {
        let name = family.architecture();
        let sound = header(name).pair("x.rope.scaling.type", string("yarn"));
        for key in KEYS {
            let key = format!("{name}.{key}");
            for value in &values {
                let writer = sound.clone().without(&key).pair(&key, value.clone());
                let gguf = read(&writer.file()).unwrap();
                let Err(error) = Config::from_gguf(&gguf) else { continue };
                let error = error.to_string();
                assert!(error.len() > 20, "{key} = {value}: {error}");
            }
        }
    }
}

/// Numbers that are each possible, and together too large.
#[test]
fn sizes_that_overflow_are_named() {
    for (name, key) in [("qwen3moe", "expert_feed_forward_length"), ("phi3", "feed_forward_length")]
    {
        let key = format!("{name}.{key}");
        let writer = header(name).without(&key).pair(&key, Value::U32(u32::MAX));
        let error = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap_err();
        assert!(matches!(error, Error::FeedForwardWidth { .. }), "{error}");
    }
}
