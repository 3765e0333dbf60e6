//! Modules that are made of random bytes.

use std::convert::Infallible;

use arbitrary::Unstructured;
use polychord_runtime_api::abi::{PAGE, import};
use polychord_runtime_api::{Engine, Memory64};
use wasm_encoder::reencode::{Error, Reencode};
use wasm_encoder::{Instruction, Module};
use wasmparser::{Operator, Parser};

/// What a generated module exports.
const EXPORTS: &str = r#"
    (memory (export "memory") 1 8)
    (func (export "a") (param i32 i64 f32 f64) (result i32 f64) unreachable)
    (func (export "b") (param v128 i64) (result v128 f32) unreachable)
    (func (export "c") (result i64) unreachable)"#;

/// Functions and loop iterations that all calls of a module run together at most: fewer than any
/// stack has frames for, since how deep recursion may go is each engine's own.
const FUEL: u32 = 300;

/// The module that is generated from these bytes; none if there are too few of them.
pub(super) fn module(bytes: &[u8], imports: bool, engines: [&dyn Engine; 2]) -> Option<Vec<u8>> {
    let both = |has: fn(&dyn Engine) -> bool| engines.into_iter().all(has);
    let wide = both(|engine| matches!(engine.capabilities().memory64, Memory64::Native { .. }));
    let several = both(|engine| engine.capabilities().multi_memory);
    // Half of the modules avoid instructions that trap, so that more than traps is compared.
    let (first, bytes) = bytes.split_first()?;
    let calm = first % 2 == 0;
    let shape = imports.then(|| shape(first & 2 != 0, wide && first & 4 != 0));
    let config = wasm_smith::Config {
        disallow_traps: calm,
        exports: Some(wat::parse_str(format!("(module {EXPORTS})")).ok()?),
        module_shape: shape.map(wat::parse_str).transpose().ok()?,
        max_imports: 0,
        allow_start_export: !calm,
        canonicalize_nans: true,
        max_memories: if several { 3 } else { 1 },
        memory64_enabled: wide,
        memory_max_size_required: true,
        max_memory32_bytes: 16 * PAGE,
        max_memory64_bytes: (16 * PAGE).into(),
        // They bring `externref`, which guests of Polychord do not have.
        reference_types_enabled: false,
        table_max_size_required: true,
        max_table_elements: 1_000,
        exceptions_enabled: false,
        gc_enabled: false,
        compact_imports_enabled: false,
        relaxed_simd_enabled: false,
        tail_call_enabled: false,
        threads_enabled: false,
        wide_arithmetic_enabled: false,
        ..wasm_smith::Config::default()
    };
    let mut module = wasm_smith::Module::new(config, &mut Unstructured::new(bytes)).ok()?;
    module.ensure_termination(FUEL).ok()?;
    let wasm = module.to_bytes();
    if imports { near(&wasm).ok() } else { Some(wasm) }
}

/// What a module imports and exports, by the width of its addresses.
///
/// Statistics in full have the time that loads took, which differs: a module that asks for them has nothing that loads.
fn shape(statistics: bool, wide: bool) -> String {
    let pointer = if wide { "i64" } else { "i32" };
    let transfer = format!("i64 {pointer} {pointer}");
    let gather = format!("{pointer} {pointer} {pointer}");
    let into = format!("{pointer} {pointer}");
    let load = format!("i32 {pointer} {pointer}");
    let mut imports = vec![
        (import::IS_ENABLED, "", "i32"),
        (import::READ, &transfer, "i32"),
        (import::WRITE, &transfer, "i32"),
        (import::LAYER_BYTES, "i32", "i64"),
        (import::STATS, "", "i64"),
        (import::ALL_GATHER, &gather, "i32"),
    ];
    if statistics {
        imports.push((import::STATS_INTO, &into, "i32"));
    } else {
        imports.extend([
            (import::LOAD_LAYER, &*load, "i32"),
            (import::MAP_LAYER, "i32", "i64"),
            (import::PREFETCH, "i32", "i32"),
            (import::RELEASE, "i32", "i32"),
        ]);
    }
    let import = |(name, params, result): &(&str, &str, &str)| {
        format!(r#"(import "env" "{name}" (func (param {params}) (result {result})))"#)
    };
    let imports: String = imports.iter().map(import).collect();
    let exports = if wide {
        EXPORTS.replace(r#""memory") 1"#, r#""memory") i64 1"#)
    } else {
        EXPORTS.to_owned()
    };
    format!("(module {imports} {exports})")
}

/// The module with most of its constants so small that they are layers, offsets and addresses.
///
/// Nearly all others would be refused by the first check of a host's function.
fn near(wasm: &[u8]) -> Result<Vec<u8>, Error<Infallible>> {
    let mut module = Module::new();
    Near.parse_core_module(&mut module, Parser::new(0), wasm)?;
    Ok(module.finish())
}

struct Near;

impl Reencode for Near {
    type Error = Infallible;

    fn instruction<'a>(
        &mut self,
        operator: Operator<'a>,
    ) -> Result<Instruction<'a>, Error<Infallible>> {
        Ok(match operator {
            Operator::I32Const { value } => {
                Instruction::I32Const(small(value.into()).unwrap_or(value))
            }
            Operator::I64Const { value } => {
                Instruction::I64Const(small(value).map_or(value, i64::from))
            }
            other => wasm_encoder::reencode::utils::instruction(self, other)?,
        })
    }
}

/// A number of a layer, or one of the first pages, for three of four large numbers.
///
/// Small ones stay: what ends loops counts by them.
fn small(value: i64) -> Option<i32> {
    if (-(1 << 16)..1 << 16).contains(&value) {
        return None;
    }
    let pages = i64::try_from(6 * PAGE).unwrap_or(i64::MAX);
    let small = match value & 3 {
        0 => return None,
        1 => (value >> 2).rem_euclid(8),
        _ => (value >> 2).rem_euclid(pages),
    };
    i32::try_from(small).ok()
}
