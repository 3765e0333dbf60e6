//! Random modules, lowered on an engine without memory64 and as they are on one with it.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;
#[path = "common/kernel.rs"]
mod kernel;

use arbitrary::Unstructured;
use common::{engine, reason, show};
use kernel::kernel;
use polychord_memory64_lowering::{Dispatch, Error, Layout, Options, lower, segment_name};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, RngSeed, TestRunner};
use sha2::{Digest, Sha256};
use wasm_smith::{MemoryOffsetChoices, Module as Smith};
use wasmtime::{Engine, ExternType, Linker, Module, Store, Val};

/// Pages that a memory has at most, here and there.
const MOST: u64 = 48;

/// How many modules are compared.
fn cases() -> u32 {
    let asked = std::env::var("POLYCHORD_DIFFERENTIAL_CASES").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(600)
}

/// Which modules: others with another number.
fn seed() -> u64 {
    let asked = std::env::var("POLYCHORD_DIFFERENTIAL_SEED").ok();
    asked.and_then(|text| text.parse().ok()).unwrap_or(0x706f_6c79)
}

fn module(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Unstructured::new(bytes);
    let config = wasm_smith::Config {
        canonicalize_nans: true,
        memory64_enabled: true,
        min_memories: 1,
        max_memories: 3,
        memory_max_size_required: true,
        max_memory64_bytes: u128::from(MOST) << 16,
        max_memory32_bytes: MOST << 16,
        memory_offset_choices: MemoryOffsetChoices(80, 15, 5),
        export_everything: true,
        max_imports: 0,
        max_tables: 2,
        max_table_elements: 64,
        table_max_size_required: true,
        gc_enabled: false,
        reference_types_enabled: false,
        exceptions_enabled: false,
        threads_enabled: false,
        relaxed_simd_enabled: false,
        wide_arithmetic_enabled: false,
        custom_page_sizes_enabled: false,
        min_funcs: 1,
        min_data_segments: 1,
        max_data_segments: 6,
        ..wasm_smith::Config::default()
    };
    let mut module = Smith::new(config, &mut input).ok()?;
    module.ensure_termination(500).ok()?;
    Some(module.to_bytes())
}

/// All that can be seen of a module: what its functions do, and its globals and memories after that.
fn observe(engine: &Engine, wasm: &[u8], names: &[String]) -> Vec<String> {
    let layout = Layout::read(wasm).unwrap();
    let module = match Module::new(engine, wasm) {
        Ok(module) => module,
        Err(error) => return vec![format!("{error:?}")],
    };
    let mut store = Store::new(engine, ());
    let instance = match Linker::new(engine).instantiate(&mut store, &module) {
        Ok(instance) => instance,
        Err(error) => return vec![reason(&error)],
    };
    let mut seen = Vec::new();
    for round in 0..2 {
        for name in names {
            let Some(function) = instance.get_func(&mut store, name) else { continue };
            let ty = function.ty(&store);
            let args: Option<Vec<_>> = ty.params().map(|ty| argument(&ty, round)).collect();
            let Some(args) = args else { continue };
            let mut results = vec![Val::I32(0); ty.results().len()];
            let outcome = match function.call(&mut store, &args, &mut results) {
                Ok(()) => format!("{:?}", results.iter().map(show).collect::<Vec<_>>()),
                Err(error) => reason(&error),
            };
            // Frames have another size once they were lowered.
            if outcome.contains("StackOverflow") {
                return vec![];
            }
            seen.push(format!("{name}: {outcome}"));
        }
    }
    for name in names {
        if let Some(global) = instance.get_global(&mut store, name) {
            seen.push(format!("{name}: {}", show(&global.get(&mut store))));
        }
        if instance.get_memory(&mut store, name).is_some() {
            let count = layout
                .iter()
                .flat_map(|it| &it.memories)
                .find_map(|memory| memory.exports.contains(name).then_some(memory.segments));
            let mut hash = Sha256::new();
            let mut length = 0;
            for segment in 0..count.unwrap_or(1) {
                let name = segment_name(name, segment);
                let memory = instance.get_memory(&mut store, &name).unwrap();
                hash.update(memory.data(&store));
                length += memory.data_size(&store);
            }
            seen.push(format!("{name}: {length} bytes, {:x?}", hash.finalize()));
        }
    }
    seen
}

fn argument(ty: &wasmtime::ValType, round: i64) -> Option<Val> {
    Some(match ty {
        wasmtime::ValType::I32 => Val::I32(i32::try_from(round * 65_533).ok()?),
        wasmtime::ValType::I64 => Val::I64(round * 65_533),
        wasmtime::ValType::F32 => Val::F32(1.5_f32.to_bits()),
        wasmtime::ValType::F64 => Val::F64(2.5_f64.to_bits()),
        wasmtime::ValType::V128 => Val::V128(0x0123_4567_89ab_cdef_u128.into()),
        wasmtime::ValType::Ref(_) => return None,
    })
}

fn run(
    strategy: impl Strategy<Value = Vec<u8>>,
    cases: u32,
    make: fn(&[u8]) -> Option<Vec<u8>>,
) -> [u32; 3] {
    let config = Config {
        cases,
        failure_persistence: None,
        rng_algorithm: RngAlgorithm::ChaCha,
        rng_seed: RngSeed::Fixed(seed()),
        ..Config::default()
    };
    let engines = [engine(true, 1 << 20), engine(false, 1 << 20)];
    let counts = std::cell::Cell::new([0; 3]);
    let outcome = TestRunner::new(config).run(&strategy, |bytes| {
        let Some(wasm) = make(&bytes) else { return Ok(()) };
        let choice = bytes.first().copied().unwrap_or(0);
        // Most are lowered in the way that has most cases, in segments small enough for some.
        let dispatch = match choice % 8 {
            5 => Dispatch::Inline,
            6 => Dispatch::Switch,
            7 => Dispatch::Helpers,
            _ => Dispatch::Regions,
        };
        let options = Options::default()
            .max_memory(MOST << 16)
            .segment_pages([1, 1, 2, 16][usize::from(choice >> 3) % 4])
            .max_memories(u32::MAX)
            .dispatch(dispatch);
        let lowered = match lower(&wasm, &options) {
            Ok(lowered) => lowered,
            // More memories than there can be, or a name like `.1` beside one that is empty.
            Err(Error::Memories { .. } | Error::Name { .. }) => return Ok(()),
            Err(error) => return Err(TestCaseError::fail(error.to_string())),
        };
        if lowered.report.memories.is_empty() && lowered.report.tables.is_empty() {
            prop_assert_eq!(&lowered.wasm[..], &wasm[..]);
            return Ok(());
        }
        let native = Module::new(&engines[0], &wasm).unwrap();
        let kept = |ty: &ExternType| !matches!(ty, ExternType::Table(_) | ExternType::Tag(_));
        let names = native.exports().filter(|export| kept(&export.ty()));
        let names: Vec<_> = names.map(|export| export.name().to_owned()).collect();
        let there = observe(&engines[0], &wasm, &names);
        let here = observe(&engines[1], &lowered.wasm, &names);
        if there.is_empty() || here.is_empty() {
            return Ok(());
        }
        prop_assert_eq!(&there, &here, "{:?}", options);
        let [modules, returned, trapped] = counts.get();
        let traps = there.iter().filter(|it| it.contains("trap: ")).count();
        let calls = there.iter().filter(|it| it.contains(": [")).count();
        counts.set([modules + 1, returned + calls as u32, trapped + traps as u32]);
        Ok(())
    });
    if let Err(error) = outcome {
        let text = error.to_string();
        panic!("{}", text.get(..text.len().min(6000)).unwrap_or(&text));
    }
    counts.get()
}

#[test]
fn random_modules_do_the_same() {
    let counts = run(prop::collection::vec(any::<u8>(), 64..4096), cases(), module);
    println!("modules, returned, trapped: {counts:?}");
    assert!(counts[0] > cases() / 4, "{counts:?}");
}

/// A function of loads and stores around two addresses, without a branch: what regions are made of.
fn straight(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut input = Unstructured::new(bytes);
    let mut body = String::new();
    let mut loops = 0;
    for _ in 0..input.int_in_range(1..=30).ok()? {
        let local = ["$p", "$q", "$r"][input.int_in_range(0..=2).ok()?];
        let other = ["$p", "$q", "$r"][input.int_in_range(0..=2).ok()?];
        let offset: u16 = input.arbitrary().ok()?;
        let offset = u32::from(offset) % [8, 64, 64, 70_000][input.int_in_range(0..=3).ok()?];
        let step: i8 = input.arbitrary().ok()?;
        let address = match input.int_in_range(0..=7).ok()? {
            0 | 1 => format!("(local.get {local})"),
            2 => format!("(i64.add (local.get {local}) (i64.const {step}))"),
            3 => format!("(i64.add (local.get {local}) (local.get {other}))"),
            4 => format!(
                "(i64.add (local.get {local}) (i64.shl (i64.and (local.get {other})
                    (i64.const {})) (i64.const 3)))",
                step.unsigned_abs()
            ),
            5 => format!("(i64.const {})", u32::from(step.unsigned_abs()) * 1024),
            6 => format!(
                "(i64.add (local.get {local}) (i64.shl (local.get {other}) (i64.const {})))",
                step & 7
            ),
            _ => format!(
                "(i64.add (i64.mul (i64.add (local.get {local}) (i64.const {step})) (i64.const {}))
                    (local.get {other}))",
                step.unsigned_abs() & 3
            ),
        };
        let statement = match input.int_in_range(0..=17).ok()? {
            0..=2 => format!(
                "(local.set $x (i64.add (local.get $x) (i64.load offset={offset} {address})))"
            ),
            3 => format!(
                "(local.set $v (v128.xor (local.get $v) (v128.load offset={offset} {address})))"
            ),
            4 => format!(
                "(local.set $v (v128.load16_lane offset={offset} 3 {address} (local.get $v)))"
            ),
            5 => format!("(i64.store offset={offset} {address} (local.get $x))"),
            6 => format!("(v128.store offset={offset} {address} (local.get $v))"),
            7 => format!(
                "(i32.store8 offset={offset} {address} (i32.load16_s offset={offset} {address}))"
            ),
            8 => format!("(local.set {local} (i64.add (local.get {local}) (i64.const {step})))"),
            9 => format!("(local.set {local} (i64.and (i64.load {address}) (i64.const 0x3ffff)))"),
            10 => format!(
                "(local.set {local} (i64.sub (local.tee {other} {address}) (i64.const {step})))"
            ),
            12 => format!(
                "(i64.store offset={offset} (local.get {local}) (local.get {other}))
                 (local.set {other} (i64.load offset={offset} (local.get {local})))"
            ),
            13 => format!(
                "(if (i64.eqz (i64.and (local.get $x) (i64.const 1)))
                    (then (local.set {local} (i64.const {step})))
                    (else (i32.store16 offset={offset} {address} (i32.const {step}))))"
            ),
            14 => format!(
                "(block (br_if 0 (i32.wrap_i64 (local.get $x)))
                    (local.set $x (i64.load32_s offset={offset} {address})))"
            ),
            11 | 15 | 16 if loops < 2 => {
                loops += 1;
                format!("(local.set $n{loops} (i64.const 3)) (loop")
            }
            _ => format!(
                "(f32.store offset={offset} {address} (f32.load offset={offset} {address}))"
            ),
        };
        body.push_str(&statement);
        body.push('\n');
    }
    for number in (1..=loops).rev() {
        body.push_str(&format!(
            "(br_if 0 (i64.ne (i64.const 0)
                (local.tee $n{number} (i64.sub (local.get $n{number}) (i64.const 1))))))",
        ));
    }
    let pages = input.int_in_range(5..=8).ok()?;
    let data: String =
        (0..=255).map(|byte: u8| format!("\\{:02x}", byte.wrapping_mul(37))).collect();
    let pieces: String = (0..pages * 4)
        .map(|at| format!("(data (i64.const {}) \"{data}\")", at * 16_384 - at * 13))
        .collect();
    wat::parse_str(format!(
        "(module (memory (export \"memory\") i64 {pages} 8) {pieces}
            (func (export \"f\") (param $p i64) (param $q i64) (result i64 v128)
                (local $r i64) (local $x i64) (local $v v128) (local $n1 i64) (local $n2 i64)
                (local.set $q (i64.add (local.get $q) (i64.const {})))
                {body}
                (local.get $x) (local.get $v)))",
        input.int_in_range(0..=200_000).ok()?,
    ))
    .ok()
}

#[test]
fn random_straight_code_does_the_same() {
    let counts = run(prop::collection::vec(any::<u8>(), 64..1024), cases(), straight);
    println!("modules, returned, trapped: {counts:?}");
    assert!(
        counts[0] > cases() / 2 && counts[1] > cases() / 6 && counts[2] > cases() / 8,
        "{counts:?}"
    );
}

#[test]
fn random_kernels_do_the_same() {
    let counts = run(prop::collection::vec(any::<u8>(), 200..1024), cases() * 2, kernel);
    println!("modules, returned, trapped: {counts:?}");
    assert!(
        counts[0] > cases() / 2 && counts[1] > cases() / 2 && counts[2] > cases() / 16,
        "{counts:?}"
    );
}
