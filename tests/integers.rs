//! Products with activations of 8 bits: against ggml's own results, and against each other, bit
//! for bit, on every engine, in both builds of the guest, however many tokens are computed at
//! once.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
#![allow(clippy::cast_sign_loss, reason = "addresses")]

mod common;

use std::path::Path;

use polychord::api::abi::transformer::{export, status};
use polychord::api::{Engine, Limits, RelaxedSimd, Runtime, Value};
use polychord::model::gguf::GgmlType;
use polychord::model::{Activations, Model, SessionOptions, SimdFlavor, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, ggml, test_name};

/// Weights in a row of the data.
const COLS: usize = 1024;
const ROWS: usize = 2;
/// 1 as a 16-bit float.
const ONE: [u8; 2] = 0x3c00_u16.to_le_bytes();

/// Each activation comes out of a product with a row that is 1 in one place.
#[test]
fn activations_are_ggml_s_bit_for_bit() {
    each_engine(test_name!(), |engine| {
        for mut guest in guests(engine) {
            for (name, expected, units) in [
                ("Q8_0, signed", q8_0(), units(GgmlType::Q8_0, q8_0_unit)),
                ("Q8_0, unsigned", q8_0(), units(GgmlType::Q4_1, q4_1_unit)),
                ("Q8_K", q8_k(), units(GgmlType::Q4_K, q4_k_unit)),
            ] {
                assert_eq!(guest.multiply(&units, 1), expected, "{name}");
            }
        }
    });
}

/// The sums that minima are multiplied with come out of products with nothing but a minimum.
#[test]
fn sums_of_activations_are_ggml_s_bit_for_bit() {
    each_engine(test_name!(), |engine| {
        for mut guest in guests(engine) {
            // Scale 0, minimum 1.
            let stored = diagonal(GgmlType::Q4_1, 32, |block, _| block[2..4].copy_from_slice(&ONE));
            let rows = Rows { kind: GgmlType::Q4_1, rows: COLS / 32, stored };
            let stored = integers("acts.q8_1");
            let sums: Vec<_> = stored.chunks_exact(36).map(|block| half(block, 2)).collect();
            assert_eq!(guest.multiply(&rows, 1), sums, "Q8_1");
            // The factor of minima is 1, and so is the minimum of one group.
            let stored = diagonal(GgmlType::Q2_K, 16, |block, at| {
                block[at / 16] = 0x10;
                block[82..84].copy_from_slice(&ONE);
            });
            let rows = Rows { kind: GgmlType::Q2_K, rows: COLS / 16, stored };
            let stored = integers("acts.q8_K");
            let sums: Vec<_> = stored.chunks_exact(292).flat_map(super_sums).collect();
            assert_eq!(guest.multiply(&rows, 1), sums, "Q8_K");
        }
    });
}

#[test]
fn products_are_ggml_s() {
    each_engine(test_name!(), |engine| {
        let expected: serde_json::Value =
            serde_json::from_slice(&integers("products.json")).unwrap();
        let x = activations();
        for mut guest in guests(engine) {
            for kind in quantized() {
                let rows = Rows { kind, rows: ROWS, stored: kernels(kind.name()) };
                let found = guest.multiply(&rows, 1);
                for (row, found) in found.iter().enumerate() {
                    let expected = expected[kind.name()][row].as_f64().unwrap();
                    let error = (f64::from(*found) - expected).abs();
                    // One rounding of at most 2^-24 for each of at most 64 steps.
                    let weights = floats(&kernels(&format!("{kind}.f32")));
                    let size = sizes(&weights[row * COLS..][..COLS], &x);
                    let bound = size * 64.0 / f64::from(1 << 24);
                    assert!(error <= bound, "{kind}, {row}: {found}, not {expected} +- {bound}");
                }
            }
        }
    });
}

#[test]
fn columns_do_not_change_each_other() {
    engines_agree(test_name!(), |engine| {
        let mut results = Vec::new();
        for mut guest in guests(engine) {
            for kind in quantized() {
                let rows = Rows { kind, rows: ROWS, stored: kernels(kind.name()) };
                let one = guest.multiply(&rows, 1);
                for n in [2, 3, 4, 5, 9] {
                    let many = guest.multiply(&rows, n);
                    assert_eq!(many[..ROWS], one, "{kind}, {n} columns");
                }
                results.push(bits(&guest.multiply(&rows, 5)));
            }
        }
        let (first, rest) = results.split_at(quantized().count());
        assert!(rest.is_empty() || rest == first, "the builds of the guest differ");
        first.concat()
    });
}

/// Whole networks, with rows that are no multiple of four blocks.
#[test]
fn logits_are_the_same_everywhere() {
    engines_agree(test_name!(), |engine| {
        let mut all = String::new();
        let compile = |guest| Transformer::with_flavor(engine, guest).unwrap();
        let transformers: Vec<_> = builds(engine).into_iter().map(compile).collect();
        for kind in quantized() {
            let narrow = kind.block_elements() == 32;
            let (dim, ffn) = if narrow { (96, 160) } else { (256, 512) };
            let model = Llama::random(Shape { dim, ffn, ..Shape::of(kind) });
            let folder = tempfile::tempdir().unwrap();
            let model = Model::open(model.save(folder.path())).unwrap();
            let exact = logits(&transformers[0], Activations::F32, &model, 64);
            let first = logits(&transformers[0], Activations::Int8, &model, 1);
            let error = rms(&exact, &first);
            assert!(error > 0.0 && error < 0.1, "{kind}: {error}");
            for (build, transformer) in transformers.iter().enumerate() {
                for batch in [1, 2, 64] {
                    let found = logits(transformer, Activations::Int8, &model, batch);
                    assert!(
                        bits(&found) == bits(&first),
                        "{kind}, build {build}, batch of {batch}"
                    );
                }
            }
            all += &bits(&first);
        }
        all
    });
}

/// Infinite and undefined activations, tiny ones and huge ones.
#[test]
fn no_activation_is_too_strange() {
    engines_agree(test_name!(), |engine| {
        let mut first = None;
        for mut guest in guests(engine) {
            let mut all = String::new();
            for kind in quantized() {
                let rows = Rows { kind, rows: ROWS, stored: kernels(kind.name()) };
                for strange in [f32::NAN, f32::INFINITY, f32::MAX, f32::MIN_POSITIVE, 1e-44, 0.0] {
                    let x: Vec<_> = (0..COLS)
                        .map(|i| if i % 5 == 0 { strange } else { strange.min(1.0) * 0.5 })
                        .collect();
                    let y = guest.multiply_with(&rows, &x, 1);
                    let y: Vec<_> =
                        y.iter().map(|y| if y.is_nan() { f32::NAN } else { *y }).collect();
                    all += &bits(&y);
                }
            }
            assert!(first.get_or_insert_with(|| all.clone()) == &all, "the builds differ");
        }
        first.unwrap()
    });
}

/// The builds that an engine can run.
fn builds(engine: &dyn Engine) -> Vec<SimdFlavor> {
    match engine.capabilities().relaxed_simd {
        RelaxedSimd::Unsupported => vec![SimdFlavor::Plain],
        _ => vec![SimdFlavor::Plain, SimdFlavor::Relaxed],
    }
}

fn logits(
    transformer: &Transformer,
    activations: Activations,
    model: &Model,
    batch: u32,
) -> Vec<f32> {
    let mut options = SessionOptions::default();
    options.batch = batch;
    options.activations = activations;
    let mut session = transformer.start(model, &options).unwrap();
    session.eval(&[5, 17, 2, 90, 41, 7, 7]).unwrap().to_vec()
}

fn rms(a: &[f32], b: &[f32]) -> f64 {
    let squares = a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    (squares / a.len() as f64).sqrt()
}

/// Stored rows of `COLS` weights.
struct Rows {
    kind: GgmlType,
    rows: usize,
    stored: Vec<u8>,
}

/// A row for each `step` weights, all of it zero but what `set(block, at)` sets in the block
/// that holds them, from weight `at` of it on.
fn diagonal(kind: GgmlType, step: usize, set: impl Fn(&mut [u8], usize)) -> Vec<u8> {
    let (weights, bytes) = (kind.block_elements() as usize, kind.block_bytes() as usize);
    let row_bytes = COLS / weights * bytes;
    let mut stored = vec![0; COLS / step * row_bytes];
    for (row, at) in stored.chunks_exact_mut(row_bytes).zip((0..COLS).step_by(step)) {
        set(&mut row[at / weights * bytes..][..bytes], at % weights);
    }
    stored
}

fn units(kind: GgmlType, set: impl Fn(&mut [u8], usize)) -> Rows {
    Rows { kind, rows: COLS, stored: diagonal(kind, 1, set) }
}

fn q8_0_unit(block: &mut [u8], at: usize) {
    block[..2].copy_from_slice(&ONE);
    block[2 + at] = 1;
}

fn q4_1_unit(block: &mut [u8], at: usize) {
    block[..2].copy_from_slice(&ONE);
    block[4 + at % 16] = 1 << (at / 16 * 4);
}

fn q4_k_unit(block: &mut [u8], at: usize) {
    block[..2].copy_from_slice(&ONE);
    // Scale 1 for each group.
    block[4..8].fill(1);
    block[12..16].fill(1);
    block[16 + at / 64 * 32 + at % 32] = 1 << (at % 64 / 32 * 4);
}

/// The activations as `Q8_0` has them.
fn q8_0() -> Vec<f32> {
    let value = |block: &[u8], i: usize| half(block, 0) * f32::from(block[2 + i].cast_signed());
    let stored = integers("acts.q8_0");
    let values = stored.chunks_exact(34).flat_map(|block| (0..32).map(move |i| value(block, i)));
    values.collect()
}

/// The activations as `Q8_K` has them.
fn q8_k() -> Vec<f32> {
    let scale = |block: &[u8]| f32::from_le_bytes(*block.first_chunk().unwrap());
    let value = |block: &[u8], i: usize| scale(block) * f32::from(block[4 + i].cast_signed());
    let stored = integers("acts.q8_K");
    let values = stored.chunks_exact(292).flat_map(|block| (0..256).map(move |i| value(block, i)));
    values.collect()
}

/// What a minimum of 1 makes of the groups of a superblock.
fn super_sums(block: &[u8]) -> Vec<f32> {
    let scale = f32::from_le_bytes(*block.first_chunk().unwrap());
    let (sums, _) = block[260..].as_chunks::<2>();
    sums.iter().map(|sum| 0.0 - f32::from(i16::from_le_bytes(*sum)) * scale).collect()
}

fn half(block: &[u8], at: usize) -> f32 {
    ggml::f16(u16::from_le_bytes([block[at], block[at + 1]]))
}

/// An instance of a build of the guest that has no model.
struct Instance(Box<dyn Runtime>);

fn guests(engine: &dyn Engine) -> impl Iterator<Item = Instance> {
    let start = move |build| {
        let name = if build == SimdFlavor::Plain { "plain" } else { "relaxed" };
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/built");
        let wasm = std::fs::read(built.join(format!("transformer-wasm32-{name}.wasm"))).unwrap();
        let module = engine.compile(&wasm).unwrap();
        Instance(module.instantiate(&Limits::default()).unwrap())
    };
    builds(engine).into_iter().map(start)
}

impl Instance {
    /// The rows times the data's activations, once or in `n` columns, the others being random.
    fn multiply(&mut self, rows: &Rows, n: usize) -> Vec<f32> {
        let mut random = ggml::Random(7);
        let others = std::iter::repeat_with(|| random.uniform()).take((n - 1) * COLS);
        let x: Vec<_> = activations().into_iter().chain(others).collect();
        self.multiply_with(rows, &x, n)
    }

    fn multiply_with(&mut self, rows: &Rows, x: &[f32], n: usize) -> Vec<f32> {
        let stored = self.put(&rows.stored);
        let x_bytes: Vec<_> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (x, y) = (self.put(&x_bytes), self.alloc(4 * n * rows.rows));
        let sizes = [stored, rows.rows as i32, COLS as i32, x, n as i32, y];
        let args = [&[rows.kind.number() as i32], &sizes[..]].concat();
        let args: Vec<_> = args.into_iter().map(Value::I32).collect();
        let done = self.0.call(export::MATMUL_INT8, &args).unwrap()[0].as_i32();
        assert_eq!(done, Some(status::OK));
        floats(&self.0.memory()[y as usize..][..4 * n * rows.rows])
    }

    fn put(&mut self, bytes: &[u8]) -> i32 {
        let address = self.alloc(bytes.len());
        self.0.memory_mut()[address as usize..][..bytes.len()].copy_from_slice(bytes);
        address
    }

    fn alloc(&mut self, len: usize) -> i32 {
        let results = self.0.call(export::ALLOC, &[Value::I32(len as i32)]).unwrap();
        results[0].as_i32().filter(|address| *address != 0).unwrap()
    }
}

fn quantized() -> impl Iterator<Item = GgmlType> {
    let all = GgmlType::ALL.iter().copied();
    all.filter(|kind| kind.is_supported() && kind.block_elements() > 1)
}

fn sizes(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(a, b)| f64::from(a * b).abs()).sum()
}

fn bits(numbers: &[f32]) -> String {
    numbers.iter().map(|number| format!("{:08x}", number.to_bits())).collect()
}

fn activations() -> Vec<f32> {
    floats(&kernels("activations.f32"))
}

fn kernels(name: &str) -> Vec<u8> {
    read("kernels", name)
}

fn integers(name: &str) -> Vec<u8> {
    read("integers", name)
}

fn read(folder: &str, name: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(folder).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}
