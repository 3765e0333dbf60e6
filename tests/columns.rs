//! Products with many columns: the bits of as many products with one column each, whatever is left
//! over of full tiles.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, reason = "small numbers")]
#![allow(clippy::cast_sign_loss, reason = "addresses")]
#![allow(clippy::cast_precision_loss, reason = "a table")]

mod common;

use std::ffi::OsStr;
use std::path::Path;
use std::time::Instant;

use polychord::api::abi::transformer::export;
use polychord::api::{Engine, Limits, RelaxedSimd, Runtime, Value};
use polychord::model::gguf::GgmlType;
use sha2::{Digest, Sha256};

use common::{each_engine, engines_agree, test_name};

/// Both builds, every type, and all numbers of rows and columns that tiles may leave over.
#[test]
fn columns_have_the_bits_that_each_has_alone() {
    engines_agree(test_name!(), |engine| {
        let mut all = Sha256::new();
        for build in ["plain", "relaxed"] {
            let mut guest = Guest::new(&**engine, None, build);
            for kind in GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported()) {
                // An odd number of blocks, or of superblocks.
                for (rows, cols) in
                    [(9, 768), (6, if kind.block_elements() == 256 { 256 } else { 1184 })]
                {
                    let most = 19;
                    let case = guest.case(kind, rows, cols, most);
                    let alone: Vec<f32> =
                        (0..most).flat_map(|column| guest.multiply(&case, column, 1)).collect();
                    for columns in [2, 3, 4, 5, 7, 8, 9, 12, 13, 16, 19] {
                        let together = guest.multiply(&case, 0, columns);
                        let expected = &alone[..columns * rows];
                        let alike =
                            together.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits());
                        assert!(alike, "{kind}, {build}, {rows} rows of {cols}, {columns} columns");
                    }
                    alone.iter().for_each(|it| all.update(it.to_le_bytes()));
                }
            }
        }
        all.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    });
}

/// How fast products with some columns are, beside one: in turns in one process, the best of all.
/// `POLYCHORD_MEASURE_BEFORE` names folders of other builds of the guest, which are measured, too;
/// `POLYCHORD_MEASURE_TYPES` the types, `POLYCHORD_MEASURE_ROWS` how many rows of 1,536 weights there are: 512 stay
/// in a cache.
#[test]
#[ignore = "measures, for a minute"]
#[allow(clippy::print_stdout, reason = "a table")]
fn what_columns_cost() {
    const COLUMNS: [usize; 7] = [1, 2, 3, 4, 8, 16, 64];
    const ROUNDS: usize = 12;
    each_engine(test_name!(), |engine| {
        let rows =
            std::env::var("POLYCHORD_MEASURE_ROWS").map_or(512, |rows| rows.parse().unwrap());
        let cols = 1536;
        let build = match engine.capabilities().relaxed_simd {
            RelaxedSimd::Faster => "relaxed",
            _ => "plain",
        };
        let build = std::env::var("POLYCHORD_MEASURE_BUILD").unwrap_or_else(|_| build.to_owned());
        let before = std::env::var("POLYCHORD_MEASURE_BEFORE").unwrap_or_default();
        let types = std::env::var("POLYCHORD_MEASURE_TYPES")
            .unwrap_or_else(|_| "Q4_0 Q4_1 Q5_0 Q8_0 Q4_K Q5_K Q6_K".to_owned());
        let folders = before.split(':').filter(|it| !it.is_empty()).map(|it| Some(OsStr::new(it)));
        let mut guests: Vec<_> = std::iter::once(None)
            .chain(folders)
            .map(|folder| Guest::new(&**engine, folder, &build))
            .collect();
        println!("{}, {build}; columns: {COLUMNS:?}", engine.capabilities().engine);
        let supported = GgmlType::ALL.iter().copied().filter(|kind| kind.is_supported());
        for kind in supported.filter(|kind| types.split(' ').any(|name| name == kind.name())) {
            let cases: Vec<_> =
                guests.iter_mut().map(|guest| guest.case(kind, rows, cols, 64)).collect();
            let mut best = vec![[0.0_f64; COLUMNS.len()]; guests.len()];
            for _ in 0..ROUNDS {
                for (at, columns) in COLUMNS.into_iter().enumerate() {
                    for ((guest, case), best) in guests.iter_mut().zip(&cases).zip(&mut best) {
                        let repeat = (64 / columns).min(16).min((1 << 15) / rows).max(1);
                        let start = Instant::now();
                        for _ in 0..repeat {
                            guest.call(case, 0, columns);
                        }
                        let work = (rows * cols * columns * repeat) as f64;
                        best[at] = best[at].max(work / start.elapsed().as_secs_f64() / 1e9);
                    }
                }
            }
            for best in best {
                let shown: Vec<_> = best.iter().map(|speed| format!("{speed:5.1}")).collect();
                let of_8 = best[4] / best[0];
                println!("{:5} {}   8 to 1: {of_8:.2}", kind.name(), shown.join(" "));
            }
        }
    });
}

struct Guest(Box<dyn Runtime>);

/// Where random weights, columns and room for results are.
struct Case {
    kind: i32,
    rows: usize,
    cols: usize,
    w: i32,
    x: i32,
    y: i32,
}

impl Guest {
    fn new(engine: &dyn Engine, folder: Option<&OsStr>, build: &str) -> Self {
        let built = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/built");
        let folder = folder.map_or(Path::new(built), Path::new);
        let module = std::fs::read(folder.join(format!("transformer-wasm32-{build}.wasm")));
        let module = engine.compile(&module.unwrap()).unwrap();
        Self(module.instantiate(&Limits::default()).unwrap())
    }

    fn case(&mut self, kind: GgmlType, rows: usize, cols: usize, columns: usize) -> Case {
        let mut state = 1_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 33) as u32
        };
        let len = (rows * cols) as u64 / kind.block_elements() * kind.block_bytes();
        // Whatever these bytes are part of, it is a small number, and no subnormal one.
        let weights: Vec<u8> = (0..len).map(|_| next() as u8 & 0x3b | 4).collect();
        let mut float = || (next() % 2001) as f32 / 1000.0 - 1.0;
        let x: Vec<u8> = (0..columns * cols).flat_map(|_| float().to_le_bytes()).collect();
        let (w, x, y) = (self.put(&weights), self.put(&x), self.alloc(4 * columns * rows));
        Case { kind: kind.number() as i32, rows, cols, w, x, y }
    }

    fn call(&mut self, case: &Case, first: usize, columns: usize) {
        let Case { kind, rows, cols, w, x, y } = *case;
        let x = x + (4 * first * cols) as i32;
        let args = [kind, w, rows as i32, cols as i32, x, columns as i32, y].map(Value::I32);
        assert_eq!(self.0.call(export::MATMUL_INT8, &args).unwrap(), [Value::I32(0)]);
    }

    fn multiply(&mut self, case: &Case, first: usize, columns: usize) -> Vec<f32> {
        self.call(case, first, columns);
        let bytes = &self.0.memory_mut()[case.y as u32 as usize..][..4 * columns * case.rows];
        bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
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
