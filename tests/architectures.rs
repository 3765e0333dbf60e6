//! Small models of each architecture against llama.cpp, token for token, and against themselves,
//! bit for bit, however they are run; and networks that guests refuse.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "shown by --nocapture")]

mod common;

use std::path::Path;
use std::sync::Arc;

use polychord::api::abi::transformer::{Descriptor, VERSION, export, status};
use polychord::api::{Engine, Limits, Policy, Value};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, Model, Placement, Ranks, Session, SessionOptions, SimdFlavor, Transformer,
};
use sha2::{Digest, Sha256};

use common::architecture::{Family, Shape as FamilyShape};
use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, guest, open, transformer};

/// What llama.cpp computed, and of which file.
#[derive(serde::Deserialize)]
struct Golden {
    architecture: String,
    seed: u64,
    model: FamilyShape,
    sha256: String,
    /// Of the file whose experts are stored as they are rounded in the other one.
    #[serde(default)]
    quantized_sha256: String,
    settings: Settings,
    /// The largest difference of llama.cpp to the same in `f64`.
    ref64: f32,
    prompts: Vec<Prompt>,
}

#[derive(serde::Deserialize)]
struct Settings {
    n_ctx: u32,
}

#[derive(serde::Deserialize)]
struct Prompt {
    name: String,
    prompt_ids: Vec<u32>,
    gen_ids: Vec<u32>,
    /// Of the first step.
    first_logits: Vec<f32>,
    last_logits: Vec<f32>,
    steps: Vec<Step>,
}

#[derive(serde::Deserialize)]
struct Step {
    top10: Vec<(usize, f32)>,
}

/// Declares tests of some families each: their models are llama.cpp's, and the same everywhere.
/// Guests are compiled once for each test.
macro_rules! families {
    ($($test:ident: $($name:literal)*;)*) => {
        $(#[test]
        fn $test() {
            engines_agree(stringify!($test), |engine| {
                let goldens =
                    [$(include_str!(concat!("data/architectures/", $name, ".json"))),*];
                check_all(engine, &goldens)
            });
        })*
    };
}

families! {
    llama_and_its_like:
        "llama-small" "llama-freqs" "llama-linear" "llama-moe" "llama-moe8" "llama-mqa"
        "llama-wide" "llama-yarn" "llama-yarn-attn" "llama-yarn-log" "mistral3-small" "mistral3-wide"
        "mistral3-yarn" "mistral3-plain" "ernie4_5-small" "internlm2-small" "smollm3-small" "smollm3-wide"
        "arcee-small" "granite-small" "granite-moe" "granite-wide" "minicpm-small" "minicpm-old";
    qwen_and_its_like:
        "qwen2-small" "qwen2-wide" "qwen2-tied" "qwen2-fused" "qwen3-small" "qwen3-wide" "seed_oss-small"
        "hunyuan-dense-small";
    gemma:
        "gemma-small" "gemma-wide" "gemma2-small" "gemma2-l46" "gemma2-wide" "gemma3-small"
        "gemma3-l62" "gemma3-nowin" "gemma3-wide" "gemma4-dense";
    gemma4_with_more:
        "gemma4-e2b";
    gemma4_with_experts:
        "gemma4-moe";
    convolutions:
        "lfm2-small" "lfm2-wide" "lfm2moe-small" "lfm2moe-window";
    delta_nets:
        "qwen35-small" "qwen35-wide" "qwen35moe-small" "qwen3next-small";
    latent_attention:
        "deepseek2-small" "deepseek2-legacy" "deepseek2-v3"
        "deepseek2-linear" "deepseek2-lite" "mistral4-small" "mistral4-wide" "mistral4-yarn";
    chunks:
        "llama4-chunk";
    others:
        "phi3-small" "phi3-long" "phi3-short" "phi3-wide" "phi3-window" "olmo2-small"
        "olmo2-olmo3" "olmo2-wide" "exaone4-small" "exaone4-l64" "cohere2-small" "glm4-small"
        "glm4-wide";
    experts:
        "qwen2moe-small" "qwen2moe-wide" "qwen3moe-small" "qwen3moe-wide" "granitemoe-small"
        "granitemoe-shared" "gpt-oss-small" "gpt-oss-wide" "gpt-oss-mxfp4" "gpt-oss-yarn"
        "llama4-small" "llama4-wide";
}

#[test]
fn qwen2_with_activations_of_8_bits_is_the_same_everywhere() {
    engines_agree("qwen2_with_activations_of_8_bits_is_the_same_everywhere", |engine| {
        let shape = Shape {
            blocks: 7,
            dim: 128,
            ffn: 320,
            vocab: 513,
            heads: 6,
            kv_heads: 3,
            head_dim: 32,
            rope_dim: 24,
            biases: true,
            ..Shape::of(GgmlType::Q4_1)
        };
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::of("qwen2", shape).save(folder.path());
        let logits = |session: &mut Session| common::logits(session, [3, 50, 512]);
        everywhere(&transformers(engine), engine, &path, Activations::Int8, Ways::All, &mut {
            logits
        })
    });
}

/// A file with experts in MXFP4 gives the bits of the one with the same weights as floats.
#[test]
fn mxfp4_is_as_its_floats() {
    engines_agree("mxfp4_is_as_its_floats", |engine| {
        let golden = include_str!("data/architectures/gpt-oss-mxfp4.json");
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let transformer = transformer(engine);
        let logits = |shape: FamilyShape, sha256: &str| {
            let Golden { architecture, seed, .. } = &golden;
            let file = Family { architecture: architecture.clone(), seed: *seed, shape }.file();
            assert_eq!(hash(&file), sha256);
            let path = folder.path().join("model.gguf");
            std::fs::write(&path, file).unwrap();
            let mut options = SessionOptions::default();
            options.activations = Activations::F32;
            let mut session = transformer.start(&open(&path, false), &options).unwrap();
            session.eval(&golden.prompts[0].prompt_ids).unwrap().as_bytes().to_vec()
        };
        let floats = logits(golden.model.clone(), &golden.sha256);
        let stored = golden.model.clone().quantized(GgmlType::MXFP4);
        assert!(logits(stored, &golden.quantized_sha256) == floats);
        hash(&floats)
    });
}

/// Activations of 8 bits: the products of a batch's tokens are those of each alone, whatever mixes
/// positions and whichever experts they chose.
#[test]
fn networks_with_activations_of_8_bits_are_the_same_everywhere() {
    let test = "networks_with_activations_of_8_bits_are_the_same_everywhere";
    engines_agree(test, |engine| {
        let (folder, transformers) = (tempfile::tempdir().unwrap(), transformers(engine));
        let path = folder.path().join("model.gguf");
        let goldens = [
            include_str!("data/architectures/qwen3moe-wide.json"),
            include_str!("data/architectures/lfm2moe-small.json"),
            include_str!("data/architectures/qwen3next-small.json"),
            include_str!("data/architectures/gemma4-moe.json"),
            include_str!("data/architectures/deepseek2-legacy.json"),
        ];
        let check = |golden: &str| {
            let golden: Golden = serde_json::from_str(golden).unwrap();
            let family = Family {
                architecture: golden.architecture,
                seed: golden.seed,
                shape: golden.model.quantized(GgmlType::Q8_0),
            };
            std::fs::write(&path, family.file()).unwrap();
            let mut run = |session: &mut Session| common::logits(session, [3, 50, 200]);
            everywhere(&transformers, engine, &path, Activations::Int8, Ways::All, &mut run)
        };
        goldens.map(check).concat()
    });
}

/// Declares models, by the name of their data.
macro_rules! goldens {
    ($($name:literal)*) => {
        [$(($name, include_str!(concat!("data/architectures/", $name, ".json")))),*]
    };
}

/// How far llama.cpp's products of integers are from its own of floats, of the file with this hash.
#[derive(serde::Deserialize)]
struct Integers {
    sha256: String,
    rms: f64,
}

/// Activations of 8 bits change logits by no more than they do in llama.cpp.
#[test]
fn activations_of_8_bits_are_as_good_as_llama_cpp_s() {
    let test = "activations_of_8_bits_are_as_good_as_llama_cpp_s";
    let expected: std::collections::BTreeMap<String, Integers> =
        serde_json::from_str(include_str!("data/integers/llama_cpp.json")).unwrap();
    let goldens = goldens!(
        "llama-small" "llama-moe" "mistral3-small" "ernie4_5-small" "internlm2-small"
        "smollm3-small" "arcee-small" "granite-small" "granitemoe-small" "minicpm-small" "qwen2-small"
        "qwen2moe-small" "qwen3-small" "qwen3moe-small" "seed_oss-small" "hunyuan-dense-small"
        "gemma-small" "gemma2-small" "gemma3-small" "gemma4-dense" "gemma4-moe" "lfm2-small"
        "lfm2moe-small" "qwen35-small" "qwen35moe-small" "qwen3next-small" "deepseek2-legacy" "phi3-small"
        "olmo2-small" "exaone4-small" "cohere2-small" "glm4-small" "gpt-oss-small" "llama4-small"
    );
    engines_agree(test, |engine| {
        let (folder, transformer) = (tempfile::tempdir().unwrap(), transformer(engine));
        // Where someone wants to have them, for llama.cpp.
        let kept = std::env::var_os("POLYCHORD_KEEP_MODELS").map(std::path::PathBuf::from);
        let folder = kept.unwrap_or_else(|| folder.path().to_owned());
        let mut all = String::new();
        for (name, golden) in &goldens {
            let golden: Golden = serde_json::from_str(golden).unwrap();
            let shape = golden.model.clone().quantized(GgmlType::Q8_0);
            let family =
                Family { architecture: golden.architecture.clone(), seed: golden.seed, shape };
            let (file, path) = (family.file(), folder.join(format!("{name}.gguf")));
            std::fs::write(&path, &file).unwrap();
            let run = |activations| {
                let mut options = SessionOptions::default();
                options.activations = activations;
                options.context = Some(96);
                let mut session = transformer.start(&open(&path, false), &options).unwrap();
                let Prompt { prompt_ids, gen_ids, .. } = golden.prompts.last().unwrap();
                let mut logits: Vec<f32> = session.eval(prompt_ids).unwrap().to_vec();
                for id in &gen_ids[..15] {
                    logits.extend(session.eval(&[*id]).unwrap().iter());
                }
                logits
            };
            let rms = common::rms(&run(Activations::Int8), &run(Activations::F32));
            println!("{name}: {rms:.5}");
            all += &format!("{name} {rms} ");
            if let Some(Integers { sha256, rms: theirs }) = expected.get(*name) {
                assert_eq!(hash(&file), *sha256, "{name}: another file than that of the data");
                println!("{name}: {rms:.5}, llama.cpp {theirs:.5}, ratio {:.3}", rms / theirs);
                assert!(rms <= theirs * MOST, "{name}: {rms}, where llama.cpp has {theirs}");
            } else {
                println!("{name}: not compared");
            }
        }
        all
    });
}

/// How much larger a difference may be by chance: which of two roundings is nearer.
const MOST: f64 = 1.1;

/// A guest that leaves a part of a network out would give wrong text.
#[test]
fn an_unknown_feature_is_refused() {
    each_engine("an_unknown_feature_is_refused", |engine| {
        let module = engine.compile(&guest()).unwrap();
        let mut runtime = module.instantiate(&Limits::default()).unwrap();
        let descriptor = Descriptor {
            version: VERSION.cast_unsigned(),
            features: 1 << 63,
            ..Default::default()
        };
        let bytes = descriptor.to_le_bytes();
        let len = Value::I32(i32::try_from(bytes.len()).unwrap());
        let at = runtime.call(export::ALLOC, &[len]).unwrap()[0];
        let start = usize::try_from(at.as_i32().unwrap()).unwrap();
        runtime.memory_mut()[start..start + bytes.len()].copy_from_slice(&bytes);
        let result = runtime.call(export::INIT, &[at, len]).unwrap();
        assert_eq!(result, [Value::I32(status::UNKNOWN_FEATURE)]);

        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape::of(GgmlType::F32)).save(folder.path());
        let other = format!(
            r#"(module (memory (export "memory") 4)
                (func (export "transformer_version") (result i32) (i32.const {VERSION}))
                (func (export "transformer_alloc") (param i32) (result i32) (i32.const 1024))
                (func (export "transformer_init") (param i32 i32) (result i32)
                    (i32.const {})))"#,
            status::UNKNOWN_FEATURE
        );
        let other = Transformer::from_wasm(engine, &wat::parse_str(other).unwrap()).unwrap();
        let model = Model::open(path).unwrap();
        let error = other.start(&model, &SessionOptions::default()).unwrap_err().to_string();
        assert!(error.contains("does not know a feature of the network"), "{error}");
    });
}

/// Compares models with what llama.cpp computed, the first one of each architecture however it is
/// run; returns the hash of all logits.
fn check_all(engine: &Arc<dyn Engine>, goldens: &[&str]) -> String {
    let (mut hashes, mut last) = (String::new(), String::new());
    let transformers = transformers(engine);
    for golden in goldens {
        let golden: Golden = serde_json::from_str(golden).unwrap();
        let family = Family {
            architecture: golden.architecture.clone(),
            seed: golden.seed,
            shape: golden.model.clone(),
        };
        let file = family.file();
        assert_eq!(hash(&file), golden.sha256, "another file than that of the data: {family:?}");
        // llama.cpp went beyond the length that such a file names.
        let file = match golden.is_long() {
            true => family.clone().with_context(golden.settings.n_ctx).file(),
            false => file,
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        std::fs::write(&path, file).unwrap();
        let mut worst = 0.0_f32;
        let what = format!("{} {}", family.architecture, golden.sha256);
        let ways = match family.architecture == last {
            _ if golden.is_long() => Ways::Long(golden.settings.n_ctx),
            true => Ways::Two,
            false => Ways::All,
        };
        last.clone_from(&family.architecture);
        let mut run = |session: &mut Session| {
            let prompts = golden.prompts.iter();
            prompts.flat_map(|prompt| follow(session, prompt, &what, &mut worst)).collect()
        };
        hashes += &everywhere(&transformers, engine, &path, Activations::F32, ways, &mut run);
        let tolerance = (3.0 * golden.ref64).max(1e-4);
        println!("{what}: off by {worst:e}, allowed is {tolerance:e}");
        assert!(worst <= tolerance, "{what}: off by {worst}, allowed is {tolerance}");
    }
    hashes
}

/// Runs a prompt and what follows it, and compares each step; returns all logits.
fn follow(session: &mut Session, prompt: &Prompt, what: &str, worst: &mut f32) -> Vec<u8> {
    session.reset();
    let mut all = Vec::new();
    let mut next = prompt.prompt_ids.clone();
    for (number, (step, id)) in prompt.steps.iter().zip(&prompt.gen_ids).enumerate() {
        let logits = session.eval(&next).unwrap().to_vec();
        let what = format!("{what}, prompt {}, step {number}", prompt.name);
        assert!(logits.iter().all(|logit| logit.is_finite()), "{what}");
        let mut near = |found: f32, expected: f32| *worst = worst.max((found - expected).abs());
        step.top10.iter().for_each(|(id, logit)| near(logits[*id], *logit));
        if number == 0 {
            let last = &logits[logits.len() - prompt.last_logits.len()..];
            let (found, expected) =
                (logits.iter().zip(&prompt.first_logits), last.iter().zip(&prompt.last_logits));
            found.chain(expected).for_each(|(found, expected)| near(*found, *expected));
        }
        let highest = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0;
        assert_eq!(highest, *id as usize, "{what}");
        all.extend(logits.iter().flat_map(|logit| logit.to_le_bytes()));
        next = vec![*id];
    }
    assert_eq!(prompt.steps.len(), prompt.gen_ids.len());
    all
}

/// The guest in both flavors, if the engine has them.
fn transformers(engine: &Arc<dyn Engine>) -> Vec<Transformer> {
    let mut transformers = vec![transformer(engine)];
    transformers.extend(Transformer::with_flavor(engine, SimdFlavor::Relaxed));
    transformers
}

/// How often a model is run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ways {
    /// In all placements, with the other flavor of the guest in two, by one rank or by two, in batches
    /// of several sizes: what one engine does by one rank another does by two. In the first one by both.
    All,
    /// In one placement, by one rank and by two, in batches of several sizes.
    Two,
    /// Likewise with room for this many positions, in batches that are not small.
    Long(u32),
}

impl Golden {
    /// Whether a prompt is longer than the sessions that most models get.
    fn is_long(&self) -> bool {
        self.prompts.iter().any(|prompt| prompt.prompt_ids.len() > 64)
    }
}

/// Runs a model in several ways; returns the hash of the result, which must be the same each time.
fn everywhere(
    transformers: &[Transformer],
    engine: &Arc<dyn Engine>,
    path: &Path,
    activations: Activations,
    ways: Ways,
    logits: &mut dyn FnMut(&mut Session) -> Vec<u8>,
) -> String {
    // Less than all pages, of which each layer has its own, and enough for those that are needed at once.
    let most = (std::fs::metadata(path).unwrap().len() / 8 * 7).max(8 << 16);
    let mut placements = vec![
        Placement::resident32(),
        Placement::sharded32(2),
        Placement::Paged { resident_bytes: Some(most), policy: Policy::Lru },
        Placement::multi32(),
    ];
    placements.extend(common::wide(engine.capabilities().memory64));
    let flavors = if ways == Ways::All { transformers.len() } else { 1 };
    if ways != Ways::All {
        placements.truncate(1);
    }
    let (context, batches) = match ways {
        Ways::Long(context) => (context, [128, 61]),
        _ => (96, [64, 3]),
    };
    let name = engine.capabilities().engine;
    let engine = polychord::available().into_iter().position(|other| other == name).unwrap();
    let mut expected = None;
    for (number, transformer) in transformers[..flavors].iter().enumerate() {
        for (index, placement) in placements.iter().enumerate() {
            // Where weights are does not depend on the flavor: of the second one, the first and the last.
            if number > 0 && index > 0 && index + 1 < placements.len() {
                continue;
            }
            let both = [(1, batches[0], false), (2, batches[1], true)];
            let turn = (number + index + engine) % 2;
            let first = number + index == 0;
            for (ranks, batch, mapped) in if first { &both[..] } else { &both[turn..=turn] } {
                let mut options = SessionOptions::default();
                options.placement = placement.clone();
                options.ranks = Ranks::Exactly(*ranks);
                options.batch = *batch;
                options.activations = activations;
                options.context = Some(context);
                let mut session = transformer.start(&open(path, *mapped), &options).unwrap();
                let found = hash(&logits(&mut session));
                let expected = expected.get_or_insert_with(|| found.clone());
                assert!(*expected == found, "{transformer:?}, {options:?}");
            }
        }
    }
    expected.unwrap()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
