//! The guest's kernels against ggml's own results, for every type that it supports.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
#![allow(clippy::cast_sign_loss, reason = "addresses are below 2^31")]

mod common;

use std::collections::BTreeMap;
use std::path::Path;

use polychord::api::abi::transformer::{export, status};
use polychord::api::{Engine, Limits, Runtime, Value};
use polychord::model::gguf::GgmlType;

use common::{each_engine, ggml, guest, test_name};

/// Weights in a row of the data.
const COLS: usize = 1024;
const ROWS: usize = 2;

/// Types whose weights are floats by themselves: checked against their definition.
const FLOATS: [GgmlType; 3] = [GgmlType::F32, GgmlType::F16, GgmlType::BF16];

#[test]
fn weights_are_ggml_s_bit_for_bit() {
    each_engine(test_name!(), |engine| {
        for kind in supported().filter(|kind| !FLOATS.contains(kind)) {
            let (stored, expected) = (data(kind.name()), floats(&data(&format!("{kind}.f32"))));
            assert_same(kind, &Guest::new(engine).expand(kind, &stored, expected.len()), &expected);
        }
    });
}

/// Each entry of a table, and each exponent: of types that have them, in random blocks.
#[test]
fn every_entry_of_a_table_is_ggml_s() {
    let hashes = every();
    assert_eq!(hashes.len(), 12);
    each_engine(test_name!(), |engine| {
        for (kind, expected) in &hashes {
            let stored = data(&format!("{kind}.every"));
            let len = stored.len() / kind.block_bytes() as usize * kind.block_elements() as usize;
            let found = Guest::new(engine).expand(*kind, &stored, len);
            assert_eq!(hash(&found), *expected, "{kind}");
        }
    });
}

#[test]
fn all_finite_floats_are_exact() {
    each_engine(test_name!(), |engine| {
        for kind in supported().filter(|kind| FLOATS.contains(kind)) {
            // Of 32-bit floats those that end in 16 zeros, which are the 16-bit ones.
            let zeros = kind.block_bytes() as usize - 2;
            let infinite = if kind == GgmlType::F16 { 0x7c00 } else { 0x7f80 };
            let bits = (0..=u16::MAX).filter(|bits| bits & infinite != infinite);
            let put = |bits: u16| [&[0; 2][..zeros], &bits.to_le_bytes()].concat();
            let stored: Vec<_> = bits.flat_map(put).collect();
            let expected = ggml::expand(kind, &stored);
            assert_same(kind, &Guest::new(engine).expand(kind, &stored, expected.len()), &expected);
        }
    });
}

#[test]
fn products_are_those_of_the_weights() {
    each_engine(test_name!(), |engine| {
        let x = floats(&data("activations.f32"));
        let products: serde_json::Value = serde_json::from_slice(&data("products.json")).unwrap();
        for kind in supported().filter(|kind| !FLOATS.contains(kind)) {
            let weights = floats(&data(&format!("{kind}.f32")));
            let y = Guest::new(engine).multiply(kind, &data(kind.name()), &x);
            for (row, y) in y.iter().enumerate() {
                let expected = products[kind.name()][row].as_f64().unwrap();
                let error = (f64::from(*y) - expected).abs();
                let bound = sum_error(&weights[row * COLS..][..COLS], &x);
                assert!(error <= bound, "{kind}, row {row}: {y}, not {expected} (+- {bound})");
            }
        }
    });
}

#[test]
fn other_types_are_refused() {
    each_engine(test_name!(), |engine| {
        let mut guest = Guest::new(engine);
        let numbers = (0..256).filter(|number| {
            GgmlType::from_number(*number).is_none_or(|kind| !kind.is_supported())
        });
        for number in numbers {
            let refused = guest.dequantize(number, &[0; 512], 256);
            assert_eq!(refused.err(), Some(status::UNSUPPORTED_TYPE), "type {number}");
        }
    });
}

/// The tests' own expansion, by which random models are checked.
#[test]
fn the_tests_expand_weights_as_ggml_does() {
    let known = GgmlType::ALL.iter().filter(|kind| folder().join(kind.name()).exists());
    let known: Vec<_> = known.copied().collect();
    assert_eq!(known.len(), 22, "{known:?}");
    for kind in known {
        let expected = floats(&data(&format!("{kind}.f32")));
        assert_same(kind, &ggml::expand(kind, &data(kind.name())), &expected);
    }
    for (kind, expected) in every() {
        assert_eq!(hash(&ggml::expand(kind, &data(&format!("{kind}.every")))), expected, "{kind}");
    }
    let halves = [(0x0001, 5.960_464_5e-8), (0x03ff, 6.097_555e-5), (0x3c01, 1.000_976_6)];
    for (bits, value) in [(0xc000, -2.0), (0x7bff, 65504.0)].into_iter().chain(halves) {
        assert_eq!(ggml::f16(bits).to_bits(), f32::to_bits(value), "{bits:#06x}");
    }
}

/// An instance of the guest that has no model.
struct Guest(Box<dyn Runtime>);

impl Guest {
    fn new(engine: &dyn Engine) -> Self {
        let module = engine.compile(&guest()).unwrap();
        Self(module.instantiate(&Limits::default()).unwrap())
    }

    fn expand(&mut self, kind: GgmlType, stored: &[u8], len: usize) -> Vec<f32> {
        self.dequantize(kind.number(), stored, len).unwrap_or_else(|code| panic!("{kind}: {code}"))
    }

    fn dequantize(&mut self, kind: u32, stored: &[u8], len: usize) -> Result<Vec<f32>, i32> {
        let (source, to) = (self.put(stored), self.alloc(4 * len));
        let args = [kind as i32, source, to, len as i32].map(Value::I32);
        self.status(export::DEQUANTIZE, &args)?;
        Ok(self.floats(to, len))
    }

    /// The rows times one column.
    fn multiply(&mut self, kind: GgmlType, stored: &[u8], x: &[f32]) -> Vec<f32> {
        let rows = self.put(stored);
        let x_bytes: Vec<_> = x.iter().flat_map(|x| x.to_le_bytes()).collect();
        let (column, y) = (self.put(&x_bytes), self.alloc(4 * ROWS));
        let sizes = [kind.number() as i32, rows, ROWS as i32, x.len() as i32, column, 1, y];
        self.status(export::MATMUL, &sizes.map(Value::I32)).unwrap();
        self.floats(y, ROWS)
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

    fn status(&mut self, export: &str, args: &[Value]) -> Result<(), i32> {
        match self.0.call(export, args).unwrap()[0].as_i32().unwrap() {
            status::OK => Ok(()),
            code => Err(code),
        }
    }

    fn floats(&self, address: i32, len: usize) -> Vec<f32> {
        floats(&self.0.memory()[address as usize..][..4 * len])
    }
}

/// How far a sum of products in `f32` may be off, in whatever order: each product and each of
/// at most `COLS` sums is rounded once, by a half of 2^-23 of something that is not larger
/// than the sum of all sizes.
fn sum_error(weights: &[f32], x: &[f32]) -> f64 {
    let size: f64 = weights.iter().zip(x).map(|(w, x)| f64::from(w * x).abs()).sum();
    size * (COLS + 1) as f64 * f64::from(f32::EPSILON) / 2.0
}

fn assert_same(kind: GgmlType, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{kind}");
    for (i, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found.to_bits(), expected.to_bits(), "{kind}, weight {i}: {found}, {expected}");
    }
}

fn supported() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported())
}

/// Types with random blocks in the data, and the hash of what ggml makes of them.
fn every() -> Vec<(GgmlType, String)> {
    let hashes: BTreeMap<String, String> = serde_json::from_slice(&data("every.json")).unwrap();
    let kind = |name: &str| GgmlType::ALL.iter().find(|kind| kind.name() == name).copied();
    hashes.into_iter().map(|(name, hash)| (kind(&name).unwrap(), hash)).collect()
}

/// FNV-1a of the bytes of floats.
fn hash(weights: &[f32]) -> String {
    let bytes = weights.iter().flat_map(|weight| weight.to_le_bytes());
    let hash = bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    format!("{hash:016x}")
}

/// A file of the data; every supported type must have its own.
fn data(name: &str) -> Vec<u8> {
    let path = folder().join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn folder() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/kernels"))
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|word| f32::from_le_bytes(*word)).collect()
}
