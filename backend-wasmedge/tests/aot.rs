//! Tests of compiled guests: the folder that keeps them, compilers in other
//! processes, and what is refused.
//!
//! Has its own `main`, because it is also the compiler and the second process of its tests.
#![allow(clippy::print_stderr, clippy::print_stdout, reason = "a test program")]
#![allow(clippy::unwrap_used, reason = "a test program")]
#![cfg(unix)]

#[path = "aot/cache.rs"]
mod cache;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};

use libtest_mimic::{Arguments, Trial};
use polychord_backend_wasmedge::{CompilerCommand, Config, WasmEdgeEngine, run_compiler};
use polychord_runtime_api::spi::{SignalUse, claim_signals};
use polychord_runtime_api::{
    Capabilities, Engine, Error, Limits, Memory64, Requirements, Result, TrapKind, Value,
};
use tempfile::TempDir;

fn main() -> ExitCode {
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    match args.first().and_then(|arg| arg.to_str()) {
        Some("as-compiler") => report(run_compiler(&args[1..])),
        Some("as-crash") => std::process::abort(),
        Some("as-failure") => {
            eprintln!("no space left");
            ExitCode::FAILURE
        }
        Some("as-signals") => {
            check_signals();
            ExitCode::SUCCESS
        }
        Some("as-late-compiler") => {
            check_late_compilation(Path::new(&args[1]));
            ExitCode::SUCCESS
        }
        Some("as-both") => {
            check_both_compilers();
            ExitCode::SUCCESS
        }
        Some("as-user") => report(answer(&engine(&args[1])).map(|value| assert_eq!(value, 42))),
        _ => {
            // Some of the tests compile in this process, and some do not: those come later.
            let dir = TempDir::new().unwrap();
            assert_eq!(answer(&engine(dir.path().join("aot"))).unwrap(), 42);
            let tests = TESTS.iter().map(|(name, test)| {
                let test = *test;
                Trial::test(*name, move || {
                    test();
                    Ok(())
                })
            });
            libtest_mimic::run(&Arguments::from_args(), tests.collect()).exit_code()
        }
    }
}

const TESTS: [(&str, fn()); 19] = [
    ("a_guest_is_compiled_once", a_guest_is_compiled_once),
    ("a_damaged_file_is_made_anew", a_damaged_file_is_made_anew),
    ("what_others_can_write_is_refused", what_others_can_write_is_refused),
    ("folders_of_others_above_the_cache_are_refused", cache::folders_of_others_are_refused),
    ("links_of_others_are_not_followed", cache::links_of_others_are_not_followed),
    ("what_only_looks_like_a_compiled_guest_is_refused", cache::impostors_are_refused),
    ("the_bytes_that_were_checked_are_loaded", cache::the_bytes_that_were_checked_are_loaded),
    ("another_user_gets_no_code_into_the_process", cache::another_user_gets_no_code_in),
    ("processes_may_compile_at_once", processes_may_compile_at_once),
    ("threads_may_compile_at_once", threads_may_compile_at_once),
    ("another_process_compiles", another_process_compiles),
    ("a_crash_of_the_compiler_is_an_error", a_crash_of_the_compiler_is_an_error),
    ("a_time_limit_compiles_anew", a_time_limit_compiles_anew),
    ("memory64_is_refused_with_the_reason", memory64_is_refused_with_the_reason),
    ("unclaimed_capabilities_are_refused", unclaimed_capabilities_are_refused),
    ("signal_handlers_are_taken", signal_handlers_are_taken),
    ("compiling_leaves_the_signal_handlers", compiling_leaves_the_signal_handlers),
    ("one_process_compiles_in_one_way", one_process_compiles_in_one_way),
    ("the_transformer_compiles", the_transformer_compiles),
];

fn report(result: Result<()>) -> ExitCode {
    result.map_or_else(
        |error| {
            eprintln!("{error}");
            ExitCode::FAILURE
        },
        |()| ExitCode::SUCCESS,
    )
}

fn config(folder: impl AsRef<Path>) -> Config {
    Config::default().cache(folder.as_ref())
}

fn engine(folder: impl AsRef<std::ffi::OsStr>) -> WasmEdgeEngine {
    WasmEdgeEngine::with_config(config(Path::new(&folder))).unwrap()
}

fn wasm() -> Vec<u8> {
    wat::parse_str(r#"(module (func (export "answer") (result i32) (i32.const 42)))"#).unwrap()
}

fn answer(engine: &dyn Engine) -> Result<i32> {
    let mut guest = engine.compile(&wasm())?.instantiate(&Limits::default())?;
    Ok(guest.call("answer", &[])?[0].as_i32().unwrap())
}

/// The one compiled guest in a folder.
fn only_file(folder: &Path) -> PathBuf {
    let mut files = files(folder);
    assert_eq!(files.len(), 1, "{files:?}");
    files.remove(0)
}

/// The entries of a folder, without the folder of Polychord's own guest.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| !path.ends_with("keeper")).collect()
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

fn a_guest_is_compiled_once() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("not/yet/there");
    assert_eq!(answer(&engine(&folder)).unwrap(), 42);
    let file = only_file(&folder);
    let before = fs::metadata(&file).unwrap();
    assert_eq!(before.mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder).unwrap().mode() & 0o777, 0o700);
    assert_eq!(answer(&engine(&folder)).unwrap(), 42);
    assert_eq!(fs::metadata(only_file(&folder)).unwrap().ino(), before.ino());
    // What runs is a sealed copy, and not the file.
    if cfg!(target_os = "linux") && Path::new("/proc/self/maps").exists() {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        assert!(maps.contains("memfd:polychord-guest"), "{maps}");
        assert!(!maps.contains(dir.path().to_str().unwrap()), "{maps}");
    }
}

fn a_damaged_file_is_made_anew() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    assert_eq!(answer(&engine(&folder)).unwrap(), 42);
    let file = only_file(&folder);
    let good = fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[good.len() / 2] ^= 1;
    let foreign = {
        // Intact, but made from another module.
        let other =
            wat::parse_str(r#"(module (func (export "answer") (result i32) (i32.const 13)))"#);
        let folder = dir.path().join("other");
        engine(&folder).compile(&other.unwrap()).unwrap();
        fs::read(only_file(&folder)).unwrap()
    };
    for bad in [&flipped[..], &good[..good.len() / 2], &good[..good.len() - 1], &[], &foreign] {
        fs::write(&file, bad).unwrap();
        assert_eq!(answer(&engine(&folder)).unwrap(), 42);
        assert_ne!(fs::read(only_file(&folder)).unwrap(), bad);
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o777, 0o600);
    }
}

fn what_others_can_write_is_refused() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    let engine = engine(&folder);
    assert_eq!(answer(&engine).unwrap(), 42);
    let file = only_file(&folder);
    let refused = |path: &Path, mode: &str| {
        let error = answer(&engine).unwrap_err();
        let message = error.to_string();
        assert!(matches!(error, Error::Compile { .. }), "{error:?}");
        for part in [path.to_str().unwrap(), mode, "native code", "chmod", "POLYCHORD_CACHE"] {
            assert!(message.contains(part), "no {part} in: {message}");
        }
    };
    for mode in [0o620, 0o602, 0o666] {
        chmod(&file, mode);
        refused(&file, &format!("{mode:04o}"));
    }
    chmod(&file, 0o600);
    for mode in [0o720, 0o702, 0o777, 0o1777] {
        chmod(&folder, mode);
        refused(&folder, &format!("{mode:04o}"));
        let error = WasmEdgeEngine::with_config(config(&folder)).unwrap_err().to_string();
        assert!(error.contains("can be written by others"), "{error}");
    }
    chmod(&folder, 0o700);
    chmod(dir.path(), 0o777);
    refused(dir.path(), "0777");
    chmod(dir.path(), 0o1777);
    assert_eq!(answer(&engine).unwrap(), 42);
    chmod(dir.path(), 0o700);
    // Not even to something good.
    fs::rename(&file, dir.path().join("moved")).unwrap();
    symlink(dir.path().join("moved"), &file).unwrap();
    let error = answer(&engine).unwrap_err().to_string();
    assert!(error.contains("delete it"), "{error}");
}

fn processes_may_compile_at_once() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    let me = std::env::current_exe().unwrap();
    let spawn = || Command::new(&me).arg("as-user").arg(&folder).spawn().unwrap();
    let processes: Vec<_> = (0..4).map(|_| spawn()).collect();
    for mut process in processes {
        assert!(process.wait().unwrap().success());
    }
    only_file(&folder);
}

fn threads_may_compile_at_once() {
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path().join("aot"));
    std::thread::scope(|scope| {
        for number in 0..4 {
            let engine = &engine;
            scope.spawn(move || {
                let wat =
                    format!(r#"(module (func (export "f") (result i32) (i32.const {number})))"#);
                let module = engine.compile(&wat::parse_str(wat).unwrap()).unwrap();
                let mut guest = module.instantiate(&Limits::default()).unwrap();
                assert_eq!(guest.call("f", &[]).unwrap(), [Value::I32(number)]);
            });
        }
    });
}

fn compiler(program: impl Into<PathBuf>, arg: &str) -> Option<CompilerCommand> {
    Some(CompilerCommand::new(program).arg(arg))
}

fn another_process_compiles() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    let compiler = compiler(std::env::current_exe().unwrap(), "as-compiler");
    let engine = WasmEdgeEngine::with_config(config(&folder).compiler(compiler)).unwrap();
    assert_eq!(answer(&engine).unwrap(), 42);
    only_file(&folder);
    assert!(run_compiler(&[]).is_err());
    assert!(run_compiler(&[dir.path().into()]).is_err());
}

fn a_crash_of_the_compiler_is_an_error() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    let me = std::env::current_exe().unwrap();
    let cases = [
        (me.clone(), "as-crash", "signal"),
        (me, "as-failure", "no space left"),
        ("/nonexistent/compiler".into(), "", "/nonexistent/compiler"),
    ];
    for (program, arg, expected) in cases {
        let compiler = compiler(program, arg);
        let engine = WasmEdgeEngine::with_config(config(&folder).compiler(compiler)).unwrap();
        let error = answer(&engine).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
        assert_eq!(error.contains("crashed"), arg == "as-crash", "{error}");
        assert_eq!(files(&folder).len(), 0);
    }
}

fn a_time_limit_compiles_anew() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    let engine = engine(&folder);
    let wat = r#"(module (func (export "f")) (func (export "loop") (loop $l (br $l))))"#;
    let module = engine.compile(&wat::parse_str(wat).unwrap()).unwrap();
    let count = || files(&folder).len();
    module.instantiate(&Limits::default()).unwrap().call("f", &[]).unwrap();
    assert_eq!(count(), 1);
    for millis in [0, 20, 20] {
        let limit = std::time::Duration::from_millis(millis);
        let limits = Limits::default().call_time(limit);
        let mut guest = module.instantiate(&limits).unwrap();
        let error = guest.call("loop", &[]).unwrap_err();
        let Error::Trap { kind, .. } = error else { panic!("{error}") };
        assert_eq!(kind, TrapKind::DeadlineExceeded(limit));
        assert_eq!(count(), 2);
    }
    // So long that adding it to the clock overflows somewhere.
    for limit in [std::time::Duration::MAX, std::time::Duration::from_secs(u64::MAX / 1_000)] {
        let limits = Limits::default().call_time(limit);
        module.instantiate(&limits).unwrap().call("f", &[]).unwrap();
    }
}

fn memory64_is_refused_with_the_reason() {
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path().join("aot"));
    for wat in ["(module (memory i64 1))", "(module (memory 1) (memory i64 1))"] {
        let error = engine.compile(&wat::parse_str(wat).unwrap()).err().unwrap();
        let message = error.to_string();
        assert!(matches!(error, Error::Unmet { .. }), "{error:?}");
        for part in ["memory64", "WasmEdge#5282", "not checked", "interpreter"] {
            assert!(message.contains(part), "no {part} in: {message}");
        }
    }
    assert_eq!(files(&dir.path().join("aot")).len(), 0);
}

fn unclaimed_capabilities_are_refused() {
    let dir = TempDir::new().unwrap();
    let engine = engine(dir.path().join("aot"));
    let Capabilities { memory64, stack_overflow_trap, execution, version, .. } =
        **engine.capabilities();
    assert_eq!((memory64, stack_overflow_trap), (Memory64::Host, false));
    assert_eq!((execution, version), ("AOT", WasmEdgeEngine::VERSION));
    let needs =
        Requirements::NONE.memory64_bytes(1).memory32_bytes((1 << 32) + 1).stack_overflow_trap();
    let Err(Error::Unmet { unmet, .. }) = needs.check(engine.capabilities()) else {
        panic!("must be refused")
    };
    let fields: Vec<_> = unmet.iter().map(|unmet| unmet.field).collect();
    assert_eq!(fields, ["memory64_bytes", "memory32_bytes", "stack_overflow_trap"]);
}

/// Why WasmEdge's compiled code must be alone in a process: it has the signal handlers, also
/// while no guest runs, or else a trap in one thread could come just after another thread's
/// guest has ended and taken them away.
///
/// Runs in a process of its own: handlers are the process's, and other tests run guests.
fn signal_handlers_are_taken() {
    let me = std::env::current_exe().unwrap();
    assert!(Command::new(me).arg("as-signals").status().unwrap().success());
}

fn check_signals() {
    let dir = TempDir::new().unwrap();
    assert_eq!(answer(&engine(dir.path().join("aot"))).unwrap(), 42);
    let error = claim_signals("another engine", SignalUse::Shared).unwrap_err().to_string();
    assert!(error.contains("another engine cannot") && error.contains("wasmedge"), "{error}");
    let Ok(status) = fs::read_to_string("/proc/self/status") else { return };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
    let caught = u64::from_str_radix(mask, 16).unwrap();
    for signal in [7, 8, 11] {
        assert_eq!(caught >> (signal - 1) & 1, 1, "signal {signal} is not caught: {mask}");
    }
}

/// LLVM sets signal handlers, too, which must not replace WasmEdge's.
fn compiling_leaves_the_signal_handlers() {
    let dir = TempDir::new().unwrap();
    // The second process finds compiled what WasmEdge's handlers are set with.
    for _ in 0..2 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let status = command.arg("as-late-compiler").arg(dir.path().join("aot")).status().unwrap();
        assert!(status.success(), "{status}");
    }
}

fn check_late_compilation(folder: &Path) {
    let guest = |pages: usize| {
        let wasm = wat::parse_str(format!(
            r#"(module (memory (export "memory") {pages})
                (func (export "load") (result i32) (i32.load (i32.const -4))))"#
        ));
        engine(folder).compile(&wasm.unwrap()).unwrap().instantiate(&Limits::default()).unwrap()
    };
    // Modules that no process has compiled yet.
    let compiled = if folder.exists() { files(folder).len() } else { 0 };
    let first = guest(1 + compiled);
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut guest = first;
            while !done.load(Ordering::Relaxed) {
                let error = guest.call("load", &[]).unwrap_err();
                let kind = TrapKind::MemoryOutOfBounds;
                assert!(matches!(&error, Error::Trap { kind: k, .. } if *k == kind), "{error}");
            }
        });
        (2..12).for_each(|more| drop(guest(compiled + more)));
        done.store(true, Ordering::Relaxed);
    });
}

fn one_process_compiles_in_one_way() {
    let me = std::env::current_exe().unwrap();
    assert!(Command::new(me).arg("as-both").status().unwrap().success());
}

fn check_both_compilers() {
    let dir = TempDir::new().unwrap();
    let compiler = CompilerCommand::new(std::env::current_exe().unwrap()).arg("as-compiler");
    let there = config(dir.path().join("there")).compiler(compiler);
    assert_eq!(answer(&WasmEdgeEngine::with_config(there).unwrap()).unwrap(), 42);
    let error = answer(&engine(dir.path().join("here"))).unwrap_err().to_string();
    assert!(error.contains("a compiler command came first"), "{error}");
}

/// The guests for relaxed SIMD, at once; tests of sessions compile the others.
fn the_transformer_compiles() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../guest/built");
    let dir = TempDir::new().unwrap();
    let engine = &engine(dir.path().join("aot"));
    let compile = |name: &str| {
        let wasm = fs::read(folder.join(name)).unwrap();
        match engine.compile(&wasm) {
            Ok(module) => drop(module.instantiate(&Limits::default()).unwrap()),
            Err(Error::Unmet { .. }) => assert!(name.contains("wasm64"), "{name}"),
            Err(error) => panic!("{name}: {error}"),
        }
    };
    let names = ["wasm32", "multi32", "wasm64"].map(|it| format!("transformer-{it}-relaxed.wasm"));
    std::thread::scope(|scope| {
        for name in &names {
            scope.spawn(move || compile(name));
        }
    });
}
