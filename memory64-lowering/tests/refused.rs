//! What is not lowered, and what stays as it is.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

use polychord_memory64_lowering::{Error, Options, Result, SECTION, lower};
use proptest::prelude::*;
use wasmparser::{Parser, Payload};

fn wasm(text: &str) -> Vec<u8> {
    wat::parse_str(text).unwrap()
}

fn refused(text: &str, options: &Options) -> Error {
    lower(&wasm(text), options).unwrap_err()
}

#[test]
fn modules_without_64_bit_addresses_stay_as_they_are() {
    for text in [
        "(module)",
        "(module (memory 1) (memory 2 3) (func (drop (i32.load (i32.const 0)))))",
        "(module (import \"env\" \"memory\" (memory 1 2 shared)) (@custom \"name\" \"\\ff\"))",
        "(module (table 1 funcref) (func (param i64)) (@custom \".debug_info\" \"x\"))",
    ] {
        let before = wasm(text);
        let after = lower(&before, &Options::default()).unwrap();
        assert_eq!(after.wasm, before, "{text}");
        assert!(after.report.memories.is_empty());
    }
}

#[test]
fn maximums_beyond_the_largest_memory_are_refused_or_cut() {
    let options = Options::default().max_memory(8 << 30);
    assert!(lower(&wasm("(module (memory i64 1 131072))"), &options).is_ok());
    let error = refused("(module (memory 1) (memory i64 1 131073))", &options);
    assert!(matches!(error, Error::Maximum { memory: 1, bytes: 8_590_000_128, .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("8590000128") && text.contains("8589934592"), "{text}");
    let cut = options.clone().cut_maximum(true);
    let huge = wasm("(module (memory i64 1 0x1000000000000))");
    let lowered = lower(&huge, &cut).unwrap();
    assert_eq!(lowered.report.memories[0].maximum, 131_072);
    let error = refused("(module (memory i64 131073))", &cut);
    assert!(error.to_string().contains("begins with 8590000128 bytes"), "{error}");
}

#[test]
fn more_segments_than_memories_are_refused() {
    let options = Options::default().max_memory(400 << 30);
    let text = "(module (memory 1) (memory i64 1))";
    let error = refused(text, &options);
    assert!(matches!(error, Error::Memories { needed: 101, available: 100, .. }), "{error}");
    assert!(lower(&wasm("(module (memory i64 1))"), &options).is_ok());
    assert!(lower(&wasm(text), &options.max_memory(396 << 30)).is_ok());
    let error = refused(text, &Options::default().max_memories(4));
    assert!(matches!(error, Error::Memories { needed: 5, available: 4, .. }), "{error}");
}

#[test]
fn what_cannot_be_lowered_is_named() {
    for (text, named) in [
        ("(memory i64 1 2 shared)", "a shared 64-bit memory (0)"),
        ("(memory i64 1) (func (drop (i32.atomic.load (i64.const 0))))", "I32AtomicLoad"),
        (
            "(memory i64 1) (func (drop (i64.atomic.rmw.add (i64.const 0) (i64.const 1))))",
            "I64AtomicRmwAdd",
        ),
        (
            "(memory i64 1) (func (drop (memory.atomic.notify (i64.const 0) (i32.const 1))))",
            "MemoryAtomicNotify",
        ),
        ("(memory i64 1 2 (pagesize 1))", "a page size of its own"),
    ] {
        let error = refused(&format!("(module {text})"), &Options::default());
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(named), "{error}");
    }
    let error = refused("(module (table i64 0x100000000 funcref))", &Options::default());
    assert!(matches!(error, Error::Table { elements: 0x1_0000_0000, .. }), "{error}");
    // On a 32-bit memory beside it they stay.
    let text = "(module (memory i64 1) (memory $m 1 2 shared)
        (func (drop (i32.atomic.load $m (i32.const 0)))))";
    lower(&wasm(text), &Options::default()).unwrap();
}

#[test]
fn components_objects_and_lowered_modules_are_refused() {
    assert!(matches!(refused("(component)", &Options::default()), Error::Component));
    for section in ["linking", "reloc.CODE"] {
        let text = format!("(module (memory i64 1) (@custom \"{section}\" \"\"))");
        assert!(matches!(refused(&text, &Options::default()), Error::Relocatable { .. }));
    }
    let module = wasm("(module (memory i64 1))");
    let once = lower(&module, &Options::default()).unwrap();
    assert!(matches!(lower(&once.wasm, &Options::default()), Err(Error::Lowered)));
    assert!(matches!(lower(b"", &Options::default()), Err(Error::Invalid(_))));
    assert!(matches!(lower(b"\0asm\x01\0\0\0\x05", &Options::default()), Err(Error::Invalid(_))));
}

#[test]
fn names_of_segments_have_to_be_free() {
    for text in [
        r#"(module (memory (export "m") i64 1) (func (export "m.2")))"#,
        r#"(module (import "a" "m" (memory i64 1)) (import "a" "m.3" (global i32)))"#,
    ] {
        let error = refused(text, &Options::default());
        assert!(matches!(error, Error::Name { memory: 0, .. }), "{error}");
    }
    let limited = wasm(r#"(module (memory i64 1) (func (export "polychord.memory64.limit.0")))"#);
    lower(&limited, &Options::default()).unwrap();
    let error = lower(&limited, &Options::default().limits(true)).map(|_| ()).unwrap_err();
    assert!(matches!(error, Error::Name { memory: 0, .. }), "{error}");
    let other = r#"(module (import "a" "m" (memory i64 1)) (import "b" "m.3" (global i32))
        (memory (export "n") 1) (export "n.1" (memory 1)))"#;
    lower(&wasm(other), &Options::default()).unwrap();
}

#[test]
fn options_have_to_be_sensible() {
    let module = wasm("(module (memory i64 1))");
    let with = |options: Options| lower(&module, &options).map(|_| ());
    let is_wrong = |result: Result<()>| matches!(result, Err(Error::Options { .. }));
    for pages in [0, 3, 65_535, 1 << 17, u32::MAX] {
        assert!(is_wrong(with(Options::default().segment_pages(pages))), "{pages}");
    }
    for bytes in [0, 1, 65_535, 65_537, u64::MAX, 1 << 63] {
        assert!(is_wrong(with(Options::default().max_memory(bytes))), "{bytes}");
    }
    let many = Options::default().max_memory(1 << 62).max_memories(u32::MAX);
    // Refused for its number of memories, and nothing is allocated for them before.
    assert!(with(many).is_err());
}

#[test]
fn sections_stay_where_they_stay_true() {
    let text = r#"(module $name
        (@custom "first" "1") (@custom ".debug_info" "2") (@custom "producers" "\00")
        (memory $m i64 1) (memory $n 1)
        (func $f (param $p i64) (drop (i32.load (local.get $p))))
        (@custom "last" "3") (@custom "sourceMappingURL" "4"))"#;
    let module = wasm(text);
    let lowered = lower(&module, &Options::default().max_memory(8 << 30)).unwrap();
    assert_eq!(lowered.report.dropped, [".debug_info", "sourceMappingURL"]);
    let mut custom = Vec::new();
    let mut names = Vec::new();
    for payload in Parser::new(0).parse_all(&lowered.wasm) {
        let Payload::CustomSection(section) = payload.unwrap() else { continue };
        custom.push(section.name().to_owned());
        let wasmparser::KnownCustom::Name(reader) = section.as_known() else { continue };
        for name in reader {
            match name.unwrap() {
                wasmparser::Name::Function(map) | wasmparser::Name::Memory(map) => {
                    names.extend(
                        map.into_iter()
                            .map(|it| it.unwrap())
                            .map(|it| (it.index, it.name.to_owned())),
                    );
                }
                _ => {}
            }
        }
    }
    assert_eq!(custom, ["first", "producers", "last", "name", SECTION]);
    let expected = [(0, "f"), (1, "memory64.access.0.i32load."), (2, "memory64.refresh.0.")];
    assert!(expected.iter().all(|(at, name)| names.contains(&(*at, (*name).into()))), "{names:?}");
    let memories = [(0, "m"), (1, "m.1"), (2, "n")];
    assert!(memories.iter().all(|(at, name)| names.contains(&(*at, (*name).into()))), "{names:?}");
}

#[test]
fn code_that_is_never_reached_stays_valid() {
    let text = r#"(module (memory i64 1) (table $t i64 2 funcref)
        (func (result i32) unreachable i32.load i32.store i64.const 1 i32.load)
        (func (block (br 0) (v128.load8_lane 1) (drop)) (return) (drop (memory.grow)) (memory.copy))
        (func (result v128) (loop unreachable (v128.store16_lane 3) (br 0)) (v128.load (i64.const 1)))
        (func (if (i32.const 0) (then unreachable (memory.fill)) (else (i64.store32 (i64.const 1) (i64.const 2)))))
        (func (unreachable) (table.set $t) (table.fill $t)))"#;
    lower(&wasm(text), &Options::default()).unwrap();
}

/// What would have more locals than functions may have is lowered in a smaller way.
#[test]
fn functions_at_their_limit_of_locals_are_lowered_in_a_smaller_way() {
    let many = format!(
        "(module (memory i64 1) (func (param i64) (local {}) (drop (i32.load (local.get 0)))))",
        "i64 ".repeat(49_999)
    );
    let report = lower(&wasm(&many), &Options::default()).unwrap().report;
    assert_eq!((report.checked, report.proved), (0, 0), "{report:?}");
    // One more local than there can be in any way: the stored value is needed twice.
    let most = format!(
        "(module (memory i64 1) (func (param i64) (local {}) (i32.store (local.get 0)
            (i32.add (i32.const 1) (i32.const 2)))))",
        "i64 ".repeat(49_999)
    );
    let error = refused(&most, &Options::default());
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    assert!(error.to_string().contains("divide"), "{error}");
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_never_lowered_wrongly(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        _ = lower(&bytes, &Options::default());
    }

    #[test]
    fn damaged_modules_are_refused_or_lowered(at in 8_usize..900, byte in any::<u8>()) {
        let mut module = wasm(include_str!("damaged.wat"));
        let index = at % module.len();
        module[index] = byte;
        match lower(&module, &Options::default().cut_maximum(true)) {
            Ok(_) => {}
            Err(Error::TooLarge(error)) => return Err(TestCaseError::fail(error.to_string())),
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }
}
