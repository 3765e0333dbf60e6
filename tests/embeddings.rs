//! Embeddings against llama.cpp, and against themselves, bit for bit, however they are computed.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "shown by --nocapture")]

mod common;

use std::path::Path;
use std::sync::Arc;

use polychord::api::{Engine, Memory64, Policy};
use polychord::model::tokenizer::{SpecialTokens, Tokenizer};
use polychord::model::{
    Activations, EmbedOptions, Error, Model, Placement, Pooling, Ranks, SessionOptions, SimdFlavor,
    Transformer,
};
use sha2::{Digest, Sha256};

use common::encoders::Encoder;
use common::{each_engine, engines_agree, open, test_name, transformer};

/// What llama.cpp computed, and of which file.
#[derive(serde::Deserialize)]
struct Golden {
    sha256: String,
    /// The largest difference between two kernels of llama.cpp.
    noise: f32,
    model: Encoder,
    inputs: Vec<Input>,
    #[serde(default)]
    texts: Vec<Text>,
}

#[derive(serde::Deserialize)]
struct Input {
    ids: Vec<u32>,
    vector: Vec<f32>,
}

#[derive(serde::Deserialize)]
struct Text {
    text: String,
    ids: Vec<u32>,
}

const GOLDENS: [&str; 6] = [
    include_str!("data/embeddings/gemma-embedding-small.json"),
    include_str!("data/embeddings/gemma-embedding-dense.json"),
    include_str!("data/embeddings/bert-small.json"),
    include_str!("data/embeddings/bert-mean.json"),
    include_str!("data/embeddings/nomic-bert-small.json"),
    include_str!("data/embeddings/qwen3-last.json"),
];

#[test]
fn embeddings_are_those_of_llama_cpp_and_the_same_everywhere() {
    engines_agree(test_name!(), |engine| {
        let mut transformers = vec![transformer(engine)];
        transformers.extend(Transformer::with_flavor(engine, SimdFlavor::Relaxed));
        let check = |golden: &str| {
            let golden: Golden = serde_json::from_str(golden).unwrap();
            let (folder, file) = (tempfile::tempdir().unwrap(), golden.model.file());
            assert_eq!(hash(&file), golden.sha256, "another file: {:?}", golden.model);
            let path = folder.path().join("model.gguf");
            std::fs::write(&path, file).unwrap();
            let first = vectors(&transformers[0], &path, &golden, &SessionOptions::new(), false);
            compare(&golden, &first);
            everywhere(engine, &transformers, &path, &golden, &first);
            let bytes: Vec<_> = first.iter().flatten().flat_map(|x| x.to_le_bytes()).collect();
            hash(&bytes)
        };
        GOLDENS.map(check).concat()
    });
}

/// llama.cpp reads GELU from a table of 16-bit floats: measured, that makes 1.3e-3 of difference.
fn compare(golden: &Golden, found: &[Vec<f32>]) {
    let architecture = &golden.model.architecture;
    let tolerance = match architecture.as_str() {
        "gemma-embedding" | "bert" => 0.004_f32.max(3.0 * golden.noise),
        _ => 1e-4,
    };
    let mut worst = 0.0_f32;
    for (found, input) in found.iter().zip(&golden.inputs) {
        assert_eq!(found.len(), input.vector.len());
        let pairs = found.iter().zip(&input.vector);
        worst = pairs.map(|(found, expected)| (found - expected).abs()).fold(worst, f32::max);
    }
    println!("{architecture}: off by {worst:e}, allowed is {tolerance:e}");
    assert!(worst <= tolerance, "{architecture}: off by {worst}, allowed is {tolerance}");
}

fn everywhere(
    engine: &Arc<dyn Engine>,
    transformers: &[Transformer],
    path: &Path,
    golden: &Golden,
    expected: &[Vec<f32>],
) {
    let most = std::fs::metadata(path).unwrap().len() / 4 * 3;
    let mut placements = vec![
        Placement::resident32(),
        Placement::sharded32(2),
        Placement::Paged { resident_bytes: Some(most), policy: Policy::Pinned },
        Placement::multi32(),
    ];
    if matches!(engine.capabilities().memory64, Memory64::Native { .. }) {
        placements.push(Placement::native64());
    }
    for transformer in transformers {
        for placement in &placements {
            for (ranks, batch, mapped) in [(1, 64, true), (2, 3, false)] {
                let options = SessionOptions::new()
                    .placement(placement.clone())
                    .ranks(Ranks::Exactly(ranks))
                    .batch(batch)
                    .context(96);
                let found = vectors(transformer, path, golden, &options, mapped);
                assert!(found == expected, "{:?}, {options:?}", golden.model);
            }
        }
    }
}

/// The vectors of all inputs, as they are.
fn vectors(
    transformer: &Transformer,
    path: &Path,
    golden: &Golden,
    options: &SessionOptions,
    mapped: bool,
) -> Vec<Vec<f32>> {
    let options = options.clone().activations(Activations::F32);
    let mut session = transformer.start(&open(path, mapped), &options).unwrap();
    let raw = EmbedOptions::new().normalized(false);
    let inputs = golden.inputs.iter();
    inputs.map(|input| session.embed_with(&input.ids, &raw).unwrap()).collect()
}

/// What a session says to what it cannot do, and that it goes on after that.
#[test]
fn sessions_know_what_a_model_is_for() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let transformer = transformer(engine);
        let start = |golden: &str| {
            let golden: Golden = serde_json::from_str(golden).unwrap();
            std::fs::write(&path, golden.model.file()).unwrap();
            let options = SessionOptions::new().context(32);
            transformer.start(&Model::open(&path).unwrap(), &options).unwrap()
        };
        let mut encoder = start(GOLDENS[0]);
        assert!(matches!(encoder.eval(&[1, 2]), Err(Error::Encoder)));
        assert!(matches!(encoder.embed(&[]), Err(Error::EmptyPrompt)));
        assert!(matches!(encoder.embed(&[1; 33]), Err(Error::ContextFull { .. })));
        let error = encoder.embed(&[1, 259]).unwrap_err().to_string();
        assert!(error.contains("259, where it has 259"), "{error}");
        let vector = encoder.embed(&[1, 5, 9]).unwrap();
        let length: f64 = vector.iter().map(|x| f64::from(*x) * f64::from(*x)).sum();
        assert!((length - 1.0).abs() < 1e-6, "{length}");
        // What a sequence sees behind it counts.
        let first = |ids: &[u32], encoder: &mut polychord::model::Session| {
            encoder.embed_with(ids, &EmbedOptions::new().pooling(Pooling::First)).unwrap()
        };
        assert_ne!(first(&[1, 5, 9], &mut encoder), first(&[1, 5, 8], &mut encoder));

        // A model for text, too: its first token knows nothing of others.
        let mut causal = start(GOLDENS[5]);
        assert_eq!(first(&[1, 5, 9], &mut causal), first(&[1, 5, 8], &mut causal));
        causal.eval(&[1, 2, 3]).unwrap();
        causal.embed(&[1, 5, 9]).unwrap();
        assert_eq!(causal.position(), 0);
        let whole = causal.embed_with(&[1, 5, 9], &EmbedOptions::new().pooling(Pooling::Mean));
        assert_ne!(whole.unwrap(), causal.embed(&[1, 5, 9]).unwrap());
    });
}

/// A model without a pooling needs one to be chosen.
#[test]
fn a_model_for_text_has_no_embedding_of_its_own() {
    each_engine(test_name!(), |engine| {
        use common::llama::{Llama, Shape};
        use polychord::model::gguf::GgmlType;

        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape::of(GgmlType::Q8_0)).save(folder.path());
        let model = Model::open(path).unwrap();
        let mut session = transformer(engine).start(&model, &SessionOptions::new()).unwrap();
        assert!(matches!(session.embed(&[1, 2]), Err(Error::Pooling)));
        let mean = EmbedOptions::new().pooling(Pooling::Mean);
        assert_eq!(session.embed_with(&[1, 2], &mean).unwrap().len(), model.config().dim as usize);
    });
}

#[test]
fn words_are_cut_as_llama_cpp_does() {
    let golden: Golden = serde_json::from_str(GOLDENS[2]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, golden.model.file()).unwrap();
    let model = Model::open(&path).unwrap();
    let tokenizer: &Tokenizer = model.tokenizer().unwrap();
    assert!(golden.texts.len() > 20);
    for Text { text, ids } in &golden.texts {
        assert_eq!(tokenizer.encode(text, SpecialTokens::Parse).unwrap(), *ids, "{text:?}");
        let document = tokenizer.encode_document(text, SpecialTokens::Parse).unwrap();
        assert_eq!(document.last(), Some(&3), "{text:?}");
        assert_eq!(document.first(), Some(&2), "{text:?}");
    }
    assert_eq!(tokenizer.decode(&[77, 78, 82, 95]).unwrap(), "the cat wording");
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
