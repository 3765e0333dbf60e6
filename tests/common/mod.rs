//! What the tests of the whole share.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses some of it")]

pub(crate) mod architecture;
pub(crate) mod encoders;
#[cfg(unix)]
pub(crate) mod experts;
pub(crate) mod ggml;
pub(crate) mod gguf;
#[cfg(unix)]
pub(crate) mod large;
pub(crate) mod llama;

use std::ffi::OsStr;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use polychord::EngineOptions;
use polychord::api::{Engine, Memory64};
use polychord::code_cache::CodeCache;
use polychord::model::{Model, Placement, Session, SimdFlavor, Transformer};

const ENGINE: &str = "POLYCHORD_TEST_ENGINE";
const GUEST: &str = "POLYCHORD_GUEST";
const RESULT: &str = "POLYCHORD_TEST_RESULT";
/// The result of a test with an engine that cannot do what it is about.
const CANNOT: &str = "it cannot do this";

/// The name of the test function in which this stands, as the test harness takes it.
#[allow(unused_macros, reason = "each test file uses some of it")]
macro_rules! test_name {
    () => {{
        fn here() {}
        $crate::common::name_around(std::any::type_name_of_val(&here))
    }};
}
#[allow(unused_imports, reason = "each test file uses some of it")]
pub(crate) use test_name;

/// The name of a test, from the path of a function in it: `crate::module::test::here`.
pub(crate) fn name_around(here: &'static str) -> &'static str {
    let (_, path) = here.split_once("::").unwrap();
    path.strip_suffix("::here").unwrap()
}

/// Runs the body of a test with every engine that is compiled in, each in a process of its own:
/// they do not all get along in one. `test` is the [`test_name`] of the caller.
///
/// With `POLYCHORD_TEST_ENGINE` set, runs with that engine only, in this process.
#[track_caller]
pub(crate) fn each_engine(test: &str, body: impl Fn(&Arc<dyn Engine>)) {
    engines_agree(test, |engine| {
        body(engine);
        String::new()
    });
}

/// An engine that keeps compiled guests for all tests: most of them run the same few.
pub(crate) fn open_engine(name: &str) -> Arc<dyn Engine> {
    let mut options = EngineOptions::new();
    // Cargo sets it for tests. Examples use this file, too.
    if let Some(folder) = option_env!("CARGO_TARGET_TMPDIR") {
        options = options.with_cache(CodeCache::open(Path::new(folder).join("code")).unwrap());
    }
    polychord::entry(name).unwrap().open(&options).unwrap()
}

/// Runs the body with each engine; what it returns must be the same with all of them.
#[track_caller]
pub(crate) fn engines_agree(test: &str, body: impl Fn(&Arc<dyn Engine>) -> String) {
    engines_that_can_agree(test, |_| true, body);
}

/// Runs the body with each engine that can do what it is about; what it returns must be the same with all
/// of these.
#[track_caller]
pub(crate) fn engines_that_can_agree(
    test: &str,
    can: impl Fn(&dyn Engine) -> bool,
    body: impl Fn(&Arc<dyn Engine>) -> String,
) {
    if let Ok(name) = std::env::var(ENGINE) {
        let engine = open_engine(&name);
        return report(&if can(&*engine) { body(&engine) } else { CANNOT.to_owned() });
    }
    let mut first: Option<(&str, String)> = None;
    for name in polychord::available() {
        let result = in_child(test, &[(ENGINE, name.as_ref())]);
        match &first {
            _ if result == CANNOT => {}
            Some((other, theirs)) => assert!(result == *theirs, "{name} differs from {other}"),
            None => first = Some((name, result)),
        }
    }
}

/// Runs the body of a test in a process of its own, with environment variables.
#[track_caller]
pub(crate) fn alone(test: &str, variables: &[(&str, &OsStr)], body: impl FnOnce()) {
    if std::env::var_os(RESULT).is_some() {
        body();
        return report("");
    }
    in_child(test, variables);
}

/// Runs the body in a process that may have at most `bytes` bytes of its own: the system refuses
/// it more (`RLIMIT_DATA`, which counts private pages that can be written to, mapped ones too).
#[track_caller]
pub(crate) fn alone_within(test: &str, bytes: u64, body: impl FnOnce()) {
    if std::env::var_os(RESULT).is_some() {
        body();
        return report("");
    }
    run_test(limited('d', bytes), test, &[]);
}

/// Runs the body of a test with every engine that is compiled in, each in a process that may use
/// at most `bytes` bytes of address space (`RLIMIT_AS`). Returns what it returned with each; in
/// those processes nothing.
#[track_caller]
pub(crate) fn each_engine_in_address_space(
    test: &str,
    bytes: u64,
    body: impl Fn(&Arc<dyn Engine>) -> String,
) -> Vec<(&'static str, String)> {
    if let Ok(name) = std::env::var(ENGINE) {
        report(&body(&open_engine(&name)));
        return Vec::new();
    }
    let run = |name: &'static str| {
        (name, run_test(limited('v', bytes), test, &[(ENGINE, name.as_ref())]))
    };
    polychord::available().into_iter().map(run).collect()
}

/// This program, within a limit of `ulimit`.
fn limited(option: char, bytes: u64) -> Command {
    let mut command = Command::new("sh");
    let limit = format!("ulimit -{option} {} && exec \"$@\"", bytes / 1024);
    command.args(["-c", &limit, "sh"]).arg(std::env::current_exe().unwrap());
    command
}

/// Runs one test of this file in another process, and returns what it reported.
#[track_caller]
fn in_child(test: &str, variables: &[(&str, &OsStr)]) -> String {
    run_test(Command::new(std::env::current_exe().unwrap()), test, variables)
}

#[track_caller]
fn run_test(mut command: Command, test: &str, variables: &[(&str, &OsStr)]) -> String {
    let dir = tempfile::tempdir().unwrap();
    let result = dir.path().join("result");
    command.args([test, "--exact", "--nocapture", "--include-ignored"]);
    command.envs(variables.iter().copied()).env(RESULT, &result);
    let what = format!("{command:?}");
    let status = command.status().unwrap();
    assert!(status.success(), "{status}: {what}");
    // A test that does not exist succeeds too.
    std::fs::read_to_string(result).unwrap_or_else(|_| panic!("it ran no test: {what}"))
}

fn report(result: &str) {
    if let Some(path) = std::env::var_os(RESULT) {
        std::fs::write(path, result).unwrap();
    }
}

/// The guest that `POLYCHORD_GUEST` names, else the plain one that comes with the library.
pub(crate) fn transformer(engine: &Arc<dyn Engine>) -> Transformer {
    match std::env::var_os(GUEST) {
        Some(_) => Transformer::from_wasm(engine, &guest()).unwrap(),
        None => Transformer::with_flavor(engine, SimdFlavor::Plain).unwrap(),
    }
}

/// The placements that test all builds of the guest which an engine can run; only the build
/// that `POLYCHORD_GUEST` names, if it names one.
pub(crate) fn placements(engine: &dyn Engine) -> Vec<Placement> {
    let name = std::env::var_os(GUEST).map(|path| path.to_string_lossy().into_owned());
    let wanted = |build: &str| name.as_ref().is_none_or(|name| name.contains(build));
    let mut placements = Vec::new();
    placements.extend(wanted("wasm32").then_some(Placement::auto()));
    placements.extend(wanted("multi32").then_some(Placement::multi32()));
    placements.extend(wide(engine.capabilities().memory64).filter(|_| wanted("wasm64")));
    placements
}

/// The placement in one 64-bit memory that an engine has.
pub(crate) fn wide(memory64: Memory64) -> Option<Placement> {
    match memory64 {
        Memory64::Native { .. } => Some(Placement::native64()),
        Memory64::Lowered { .. } => Some(Placement::flat64()),
        _ => None,
    }
}

/// A model of the tests' own, copied or mapped.
#[allow(unsafe_code, reason = "the file belongs to the test alone")]
pub(crate) fn open(path: &Path, mapped: bool) -> Model {
    if !mapped {
        return Model::open(path).unwrap();
    }
    // SAFETY: no test writes to the file while it is mapped; what happens if one truncates it on
    // Linux is what that test is about.
    unsafe { Model::open_mapped(path) }.unwrap()
}

/// Logits after a prompt of some batches, and of single tokens after it.
pub(crate) fn logits(session: &mut Session, then: [u32; 3]) -> Vec<u8> {
    let prompt: Vec<u32> = (0..11).map(|i| i * 7 % 97).collect();
    let mut all = session.eval(&prompt).unwrap().as_bytes().to_vec();
    for token in then {
        all.extend(session.eval(&[token]).unwrap().as_bytes());
    }
    all
}

/// The root of the mean of squared differences.
pub(crate) fn rms(some: &[f32], others: &[f32]) -> f64 {
    assert_eq!(some.len(), others.len());
    let squares = some.iter().zip(others).map(|(a, b)| f64::from(a - b).powi(2));
    #[allow(clippy::cast_precision_loss, reason = "few numbers")]
    let count = some.len() as f64;
    (squares.sum::<f64>() / count).sqrt()
}

/// The bytes of the 32-bit guest.
pub(crate) fn guest() -> Vec<u8> {
    let built = concat!(env!("CARGO_MANIFEST_DIR"), "/guest/built/transformer-wasm32-plain.wasm");
    std::fs::read(std::env::var_os(GUEST).unwrap_or_else(|| built.into())).unwrap()
}

/// Says why a test did not test anything, past the capturing of output: that must be seen.
pub(crate) fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}
