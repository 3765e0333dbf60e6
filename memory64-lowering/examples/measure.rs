//! What lowering costs: products of matrices in a guest with a 64-bit memory, as it is and lowered in
//! each way, on Wasmtime.
//!
//! ```console
//! $ cargo run --release --example measure -- guest/built/transformer-wasm64-plain.wasm \
//!     guest/built/transformer-wasm32-plain.wasm
//! ```
//!
//! Every variant does the same products in turns, and is timed by the clock; what is printed is how fast each is, by
//! its median, beside memory64; with `best` as a third argument by its fastest, which a busy machine disturbs less.
//! The second table has the weights above 4 GiB.
#![allow(clippy::unwrap_used, reason = "it stops where something is wrong")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "random bytes, small addresses"
)]

use std::io::Write as _;
use std::time::{Duration, Instant};

use polychord_memory64_lowering::{Dispatch, Layout, Options, lower, segment_name};
use wasmtime::{Config, Engine, Instance, Linker, Module, Store, Val};

/// Type of weights (its number, elements and bytes of a block), and columns of activations.
const CASES: &[(i32, usize, usize, usize)] = &[
    (3, 32, 20, 1),
    (8, 32, 34, 1),
    (12, 256, 144, 1),
    (14, 256, 210, 1),
    (3, 32, 20, 16),
    (8, 32, 34, 16),
    (12, 256, 144, 16),
];
const ROWS: usize = 512;
const COLS: usize = 1536;
const ROUNDS: usize = 25;

/// A guest, and where its weights, activations and results are.
struct Guest {
    name: String,
    store: Store<()>,
    instance: Instance,
    layout: Option<Layout>,
    wide: bool,
    args: Vec<Vec<Val>>,
    times: Vec<Vec<Duration>>,
}

fn main() {
    let mut paths = std::env::args().skip(1);
    let wasm64 = std::fs::read(paths.next().unwrap()).unwrap();
    let wasm32 = std::fs::read(paths.next().unwrap()).unwrap();
    let busy = paths.next().is_some_and(|word| word == "best");
    let native = Engine::new(Config::new().wasm_memory64(true)).unwrap();
    let without = Engine::new(Config::new().wasm_memory64(false)).unwrap();
    let mut out = std::io::stdout().lock();
    for above in [0, 4_u64 << 30] {
        let mut guests = vec![Guest::new("memory64", &native, &wasm64, true, above)];
        if above == 0 {
            guests.push(Guest::new("wasm32", &without, &wasm32, false, 0));
        }
        for dispatch in [Dispatch::Regions, Dispatch::Inline, Dispatch::Switch, Dispatch::Helpers] {
            let options = Options::default().cut_maximum(true).dispatch(dispatch);
            let lowered = lower(&wasm64, &options).unwrap();
            let report = &lowered.report;
            let name = format!("{dispatch:?}");
            #[allow(clippy::cast_precision_loss, reason = "for people")]
            let growth = report.code_after as f64 / report.code_before as f64;
            writeln!(
                out,
                "{name}: code x {growth:.2}, {} checked, {} proved in {} regions and {} loops",
                report.checked, report.proved, report.regions, report.loops
            )
            .unwrap();
            guests.push(Guest::new(&name, &without, &lowered.wasm, true, above));
        }
        for round in 0..ROUNDS {
            for guest in &mut guests {
                guest.run(round > 0);
            }
        }
        let base: Vec<_> = guests[0].times.iter_mut().map(|times| typical(times, busy)).collect();
        for guest in &mut guests {
            write!(out, "{:9} weights from {above:#x}:", guest.name).unwrap();
            for (times, base) in guest.times.iter_mut().zip(&base) {
                let time = typical(times, busy);
                let ratio = base.as_secs_f64() / time.as_secs_f64();
                write!(out, " {ratio:.2} ({:.0} us)", time.as_secs_f64() * 1e6).unwrap();
            }
            writeln!(out).unwrap();
        }
    }
}

/// The median, or the fastest on a busy machine.
fn typical(times: &mut [Duration], busy: bool) -> Duration {
    times.sort_unstable();
    times[if busy { 0 } else { times.len() / 2 }]
}

impl Guest {
    fn new(name: &str, engine: &Engine, wasm: &[u8], wide: bool, above: u64) -> Self {
        let module = Module::new(engine, wasm).unwrap();
        let mut linker = Linker::new(engine);
        linker.define_unknown_imports_as_traps(&module).unwrap();
        let mut store = Store::new(engine, ());
        let instance = linker.instantiate(&mut store, &module).unwrap();
        let layout = Layout::read(wasm).unwrap();
        let (name, args, times) = (name.to_owned(), Vec::new(), vec![Vec::new(); CASES.len()]);
        let mut guest = Self { name, store, instance, layout, wide, args, times };
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let mut cases = Vec::new();
        for (kind, elements, bytes, columns) in CASES {
            let x = (0..columns * COLS).flat_map(|_| {
                #[allow(clippy::cast_precision_loss, reason = "small numbers")]
                let float = (next() % 2001) as f32 / 1000.0 - 1.0;
                float.to_le_bytes()
            });
            let x: Vec<u8> = x.collect();
            let x = guest.put(&x);
            let y = guest.alloc(4 * (columns * ROWS) as u64);
            cases.push((kind, ROWS * COLS / elements * bytes, columns, x, y));
        }
        for from in [0, above] {
            if from > 0 {
                // What the guest allocates by itself is there, as it is when a model has been started.
                guest.run(false);
                guest.args.clear();
                guest.alloc(above);
            }
            for (kind, len, columns, x, y) in &cases {
                // Whatever these bytes are part of, it is a small number, and no subnormal one.
                let w: Vec<u8> = (0..*len).map(|_| next() as u8 & 0x3b | 4).collect();
                let w = guest.put(&w);
                assert!(w >= from);
                let number = |value: usize| Val::I32(i32::try_from(value).unwrap());
                let [w, x, y] = [w, *x, *y].map(|at| guest.address(at));
                let kind = Val::I32(**kind);
                guest.args.push(vec![kind, w, number(ROWS), number(COLS), x, number(**columns), y]);
            }
            if above == 0 {
                break;
            }
        }
        guest
    }

    fn address(&self, at: u64) -> Val {
        if self.wide { Val::I64(at.cast_signed()) } else { Val::I32(at as u32 as i32) }
    }

    fn alloc(&mut self, len: u64) -> u64 {
        let function = self.instance.get_func(&mut self.store, "transformer_alloc").unwrap();
        let mut result = [Val::I32(0)];
        let len = self.address(len);
        function.call(&mut self.store, &[len], &mut result).unwrap();
        let at = match result[0] {
            Val::I64(at) => at.cast_unsigned(),
            ref at => u64::from(at.unwrap_i32().cast_unsigned()),
        };
        assert_ne!(at, 0, "out of memory");
        at
    }

    fn put(&mut self, bytes: &[u8]) -> u64 {
        let at = self.alloc(bytes.len() as u64);
        let (segment, low) = match &self.layout {
            Some(layout) => layout.locate(at),
            None => (0, at),
        };
        let name = segment_name("memory", u32::try_from(segment).unwrap());
        let memory = self.instance.get_memory(&mut self.store, &name).unwrap();
        memory.write(&mut self.store, usize::try_from(low).unwrap(), bytes).unwrap();
        at
    }

    fn run(&mut self, count: bool) {
        let function = self.instance.get_func(&mut self.store, "kernel_matmul_int8").unwrap();
        for (args, times) in self.args.iter().zip(&mut self.times) {
            let start = Instant::now();
            let mut result = [Val::I32(-1)];
            function.call(&mut self.store, args, &mut result).unwrap();
            assert_eq!(result[0].unwrap_i32(), 0);
            if count {
                times.push(start.elapsed());
            }
        }
    }
}
