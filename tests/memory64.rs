//! 64-bit memories are the same on every engine, whether they are its own or lowered.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_wrap, reason = "addresses whose bits count")]

mod common;

use std::sync::Arc;

use common::{engines_that_can_agree, test_name};
use polychord::api::abi::PAGE;
use polychord::api::{
    Backing, Caller, Engine, Error, HostError, Imports, Instantiation, LayerId, LayerSpec, Limits,
    Memory64, Memory64Choice, MemorySpec, Module, ModuleLimits, Runtime, Source, Value,
};
use polychord::model::{Model, Placement, SessionOptions, Split, Transformer};

const GIB: u64 = 1 << 30;
const EDGE: u64 = 4 * GIB;

/// What clang made of `memory64-lowering/tests/data/fill.c`, which has an allocator of its own.
const FILL: &[u8] = include_bytes!("../memory64-lowering/tests/data/fill.wasm");

const CALLS: &str = r#"(module
    (import "env" "memory64_read" (func $read (param i64 i64 i64) (result i32)))
    (import "env" "memory64_write" (func $write (param i64 i64 i64) (result i32)))
    (import "env" "memory64_load_layer" (func $layer (param i32 i64 i64) (result i32)))
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (import "env" "memory64_stats_into" (func $stats (param i64 i64) (result i32)))
    (import "env" "all_gather" (func $gather (param i64 i64 i64) (result i32)))
    (import "host" "sum" (func $sum (param i64 i64) (result i64)))
    (import "host" "fill" (func $fill (param i64 i64 i64)))
    (import "host" "slice" (func $slice (param i64 i64) (result i32)))
    (import "host" "global" (global $offset i64))
    (memory (export "memory") i64 1)
    (func (export "size") (result i64) (memory.size))
    (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
    (func (export "load") (param i64) (result i64) (i64.load (local.get 0)))
    (func (export "offset") (result i64) (global.get $offset))
    (export "read" (func $read)) (export "write" (func $write)) (export "layer" (func $layer))
    (export "map" (func $map)) (export "stats" (func $stats)) (export "gather" (func $gather))
    (export "sum" (func $sum)) (export "fill" (func $fill)) (export "slice" (func $slice)))"#;

/// Whether guests have 64-bit memories, of the engine's own or lowered.
fn has_memory64(engine: &dyn Engine) -> bool {
    engine.capabilities().memory64 != Memory64::Host
}

/// The module as the engine has 64-bit memories by default, and lowered where they are its own.
fn modules(engine: &Arc<dyn Engine>, wasm: &[u8]) -> Vec<(Arc<dyn Module>, bool)> {
    let is_native = matches!(engine.capabilities().memory64, Memory64::Native { .. });
    let mut modules = vec![(engine.compile(wasm).unwrap(), !is_native)];
    if is_native {
        let limits = ModuleLimits::default().memory64(Memory64Choice::Lowered);
        modules.push((engine.compile_within(wasm, &limits).unwrap(), true));
    }
    modules
}

fn number(guest: &mut dyn Runtime, export: &str, args: &[u64]) -> i64 {
    let args: Vec<_> = args.iter().map(|arg| Value::I64(*arg as i64)).collect();
    match guest.call(export, &args).unwrap()[0] {
        Value::I32(number) => number.into(),
        Value::I64(number) => number,
        other => panic!("{other:?}"),
    }
}

/// Six blocks of nearly 1 GiB, with a word in every page: all words are found again. No more than the
/// pages that are touched is in memory.
#[test]
fn a_program_with_an_allocator_of_its_own_fills_6_gib() {
    engines_that_can_agree(test_name!(), has_memory64, |engine| {
        let mut sums = Vec::new();
        for (module, _) in modules(engine, FILL) {
            let limits = Limits::default().memory_bytes(8 * GIB);
            let mut guest = module.instantiate(&limits).unwrap();
            let sum = number(&mut *guest, "fill", &[7, GIB - 4096 - 24, 65_544]);
            assert!(sum != 0 && sum != 1, "some words were wrong, or there was no memory");
            assert!(guest.memory_bytes(0) > 6 * GIB, "{}", guest.memory_bytes(0));
            // The ninth block is beyond the limit, and the program is told so.
            let mut guest = module.instantiate(&limits).unwrap();
            assert_eq!(number(&mut *guest, "fill", &[9, GIB - 4096 - 24, 1 << 29]), 1);
            sums.push(sum);
        }
        assert!(sums.iter().all(|sum| *sum == sums[0]), "{sums:x?}");
        format!("{:x}", sums[0])
    });
}

/// A program that wants 64-bit memories of the engine's own is refused where there are none.
#[test]
fn native_only_is_had_or_refused() {
    engines_that_can_agree(test_name!(), has_memory64, |engine| {
        let native = ModuleLimits::default().memory64(Memory64Choice::Native);
        let compiled = engine.compile_within(FILL, &native);
        match engine.capabilities().memory64 {
            Memory64::Native { .. } => assert!(compiled.is_ok()),
            _ => {
                let error = compiled.err().unwrap();
                assert!(matches!(error, Error::Unmet { .. }), "{error}");
                let error = error.to_string();
                for part in ["memory64", "native", "ModuleLimits::memory64"] {
                    assert!(error.contains(part), "no {part} in: {error}");
                }
            }
        }
        String::new()
    });
}

/// Growing ends at the limit of the guest, whatever the engine's memories are.
#[test]
fn growing_ends_at_the_limit() {
    engines_that_can_agree(test_name!(), has_memory64, |engine| {
        let wasm = wat::parse_str(
            r#"(module (memory (export "memory") i64 3 90000)
                (func $first (drop (memory.grow (i64.const 2)))) (start $first)
                (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0))))"#,
        );
        for (module, _) in modules(engine, &wasm.unwrap()) {
            for (bytes, most) in [(4 * PAGE, 4_u64), (5 * GIB + 9, 81_920), (90 * GIB, 90_000)] {
                let mut guest = module.instantiate(&Limits::default().memory_bytes(bytes)).unwrap();
                // The start function has grown it by two pages, if there is room.
                let before = if most == 4 { 3 } else { 5 };
                let grow = |guest: &mut dyn Runtime, pages| number(guest, "grow", &[pages]);
                assert_eq!(grow(&mut *guest, 0), before, "{bytes}");
                let before = before.cast_unsigned();
                assert_eq!(grow(&mut *guest, most - before + 1), -1, "{bytes}");
                assert_eq!(grow(&mut *guest, u64::MAX), -1);
                assert_eq!(grow(&mut *guest, most - before), before as i64, "{bytes}");
                assert_eq!(grow(&mut *guest, 1), -1, "{bytes}");
                assert_eq!(guest.memory_bytes(0), most * PAGE);
                assert!(guest.create_memory64(&MemorySpec::guest(PAGE)).is_err());
            }
        }
        String::new()
    });
}

/// Pointers of 64 bits on both sides of the edge of two segments, of the host's own functions and of the
/// program's.
#[test]
fn functions_of_the_host_see_one_memory() {
    engines_that_can_agree(test_name!(), has_memory64, |engine| {
        let mut seen = Vec::new();
        for (module, lowered) in modules(engine, &wat::parse_str(CALLS).unwrap()) {
            seen.push(across_the_edge(&*module, lowered));
        }
        assert!(seen.iter().all(|one| *one == seen[0]), "{seen:x?}");
        format!("{:x?}", seen[0])
    });
}

fn imports() -> Imports {
    let mut imports = Imports::new();
    imports
        .function("host", "sum", |caller: &mut Caller<'_>, (ptr, len): (u64, u64)| {
            let mut bytes = vec![0; usize::try_from(len).unwrap()];
            caller.read_into(ptr, &mut bytes)?;
            let last: u16 = caller.read_value(ptr + len - 2)?;
            let sum: u64 = bytes.iter().copied().map(u64::from).sum();
            Ok::<_, HostError>(sum + u64::from(last))
        })
        .unwrap()
        .function("host", "fill", |caller: &mut Caller<'_>, (at, n, v): (u64, u64, u64)| {
            let bytes = vec![v.to_le_bytes()[0]; usize::try_from(n).unwrap()];
            caller.write(at, &bytes)?;
            caller.write_value(at + n, v)?;
            Ok::<_, HostError>(())
        })
        .unwrap()
        .function("host", "slice", |caller: &mut Caller<'_>, (ptr, len): (u64, u64)| {
            match caller.read(ptr, len) {
                Ok(bytes) => i32::from(bytes[0]),
                Err(Error::AcrossSegments { .. }) => -1,
                Err(_) => -2,
            }
        })
        .unwrap();
    let ty = polychord::api::imports::GlobalType::new(polychord::api::ValueType::I64);
    imports.global("host", "global", ty, 77_i64).unwrap();
    imports
}

fn across_the_edge(module: &dyn Module, lowered: bool) -> Vec<i64> {
    let imports = imports();
    let limits = Limits::default().memory_bytes(6 * GIB);
    let start = Instantiation::new(&limits).imports(&imports);
    let guest = &mut *module.instantiate_with(start).unwrap();
    assert_eq!(guest.host().module().memories().len(), 1);
    assert_eq!(number(guest, "offset", &[]), 77);
    assert_eq!(guest.global("host.global").unwrap(), Value::I64(77));
    let pages = EDGE / PAGE;
    assert_eq!(number(guest, "grow", &[pages - 1]), 1);
    assert_eq!(number(guest, "grow", &[5]), pages as i64);
    assert_eq!((number(guest, "size", &[]), guest.memory_bytes(0)), (65_541, EDGE + 5 * PAGE));

    let pattern: Vec<u8> = (0..251).cycle().take(1 << 20).collect();
    let host = guest.create_memory64(&MemorySpec::host(1 << 20)).unwrap();
    guest.write_memory64(host, 0, &pattern).unwrap();
    let mut seen = vec![number(guest, "read", &[0, EDGE - 1000, 3000])];
    seen.extend([EDGE - 1004, EDGE - 5, EDGE - 1, EDGE].map(|at| number(guest, "load", &[at])));
    seen.push(number(guest, "sum", &[EDGE - 1000, 3000]));
    seen.push(number(guest, "sum", &[EDGE - 999, 1000]));
    assert_eq!(number(guest, "write", &[5000, EDGE - 100, 200]), 200);
    let mut bytes = vec![0; 200];
    guest.read_memory64(host, 5000, &mut bytes).unwrap();
    assert_eq!(bytes, pattern[900..1100]);
    // A call is all or nothing.
    for export in ["read", "write"] {
        seen.push(number(guest, export, &[0, EDGE + 5 * PAGE - 9, 10]));
        seen.push(number(guest, export, &[0, u64::MAX - 3, 10]));
    }

    guest.call("fill", &[EDGE - 10, 14, 0xfe].map(|it: u64| Value::I64(it as i64))).unwrap();
    let mut bytes = vec![0; 24];
    guest.read_memory(0, EDGE - 11, &mut bytes).unwrap();
    seen.extend(bytes.iter().copied().map(i64::from));
    assert_eq!(number(guest, "slice", &[EDGE - 1, 1]), 0xfe);
    assert_eq!(number(guest, "slice", &[EDGE, 8]), 0xfe);
    assert_eq!(number(guest, "slice", &[EDGE - 1, 2]), if lowered { -1 } else { 0xfe });
    assert_eq!(number(guest, "slice", &[EDGE + 5 * PAGE, 1]), -2);
    assert_eq!(guest.memory_slice(0, EDGE - 1..EDGE + 1).is_none(), lowered);

    layers_across_the_edge(guest, lowered, &pattern, &mut seen);
    seen
}

fn layers_across_the_edge(
    guest: &mut dyn Runtime,
    lowered: bool,
    pattern: &[u8],
    seen: &mut Vec<i64>,
) {
    let memory = guest.create_memory64(&MemorySpec::guest(4 * PAGE)).unwrap();
    let backing = if lowered { Backing::Flat64 } else { Backing::Native64 };
    assert_eq!(guest.memory_stats().pop().unwrap().backing, backing);
    seen.push(guest.memory_address(memory).unwrap().unwrap() as i64);
    let source = Source::from_bytes(pattern[7..7 + 100_000].to_vec());
    guest.register_layer(LayerSpec::new(LayerId(3), memory, &source)).unwrap();
    // Straight from its source, and from its memory once it is there.
    for _ in 0..2 {
        guest.write_memory(0, EDGE - 50_000, &[0; 100_000]).unwrap();
        let args = [Value::I32(3), Value::I64((EDGE - 50_000) as i64), Value::I64(200_000)];
        assert_eq!(guest.call("layer", &args).unwrap(), [Value::I32(100_000)]);
        seen.push(number(guest, "load", &[EDGE - 4]));
        seen.push(number(guest, "load", &[EDGE + 49_990]));
        let map = guest.call("map", &[Value::I32(3)]).unwrap();
        seen.push(map[0].as_i64().unwrap());
    }
    let stats = [EDGE - 20, 200].map(|it| Value::I64(it as i64));
    assert!(guest.call("stats", &stats).unwrap()[0].as_i32().unwrap() > 40);
    seen.push(number(guest, "gather", &[EDGE - 20, 40, 40]));
}

/// What a token costs in a 64-bit memory, native and lowered, beside a 32-bit one: by the time of the
/// processor, which a busy machine disturbs less than that of the clock, in turns, with one hash. Prints
/// a table for each engine; `POLYCHORD_MEASURE` names a model.
#[test]
#[ignore = "measures, for minutes"]
#[allow(clippy::print_stdout, reason = "a table")]
fn what_a_token_costs() {
    let model = std::env::var_os("POLYCHORD_MEASURE").unwrap();
    common::each_engine(test_name!(), |engine| {
        if !has_memory64(&**engine) {
            return;
        }
        let wide = |weights_from| Placement::Flat64 { split: Split::ByLayer, weights_from };
        let mut ways = vec![("resident32", Placement::resident32(), Memory64Choice::Auto)];
        if matches!(engine.capabilities().memory64, Memory64::Native { .. }) {
            ways.push(("native64", wide(0), Memory64Choice::Native));
            ways.push(("native64 above 4 GiB", wide(EDGE), Memory64Choice::Native));
        }
        ways.push(("lowered", wide(0), Memory64Choice::Lowered));
        ways.push(("lowered above 4 GiB", wide(EDGE), Memory64Choice::Lowered));
        let start = |(_, placement, choice): &(_, Placement, Memory64Choice)| {
            let transformer = Transformer::new(engine).unwrap().memory64(*choice);
            let options = SessionOptions::new().context(512).placement(placement.clone());
            transformer.start(&Model::open(&model).unwrap(), &options).unwrap()
        };
        let mut sessions: Vec<_> = ways.iter().map(start).collect();
        let (mut prompt, mut token) = (vec![vec![]; ways.len()], vec![vec![]; ways.len()]);
        for _ in 0..ROUNDS {
            for (way, session) in sessions.iter_mut().enumerate() {
                session.reset();
                let ids: Vec<u32> = (100..100 + PROMPT).collect();
                let took = processor(|| _ = session.eval(&ids).unwrap());
                prompt[way].push(took / u64::from(PROMPT));
                let took = processor(|| {
                    (0..TOKENS).for_each(|id| _ = session.eval(&[200 + id]).unwrap());
                });
                token[way].push(took / u64::from(TOKENS));
            }
            let logits = sessions.iter().map(|it| it.logits().as_bytes().to_vec());
            let logits: Vec<_> = logits.collect();
            assert!(logits.iter().all(|it| *it == logits[0]), "they differ");
        }
        let name = engine.capabilities().engine;
        let median = |times: &mut Vec<u64>| {
            times.sort_unstable();
            (times[0], times[times.len() / 2])
        };
        for (way, (what, ..)) in ways.iter().enumerate() {
            let ((pb, pm), (tb, tm)) = (median(&mut prompt[way]), median(&mut token[way]));
            println!(
                "{name}, {what}: prompt best {pb} median {pm}, token best {tb} median {tm} ns"
            );
        }
    });
}

const ROUNDS: usize = 7;
const PROMPT: u32 = 32;
const TOKENS: u32 = 8;

/// Nanoseconds of the processor that something takes in this thread.
fn processor(run: impl FnOnce()) -> u64 {
    let now = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        text.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    let start = now();
    run();
    now() - start
}
