//! Tests of bounds, with modules that cost much for their size.

use std::time::{Duration, Instant};

use super::*;

const FEATURES: WasmFeatures = WasmFeatures::WASM2;

fn refused_within(wat: &str, limits: &ModuleLimits) -> Option<(&'static str, Option<u32>)> {
    let wasm = wat::parse_str(wat).unwrap();
    let start = Instant::now();
    let found = match validate(&wasm, FEATURES, limits) {
        Ok(_) => None,
        Err(Error::TooComplex { what, function, .. }) => Some((what, function)),
        Err(error) => panic!("{error}"),
    };
    assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
    found
}

fn refused(wat: &str) -> Option<(&'static str, Option<u32>)> {
    refused_within(wat, &ModuleLimits::default())
}

const EFFORT: &str = "steps of compiling (instructions and values at joins)";

/// Nested blocks of many results, of which one `br_table` may take any.
fn branches(blocks: usize, results: usize) -> String {
    let results = "i64 ".repeat(results);
    let labels: String = (0..blocks).map(|label| format!("{label} ")).collect();
    format!(
        "(module (type $t (func (result {results}))) (func {} unreachable (br_table {labels} \
         (i32.const 0)) {} unreachable))",
        "block (type $t) ".repeat(blocks),
        "end ".repeat(blocks),
    )
}

#[test]
fn many_values_at_many_joins_are_refused() {
    assert_eq!(refused(&branches(10, 10)), None);
    assert_eq!(refused(&branches(1_000, 1_000)), Some((EFFORT, Some(0))));
    // Locals that every block may leave with another value.
    let module = |blocks: usize, locals: usize| {
        let sets: String = (0..locals).map(|i| format!("(local.set {i} (i64.const 1))")).collect();
        let (open, close) = ("block ".repeat(blocks), "end ".repeat(blocks));
        format!("(module (func (local {}) {open} {sets} {close}))", "i64 ".repeat(locals))
    };
    assert_eq!(refused(&module(50, 100)), None);
    assert_eq!(refused(&module(1_000, 1_000)), Some((EFFORT, Some(0))));
}

#[test]
fn deep_nesting_is_refused() {
    let nested = |open: &str, depth: usize| {
        format!("(module (func nop) (func {} {}))", open.repeat(depth), "end ".repeat(depth))
    };
    assert_eq!(refused(&nested("block ", 4_000)), None);
    assert_eq!(refused(&nested("block ", 6_000)), Some(("nested blocks", Some(1))));
    assert_eq!(refused(&nested("i32.const 1 if ", 6_000)), Some(("nested blocks", Some(1))));
    assert_eq!(refused(&nested("loop ", 99)), None);
    assert_eq!(refused(&nested("loop ", 101)), Some(("nested loops", Some(1))));
}

#[test]
fn calls_of_many_values_count_for_each() {
    let results = "i64 ".repeat(1_000);
    let module = |calls: usize| {
        let calls = "call 0 ".repeat(calls);
        format!("(module (func (result {results}) unreachable) (func {calls} unreachable))")
    };
    assert_eq!(refused(&module(100)), None);
    assert_eq!(refused(&module(1_000)), Some((EFFORT, Some(1))));
}

#[test]
fn many_functions_are_counted_together() {
    let params = "i64 ".repeat(900);
    let functions = |count: usize| {
        let function = "(func (type 0))".repeat(count);
        format!("(module (type (func (param {params}))) {function})")
    };
    assert_eq!(refused(&functions(100)), None);
    assert_eq!(refused(&functions(3_000)), Some((EFFORT, None)));
    let locals = format!("(func (local {}))", "i32 ".repeat(4_900));
    assert_eq!(refused(&format!("(module {})", locals.repeat(600))), Some((EFFORT, None)));
}

#[test]
fn definitions_are_counted_before_they_are_read() {
    let limits = ModuleLimits::default().definitions(3);
    for (what, wat) in [
        ("types", "(type (func))"),
        ("functions", "(func)"),
        ("globals", "(global i32 (i32.const 0))"),
        ("data segments", "(data \"\")"),
        ("element segments", "(elem func)"),
    ] {
        let module = |count| format!("(module {} )", wat.repeat(count));
        assert_eq!(refused_within(&module(3), &limits), None, "{what}");
        assert_eq!(refused_within(&module(4), &limits), Some((what, None)));
    }
    let limits = ModuleLimits::default().locals(2).signature(2).bytes(100);
    let locals = refused_within("(module (func (local i32 i32 i32)))", &limits);
    assert_eq!(locals, Some(("locals", Some(0))));
    let signature = refused_within("(module (type (func (param i32 i32) (result i32))))", &limits);
    assert_eq!(signature, Some(("parameters and results of a type", None)));
    let bytes = refused_within(&format!("(module (data \"{}\"))", "x".repeat(100)), &limits);
    assert_eq!(bytes, Some(("bytes", None)));
    assert_eq!(refused_within(&branches(100, 900), &ModuleLimits::trusted()), None);
}

/// Small or large files that say much at once.
#[test]
fn a_function_of_ten_megabytes_and_a_million_locals_are_refused() {
    // Ten million bytes of a body, written as bytes: text of that size is slow to read.
    let module = |locals: &[u8], code: &[u8]| {
        let number = |value: usize| {
            let bits = move |part: usize| u8::try_from(value >> (7 * part) & 0x7f).unwrap();
            (0..5).map(move |part| bits(part) | if part < 4 { 0x80 } else { 0 })
        };
        let body: Vec<u8> = [locals, code, &[0x0b]].concat();
        let code: Vec<u8> = [1].into_iter().chain(number(body.len())).chain(body).collect();
        let mut wasm = b"\0asm\x01\0\0\0\x01\x04\x01\x60\0\0\x03\x02\x01\0\x0a".to_vec();
        wasm.extend(number(code.len()));
        wasm.extend(code);
        wasm
    };
    let refused = |wasm: &[u8]| {
        let start = Instant::now();
        let found = match validate(wasm, FEATURES, &ModuleLimits::default()) {
            Ok(_) => None,
            Err(Error::TooComplex { what, .. }) => Some(what),
            // No engine takes longer bodies or more locals, either.
            Err(Error::InvalidModule { reason, .. }) if reason.contains("limit of 7654321") => {
                Some("the length of a body")
            }
            Err(Error::InvalidModule { reason, .. }) if reason.contains("too many locals") => {
                Some("locals")
            }
            Err(error) => panic!("{error}"),
        };
        assert!(start.elapsed() < Duration::from_secs(20), "took {:?}", start.elapsed());
        found
    };
    assert_eq!(refused(&module(&[0], &[0x01; 1_000])), None);
    assert_eq!(refused(&module(&[0], &[0x01; 10_000_000])), Some("the length of a body"));
    assert_eq!(refused(&module(&[0], &[0x01; 7_654_000])), Some(EFFORT));
    // `i32.const 1; drop`
    assert_eq!(refused(&module(&[0], &[0x41, 1, 0x1a].repeat(2_500_000))), Some(EFFORT));
    // One group of 1,000,000 locals takes six bytes.
    assert_eq!(refused(&module(&[1, 0xc0, 0x84, 0x3d, 0x7f], &[])), Some("locals"));
    // And so do 4,294,967,295 of them.
    assert_eq!(refused(&module(&[1, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x7f], &[])), Some("locals"));
}
