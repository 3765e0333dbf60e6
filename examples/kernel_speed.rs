//! How many weights a second the guest's products take: one engine, every type.
//!
//! `cargo run --release --example kernel_speed -- ENGINE [GUEST.wasm] [ROWS] [COLS]`
//!
//! Prints thousands of millions of multiplications a second, the best of several runs: decoding
//! (one column) and prompts (32 columns), with activations as floats and as integers; and a
//! hash of the integer products, which must be the same for every guest and engine.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
#![allow(clippy::cast_sign_loss, reason = "addresses")]

use std::hash::Hasher;
use std::time::Instant;

use polychord::api::abi::transformer::export;
use polychord::api::{Limits, Runtime, Value};
use polychord::model::gguf::GgmlType;

fn main() {
    let mut args = std::env::args().skip(1);
    let name = args.next().unwrap_or_else(|| "wasmtime".to_owned());
    let built = "guest/built/transformer-wasm32-plain.wasm".to_owned();
    let guest = std::fs::read(args.next().unwrap_or(built)).unwrap();
    let mut size = |default: usize| args.next().map_or(default, |arg| arg.parse().unwrap());
    let (rows, cols) = (size(1024), size(2048));
    let engine = polychord::open(&name).unwrap();
    let module = engine.compile(&guest).unwrap();
    println!("{name}, {rows} x {cols}");
    println!("{:>6} {:>8} {:>8} {:>8} {:>8}  hash", "type", "f32", "int8", "f32 32", "int8 32");
    for kind in GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported()) {
        if !(cols as u64).is_multiple_of(kind.block_elements()) {
            continue;
        }
        let mut guest = Guest(module.instantiate(&Limits::default()).unwrap());
        let mut case = Case::new(&mut guest, kind, rows, cols);
        let mut speed = |export, n| case.speed(&mut guest, export, n);
        let one = [speed(export::MATMUL, 1), speed(export::MATMUL_INT8, 1)];
        let many = [speed(export::MATMUL, 32), speed(export::MATMUL_INT8, 32)];
        let hash = case.hash(&guest);
        let [a, b, c, d] = [one[0], one[1], many[0], many[1]];
        println!("{kind:>6} {a:>8.2} {b:>8.2} {c:>8.2} {d:>8.2}  {hash:016x}");
    }
}

struct Guest(Box<dyn Runtime>);

impl Guest {
    fn alloc(&mut self, len: usize) -> i32 {
        self.0.call(export::ALLOC, &[Value::I32(len as i32)]).unwrap()[0].as_i32().unwrap()
    }

    fn put(&mut self, bytes: &[u8]) -> i32 {
        let at = self.alloc(bytes.len());
        self.0.memory_mut()[at as u32 as usize..][..bytes.len()].copy_from_slice(bytes);
        at
    }
}

/// Random rows of a type, and 32 columns.
struct Case {
    args: [i32; 7],
    weights: usize,
}

impl Case {
    fn new(guest: &mut Guest, kind: GgmlType, rows: usize, cols: usize) -> Self {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        let len = (rows * cols) as u64 / kind.block_elements() * kind.block_bytes();
        // Whatever these bytes are part of, it is a small number, and no subnormal one.
        let weights: Vec<u8> = (0..len).map(|_| next() as u8 & 0x3b | 4).collect();
        let mut float = || (next() % 2001) as f32 / 1000.0 - 1.0;
        let x: Vec<u8> = (0..32 * cols).flat_map(|_| float().to_le_bytes()).collect();
        let (w, x, y) = (guest.put(&weights), guest.put(&x), guest.alloc(4 * 32 * rows));
        let args = [kind.number() as i32, w, rows as i32, cols as i32, x, 32, y];
        Self { args, weights: rows * cols }
    }

    /// Thousands of millions of multiplications in a second.
    fn speed(&mut self, guest: &mut Guest, export: &str, n: usize) -> f64 {
        self.args[5] = n as i32;
        let args = self.args.map(Value::I32);
        let mut best = f64::INFINITY;
        for _ in 0..if n == 1 { 20 } else { 5 } {
            let start = Instant::now();
            assert_eq!(guest.0.call(export, &args).unwrap()[0].as_i32(), Some(0));
            best = best.min(start.elapsed().as_secs_f64());
        }
        (self.weights * n) as f64 / best / 1e9
    }

    fn hash(&self, guest: &Guest) -> u64 {
        let mut hash = std::hash::DefaultHasher::new();
        let len = 4 * 32 * self.args[2] as usize;
        hash.write(&guest.0.memory()[self.args[6] as u32 as usize..][..len]);
        hash.finish()
    }
}
