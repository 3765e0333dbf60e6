//! Every load and store, with offsets and addresses around all edges: the same values, traps and
//! bytes as on an engine with memory64.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;

use common::{Guest, Outcome, engine};
use polychord_memory64_lowering::{Dispatch, Options, lower};
use wasmtime::Val;

const LOADS: &[(&str, &str)] = &[
    ("i32", "i32.load"),
    ("i64", "i64.load"),
    ("f32", "f32.load"),
    ("f64", "f64.load"),
    ("i32", "i32.load8_s"),
    ("i32", "i32.load8_u"),
    ("i32", "i32.load16_s"),
    ("i32", "i32.load16_u"),
    ("i64", "i64.load8_s"),
    ("i64", "i64.load8_u"),
    ("i64", "i64.load16_s"),
    ("i64", "i64.load16_u"),
    ("i64", "i64.load32_s"),
    ("i64", "i64.load32_u"),
    ("v128", "v128.load"),
    ("v128", "v128.load8x8_s"),
    ("v128", "v128.load8x8_u"),
    ("v128", "v128.load16x4_s"),
    ("v128", "v128.load16x4_u"),
    ("v128", "v128.load32x2_s"),
    ("v128", "v128.load32x2_u"),
    ("v128", "v128.load8_splat"),
    ("v128", "v128.load16_splat"),
    ("v128", "v128.load32_splat"),
    ("v128", "v128.load64_splat"),
    ("v128", "v128.load32_zero"),
    ("v128", "v128.load64_zero"),
];

const STORES: &[(&str, &str)] = &[
    ("i32", "i32.store"),
    ("i64", "i64.store"),
    ("f32", "f32.store"),
    ("f64", "f64.store"),
    ("i32", "i32.store8"),
    ("i32", "i32.store16"),
    ("i64", "i64.store8"),
    ("i64", "i64.store16"),
    ("i64", "i64.store32"),
    ("v128", "v128.store"),
];

const LANES: &[(&str, u32)] = &[("8", 15), ("16", 6), ("32", 3), ("64", 1)];

const OFFSETS: &[u64] = &[
    0,
    1,
    13,
    65_535,
    65_536,
    131_071,
    u32::MAX as u64,
    1 << 32,
    (1 << 63) - 1,
    u64::MAX - 16,
    u64::MAX,
];

/// Pages of the memory, and of each of its segments.
const PAGES: u64 = 3;
const PAGE: u64 = 1 << 16;

/// A module with a function for each access and each offset; their names.
fn module() -> (String, Vec<(String, Option<&'static str>)>) {
    let (mut text, mut names) = (String::new(), Vec::new());
    let mut add = |op: &str, lane: &str, params: &str, result: &str, value: &str| {
        for offset in OFFSETS {
            let name = format!("{op}{lane} {offset}");
            let op = format!("{op} offset={offset}{lane}");
            text.push_str(&format!(
                "(func (export \"{name}\") (param i64 {params}) {result}
                    ({op} (local.get 0) {value}))\n"
            ));
            names.push(name);
        }
    };
    for (ty, op) in LOADS {
        add(op, "", "", &format!("(result {ty})"), "");
    }
    for (width, lane) in LANES {
        let (op, lane) = (format!("v128.load{width}_lane"), format!(" {lane}"));
        let vector = "(v128.const i64x2 0x1122334455667788 0x99aabbccddeeff00)";
        add(&op, &lane, "", "(result v128)", vector);
    }
    let loads = names.len();
    let mut add = |op: &str, lane: &str, ty: &str| {
        for offset in OFFSETS {
            let name = format!("{op}{lane} {offset}");
            let op = format!("{op} offset={offset}{lane}");
            text.push_str(&format!(
                "(func (export \"{name}\") (param i64 {ty})
                    ({op} (local.get 0) (local.get 1)))\n"
            ));
            names.push(name);
        }
    };
    for (ty, op) in STORES {
        add(op, "", ty);
    }
    for (width, lane) in LANES {
        add(&format!("v128.store{width}_lane"), &format!(" {lane}"), "v128");
    }
    let stores = STORES.iter().map(|(ty, _)| *ty).chain(LANES.iter().map(|_| "v128"));
    let types = stores.flat_map(|ty| OFFSETS.iter().map(move |_| Some(ty)));
    let types = (0..loads).map(|_| None).chain(types).collect::<Vec<_>>();
    let text = format!(
        "(module (memory (export \"memory\") i64 {PAGES} 4)
            (func (export \"grow\") (param i64) (result i64) (memory.grow (local.get 0)))
            (func (export \"put\") (param i64 i64) (i64.store (local.get 0) (local.get 1)))
            {text})"
    );
    (text, names.into_iter().zip(types).collect())
}

fn addresses() -> Vec<u64> {
    let around = [0, PAGE, 2 * PAGE, PAGES * PAGE, 1 << 32, 1 << 33, 1 << 63];
    let mut all: Vec<_> = around
        .iter()
        .flat_map(|edge: &u64| (0..18).map(|back| edge.wrapping_sub(back)))
        .chain(around.iter().map(|edge| edge + 1))
        .collect();
    all.extend(OFFSETS.iter().map(|offset| offset.wrapping_neg()));
    all.extend(OFFSETS.iter().map(|offset| (PAGES * PAGE).wrapping_sub(*offset)));
    all.extend(OFFSETS.iter().map(|offset| (PAGE - 4).wrapping_sub(*offset)));
    all.sort_unstable();
    all.dedup();
    all
}

fn value(ty: &str, seed: u64) -> Val {
    let bits = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 0x8080_8080_8080_8080;
    match ty {
        "i32" => Val::I32(bits as u32 as i32),
        "i64" => Val::I64(bits as i64),
        "f32" => Val::F32(bits as u32),
        "f64" => Val::F64(bits),
        _ => Val::V128((u128::from(bits) << 64 | u128::from(bits.rotate_left(29))).into()),
    }
}

fn compare(dispatch: Dispatch, segment_pages: u32) {
    let (text, names) = module();
    let wasm = wat::parse_str(&text).unwrap();
    let options = Options::default().segment_pages(segment_pages).max_memory(4 * PAGE);
    let lowered = lower(&wasm, &options.dispatch(dispatch)).unwrap();
    let engines = [engine(true, PAGE), engine(false, PAGE)];
    let mut guests = [
        Guest::start(&engines[0], &wasm).unwrap(),
        Guest::start(&engines[1], &lowered.wasm).unwrap(),
    ];
    for address in (0..PAGES * PAGE).step_by(8) {
        let bits = address.wrapping_mul(0x1234_5678_9abc_def1).rotate_left(17);
        for guest in &mut guests {
            guest.call("put", &[Val::I64(address as i64), Val::I64(bits as i64)]).unwrap();
        }
    }
    let addresses = addresses();
    let mut counts = [0, 0];
    for (name, ty) in &names {
        for address in &addresses {
            let mut args = vec![Val::I64(*address as i64)];
            args.extend(ty.map(|ty| value(ty, *address)));
            let [native, lowered]: [Outcome; 2] =
                guests.each_mut().map(|guest| guest.call(name, &args));
            assert_eq!(native, lowered, "{name} at {address:#x}");
            counts[usize::from(native.is_err())] += 1;
        }
        if ty.is_some() {
            let [native, lowered] = guests.each_mut().map(|guest| guest.bytes("memory"));
            assert!(native == lowered, "bytes after {name}");
        }
    }
    println!("{dispatch:?}: {counts:?}");
    assert!(counts[0] > 10_000 && counts[1] > 10_000, "{counts:?}");
}

#[test]
fn all_are_the_same_checked_together() {
    compare(Dispatch::Regions, 1);
}

#[test]
fn all_are_the_same_checked_where_they_stand() {
    compare(Dispatch::Inline, 1);
}

#[test]
fn all_are_the_same_with_a_comparison_for_each_segment() {
    compare(Dispatch::Switch, 1);
}

#[test]
fn all_are_the_same_in_functions() {
    compare(Dispatch::Helpers, 1);
}

#[test]
fn all_are_the_same_in_one_segment() {
    compare(Dispatch::Regions, 4);
}
