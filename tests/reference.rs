//! Small random models against the definition of the architecture, evaluated in `f64`, and
//! against each other, bit for bit, however they are run.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod common;

use std::path::Path;

use polychord::api::Engine;
use polychord::model::gguf::GgmlType;
use polychord::model::{Activations, Model, Session, SessionOptions, Transformer};

use common::ggml::{self, Random};
use common::llama::{EPSILON, Llama, Shape};
use common::{engines_agree, test_name, transformer};

/// How far a logit may be off, as a share of the largest one.
///
/// Of sums of up to 512 products in `f32`, each rounded by 2^-24, some 2^-22 remains as their
/// errors are random, and the norms keep it from growing through the blocks: measured was at
/// most 1e-6. Every mistake is larger: [`a_mistake_is_larger_than_the_tolerance`].
const TOLERANCE: f64 = 4e-6;

#[test]
fn every_type_of_tensor() {
    on_each(test_name!(), |runner| {
        let kinds = GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported());
        kinds.map(|kind| runner.check(Shape::of(kind), 11)).collect()
    });
}

/// The default model's mixture, and others.
#[test]
fn types_in_one_model() {
    use GgmlType::{F16, Q4_0, Q4_1, Q8_0};

    on_each(test_name!(), |runner| {
        let pairs = [(Q4_1, Q8_0), (Q8_0, F16), (F16, Q4_0)];
        pairs.map(|(kind, ends)| runner.check(Shape { ends, ..Shape::of(kind) }, 11)).concat()
    });
}

#[test]
fn every_kind_of_attention() {
    on_each(test_name!(), |runner| {
        let plain = Shape::of(GgmlType::F32);
        let shapes = [
            Shape { heads: 4, kv_heads: 4, ..plain.clone() },
            Shape { heads: 6, kv_heads: 1, head_dim: 10, rope_dim: 6, ..plain.clone() },
            Shape { heads: 6, kv_heads: 2, head_dim: 32, rope_dim: 32, ..plain.clone() },
            Shape { heads: 1, kv_heads: 1, head_dim: 2, rope_dim: 2, ..plain.clone() },
            Shape { rope_base: 500_000.0, rope_factor: 4.0, ..plain.clone() },
            Shape { rope_freqs: true, tied: true, ..plain },
        ];
        shapes.map(|shape| runner.check(shape, 11)).concat()
    });
}

/// Biases of queries, keys and values, which any architecture may have.
#[test]
fn biases() {
    on_each("biases", |runner| {
        let plain = Shape { biases: true, ..Shape::of(GgmlType::F32) };
        let shapes = [
            Shape { heads: 6, kv_heads: 2, head_dim: 10, rope_dim: 6, ..plain },
            Shape { biases: true, ..Shape::of(GgmlType::Q8_0) },
        ];
        shapes.map(|shape| runner.check(shape, 11)).concat()
    });
}

/// Biases, and rotation of halves of heads, or of a part of them.
#[test]
fn qwen2() {
    on_each("qwen2", |runner| {
        let plain = Shape { biases: true, ..Shape::of(GgmlType::F32) };
        let shapes = [
            Shape { heads: 6, kv_heads: 2, head_dim: 10, rope_dim: 6, ..plain.clone() },
            Shape { rope_freqs: true, rope_factor: 4.0, tied: true, ..plain },
            Shape { biases: true, ..Shape::of(GgmlType::Q8_0) },
        ];
        shapes.map(|shape| runner.check_model(&Llama::of("qwen2", shape), 11)).concat()
    });
}

/// Sizes that are multiples of nothing, long sequences, deep and tiny networks.
#[test]
fn every_size() {
    on_each(test_name!(), |runner| {
        let plain = Shape::of(GgmlType::F16);
        let odd = Shape { dim: 37, ffn: 51, vocab: 131, heads: 3, kv_heads: 3, ..plain.clone() };
        let tiny = Shape { dim: 1, ffn: 1, vocab: 2, heads: 1, kv_heads: 1, ..plain.clone() };
        let shapes = [
            (Shape { head_dim: 6, rope_dim: 6, tied: true, ..odd }, 11),
            (Shape { head_dim: 2, rope_dim: 2, blocks: 1, ..tiny }, 3),
            (Shape { blocks: 7, ..plain.clone() }, 11),
            (plain, 128),
        ];
        shapes.map(|(shape, len)| runner.check(shape, len)).concat()
    });
}

/// A tensor that belongs to another block or has another row order gives other logits: the
/// comparison above can fail.
#[test]
fn a_mistake_is_larger_than_the_tolerance() {
    on_each(test_name!(), |runner| {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape::of(GgmlType::F32);
        let model = Llama::random(shape.clone());
        let tokens = tokens(&shape, 5);
        let expected = reference(&model, &tokens);
        for name in ["blk.1.attn_k.weight", "blk.0.ffn_norm.weight", "output.weight"] {
            let mut wrong = model.clone();
            let bytes = &mut wrong.tensor_mut(name).bytes;
            let last = bytes.len() - 4;
            let weight = f32::from_le_bytes(*bytes.last_chunk().unwrap());
            bytes[last..].copy_from_slice(&(weight * 1.01).to_le_bytes());
            let mut session = runner.start(&wrong.save(folder.path()), false, 64);
            let logits = session.eval(&tokens).unwrap().to_vec();
            let error = worst(&logits, &expected[4]);
            assert!(error > TOLERANCE, "1 % of one weight of {name} makes only {error}");
        }
        String::new()
    });
}

/// Else products would overflow, or vanish beside others, and prove little.
#[test]
fn random_weights_have_the_size_asked_for() {
    for kind in GgmlType::ALL.iter().filter(|kind| kind.is_supported()) {
        let weights = ggml::expand(*kind, &ggml::random(*kind, 1 << 14, 0.1, &mut Random(7)));
        let squares: f32 = weights.iter().map(|weight| weight * weight).sum();
        let size = (squares / weights.len() as f32).sqrt();
        assert!((0.08..0.13).contains(&size), "{kind}: {size}");
    }
}

/// An engine with the guest, which takes longer to compile than any of these models to run.
struct Runner<'a> {
    engine: &'a dyn Engine,
    transformer: Transformer,
}

fn on_each(test: &str, body: impl Fn(&Runner) -> String) {
    engines_agree(test, |engine| {
        let transformer = transformer(engine);
        body(&Runner { engine, transformer })
    });
}

impl Runner<'_> {
    /// Runs a random model in every way, and returns the bits of all logits.
    fn check(&self, shape: Shape, len: usize) -> String {
        self.check_model(&Llama::random(shape), len)
    }

    fn check_model(&self, model: &Llama, len: usize) -> String {
        let what = format!("{} {:?}", model.architecture, model.shape);
        let folder = tempfile::tempdir().unwrap();
        let path = model.save(folder.path());
        let tokens = tokens(&model.shape, len);
        let one_by_one = one_by_one(&mut self.start(&path, false, 1), &tokens);
        for (i, (found, expected)) in one_by_one.iter().zip(reference(model, &tokens)).enumerate() {
            let error = worst(found, &expected);

            assert!(error < TOLERANCE, "{what}, token {i}: off by {error}");
        }
        for (mapped, batch) in [(false, 2), (false, 64), (true, 1), (true, 3), (true, 64)] {
            let mut session = self.start(&path, mapped, batch);
            self.check_load(&session, mapped);
            let what = format!("{what}, mapped: {mapped}, batch: {batch}");
            // Twice, since a sequence that was forgotten must leave nothing behind.
            for _ in 0..2 {
                session.reset();
                in_parts(&mut session, &tokens, &one_by_one, &what);
            }
        }
        one_by_one.iter().flatten().map(|logit| format!("{:08x}", logit.to_bits())).collect()
    }

    /// Mapping must not quietly be copying, nor the other way round.
    fn check_load(&self, session: &Session, mapped: bool) {
        let report = session.load_report();
        let mapped = mapped && self.engine.capabilities().mapping;
        assert_eq!((report.mapped > 0, report.copied > 0), (mapped, !mapped));
    }

    #[allow(unsafe_code, reason = "the file is the test's own")]
    fn start(&self, path: &Path, mapped: bool, batch: u32) -> Session {
        let model = match mapped {
            false => Model::open(path).unwrap(),
            // SAFETY: the file belongs to this test alone, and it stays until the session is dropped.
            true => unsafe { Model::open_mapped(path).unwrap() },
        };
        let mut options = SessionOptions::default();
        options.batch = batch;
        options.activations = Activations::F32;
        self.transformer.start(&model, &options).unwrap()
    }
}

/// The logits after each token, one call for each.
fn one_by_one(session: &mut Session, tokens: &[u32]) -> Vec<Vec<f32>> {
    tokens.iter().map(|token| session.eval(&[*token]).unwrap().to_vec()).collect()
}

/// Evaluates a prompt and what follows it, and compares bits.
fn in_parts(session: &mut Session, tokens: &[u32], expected: &[Vec<f32>], what: &str) {
    let prompt = tokens.len() * 2 / 3;
    for part in [0..prompt, prompt..tokens.len()] {
        let logits = session.eval(&tokens[part.clone()]).unwrap().to_vec();
        let pairs = logits.iter().zip(&expected[part.end - 1]);
        let different = pairs.filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        assert_eq!(different, 0, "{what}, token {}", part.end - 1);
    }
}

fn tokens(shape: &Shape, len: usize) -> Vec<u32> {
    let mut random = Random(1);
    (0..len).map(|_| (random.next() % shape.vocab as u64) as u32).collect()
}

/// The largest error as a share of the largest logit.
fn worst(found: &[f32], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    assert!(found.iter().all(|logit| logit.is_finite()));
    let errors = found.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs());
    errors.fold(0.0, f64::max) / expected.iter().map(|b| b.abs()).fold(0.0, f64::max)
}

/// The logits after each token, by the definition.
fn reference(model: &Llama, tokens: &[u32]) -> Vec<Vec<f64>> {
    let shape = &model.shape;
    let weights = |name: &str| -> Vec<f64> {
        let tensor = model.tensor(name).unwrap_or_else(|| panic!("no {name}"));
        tensor.expand().into_iter().map(f64::from).collect()
    };
    let embedding = weights("token_embd.weight");
    let freqs = shape.rope_freqs.then(|| weights("rope_freqs.weight"));
    let norm = weights("output_norm.weight");
    let output = if shape.tied { embedding.clone() } else { weights("output.weight") };
    let rows = tokens.iter().map(|token| *token as usize * shape.dim);
    let mut hidden: Vec<Vec<f64>> =
        rows.map(|start| embedding[start..start + shape.dim].to_vec()).collect();
    for block in 0..shape.blocks {
        let bias = |part: &str| shape.biases.then(|| weights(&format!("blk.{block}.{part}.bias")));
        let weights = |part: &str| weights(&format!("blk.{block}.{part}.weight"));
        let normed = hidden.iter().map(|x| rms_norm(x, &weights("attn_norm"))).collect();
        let rope = |position, row| rope(model, freqs.as_deref(), position, row);
        let attended = attention(shape, &weights, &bias, &rope, normed);
        let (projection, ffn_norm) = (weights("attn_output"), weights("ffn_norm"));
        let (gate, up, down) = (weights("ffn_gate"), weights("ffn_up"), weights("ffn_down"));
        for (hidden, attended) in hidden.iter_mut().zip(attended) {
            add(hidden, &multiply(&projection, &attended));
            let normed = rms_norm(hidden, &ffn_norm);
            let gate = multiply(&gate, &normed).into_iter().map(|x| x / (1.0 + (-x).exp()));
            let both: Vec<_> = gate.zip(multiply(&up, &normed)).map(|(a, b)| a * b).collect();
            add(hidden, &multiply(&down, &both));
        }
    }
    hidden.iter().map(|x| multiply(&output, &rms_norm(x, &norm))).collect()
}

/// What each position gathers from those before it and itself, all heads together.
fn attention(
    shape: &Shape,
    weights: &impl Fn(&str) -> Vec<f64>,
    bias: &impl Fn(&str) -> Option<Vec<f64>>,
    rope: &impl Fn(usize, Vec<f64>) -> Vec<f64>,
    normed: Vec<Vec<f64>>,
) -> Vec<Vec<f64>> {
    let project = |part: &str, rotated: bool| -> Vec<Vec<f64>> {
        let (weights, bias) = (weights(part), bias(part));
        let rows = normed.iter().map(|x| multiply(&weights, x)).enumerate();
        let rotate = |(position, mut row): (usize, Vec<f64>)| {
            bias.iter().for_each(|bias| add(&mut row, bias));
            if rotated { rope(position, row) } else { row }
        };
        rows.map(rotate).collect()
    };
    let (q, k, v) = (project("attn_q", true), project("attn_k", true), project("attn_v", false));
    let width = shape.head_dim;
    let head = |row: &[f64], head: usize| row[head * width..][..width].to_vec();
    let mut attended = Vec::new();
    for (position, q) in q.iter().enumerate() {
        let mut row = Vec::new();
        for query in 0..shape.heads {
            let shared = query / (shape.heads / shape.kv_heads);
            let score =
                |k: &Vec<f64>| dot(&head(q, query), &head(k, shared)) / (width as f64).sqrt();
            let shares = softmax(k[..=position].iter().map(score).collect());
            let mut sum = vec![0.0; width];
            for (share, v) in shares.iter().zip(&v) {
                let scaled: Vec<_> = head(v, shared).iter().map(|v| share * v).collect();
                add(&mut sum, &scaled);
            }
            row.extend(sum);
        }
        attended.push(row);
    }
    attended
}

/// Rotates pairs at the start of each head: neighbors, or elements of its halves.
fn rope(model: &Llama, freqs: Option<&[f64]>, position: usize, mut row: Vec<f64>) -> Vec<f64> {
    let shape = &model.shape;
    let position = position as f64 / f64::from(shape.rope_factor);
    for head in row.chunks_exact_mut(shape.head_dim) {
        for pair in 0..shape.rope_dim / 2 {
            let power = -2.0 * pair as f64 / shape.rope_dim as f64;
            let divisor = freqs.map_or(1.0, |freqs| freqs[pair]);
            let angle = position * f64::from(shape.rope_base).powf(power) / divisor;
            let (sin, cos) = angle.sin_cos();
            let (first, second) = match model.architecture.as_str() {
                "llama" => (2 * pair, 2 * pair + 1),
                _ => (pair, pair + shape.rope_dim / 2),
            };
            let (x, y) = (head[first], head[second]);
            (head[first], head[second]) = (x * cos - y * sin, x * sin + y * cos);
        }
    }
    row
}

fn rms_norm(x: &[f64], weights: &[f64]) -> Vec<f64> {
    let root = (dot(x, x) / x.len() as f64 + f64::from(EPSILON)).sqrt();
    x.iter().zip(weights).map(|(x, weight)| x / root * weight).collect()
}

fn softmax(mut scores: Vec<f64>) -> Vec<f64> {
    let highest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    scores.iter_mut().for_each(|score| *score = (*score - highest).exp());
    let sum: f64 = scores.iter().sum();
    scores.iter_mut().for_each(|score| *score /= sum);
    scores
}

/// Each row of a matrix times a vector.
fn multiply(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len()).map(|row| dot(row, x)).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn add(to: &mut [f64], with: &[f64]) {
    to.iter_mut().zip(with).for_each(|(to, with)| *to += with);
}
