//! How fast each family decodes, by the weights that a token takes: random models of one tensor type,
//! large enough that their products decide, each in turn with one of the graph of Llama.
//!
//! cargo run --release --example family_speed -- [NAME...]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a tool for measurements")]
#![allow(clippy::cast_precision_loss, reason = "few numbers")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::time::Duration;

use common::architecture::Family;
use polychord::model::gguf::{GgmlType, Gguf};
use polychord::model::{Model, Ranks, Session, SessionOptions, Transformer};
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};

/// Models of `tests/data/architectures`, one for each kind of network; the first is what others are
/// compared with.
const MODELS: [&str; 31] = [
    "llama-small",
    "llama-moe",
    "llama4-small",
    "mistral3-small",
    "ernie4_5-small",
    "internlm2-small",
    "minicpm-small",
    "smollm3-small",
    "arcee-small",
    "granite-small",
    "granitemoe-small",
    "qwen2-small",
    "qwen2moe-small",
    "qwen3-small",
    "qwen3moe-small",
    "seed_oss-small",
    "hunyuan-dense-small",
    "gemma-small",
    "gemma2-small",
    "gemma3-small",
    "gemma4-dense",
    "gemma4-e2b",
    "gemma4-moe",
    "lfm2-small",
    "lfm2moe-small",
    "qwen35-small",
    "qwen35moe-small",
    "qwen3next-small",
    "deepseek2-small",
    "mistral4-small",
    "phi3-small",
];
const OTHERS: [&str; 5] =
    ["olmo2-small", "exaone4-small", "cohere2-small", "glm4-small", "gpt-oss-small"];

const TOKENS: usize = 8;
const ROUNDS: usize = 5;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let engine = polychord::open("wasmtime").unwrap();
    let transformer = Transformer::new(&engine).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut llama = Run::start(&transformer, MODELS[0], folder.path());
    println!("| model | million weights a token | G weights/s | of llama's |");
    println!("|---|---|---|---|");
    for name in MODELS.iter().chain(&OTHERS) {
        if !wanted.is_empty() && !wanted.iter().any(|it| name.contains(it.as_str())) {
            continue;
        }
        let mut run = Run::start(&transformer, name, folder.path());
        let (mut own, mut theirs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            theirs.push(llama.decode());
            own.push(run.decode());
        }
        let (own, theirs) = (best(&own), best(&theirs));
        println!("| {name} | {:.1} | {own:.2} | {:.2} |", run.weights / 1e6, own / theirs);
    }
}

fn best(speeds: &[f64]) -> f64 {
    speeds.iter().copied().fold(0.0, f64::max)
}

/// A session that decodes.
struct Run {
    session: Session,
    /// Those that one token takes.
    weights: f64,
}

impl Run {
    fn start(transformer: &Transformer, name: &str, folder: &Path) -> Self {
        let file = enlarged(name).file();
        let weights = weights(&file);
        let path = folder.join("model.gguf");
        std::fs::write(&path, file).unwrap();
        let options = SessionOptions::new().context(256).ranks(Ranks::Exactly(1));
        let session = transformer.start(&Model::open(&path).unwrap(), &options).unwrap();
        Self { session, weights }
    }

    /// Weights in a nanosecond of processor time.
    fn decode(&mut self) -> f64 {
        self.session.reset();
        self.session.eval(&[3, 50, 200]).unwrap();
        let start = now();
        for token in 0..TOKENS {
            self.session.eval(&[u32::try_from(3 + token).unwrap()]).unwrap();
        }
        self.weights * TOKENS as f64 / (now() - start).as_nanos() as f64
    }
}

fn now() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// The small model, with blocks of the size of a real one.
fn enlarged(name: &str) -> Family {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/architectures");
    let json = std::fs::read(data.join(name).with_extension("json")).unwrap();
    let mut family: Value = serde_json::from_slice(&json).unwrap();
    let model = family["model"].as_object_mut().unwrap();
    let is_set = |model: &serde_json::Map<String, Value>, key: &str| {
        model.get(key).is_some_and(|value| *value != json!(0) && *value != json!(null))
    };
    let has_experts = is_set(model, "experts");
    let own_width = is_set(model, "ff_exp");
    let ffn = if has_experts && !own_width { 1408 } else { 2816 };
    let ffn = match model["ffn"].as_array() {
        Some(each) => json!(vec![ffn; each.len()]),
        None => json!(ffn),
    };
    let sizes = [
        ("dim", json!(1024)),
        ("heads", json!(16)),
        ("kv", json!(4)),
        ("hd", json!(64)),
        ("ffn", ffn),
        ("layers", json!(4)),
        ("ctx", json!(2048)),
        ("window", json!(128)),
        ("experts", json!(8)),
        ("used", json!(2)),
        ("ff_exp", json!(1408)),
        ("shexp", json!(1408)),
        ("rot", json!(32)),
        ("hd_swa", json!(64)),
        ("ple", json!(64)),
        ("q_lora", json!(768)),
        ("kv_lora", json!(256)),
        ("nope", json!(64)),
        ("vdim", json!(64)),
        ("ssm_k", json!(8)),
        ("ssm_v", json!(16)),
        ("ssm_d", json!(64)),
        ("kv_full", json!(4)),
    ];
    for (key, value) in sizes {
        let keeps =
            key == "layers" && model.contains_key("swa") || key == "rot" && !is_set(model, key);
        let always = ["dim", "heads", "kv", "ffn", "layers", "ctx"].contains(&key);
        if !keeps && (always || is_set(model, key)) {
            model.insert(key.to_owned(), value);
        }
    }
    if let Some(pattern) = model.get("pattern").and_then(Value::as_str) {
        let layers = pattern.len();
        model.insert("layers".to_owned(), json!(layers));
    }
    let Family { architecture, seed, shape } = serde_json::from_value(family).unwrap();
    Family { architecture, seed, shape: shape.quantized(GgmlType::Q8_0) }
}

/// How many weights one token takes: all, but of experts those that are chosen, and no rows of
/// embeddings but where they are the output, too.
fn weights(file: &[u8]) -> f64 {
    let gguf = Gguf::read(file, file.len() as u64).unwrap();
    let key = |suffix: &str| {
        let mut pairs = gguf.metadata().iter();
        pairs.find_map(|(key, value)| key.ends_with(suffix).then(|| value.as_u64())?).unwrap_or(1)
    };
    let used = key(".expert_used_count") as f64 / key(".expert_count") as f64;
    let is_tied = gguf.tensor("output.weight").is_none();
    let of = |tensor: &polychord::model::gguf::TensorInfo| {
        let all = tensor.dims.iter().product::<u64>() as f64;
        match &*tensor.name {
            "token_embd.weight" if is_tied => all,
            "token_embd.weight" | "per_layer_token_embd.weight" => 0.0,
            name if name.contains("_exps.") => all * used,
            _ => all,
        }
    };
    gguf.tensors().iter().map(of).sum()
}
