//! What all families have in common: a network of each is read, nothing of it may be missing, and no
//! value of a key makes more than an error that names it.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};

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
        "qwen35" | "qwen35moe" | "qwen3next" => &[
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

/// Windows of no position, arrays of one number that are too short, and keys that are not there though another one
/// needs them are named, with what they are.
#[test]
fn keys_that_cannot_be_are_named() {
    let of = |name: &str, key: &str, value: Value| {
        let key = format!("{name}.{key}");
        let writer = header(name).without(&key).pair(&key, value);
        let error = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap_err();
        assert!(error.to_string().contains(&key), "{name}: {error}");
        error
    };
    for name in ["gemma2", "gemma4", "gpt-oss", "cohere2", "exaone4"] {
        let error = of(name, "attention.sliding_window", Value::U32(0));
        assert!(matches!(error, Error::Range { value: 0, .. }), "{name}: {error}");
    }
    let error = of("qwen35", "full_attention_interval", Value::U32(0));
    assert!(matches!(error, Error::Range { value: 0, .. }), "{error}");
    let short = Value::Array(Array::U32(vec![2; 3]));
    for name in ["llama", "gemma4", "lfm2"] {
        let error = of(name, "attention.head_count_kv", short.clone());
        assert!(matches!(error, Error::ArrayLength { found: 3, blocks: 4, .. }), "{name}: {error}");
    }
    // Without it all of a head would turn, which leaves nothing of these.
    let width = "deepseek2.attention.key_length_mla";
    let key = "deepseek2.rope.dimension_count";
    let writer = header("deepseek2").without(width).pair(width, Value::U32(4)).without(key);
    let error = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap_err();
    assert!(matches!(&error, Error::Missing { key: named } if named == key), "{error}");
}

/// As llama.cpp has it, for blocks with a window, too, but not in OLMo.
#[test]
fn the_factor_of_rotations_is_that_of_windows_too() {
    for (name, expected) in
        [("gemma3", 1.2), ("gemma4", 1.2), ("gemma-embedding", 1.2), ("olmo2", 1.0)]
    {
        let window = format!("{name}.attention.sliding_window");
        let writer = header(name)
            .without(&window)
            .pair(&window, Value::U32(8))
            .pair(&format!("{name}.rope.scaling.attn_factor"), Value::F32(1.2));
        let writer = whole(writer);
        let gguf = read(&writer.file()).unwrap();
        let (config, _) = Config::from_gguf(&gguf).unwrap();
        let local = config.layers.iter().find(|block| block.window == 8).unwrap();
        let magnitudes = [config.ropes[0].magnitude, config.ropes[local.rope as usize].magnitude];
        let expected = [1.2, expected].map(f32::to_bits);
        assert_eq!(magnitudes.map(f32::to_bits), expected, "{name}");
    }
}

/// What networks of these kinds have elsewhere and the guest does not compute is refused by its name.
#[test]
fn biases_that_are_not_computed_are_refused_by_name() {
    for (name, bias) in [
        ("llama", "blk.0.ffn_gate.bias"),
        ("llama", "blk.3.ffn_up.bias"),
        ("llama", "blk.1.ffn_down.bias"),
        ("phi3", "blk.0.attn_q.bias"),
    ] {
        let mut writer = header(name);
        if name == "phi3" {
            // One matrix of queries, keys and values.
            for block in 0..4 {
                let matrix = format!("blk.{block}.attn_qkv.weight");
                writer = writer.tensor(&matrix, GgmlType::F32, &[16, 32]);
            }
        }
        writer = whole(writer).tensor(bias, GgmlType::F32, &[16]);
        let error = Config::from_gguf(&read(&writer.file()).unwrap()).unwrap_err();
        assert!(
            matches!(&error, Error::UnknownTensor { name, blocks: 4, .. } if name == bias),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.contains(bias) && text.contains("choose a model without it"), "{text}");
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

/// Refuses what no header needs: nothing may be allocated because a file says so.
struct Small;

const MOST_BYTES: usize = 32 << 20;

// SAFETY: all calls go to the system's allocator, or give nothing, which is allowed.
#[allow(unsafe_code, reason = "an allocator")]
unsafe impl GlobalAlloc for Small {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.size() > MOST_BYTES {
            return std::ptr::null_mut();
        }
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as above; what was given came from `System`.
        unsafe { System.dealloc(memory, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Small = Small;

/// The error of a file, if it is refused.
fn error_of(writer: &Writer) -> Option<String> {
    match read(&writer.file()) {
        Ok(gguf) => Config::from_gguf(&gguf).err().map(|error| error.to_string()),
        Err(error) => Some(error.to_string()),
    }
}

/// Each key of a whole network, missing, of another type, and with numbers that are none of its.
#[test]
fn each_key_of_each_family_is_named_where_it_is_wrong() {
    let numbers = [
        Value::U32(1_000_000_000),
        Value::U64(u64::MAX),
        Value::I32(-1),
        Value::U32(0),
        Value::F32(f32::NAN),
        Value::F32(f32::NEG_INFINITY),
        Value::Array(Array::U32(vec![])),
        Value::Array(Array::U32(vec![1, 2, 3])),
        Value::Array(Array::F32(vec![f32::NAN; 4])),
    ];
    let mut wrong = Vec::new();
    for family in Family::all() {
        let name = family.architecture();
        let sound = whole(header(name));
        for (key, value) in &sound.pairs {
            let key = String::from_utf8(key.clone()).unwrap();
            if !key.starts_with(name) {
                continue;
            }
            // What another key or a tensor contradicts then may be named in its place.
            if let Some(error) = error_of(&sound.clone().without(&key))
                && !error.contains(name)
                && !error.contains("blk.")
            {
                wrong.push(format!("no {key}: {error}"));
            }
            // All are numbers, yes or no, or arrays.
            let text = sound.clone().without(&key).pair(&key, string("eight"));
            if let Some(error) = error_of(&text) {
                if !error.contains(&key) {
                    wrong.push(format!("{key} = \"eight\": {error}"));
                }
            } else if !is_unread(name, &key) {
                wrong.push(format!("{key} = \"eight\" is taken"));
            }
            for number in numbers.iter().filter(|number| *number != value) {
                let Some(error) = error_of(&sound.clone().without(&key).pair(&key, number.clone()))
                else {
                    continue;
                };
                if !names_key(&sound, name, &error) && !names_tensor(&error) {
                    wrong.push(format!("{key} = {number}: {error}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Whether an error names a key of the file: sizes that are wrong together are named by one of them.
fn names_key(file: &Writer, family: &str, error: &str) -> bool {
    let mut keys = file.pairs.iter().filter_map(|(key, _)| {
        std::str::from_utf8(key).unwrap().strip_prefix(family)?.strip_prefix('.')
    });
    keys.any(|key| error.contains(key))
}

/// Whether an error names a tensor, and not only says that there is one.
fn names_tensor(error: &str) -> bool {
    let mut quoted = error.split("tensor \"").skip(1).filter_map(|rest| rest.split('"').next());
    quoted.any(|name| name.starts_with("blk.") || name.ends_with(".weight"))
}

/// Keys of the test's header that a family does not need.
fn is_unread(family: &str, key: &str) -> bool {
    let is_layer_norm = ["cohere2", "bert", "nomic-bert"].contains(&family);
    match key.strip_prefix(family) {
        Some(".attention.layer_norm_epsilon") => !is_layer_norm,
        Some(".attention.layer_norm_rms_epsilon") => is_layer_norm,
        _ => false,
    }
}

/// Each tensor with another shape, or of a type that does not exist.
#[test]
fn each_tensor_of_each_family_is_named_where_it_is_wrong() {
    let mut wrong = Vec::new();
    for family in Family::all() {
        let name = family.architecture();
        let sound = whole(header(name));
        for index in 0..sound.tensors.len() {
            let tensor = String::from_utf8(sound.tensors[index].name.clone()).unwrap();
            let dims = sound.tensors[index].dims.clone();
            let mut others = vec![[&dims[..], &[2]].concat(), dims[1..].to_vec()];
            others.extend((0..dims.len()).map(|at| {
                let mut other = dims.clone();
                other[at] += 1;
                other
            }));
            for other in others {
                let mut writer = Writer { tensors: Vec::new(), ..sound.clone() };
                for (at, its) in sound.tensors.iter().enumerate() {
                    let its_name = String::from_utf8(its.name.clone()).unwrap();
                    let dims = if at == index { &other } else { &its.dims };
                    writer = writer.tensor(&its_name, GgmlType::F32, dims);
                }
                // Some say how large others are, which then are the ones that do not fit.
                let error = error_of(&writer);
                let Some(error) = error else {
                    // How many tokens there are is known by this tensor alone.
                    if tensor != "token_embd.weight" {
                        wrong.push(format!("{name}: {tensor}: {dims:?} as {other:?} is taken"));
                    }
                    continue;
                };
                if !["blk.", &tensor, "output.weight", "token_embd", name]
                    .iter()
                    .any(|it| error.contains(it))
                {
                    wrong.push(format!("{name}: {tensor}: {dims:?} as {other:?}: {error}"));
                }
            }
            let mut writer = sound.clone();
            writer.tensors[index].kind = 4711;
            let error = error_of(&writer).unwrap_or_default();
            if !error.contains(&tensor) {
                wrong.push(format!("{name}: {tensor} of no type: {error}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the fuzz target `gguf` does, from a whole header of each family: bytes of all kinds at places
/// of all kinds make an error or a network, and nothing else.
#[test]
fn headers_with_some_other_bytes_do_no_harm() {
    let mut state = 1_u64;
    let mut random = |most: usize| {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(state >> 33).unwrap() % most
    };
    for family in Family::all() {
        let sound = whole(header(family.architecture()));
        let (file, header) = (sound.file(), sound.header().len());
        for _ in 0..500 {
            let mut file = file.clone();
            for _ in 0..=random(3) {
                let other = [0, 1, 0x7f, 0x80, 0xff, 4, 8, 9][random(8)];
                let at = random(header);
                let long = 1 + random(8);
                file[at..(at + long).min(header)].fill(other);
            }
            if let Ok(gguf) = read(&file) {
                _ = Config::from_gguf(&gguf);
            }
        }
    }
}
