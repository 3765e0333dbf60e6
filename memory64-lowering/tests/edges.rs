//! Memories beyond 4 GiB: what happens at the edges of segments, at the end and beyond all addresses.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;

use common::{Guest, native, pair, without};
use polychord_memory64_lowering::{Layout, Options, lower, segment_name};
use wasmtime::{Linker, Module, Store, Val};

const GIB: i64 = 1 << 30;
const PAGE: i64 = 1 << 16;

const BIG: &str = r#"(module
    (memory (export "memory") i64 65535 196610)
    (data $text "0123456789abcdef")
    (func (export "size") (result i64) (memory.size))
    (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
    (func (export "load8") (param i64) (result i64) (i64.load8_u (local.get 0)))
    (func (export "load64") (param i64) (result i64) (i64.load (local.get 0)))
    (func (export "far64") (param i64) (result i64)
        (i64.load offset=0xffffffff (local.get 0)))
    (func (export "last64") (param i64) (result i64)
        (i64.load offset=0xffffffffffffffff (local.get 0)))
    (func (export "load128") (param i64) (result i64)
        (i64x2.extract_lane 1 (v128.load (local.get 0))))
    (func (export "store8") (param i64 i64) (i64.store8 (local.get 0) (local.get 1)))
    (func (export "store64") (param i64 i64) (i64.store (local.get 0) (local.get 1)))
    (func (export "store128") (param i64 i64)
        (v128.store (local.get 0) (i64x2.splat (local.get 1))))
    (func (export "fill") (param i64 i64 i64)
        (memory.fill (local.get 0) (i32.wrap_i64 (local.get 1)) (local.get 2)))
    (func (export "copy") (param i64 i64 i64)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "init") (param i64 i64 i64)
        (memory.init $text (local.get 0) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
    (func (export "drop") (data.drop $text)))"#;

/// Calls a function of both guests; the outcomes are the same.
fn both(guests: &mut [Guest; 2], name: &str, args: &[i64]) -> Result<i64, String> {
    let [native, lowered] = guests.each_mut().map(|guest| guest.number(name, args));
    assert_eq!(native, lowered, "{name} {args:x?}");
    native
}

/// Compares bytes around each edge.
fn same_bytes(guests: &mut [Guest; 2]) {
    for edge in [0, 4 * GIB, 8 * GIB, 12 * GIB] {
        for back in (-64..64).step_by(8) {
            _ = both(guests, "load64", &[edge + back]);
        }
    }
}

/// Segments of 2 GiB, whose addresses have 31 bits.
#[test]
fn edges_are_where_segments_end() {
    for pages in [1 << 15, 1 << 14] {
        let mut guests = pair(BIG, &Options::default().segment_pages(pages));
        for edge in [GIB, 2 * GIB, 3 * GIB, 4 * GIB - PAGE] {
            for back in -20..=20 {
                _ = both(
                    &mut guests,
                    "store64",
                    &[edge + back, 0x0102_0304_0506_0708 * (back | 1)],
                );
                _ = both(&mut guests, "store128", &[edge + 3 * back, back]);
                for load in ["load8", "load64", "load128", "far64"] {
                    _ = both(&mut guests, load, &[edge + back]);
                }
            }
            _ = both(&mut guests, "fill", &[edge - 100, 7, 200]);
            _ = both(&mut guests, "copy", &[edge - 60, edge - 130, 120]);
            _ = both(&mut guests, "init", &[edge - 8, 0, 16]);
            _ = both(&mut guests, "load64", &[edge - 4]);
        }
    }
}

#[test]
fn edges_are_like_any_other_place() {
    let mut guests = pair(BIG, &Options::default());
    let all = |guests: &mut [Guest; 2]| {
        for edge in [0, 4 * GIB, 8 * GIB, 12 * GIB, i64::MAX, i64::MIN, 16 * GIB] {
            for back in -20..=20_i64 {
                let at = edge.wrapping_add(back);
                _ = both(guests, "store64", &[at, 0x0102_0304_0506_0708 * (back | 1)]);
                _ = both(guests, "store8", &[at, back]);
                _ = both(guests, "store128", &[at.wrapping_mul(3), back]);
                for load in ["load8", "load64", "far64", "last64", "load128"] {
                    _ = both(guests, load, &[at]);
                    _ = both(guests, load, &[at.wrapping_sub(0xffff_ffff)]);
                }
            }
        }
        same_bytes(guests);
    };
    assert_eq!(both(&mut guests, "size", &[]), Ok(65_535));
    all(&mut guests);
    for (delta, before) in [(1, 65_535), (0, 65_536), (1, 65_536), (65_536, 65_537)] {
        assert_eq!(both(&mut guests, "grow", &[delta]), Ok(before));
        all(&mut guests);
    }
    assert_eq!(both(&mut guests, "grow", &[65_538]), Ok(-1));
    assert_eq!(both(&mut guests, "grow", &[-1]), Ok(-1));
    assert_eq!(both(&mut guests, "grow", &[i64::MIN]), Ok(-1));
    assert_eq!(both(&mut guests, "grow", &[65_537]), Ok(131_073));
    assert_eq!(both(&mut guests, "size", &[]), Ok(196_610));
    all(&mut guests);
    assert_eq!(both(&mut guests, "grow", &[1]), Ok(-1));
    assert_eq!(both(&mut guests, "grow", &[0]), Ok(196_610));
}

#[test]
fn whole_ranges_cross_edges_or_change_nothing() {
    let mut guests = pair(BIG, &Options::default());
    both(&mut guests, "grow", &[65_545]).unwrap();
    let end = (65_535 + 65_545) * PAGE;
    for at in [4 * GIB, 8 * GIB] {
        for (back, len) in [(0, 16), (1, 16), (8, 16), (15, 16), (16, 16), (16, 0), (0, 0), (3, 2)]
        {
            both(&mut guests, "init", &[at - back, 16 - len.min(16), len.min(16)]).unwrap();
            both(&mut guests, "fill", &[at - back + 5, back, len]).unwrap();
            same_bytes(&mut guests);
            for distance in [1, 7, 16, -1, -9, 40] {
                both(&mut guests, "copy", &[at - back + distance, at - back, 33]).unwrap();
                both(&mut guests, "copy", &[at - back, at - back + distance, 30]).unwrap();
                same_bytes(&mut guests);
            }
            both(&mut guests, "copy", &[at - 4 * GIB + 64, at - 7, 14]).unwrap();
            both(&mut guests, "copy", &[at - 7, 4 * GIB - 9, 18]).unwrap();
        }
    }
    // Longer than a segment.
    both(&mut guests, "fill", &[4 * GIB - 3, 7, 6]).unwrap();
    both(&mut guests, "fill", &[0, 0x5a, 0]).unwrap();
    for (name, args) in [
        ("fill", [end - 8, 1, 9]),
        ("fill", [4 * GIB - 8, 1, i64::MAX]),
        ("fill", [-1, 1, 1]),
        ("fill", [-1, 1, 0]),
        ("fill", [end, 1, 0]),
        ("fill", [end + 1, 1, 0]),
        ("copy", [4 * GIB - 8, end - 8, 9]),
        ("copy", [end - 8, 4 * GIB - 8, 9]),
        ("copy", [0, -1, 2]),
        ("copy", [end, end, 0]),
        ("copy", [end, end + 1, 0]),
        ("init", [4 * GIB - 8, 1, 16]),
        ("init", [4 * GIB - 8, 0, 17]),
        ("init", [4 * GIB - 8, -1, 2]),
        ("init", [end - 15, 0, 16]),
        ("init", [end, 16, 0]),
        ("init", [end, 17, 0]),
    ] {
        let outcome = both(&mut guests, name, &args);
        same_bytes(&mut guests);
        let is_nothing = args.contains(&0) && outcome.is_ok();
        assert!(is_nothing || outcome == Err("trap: MemoryOutOfBounds".into()), "{name} {args:x?}");
    }
    both(&mut guests, "drop", &[]).unwrap();
    both(&mut guests, "init", &[4 * GIB - 8, 0, 1]).unwrap_err();
    both(&mut guests, "init", &[4 * GIB - 8, 0, 0]).unwrap();
}

#[test]
fn a_whole_segment_and_more_is_filled_and_copied() {
    let text = BIG.replace("65535 196610", "8000 8192");
    let options = Options::default().segment_pages(1024).max_memory(512 << 20);
    let mut guests = pair(&text, &options);
    both(&mut guests, "fill", &[10, 0x11, 200 << 20]).unwrap();
    both(&mut guests, "copy", &[(100 << 20) + 3, 5, 150 << 20]).unwrap();
    both(&mut guests, "copy", &[1, 64 << 20, 150 << 20]).unwrap();
    for at in (0..(260 << 20)).step_by((1 << 18) - 7) {
        both(&mut guests, "load64", &[at]).unwrap();
    }
}

#[test]
fn data_lies_where_it_did() {
    let text = r#"(module
        (import "env" "base" (global $base i64))
        (memory (export "memory") i64 65600)
        (memory $small (export "small") 1)
        (data (i64.const 8) "first segment")
        (data (i64.const 0xfffffff8) "both segments...")
        (data (memory $small) (i32.const 1) "small")
        (data (i64.add (global.get $base) (i64.const 2)) "by a global")
        (data (i64.const 0x100000100) "second segment")
        (data (i64.const 0xfffffffc) "over")
        (data (i64.const 4299161600) "")
        (func (export "load8") (param i64) (result i64) (i64.load8_u (local.get 0)))
        (func (export "small8") (param i64) (result i64)
            (i64.load8_u $small (i32.wrap_i64 (local.get 0))))
        (global $started (mut i64) (i64.const 0))
        (func $start (global.set $started (i64.load (i64.const 0xfffffff8))))
        (start $start)
        (func (export "started") (result i64) (global.get $started)))"#;
    let wasm = wat::parse_str(text).unwrap();
    let lowered = lower(&wasm, &Options::default()).unwrap();
    let start = |base: i64| {
        [(native(), &wasm[..]), (without(), &lowered.wasm[..])].map(|(engine, wasm)| {
            let module = Module::new(&engine, wasm).unwrap();
            let mut store = Store::new(&engine, ());
            let mut linker = Linker::new(&engine);
            let ty = wasmtime::GlobalType::new(wasmtime::ValType::I64, wasmtime::Mutability::Const);
            let base = wasmtime::Global::new(&mut store, ty, Val::I64(base)).unwrap();
            linker.define(&store, "env", "base", base).unwrap();
            match linker.instantiate(&mut store, &module) {
                Ok(instance) => Ok((store, instance)),
                Err(error) => Err(common::reason(&error)),
            }
        })
    };
    let [Ok(mut native), Ok(mut lowered)] = start(4 * GIB - 6) else { panic!("did not start") };
    let mut load = |name: &str, args: &[i64]| {
        let args: Vec<_> = args.iter().map(|arg| Val::I64(*arg)).collect();
        let [native, lowered] = [&mut native, &mut lowered].map(|(store, instance)| {
            let mut result = [Val::I64(0)];
            let function = instance.get_func(&mut *store, name).unwrap();
            function.call(store, &args, &mut result).unwrap();
            result[0].unwrap_i64()
        });
        assert_eq!(native, lowered, "{name} {args:?}");
        native
    };
    for at in 0..32 {
        load("load8", &[at]);
        load("load8", &[4 * GIB - 16 + at]);
        load("load8", &[4 * GIB + 250 + at]);
        load("small8", &[at]);
    }
    assert_eq!(load("load8", &[4 * GIB - 4]), i64::from(b'o'));
    assert_ne!(load("started", &[]), 0);
    for base in [65_600 * PAGE - 12, 65_600 * PAGE, -2, -3, i64::MIN] {
        let [native, lowered] = start(base).map(|started| started.err());
        assert_eq!(native, lowered, "{base:x}");
    }
}

#[test]
fn modules_share_memories_by_the_names_of_segments() {
    let owner = r#"(module (memory (export "memory") i64 1 70000)
        (func (export "size") (result i64) (memory.size))
        (func (export "load") (param i64) (result i64) (i64.load (local.get 0))))"#;
    let user = r#"(module (import "owner" "memory" (memory i64 1))
        (func (export "grow") (param i64) (result i64) (memory.grow (local.get 0)))
        (func (export "store") (param i64 i64) (i64.store (local.get 0) (local.get 1))))"#;
    let calls: &[(&str, &[i64])] = &[
        ("size", &[]),
        ("store", &[4 * GIB, 1]),
        ("grow", &[65_535]),
        ("store", &[4 * GIB - 8, 77]),
        ("store", &[4 * GIB - 7, 77]),
        ("load", &[4 * GIB - 8]),
        ("grow", &[1]),
        ("store", &[4 * GIB - 4, 1 << 33]),
        ("load", &[4 * GIB - 3]),
        ("grow", &[5000]),
        ("grow", &[4463]),
        ("size", &[]),
        ("grow", &[1]),
    ];
    let run = |lowers: bool| {
        let engine = if lowers { without() } else { native() };
        let mut store = Store::new(&engine, ());
        let mut linker = Linker::new(&engine);
        let mut instances = Vec::new();
        for text in [owner, user] {
            let wasm = wat::parse_str(text).unwrap();
            let lowered = lower(&wasm, &Options::default()).unwrap();
            let module = Module::new(&engine, if lowers { &lowered.wasm } else { &wasm[..] });
            let instance = linker.instantiate(&mut store, &module.unwrap()).unwrap();
            linker.instance(&mut store, "owner", instance).unwrap();
            instances.push(instance);
        }
        let mut call = |(name, args): &(&str, &[i64])| {
            let args: Vec<_> = args.iter().map(|arg| Val::I64(*arg)).collect();
            let found = instances.iter().find_map(|it| it.get_func(&mut store, name)).unwrap();
            let mut results = vec![Val::I64(0); found.ty(&store).results().len()];
            let outcome = found.call(&mut store, &args, &mut results);
            outcome.map_or_else(|error| common::reason(&error), |()| format!("{results:?}"))
        };
        calls.iter().map(&mut call).collect::<Vec<_>>()
    };
    // Growing beyond the maximum of the owner fails natively and lowered.
    assert_eq!(run(false), run(true));
}

#[test]
fn several_memories_of_both_kinds_copy_from_each_other() {
    let text = r#"(module
        (memory $a (export "a") 2)
        (memory $b (export "b") i64 3)
        (memory $c (export "c") 1)
        (memory $d (export "d") i64 4)
        (data (memory $a) (i32.const 65530) "from the first memory")
        (data (memory $d) (i64.const 65520) "from the last memory, and then some")
        (func (export "ab") (param i64 i64 i64) (memory.copy $a $b
            (i32.wrap_i64 (local.get 0)) (local.get 1) (i32.wrap_i64 (local.get 2))))
        (func (export "ba") (param i64 i64 i64) (memory.copy $b $a
            (local.get 0) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
        (func (export "bd") (param i64 i64 i64) (memory.copy $b $d
            (local.get 0) (local.get 1) (local.get 2)))
        (func (export "dc") (param i64 i64 i64) (memory.copy $d $c
            (local.get 0) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
        (func (export "ca") (param i64 i64 i64) (memory.copy $c $a
            (i32.wrap_i64 (local.get 0)) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
        (func (export "fillc") (param i64 i64 i64) (memory.fill $c
            (i32.wrap_i64 (local.get 0)) (i32.wrap_i64 (local.get 1)) (i32.wrap_i64 (local.get 2))))
        (func (export "growc") (param i64) (result i64)
            (i64.extend_i32_s (memory.grow $c (i32.wrap_i64 (local.get 0))))))"#;
    let options = Options::default().segment_pages(1).max_memory(8 << 16);
    let mut guests = pair(text, &options);
    let ends = [0, 1, 65_530, 65_536, 2 * PAGE - 3, 2 * PAGE, 3 * PAGE - 20, 4 * PAGE, 1 << 33, -1];
    for round in 0..3 {
        for name in ["ab", "ba", "bd", "dc", "ca", "fillc"] {
            for (index, to) in ends.iter().enumerate() {
                let from = ends[(index * 3 + round) % ends.len()];
                _ = both(&mut guests, name, &[*to, from, [20, 70_000, 0][round]]);
            }
            for memory in ["a", "b", "c", "d"] {
                let [native, lowered] = guests.each_mut().map(|guest| guest.bytes(memory));
                assert!(native == lowered, "{memory} after {name}");
            }
        }
        both(&mut guests, "growc", &[1]).unwrap();
    }
}

#[test]
fn an_engine_that_runs_out_of_memory_leaves_the_size_as_it_was() {
    let wasm = wat::parse_str(BIG).unwrap();
    let lowered = lower(&wasm, &Options::default()).unwrap();
    let engine = without();
    let module = Module::new(&engine, &lowered.wasm).unwrap();
    // A limit of all memories together, as hosts have it.
    struct Limit(usize);
    impl wasmtime::ResourceLimiter for Limit {
        fn memory_growing(
            &mut self,
            current: usize,
            desired: usize,
            _: Option<usize>,
        ) -> wasmtime::Result<bool> {
            let more = desired - current;
            let fits = more <= self.0;
            self.0 -= if fits { more } else { 0 };
            Ok(fits)
        }

        fn table_growing(
            &mut self,
            _: usize,
            _: usize,
            _: Option<usize>,
        ) -> wasmtime::Result<bool> {
            Ok(true)
        }
    }
    let mut store = Store::new(&engine, Limit(6 << 30));
    store.limiter(|limit| limit);
    let instance = Linker::new(&engine).instantiate(&mut store, &module).unwrap();
    let mut call = |name: &str, args: &[i64]| {
        let args: Vec<_> = args.iter().map(|arg| Val::I64(*arg)).collect();
        let function = instance.get_func(&mut store, name).unwrap();
        let mut results = vec![Val::I64(0); function.ty(&store).results().len()];
        let outcome = function.call(&mut store, &args, &mut results);
        outcome
            .map(|()| results.first().map_or(0, Val::unwrap_i64))
            .map_err(|it| common::reason(&it))
    };
    // The second segment would fit, the rest of the first would not.
    assert_eq!(call("grow", &[32_770]), Ok(-1));
    assert_eq!(call("size", &[]), Ok(65_535));
    let outside = Err("trap: MemoryOutOfBounds".to_owned());
    assert_eq!(call("load8", &[4 * GIB + 5]), outside);
    assert_eq!(call("store64", &[4 * GIB - PAGE - 4, 1]).err(), outside.clone().err());
    assert_eq!(call("fill", &[4 * GIB - PAGE - 4, 1, 8]).err(), outside.clone().err());
    assert_eq!(call("grow", &[0]), Ok(65_535));
}

#[test]
fn the_layout_tells_the_names() {
    let text = r#"(module
        (import "env" "shared" (memory $shared i64 1))
        (memory $own (export "memory") (export "again") i64 1 2)
        (memory i64 1)
        (func $f) (data $d "x"))"#;
    let wasm = wat::parse_str(text).unwrap();
    let lowered = lower(&wasm, &Options::default()).unwrap();
    let layout = Layout::read(&lowered.wasm).unwrap().unwrap();
    let seen: Vec<_> = layout.memories.iter().map(|it| (it.index, it.first, it.segments)).collect();
    assert_eq!(seen, [(0, 0, 4), (1, 4, 4), (2, 8, 4)]);
    assert_eq!(layout.memories[0].import, Some(("env".into(), "shared".into())));
    assert_eq!(layout.memories[1].exports, ["memory", "again"]);
    assert_eq!(layout.memories[1].maximum, 2);
    let module = Module::new(&without(), &lowered.wasm).unwrap();
    for name in (0..4).map(|segment| segment_name("again", segment)) {
        assert!(module.get_export(&name).is_some(), "{name}");
    }
    assert_eq!(layout.locate(9 << 30), (2, 1 << 30));
}
