//! The guest's products of matrices, for every type of weights.
//!
//! One column is decoding, 32 columns are a prompt. An item is one multiplication.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(clippy::cast_possible_wrap, clippy::cast_sign_loss, reason = "addresses, small numbers")]

use std::cell::OnceCell;
use std::sync::Arc;

use divan::Bencher;
use divan::counter::ItemsCount;
use polychord::api::abi::transformer::export;
use polychord::api::{Engine, Limits, Module, RelaxedSimd, Runtime, Value};
use polychord::model::gguf::GgmlType;

const ROWS: usize = 512;
// Both 32 and 256 divide it.
const COLS: usize = 1536;
const PROMPT: usize = 32;

#[divan::bench(args = types())]
fn decode_f32(bencher: Bencher<'_, '_>, kind: GgmlType) {
    multiply(bencher, kind, export::MATMUL, 1);
}

#[divan::bench(args = types())]
fn decode_int8(bencher: Bencher<'_, '_>, kind: GgmlType) {
    multiply(bencher, kind, export::MATMUL_INT8, 1);
}

#[divan::bench(args = types(), sample_count = 20)]
fn prompt_f32(bencher: Bencher<'_, '_>, kind: GgmlType) {
    multiply(bencher, kind, export::MATMUL, PROMPT);
}

#[divan::bench(args = types(), sample_count = 20)]
fn prompt_int8(bencher: Bencher<'_, '_>, kind: GgmlType) {
    multiply(bencher, kind, export::MATMUL_INT8, PROMPT);
}

fn types() -> impl Iterator<Item = GgmlType> {
    GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported())
}

fn multiply(bencher: Bencher<'_, '_>, kind: GgmlType, export: &str, columns: usize) {
    let mut guest = Guest::new();
    let args = guest.case(kind, columns).map(Value::I32);
    bencher.counter(ItemsCount::new(ROWS * COLS * columns)).bench_local(|| {
        assert_eq!(guest.0.call(export, &args).unwrap(), [Value::I32(0)]);
    });
}

struct Guest(Box<dyn Runtime>);

impl Guest {
    fn new() -> Self {
        // Compiling takes longer than all measurements of a type.
        thread_local!(static MODULE: OnceCell<Arc<dyn Module>> = const { OnceCell::new() });
        MODULE.with(|module| {
            let module = module.get_or_init(|| compile(&*crate::engine()));
            Self(module.instantiate(&Limits::default()).unwrap())
        })
    }

    /// Arguments of a product of random rows and columns.
    fn case(&mut self, kind: GgmlType, columns: usize) -> [i32; 7] {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        let len = (ROWS * COLS) as u64 / kind.block_elements() * kind.block_bytes();
        // Whatever these bytes are part of, it is a small number, and no subnormal one.
        let weights: Vec<u8> = (0..len).map(|_| next() as u8 & 0x3b | 4).collect();
        let mut float = || (next() % 2001) as f32 / 1000.0 - 1.0;
        let x: Vec<u8> = (0..columns * COLS).flat_map(|_| float().to_le_bytes()).collect();
        let (w, x, y) = (self.put(&weights), self.put(&x), self.alloc(4 * columns * ROWS));
        [kind.number() as i32, w, ROWS as i32, COLS as i32, x, columns as i32, y]
    }

    fn put(&mut self, bytes: &[u8]) -> i32 {
        let at = self.alloc(bytes.len());
        self.0.memory_mut()[at as u32 as usize..][..bytes.len()].copy_from_slice(bytes);
        at
    }

    fn alloc(&mut self, len: usize) -> i32 {
        self.0.call(export::ALLOC, &[Value::I32(len as i32)]).unwrap()[0].as_i32().unwrap()
    }
}

/// The build of the transformer guest that the engine runs faster, or the one that is asked for.
fn compile(engine: &dyn Engine) -> Arc<dyn Module> {
    let build = match engine.capabilities().relaxed_simd {
        RelaxedSimd::Faster => "relaxed",
        _ => "plain",
    };
    let built = format!("guest/built/transformer-wasm32-{build}.wasm");
    let path = std::env::var_os("POLYCHORD_GUEST").unwrap_or_else(|| built.into());
    engine.compile(&std::fs::read(path).unwrap()).unwrap()
}
