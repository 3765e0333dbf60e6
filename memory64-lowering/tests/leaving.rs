//! Loops that are left from inside, to labels at several depths: a copy of a loop goes to where the loop does.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use common::{Guest, pair};
use polychord_memory64_lowering::{Dispatch, Options};
use wasmtime::Val;

const GIB: i64 = 1 << 30;

/// Where a loop ended is told by the first digits, how far it came by the rest.
const SCAN: &str = r#"(module
    (memory (export "memory") i64 140000 140000)
    (func (export "store") (param i64 i64) (i64.store (local.get 0) (local.get 1)))
    (func (export "find") (param $p i64) (param $n i64) (param $what i64) (result i64)
        (block $none
            (block $two
                (block $one
                    (loop $again
                        (br_if $one (i64.eq (i64.load (local.get $p)) (local.get $what)))
                        (br_if $two (i64.eq (i64.load offset=8 (local.get $p)) (local.get $what)))
                        (local.set $p (i64.add (local.get $p) (i64.const 16)))
                        (local.set $n (i64.sub (local.get $n) (i64.const 1)))
                        (br_if $again (i64.ne (local.get $n) (i64.const 0))))
                    (br $none))
                (return (i64.add (i64.const 1000000) (local.get $n))))
            (return (i64.add (i64.const 2000000) (local.get $n))))
        (i64.add (i64.const 3000000) (local.get $n)))
    (func (export "table") (param $p i64) (param $n i64) (param $what i64) (result i64)
        (local $sum i64)
        (block $three
            (block $two
                (block $one
                    (loop $again
                        (block $in
                            (block $odd
                                (local.set $sum (i64.add (local.get $sum)
                                    (i64.load offset=8 (local.get $p))))
                                (br_table $in $one $odd $two $three $in
                                    (i32.wrap_i64 (i64.sub (i64.load (local.get $p)) (local.get $what)))))
                            (local.set $sum (i64.mul (local.get $sum) (i64.const 3))))
                        (local.set $p (i64.add (local.get $p) (i64.const 16)))
                        (br_if $again (i64.ne (local.tee $n (i64.sub (local.get $n) (i64.const 1)))
                            (i64.const 0))))
                    (return (i64.add (i64.const 4000000) (local.get $sum))))
                (return (i64.add (i64.const 1000000) (local.get $sum))))
            (return (i64.add (i64.const 2000000) (local.get $sum))))
        (i64.add (i64.const 3000000) (local.get $sum))))"#;

fn same(guests: &mut [Guest; 2], name: &str, args: [i64; 3]) -> i64 {
    let args = args.map(Val::I64);
    let [native, lowered] = guests.each_mut().map(|guest| guest.call(name, &args));
    assert_eq!(native, lowered, "{name} {args:?}");
    native.map_or(-1, |results| results[0].parse().unwrap())
}

fn store(guests: &mut [Guest; 2], place: i64, value: i64) {
    for guest in guests {
        guest.call("store", &[Val::I64(place), Val::I64(value)]).unwrap();
    }
}

#[test]
fn a_copy_of_a_loop_is_left_to_the_same_label() {
    for dispatch in [Dispatch::Regions, Dispatch::Inline, Dispatch::Switch, Dispatch::Helpers] {
        let mut guests = pair(SCAN, &Options::default().dispatch(dispatch));
        // In the first segment, in the second one, from one to the other, and up to the end.
        for base in [1 << 16, 5 * GIB, 4 * GIB - 80, 140_000 * 65_536 - 160] {
            for at in 0..10 {
                let place = base + 16 * at;
                for (word, value) in [(0, 7), (8, 7), (0, 8), (0, 9), (0, 10)] {
                    store(&mut guests, place + word, value);
                    let found = same(&mut guests, "find", [base, 10, 7]);
                    let way = if value != 7 {
                        3
                    } else if word == 0 {
                        1
                    } else {
                        2
                    };
                    assert_eq!(found / 1_000_000, way, "{base:x} {at}");
                    same(&mut guests, "table", [base, 10, 6]);
                    store(&mut guests, place + word, 0);
                }
            }
            assert_eq!(same(&mut guests, "find", [base, 10, 7]), 3_000_000);
            // A word too many is beyond the end, for both.
            same(&mut guests, "find", [base, 11, 7]);
        }
    }
}
