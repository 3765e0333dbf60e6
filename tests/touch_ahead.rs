//! The same logits whether guests touch weights ahead of their use or not.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
#![allow(clippy::cast_precision_loss, reason = "a table")]

mod common;

use std::path::Path;

use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, Placement, Ranks, Session, SessionOptions, TouchAhead, Transformer,
};
use sha2::{Digest, Sha256};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name};

/// Logits after a prompt, and after single tokens, which are what it is about.
fn logits(session: &mut Session) -> Vec<u8> {
    let mut all = session.eval(&[1, 2, 3]).unwrap().as_bytes().to_vec();
    for token in 4..8 {
        all.extend_from_slice(session.eval(&[token]).unwrap().as_bytes());
    }
    all
}

fn start(transformer: &Transformer, path: &Path, options: &SessionOptions) -> Session {
    transformer.start(&open(path, true), options).unwrap()
}

/// Every type, with rows one at a time, several, a part of them left over, and all at once.
#[test]
fn no_burst_changes_a_bit() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut hash = Sha256::new();
        for kind in GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported()) {
            let path = Llama::random(Shape::of(kind)).save(folder.path());
            for activations in [Activations::F32, Activations::Int8] {
                let options = SessionOptions::new().context(16).activations(activations);
                let with = |touch| {
                    let mut session =
                        start(&transformer, &path, &options.clone().touch_ahead(touch));
                    let logits = logits(&mut session);
                    (logits, session.report().touch_ahead.bytes)
                };
                let (expected, none) = with(TouchAhead::Off);
                assert_eq!(none, 0);
                for bytes in [1, 1000, 16 << 10, u32::MAX] {
                    let (logits, touched) = with(TouchAhead::Bytes(bytes));
                    assert!(logits == expected, "{kind:?}, {activations:?}, {bytes} bytes");
                    assert_eq!(touched, bytes.min(u32::MAX / 2));
                }
                hash.update(&expected);
            }
        }
        hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    });
}

/// Neither where the weights are, nor how many ranks compute.
#[test]
fn it_goes_with_placements_and_ranks() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { blocks: 3, tied: true, ..Shape::of(GgmlType::Q4_1) };
        let path = Llama::random(shape).save(folder.path());
        let options = |touch| SessionOptions::new().context(16).touch_ahead(touch);
        let expected = logits(&mut start(&transformer, &path, &options(TouchAhead::Off)));
        for (ranks, placement) in [
            (2, Placement::resident32()),
            (1, Placement::sharded32(2)),
            (2, Placement::sharded32(2)),
            (1, Placement::multi32()),
        ] {
            let options = options(TouchAhead::Bytes(100))
                .ranks(Ranks::Exactly(ranks))
                .placement(placement.clone());
            let mut session = start(&transformer, &path, &options);
            assert!(logits(&mut session) == expected, "{placement:?}, {ranks} ranks");
            assert_eq!(session.report().touch_ahead.bytes, 100);
        }
    });
}

/// A model that caches may hold is left alone; of a larger one tokens are measured, whose bits
/// are the same meanwhile, and after a fork what was found is known.
#[test]
fn auto_decides_where_it_matters() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape::of(GgmlType::Q4_1)).save(folder.path());
        let small = start(&transformer, &path, &SessionOptions::new().context(16));
        assert_eq!(small.report().touch_ahead.reason, "caches may hold the weights of a token");
        large(&transformer, folder.path());
    });
}

fn large(transformer: &Transformer, folder: &Path) {
    let shape = Shape { ffn: 5632, blocks: 8, context: 64, ..Shape::of(GgmlType::F32) };
    let shape = Shape { dim: 256, heads: 4, kv_heads: 2, head_dim: 64, rope_dim: 64, ..shape };
    let path = Llama::random(shape).save(folder);
    let options = SessionOptions::new().context(64);
    let mut auto = start(transformer, &path, &options);
    let mut off = start(transformer, &path, &options.touch_ahead(TouchAhead::Off));
    assert!(auto.report().touch_ahead.reason.starts_with("too few"));
    for session in [&mut auto, &mut off] {
        session.eval(&[1, 2, 3]).unwrap();
    }
    // As many as the longest trial takes.
    for token in 0..45 {
        let tokens = [token % 7];
        assert_eq!(auto.eval(&tokens).unwrap().as_bytes(), off.eval(&tokens).unwrap().as_bytes());
    }
    let found = auto.report().touch_ahead;
    assert!(found.reason.starts_with("measured"), "{found:?}");
    assert!(found.without.is_some() && found.with.is_some(), "{found:?}");
    assert_eq!(auto.fork().unwrap().report().touch_ahead, found);
}

/// What bursts cost and bring where weights are in a cache, and where they stream: in turns in one
/// process, medians. Prints a table for each engine; `POLYCHORD_MEASURE_BEFORE` names a folder of
/// other builds of the guest, which are measured beside these.
#[test]
#[ignore = "measures, for a minute or two"]
#[allow(clippy::print_stdout, reason = "a table")]
fn what_bursts_cost_and_bring() {
    each_engine(test_name!(), |engine| {
        println!("{}, billions of weights a second", engine.capabilities().engine);
        for kind in [GgmlType::Q4_1, GgmlType::Q4_0, GgmlType::Q8_0, GgmlType::Q4_K, GgmlType::Q6_K]
        {
            for bytes in [384 << 10, 96 << 20] {
                let mut ways = vec![measure::Way::new(&**engine, None, 0)];
                let before = std::env::var_os("POLYCHORD_MEASURE_BEFORE");
                ways.extend(before.map(|folder| measure::Way::new(&**engine, Some(&folder), 0)));
                let bursts = [4 << 10, 16 << 10, 64 << 10];
                ways.extend(bursts.map(|burst| measure::Way::new(&**engine, None, burst)));
                let speeds = measure::in_turns(&mut ways, kind, bytes);
                let shown: Vec<_> = speeds.iter().map(|speed| format!("{speed:5.1}")).collect();
                println!("{:5} {:6} KiB: {}", kind.name(), bytes >> 10, shown.join(" "));
            }
        }
    });
}

/// What staging brings: pieces of a matrix are copied to one place, which stays in a cache, as a guest could
/// by `memory.copy`, and multiplied there; beside the same pieces where they are.
#[test]
#[ignore = "measures, for a minute or two"]
#[allow(clippy::print_stdout, reason = "a table")]
fn what_staging_brings() {
    each_engine(test_name!(), |engine| {
        println!("{}, billions of weights a second", engine.capabilities().engine);
        for kind in [GgmlType::Q4_1, GgmlType::Q8_0, GgmlType::Q4_K] {
            let mut ways = vec![measure::Way::new(&**engine, None, 0)];
            for piece in [16 << 10, 64 << 10, 256 << 10] {
                for staged in [false, true] {
                    ways.push(measure::Way::new(&**engine, None, 0).in_pieces(piece, staged));
                }
            }
            let speeds = measure::in_turns(&mut ways, kind, 96 << 20);
            let shown: Vec<_> = speeds.iter().map(|speed| format!("{speed:5.1}")).collect();
            println!("{:5}: {}", kind.name(), shown.join(" "));
        }
    });
}

mod measure {
    use std::ffi::OsStr;
    use std::path::Path;
    use std::time::Instant;

    use polychord::api::abi::transformer::export;
    use polychord::api::{Engine, Limits, RelaxedSimd, Runtime, Value};
    use polychord::model::gguf::GgmlType;

    const COLS: usize = 1536;
    const ROUNDS: usize = 15;

    /// A guest that is told how many bytes to touch at a time, or is called for pieces of a matrix.
    pub(super) struct Way {
        guest: Box<dyn Runtime>,
        /// Bytes, and whether they are copied before.
        pieces: Option<(usize, bool)>,
    }

    /// A product: addresses and sizes.
    struct Product {
        kind: i32,
        weights: i32,
        /// Of `row` bytes each.
        rows: usize,
        row: usize,
        columns: i32,
        results: i32,
        stage: i32,
    }

    impl Way {
        pub(super) fn new(engine: &dyn Engine, folder: Option<&OsStr>, burst: i32) -> Self {
            let build = match engine.capabilities().relaxed_simd {
                RelaxedSimd::Faster => "relaxed",
                _ => "plain",
            };
            let built = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/built");
            let folder = folder.map_or(Path::new(built), Path::new);
            let module = std::fs::read(folder.join(format!("transformer-wasm32-{build}.wasm")));
            let module = engine.compile(&module.unwrap()).unwrap();
            let mut guest = module.instantiate(&Limits::default()).unwrap();
            if burst != 0 {
                let set = guest.call(export::TOUCH_AHEAD, &[Value::I32(burst)]).unwrap();
                assert_eq!(set, [Value::I32(0)]);
            }
            Self { guest, pieces: None }
        }

        pub(super) fn in_pieces(mut self, bytes: usize, staged: bool) -> Self {
            self.pieces = Some((bytes, staged));
            self
        }

        fn alloc(&mut self, len: usize) -> i32 {
            let len = i32::try_from(len).unwrap();
            self.guest.call(export::ALLOC, &[Value::I32(len)]).unwrap()[0].as_i32().unwrap()
        }

        fn prepare(&mut self, kind: GgmlType, rows: usize, row: usize) -> Product {
            let stage = self.pieces.map_or(0, |(bytes, _)| self.alloc(bytes));
            let (weights, columns) = (self.alloc(rows * row), self.alloc(COLS * 4));
            let results = self.alloc(rows * 4);
            let at = weights.cast_unsigned() as usize;
            for (i, byte) in self.guest.memory_mut()[at..][..rows * row].iter_mut().enumerate() {
                // Small numbers, whatever they are part of.
                *byte = (i.wrapping_mul(0x9e37_79b9) >> 13) as u8 & 0x3b | 4;
            }
            Product { kind: kind.number() as i32, weights, rows, row, columns, results, stage }
        }

        fn multiply(&mut self, product: &Product) {
            let &Product { kind, weights, rows, row, columns, results, stage } = product;
            let (piece, staged) = self.pieces.unwrap_or((rows * row, false));
            let piece = piece / row;
            for first in (0..rows).step_by(piece) {
                let count = piece.min(rows - first);
                let mut from = weights + (first * row) as i32;
                if staged {
                    let [start, to] = [from, stage].map(|at| at.cast_unsigned() as usize);
                    self.guest.memory_mut().copy_within(start..start + count * row, to);
                    from = stage;
                }
                let to = results + (first * 4) as i32;
                let call = [kind, from, count as i32, COLS as i32, columns, 1, to].map(Value::I32);
                assert_eq!(self.guest.call(export::MATMUL_INT8, &call).unwrap(), [Value::I32(0)]);
            }
        }
    }

    /// Billions of weights a second of each way.
    pub(super) fn in_turns(ways: &mut [Way], kind: GgmlType, bytes: usize) -> Vec<f64> {
        let row = COLS / kind.block_elements() as usize * kind.block_bytes() as usize;
        let rows = bytes / row;
        let products: Vec<_> = ways.iter_mut().map(|way| way.prepare(kind, rows, row)).collect();
        // As many calls as stream some 96 MiB.
        let repeat = ((96 << 20) / bytes).max(1);
        let mut times = vec![Vec::new(); ways.len()];
        for _ in 0..ROUNDS {
            for ((way, product), times) in ways.iter_mut().zip(&products).zip(&mut times) {
                let start = Instant::now();
                for _ in 0..repeat {
                    way.multiply(product);
                }
                times.push(start.elapsed().as_secs_f64());
            }
        }
        let weights = (rows * COLS * repeat) as f64;
        times
            .iter_mut()
            .map(|times| {
                times.sort_by(f64::total_cmp);
                weights / times[ROUNDS / 2] / 1e9
            })
            .collect()
    }
}
