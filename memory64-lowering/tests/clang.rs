//! A program that clang compiled for wasm64, with an allocator of its own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;

use common::{Guest, native, without};
use polychord_memory64_lowering::{Options, lower};

const FILL: &[u8] = include_bytes!("data/fill.wasm");

fn guests() -> [Guest; 2] {
    let lowered = lower(FILL, &Options::default()).unwrap();
    assert_eq!(lowered.report.memories.len(), 1);
    [Guest::start(&native(), FILL).unwrap(), Guest::start(&without(), &lowered.wasm).unwrap()]
}

#[test]
fn six_gib_are_filled_and_checked() {
    let [native, lowered] = guests().map(|mut guest| {
        // A word in every page of WebAssembly; blocks that end at no page of any kind.
        guest.number("fill", &[7, (1 << 30) - 4096 - 24, 65_544])
    });
    assert_eq!(native, lowered);
    assert!(native.is_ok_and(|sum| sum != 0 && sum != 1), "all words were right");
}

#[test]
fn blocks_are_used_again() {
    let mut guests = guests();
    for (count, size) in [(1000, 100), (10, 10_000), (2000, 80), (3, 1 << 22), (1000, 100)] {
        let [native, lowered] =
            guests.each_mut().map(|guest| guest.number("fill", &[count, size, 8]));
        assert_eq!(native, lowered, "{count} {size}");
        assert!(native.is_ok_and(|sum| sum != 0 && sum != 1));
    }
    // Beyond the largest memory there is none.
    let more = guests[1].number("fill", &[20, 1 << 30, 1 << 20]);
    assert_eq!(more, Ok(1));
}
