//! Models for embeddings as files describe them, what is refused, and layers of experts.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use polychord_abi::transformer::role;
use polychord_model::Pooling;
use polychord_model::config::{Config, Error};
use polychord_model::gguf::{GgmlType, Value};
use polychord_model::layout::{Cut, Layout, Part};
use support::{Writer, read, string};

/// A block of width 64, with 4 heads; what is in `without` is left out.
fn bert(without: &str) -> Writer {
    let writer = Writer::default()
        .pair("general.architecture", string("bert"))
        .pair("bert.block_count", Value::U32(1))
        .pair("bert.context_length", Value::U32(128))
        .pair("bert.embedding_length", Value::U32(64))
        .pair("bert.feed_forward_length", Value::U32(96))
        .pair("bert.attention.head_count", Value::U32(4))
        .pair("bert.attention.layer_norm_epsilon", Value::F32(1e-12))
        .pair("bert.attention.causal", Value::Bool(false))
        .pair("bert.pooling_type", Value::U32(2));
    let tensors: &[(&str, &[u64])] = &[
        ("token_embd.weight", &[64, 40]),
        ("token_types.weight", &[64, 2]),
        ("position_embd.weight", &[64, 128]),
        ("token_embd_norm.weight", &[64]),
        ("token_embd_norm.bias", &[64]),
        ("blk.0.attn_q.weight", &[64, 64]),
        ("blk.0.attn_q.bias", &[64]),
        ("blk.0.attn_k.weight", &[64, 64]),
        ("blk.0.attn_k.bias", &[64]),
        ("blk.0.attn_v.weight", &[64, 64]),
        ("blk.0.attn_v.bias", &[64]),
        ("blk.0.attn_output.weight", &[64, 64]),
        ("blk.0.attn_output.bias", &[64]),
        ("blk.0.attn_output_norm.weight", &[64]),
        ("blk.0.attn_output_norm.bias", &[64]),
        ("blk.0.ffn_up.weight", &[64, 96]),
        ("blk.0.ffn_up.bias", &[96]),
        ("blk.0.ffn_down.weight", &[96, 64]),
        ("blk.0.ffn_down.bias", &[64]),
        ("blk.0.layer_output_norm.weight", &[64]),
        ("blk.0.layer_output_norm.bias", &[64]),
    ];
    let tensors = tensors.iter().filter(|(name, _)| *name != without);
    tensors.fold(writer, |writer, (name, dims)| writer.tensor(name, GgmlType::F32, dims))
}

fn with(key: &str, value: Value) -> Writer {
    bert("").without(key).pair(key, value)
}

fn error(writer: &Writer) -> Error {
    Config::from_gguf(&read(&writer.file()).unwrap()).unwrap_err()
}

#[test]
fn an_encoder_is_read() {
    let gguf = read(&bert("").file()).unwrap();
    let (config, tensors) = Config::from_gguf(&gguf).unwrap();
    assert!(config.is_encoder());
    assert_eq!(config.pooling, Some(Pooling::First));
    let rows = |role| tensors.iter().find(|tensor| tensor.role == role).unwrap().rows;
    assert_eq!((rows(role::TOKEN_TYPES), rows(role::POSITIONS)), (2, 128));
    for (number, pooling) in [(0, None), (1, Some(Pooling::Mean)), (3, Some(Pooling::Last))] {
        let gguf = read(&with("bert.pooling_type", Value::U32(number)).file()).unwrap();
        assert_eq!(Config::from_gguf(&gguf).unwrap().0.pooling, pooling);
    }
}

#[test]
fn what_an_encoder_cannot_be_is_named() {
    for number in [4, 5, 1 << 31] {
        let message = error(&with("bert.pooling_type", Value::U32(number))).to_string();
        assert!(message.contains("\"bert.pooling_type\" is"), "{message}");
    }
    let causal = error(&with("bert.attention.causal", Value::Bool(true)));
    assert!(matches!(causal, Error::Option { ref value, .. } if value == "true"), "{causal}");
    let message = error(&bert("").without("bert.attention.causal")).to_string();
    assert!(message.contains("\"bert.attention.causal\" is missing"), "{message}");
    for name in ["position_embd.weight", "token_embd_norm.bias", "blk.0.layer_output_norm.weight"] {
        let error = error(&bert(name));
        assert!(matches!(error, Error::MissingTensor { name: ref of } if of == name), "{error}");
    }
    let short =
        bert("position_embd.weight").tensor("position_embd.weight", GgmlType::F32, &[64, 64]);
    assert!(matches!(error(&short), Error::TensorShape { .. }));
    let narrow = bert("token_types.weight").tensor("token_types.weight", GgmlType::F32, &[32, 2]);
    assert!(matches!(error(&narrow), Error::TensorShape { .. }));
    let reranker = bert("").tensor("cls.weight", GgmlType::F32, &[64, 64]);
    assert!(matches!(error(&reranker), Error::UnknownTensor { .. }));
}

/// Each expert has three layers, which follow each other; the rest is what it was.
#[test]
fn experts_can_be_layers() {
    const EXPERTS: u64 = 6;
    let keys = [
        ("block_count", 2),
        ("context_length", 128),
        ("embedding_length", 64),
        ("feed_forward_length", 32),
        ("attention.head_count", 4),
        ("expert_count", 6),
        ("expert_used_count", 2),
    ];
    let writer = Writer::default()
        .pair("general.architecture", string("llama"))
        .pair("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5));
    let writer = keys.iter().fold(writer, |writer, (key, value)| {
        writer.pair(&format!("llama.{key}"), Value::U32(*value))
    });
    let mut writer = writer.tensor("token_embd.weight", GgmlType::F32, &[64, 40]).tensor(
        "output_norm.weight",
        GgmlType::F32,
        &[64],
    );
    for block in 0..2 {
        for (name, dims) in [
            ("attn_norm", &[64][..]),
            ("attn_q", &[64, 64]),
            ("attn_k", &[64, 64]),
            ("attn_v", &[64, 64]),
            ("attn_output", &[64, 64]),
            ("ffn_down_exps", &[32, 64, EXPERTS]),
            ("ffn_gate_exps", &[64, 32, EXPERTS]),
            ("ffn_gate_inp", &[64, EXPERTS]),
            ("ffn_norm", &[64]),
            ("ffn_up_exps", &[64, 32, EXPERTS]),
        ] {
            writer = writer.tensor(&format!("blk.{block}.{name}.weight"), GgmlType::F32, dims);
        }
    }
    let gguf = read(&writer.file()).unwrap();
    let (_, tensors) = Config::from_gguf(&gguf).unwrap();
    let layout = Layout::new(&tensors, Cut::ByExpert);
    let ids = layout.layers.iter().map(|layer| layer.id.0);
    assert!(ids.eq(0..u32::try_from(layout.layers.len()).unwrap()));
    for block in 0..2 {
        for expert in 0..6 {
            let layers: Vec<_> = layout.layers_of(Part::Expert { block, expert }).collect();
            let sizes: Vec<_> = layers.iter().map(|layer| layer.bytes).collect();
            assert_eq!(sizes, [64 * 32 * 4; 3]);
            let name = format!("blk.{block}.ffn_gate_exps of expert {expert}");
            assert_eq!(layers[0].name, name);
            for (layer, role) in
                layers.iter().zip([role::EXPERT_GATE, role::EXPERT_UP, role::EXPERT_DOWN])
            {
                let mut stored = layout.tensors.iter();
                let stored = stored.find(|it| it.role == role && it.block == block).unwrap();
                assert_eq!((stored.pieces, stored.offset), (6, 0));
                assert_eq!(stored.layer + expert * stored.step, layer.id.0);
                let info = tensors.iter().find(|it| it.role == role && it.block == Some(block));
                let info = info.unwrap().info;
                assert_eq!(layer.start, info.offset + u64::from(expert) * layer.bytes);
            }
        }
    }
    let by_part = Layout::new(&tensors, Cut::ByPart);
    assert!(by_part.tensors.iter().all(|tensor| tensor.pieces == 1));
    let dense = |layout: &Layout| layout.layers_of(Part::Embedding).cloned().collect::<Vec<_>>();
    assert_eq!(dense(&layout), dense(&by_part));
    // Without experts there is nothing to cut.
    let gguf = read(&bert("").file()).unwrap();
    let (_, tensors) = Config::from_gguf(&gguf).unwrap();
    let [experts, parts] = [Cut::ByExpert, Cut::ByPart].map(|cut| Layout::new(&tensors, cut));
    assert_eq!((experts.layers, experts.tensors), (parts.layers, parts.tensors));
}
