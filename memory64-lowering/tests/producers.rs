//! What producers make: memories that nothing outside sees, that grow from inside, of modules by hand; and
//! edges that several of them meet at once. `clang.rs` has C, `growth.rs` the guest in Rust.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;

use common::{Guest, pair};
use polychord_memory64_lowering::{Error, Options, SECTION, lower};

const GIB: i64 = 1 << 30;

/// Calls a function of both guests; the outcomes are the same.
fn both(guests: &mut [Guest; 2], name: &str, args: &[i64]) -> Result<i64, String> {
    let [native, lowered] = guests.each_mut().map(|guest| guest.number(name, args));
    assert_eq!(native, lowered, "{name} {args:x?}");
    native
}

/// An allocator of its own on a memory without a name: it grows by what it lacks, also beyond 4 GiB.
#[test]
fn a_memory_that_is_not_exported_grows_from_inside() {
    let text = r#"(module (memory i64 0 131073)
        (global $top (mut i64) (i64.const 0))
        (func (export "alloc") (param $size i64) (result i64) (local $at i64) (local $lacks i64)
            (local.set $at (global.get $top))
            (local.set $lacks (i64.sub
                (i64.shr_u (i64.add (i64.add (local.get $at) (local.get $size)) (i64.const 65535)) (i64.const 16))
                (memory.size)))
            (if (i64.gt_s (local.get $lacks) (i64.const 0)) (then
                (if (i64.eq (memory.grow (local.get $lacks)) (i64.const -1)) (then (return (i64.const -1))))))
            (global.set $top (i64.add (local.get $at) (local.get $size)))
            (memory.fill (local.get $at) (i32.const 0x5a)
                (select (i64.const 200) (local.get $size) (i64.lt_u (i64.const 200) (local.get $size))))
            (local.get $at))
        (func (export "size") (result i64) (memory.size))
        (func (export "load") (param i64) (result i64) (i64.load (local.get 0)))
        (func (export "store") (param i64 i64) (i64.store (local.get 0) (local.get 1))))"#;
    let wasm = wat::parse_str(text).unwrap();
    let lowered = lower(&wasm, &Options::default()).unwrap();
    assert_eq!(lowered.report.memories[0].segments, 3, "two segments and a page");
    assert!(lowered.report.memories[0].exports.is_empty());
    let mut guests = pair(text, &Options::default());
    both(&mut guests, "load", &[0]).unwrap_err();
    let mut blocks = Vec::new();
    for size in [0, 1, 7, 65_536, 4 * GIB - 65_600, 100, 300, 3 * GIB, GIB - 2000] {
        let at = both(&mut guests, "alloc", &[size]).unwrap();
        assert!(at >= 0, "{size}");
        both(&mut guests, "store", &[at, size * 31]).ok();
        blocks.push(at);
    }
    assert_eq!(both(&mut guests, "alloc", &[GIB]), Ok(-1));
    for at in blocks {
        _ = both(&mut guests, "load", &[at]);
        _ = both(&mut guests, "load", &[at + 195]);
    }
    // To exactly the maximum, and no further.
    let size = both(&mut guests, "size", &[]).unwrap();
    let rest = (131_073 - size) * 65_536;
    assert!(both(&mut guests, "alloc", &[rest]).unwrap() >= 0);
    assert_eq!(both(&mut guests, "alloc", &[65_536]), Ok(-1));
    both(&mut guests, "load", &[131_073 * 65_536 - 8]).unwrap();
    both(&mut guests, "load", &[131_073 * 65_536 - 7]).unwrap_err();
}

/// Several exported memories of both kinds, which share passive data, and copy pieces that overlap
/// themselves across the edge of 4 GiB.
#[test]
fn memories_of_both_kinds_share_data_and_copy_at_4_gib() {
    let text = r#"(module
        (memory $far (export "far") i64 65600 70000)
        (memory $near (export "near") 2 3)
        (memory $other (export "other") i64 65537)
        (data $text "the quick brown fox jumps over the lazy dog, and back again")
        (data (memory $other) (i64.const 0xfffffff0) "straddles the edge of 4 GiB")
        (func (export "init") (param i64 i64 i64)
            (memory.init $far $text (local.get 0) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2)))
            (memory.init $other $text (local.get 0) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
        (func (export "far-far") (param i64 i64 i64)
            (memory.copy $far $far (local.get 0) (local.get 1) (local.get 2)))
        (func (export "far-near") (param i64 i64 i64) (memory.copy $far $near
            (local.get 0) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
        (func (export "near-far") (param i64 i64 i64) (memory.copy $near $far
            (i32.wrap_i64 (local.get 0)) (local.get 1) (i32.wrap_i64 (local.get 2))))
        (func (export "other-far") (param i64 i64 i64)
            (memory.copy $other $far (local.get 0) (local.get 1) (local.get 2)))
        (func (export "far8") (param i64) (result i64) (i64.load8_u $far (local.get 0)))
        (func (export "other8") (param i64) (result i64) (i64.load8_u $other (local.get 0)))
        (func (export "near8") (param i64) (result i64)
            (i64.load8_u $near (i32.wrap_i64 (local.get 0)))))"#;
    let edge = 4 * GIB;
    let mut guests = pair(text, &Options::default());
    both(&mut guests, "init", &[edge - 30, 0, 59]).unwrap();
    both(&mut guests, "init", &[edge + 65_536 - 20, 0, 40]).unwrap_err();
    for (name, args) in [
        ("far-far", [edge - 25, edge - 30, 50]),
        ("far-far", [edge - 40, edge - 31, 60]),
        ("near-far", [65_530, edge - 9, 20]),
        ("far-near", [edge - 3, 65_530, 20]),
        ("other-far", [edge - 11, edge - 30, 31]),
        ("near-far", [131_070, edge - 9, 3]),
        ("far-near", [edge - 9, 131_070, 3]),
        ("far-near", [65_600 * 65_536 - 2, 0, 3]),
        ("other-far", [65_537 * 65_536 - 2, edge - 9, 3]),
        ("far-far", [edge - 9, i64::MAX, 0]),
        ("near-far", [0, -1, 1]),
    ] {
        _ = both(&mut guests, name, &args);
        for at in edge - 80..edge + 80 {
            both(&mut guests, "far8", &[at]).unwrap();
            both(&mut guests, "other8", &[at]).unwrap();
            both(&mut guests, "near8", &[65_536 + at - edge]).unwrap();
        }
    }
}

/// What builds with threads have is refused by its name, and what was lowered is not lowered twice.
#[test]
fn threads_and_lowered_modules_are_refused_by_name() {
    let shared = r#"(module (import "env" "memory" (memory i64 1 2 shared)))"#;
    let shared = wat::parse_str(shared).unwrap();
    let error = lower(&shared, &Options::default()).unwrap_err();
    let text = error.to_string();
    assert!(matches!(error, Error::Unsupported { .. }), "{text}");
    assert!(
        text.contains("shared 64-bit memory (0)") && text.contains("without threads"),
        "{text}"
    );
    let plain = wat::parse_str("(module (memory i64 1))").unwrap();
    let once = lower(&plain, &Options::default()).unwrap();
    let error = lower(&once.wasm, &Options::default()).unwrap_err().to_string();
    assert!(error.contains(SECTION) && error.contains("run it as it is"), "{error}");
}
