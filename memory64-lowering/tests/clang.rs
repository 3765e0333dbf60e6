//! Programs that clang and emscripten compiled for wasm64, with allocators of their own.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "numbers whose bits count"
)]

mod common;

use common::{Guest, native, reason, without};
use polychord_memory64_lowering::{Options, lower};
use wasmtime::{Engine, Error, Linker, Module, Store};

const FILL: &[u8] = include_bytes!("data/fill.wasm");

const BY_EMSCRIPTEN: &[u8] = include_bytes!("data/fill-emscripten.wasm");
const MALLOC: &[u8] = include_bytes!("data/malloc-emscripten.wasm");

fn guests(wasm: &[u8]) -> [Guest; 2] {
    let lowered = lower(wasm, &Options::default()).unwrap();
    assert_eq!(lowered.report.memories.len(), 1);
    [Guest::start(&native(), wasm).unwrap(), Guest::start(&without(), &lowered.wasm).unwrap()]
}

#[test]
fn six_gib_are_filled_and_checked() {
    for wasm in [FILL, BY_EMSCRIPTEN] {
        let [native, lowered] = guests(wasm).map(|mut guest| {
            // A word in every page of WebAssembly; blocks that end at no page of any kind.
            guest.number("fill", &[7, (1 << 30) - 4096 - 24, 65_544])
        });
        assert_eq!(native, lowered);
        assert!(native.is_ok_and(|sum| sum != 0 && sum != 1), "all words were right");
    }
}

/// Runs a WASI command whose pointers have 64 bits, and whose output is refused; how it ended.
fn command(engine: &Engine, wasm: &[u8]) -> String {
    const WASI: &str = "wasi_snapshot_preview1";
    let mut linker = Linker::new(engine);
    linker.func_wrap(WASI, "args_sizes_get", |_: i64, _: i64| 0).unwrap();
    linker.func_wrap(WASI, "args_get", |_: i64, _: i64| 0).unwrap();
    linker.func_wrap(WASI, "fd_write", |_: i32, _: i64, _: i64, _: i64| 8).unwrap();
    let exit = |code: i32| -> wasmtime::Result<()> { Err(Error::msg(format!("exit {code}"))) };
    linker.func_wrap(WASI, "proc_exit", exit).unwrap();
    linker.func_wrap("env", "emscripten_notify_memory_growth", |_: i64| ()).unwrap();
    let mut store = Store::new(engine, ());
    let module = Module::new(engine, wasm).unwrap();
    let instance = linker.instantiate(&mut store, &module).unwrap();
    let start = instance.get_typed_func::<(), ()>(&mut store, "_start").unwrap();
    start.call(&mut store, ()).map_or_else(|error| reason(&error), |()| "returned".into())
}

/// It ends with 1 if there is no memory, as natively: this emscripten's `malloc` has less than 6 GiB. With 2
/// it would if a word were wrong.
#[test]
fn emscripten_s_malloc_does_the_same() {
    let lowered = lower(MALLOC, &Options::default()).unwrap();
    let [native, lowered] = [(native(), MALLOC), (without(), &lowered.wasm)]
        .map(|(engine, wasm)| command(&engine, wasm));
    assert_eq!(native, lowered);
    assert!(["returned", "error: exit 0", "error: exit 1"].contains(&native.as_str()), "{native}");
}

#[test]
fn blocks_are_used_again() {
    let mut guests = guests(FILL);
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
