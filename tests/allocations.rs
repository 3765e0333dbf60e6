//! Decoding allocates nothing: neither the host for a token, nor the guest. Nor do functions of the host
//! which guests call, and calls back into the guest.
//!
//! What is counted is what Rust code allocates, in all threads of the process: ours, and that of
//! Wasmer and Wasmtime. WasmEdge is C++, whose own allocations do not come here; what the Rust
//! crates around it allocate does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering};

use polychord::api::imports::{Caller, HostError, Imports};
use polychord::api::{Instantiation, Limits, Memory64, Value};
use polychord::model::gguf::GgmlType;
use polychord::model::sampler::Sampler;
use polychord::model::{Placement, Ranks, Sampling, Session, SessionOptions, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine, open, test_name};

/// The allocator of the system, which counts.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[allow(unsafe_code, reason = "a global allocator is an unsafe trait; all is passed on")]
// SAFETY: each method passes its arguments on to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { System.realloc(start, layout, size) }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(start, layout) }
    }
}

/// Tokens before the counting begins, and those that are counted, twice.
const WARM_UP: usize = 4;
const COUNTED: usize = 20;

/// One placement for each kind of memory.
fn placements(memory64: Memory64) -> Vec<Placement> {
    let mut placements =
        vec![Placement::resident32(), Placement::sharded32(2), Placement::multi32()];
    placements.extend(common::wide(memory64));
    placements
}

fn samplings() -> [Sampling; 3] {
    let drawn = Sampling::default().repeat_penalty(1.1);
    let of_all = Sampling::default().top_k(0).top_p(0.9);
    [Sampling::greedy(), drawn, of_all]
}

#[test]
fn a_token_allocates_nothing() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { vocab: 2_000, ..Shape::of(GgmlType::Q4_1) };
        let path = Llama::random(shape).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let mut wrong = Vec::new();
        for placement in placements(engine.capabilities().memory64) {
            for ranks in [1, 2] {
                for mapped in [false, true] {
                    let mut options = SessionOptions::default();
                    options.placement = placement.clone();
                    options.ranks = Ranks::Exactly(ranks);
                    let mut session = transformer.start(&open(&path, mapped), &options).unwrap();
                    for sampling in samplings() {
                        let (allocations, grown) = decode(&mut session, &sampling);
                        if (allocations, grown) != (0, 0) {
                            wrong.push(format!(
                                "{placement:?}, {ranks} ranks, mapped: {mapped}, {sampling:?}: \
                                 {allocations} allocations, guests grew by {grown} bytes"
                            ));
                        }
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "in {COUNTED} tokens:\n{}", wrong.join("\n"));
    });
}

/// A function of the host calls the guest back, which takes and returns numbers of this type.
fn nested(params: &str, results: &str) -> String {
    let types = |types: &str, of: &str| {
        if types.is_empty() { String::new() } else { format!("({of} {types})") }
    };
    let ty = format!("{} {}", types(params, "param"), types(results, "result"));
    let zeros = |types: &str| {
        let zero = |ty: &str| match ty {
            "v128" => "(v128.const i64x2 0 0)".to_owned(),
            ty => format!("({ty}.const 0)"),
        };
        types.split_whitespace().map(zero).collect::<Vec<_>>().join(" ")
    };
    let drops = "drop ".repeat(results.split_whitespace().count());
    format!(
        "(module (import \"host\" \"back\" (func $back {ty}))
            (func (export \"inner\") {ty} {inner})
            (func (export \"run\") (param i32) (result i32)
                (loop $next
                    (call $back {args}) {drops}
                    (br_if $next (local.tee 0 (i32.sub (local.get 0) (i32.const 1)))))
                (local.get 0)))",
        inner = zeros(results),
        args = zeros(params),
    )
}

/// Calls the guest back, with what it was called with.
fn back(caller: &mut Caller<'_>, args: &[Value], results: &mut [Value]) -> Result<(), HostError> {
    Ok(caller.call("inner", args, results)?)
}

#[test]
fn a_call_within_a_call_allocates_nothing() {
    each_engine(test_name!(), |engine| {
        let mut types = vec![
            ("", ""),
            ("i32", "i32"),
            ("i32 i64", "i64"),
            ("i64 i64 i32 i32", ""),
            ("f64", "f64"),
            ("f32 f32", "f32"),
        ];
        // Wasmer has no other way to pass these than vectors.
        if engine.capabilities().engine != "wasmer" {
            types.push(("i32 f32 v128 i64 f64", "f64 v128"));
            types.push(("i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64 i64", "i32 i32 i32 i32"));
        }
        for (params, results) in types {
            let module = engine.compile(&wat::parse_str(nested(params, results)).unwrap()).unwrap();
            let ty = module.info().functions()["inner"].clone();
            let mut imports = Imports::new();
            imports.untyped("host", "back", ty, back).unwrap();
            let limits = Limits::default();
            let mut guest =
                module.instantiate_with(Instantiation::new(&limits).imports(&imports)).unwrap();
            let mut count = || {
                let before = ALLOCATIONS.load(Ordering::Relaxed);
                guest.call_into("run", &[Value::I32(100)], &mut [Value::I32(0)]).unwrap();
                ALLOCATIONS.load(Ordering::Relaxed) - before
            };
            count();
            let allocations = count().min(count());
            assert_eq!(allocations, 0, "in 100 calls within a call: ({params}) -> ({results})");
        }
    });
}

/// What decoding allocates on the host, and how much larger guests become by it, in bytes.
fn decode(session: &mut Session, sampling: &Sampling) -> (u64, u64) {
    session.reset();
    session.eval(&[1, 2, 3]).unwrap();
    let mut sampler = Sampler::new(sampling).unwrap();
    let mut tokens = Vec::with_capacity(WARM_UP + 2 * COUNTED);
    let mut step = |session: &mut Session| {
        let token = sampler.sample(session.logits().iter(), &tokens).unwrap();
        tokens.push(token);
        session.eval(&[token]).unwrap();
    };
    (0..WARM_UP).for_each(|_| step(session));
    let memory = session.stats().guest_bytes;
    let mut count = || {
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        (0..COUNTED).for_each(|_| step(session));
        ALLOCATIONS.load(Ordering::Relaxed) - before
    };
    // The threads of an engine's compiler may allocate once more on their way to sleep; what a
    // token allocates, it does both times.
    let allocations = count().min(count());
    (allocations, session.stats().guest_bytes - memory)
}
