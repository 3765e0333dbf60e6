//! Whole runs of the program in which the system refuses something: each ends in the right answer or in an error
//! that says what failed, leaves nothing behind, and the next run works.
//!
//! What is made to fail, and how, is in `faults/shim.c`. `PROPTEST_CASES=5000` runs more, and other ones each time.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;
#[path = "faults/place.rs"]
mod place;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use polychord::api::Engine;
use polychord::model::{Model, Placement, Ranks, SessionOptions, Transformer};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use common::{alone, skip, test_name};
use place::{Counts, Ended, Place};

/// What fails, and how: numbers of errno, half of the bytes, or seconds by which a clock is wrong.
const FAULTS: &[(&str, &[&str])] = &[
    ("open", &["2", "4", "5", "12", "13", "24"]),
    ("read", &["4", "5", "short"]),
    ("write", &["4", "5", "28", "short"]),
    ("fsync", &["5"]),
    ("truncate", &["1", "5", "28"]),
    ("rename", &["13", "28"]),
    ("mmap", &["1", "12"]),
    ("mprotect", &["12", "13"]),
    ("madvise", &["12", "22"]),
    ("memfd", &["24", "38"]),
    ("thread", &["11"]),
    ("monotonic", &["jump=3600", "jump=-3600"]),
    ("realtime", &["jump=100000000", "jump=-100000000"]),
];

/// How many cases there are unless `PROPTEST_CASES` says it: a few seconds an engine.
const CASES: u32 = 90;

/// A case: which run, which function and kind, which of its calls in millionths, and whether all later ones fail too.
type Case = (usize, usize, usize, u64, bool);

/// A run that goes well, what it answers, and how often it calls what.
struct Run {
    engine: &'static str,
    scene: &'static place::Scene,
    answer: String,
    counts: Counts,
}

#[test]
fn runs_end_in_the_right_answer_or_in_an_error() {
    let Some(shim) = shim() else { return };
    let place = Place::new(&shim);
    let runs = runs(&place);
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    let mut config = Config { failure_persistence: None, max_shrink_iters: 0, ..Config::default() };
    if !asked {
        config.cases = CASES;
    }
    let cases = config.cases;
    let mut runner = if asked {
        TestRunner::new(config)
    } else {
        TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
    };
    let tally = RefCell::new(BTreeMap::<(&str, &str), u32>::new());
    let any = (
        any::<usize>(),
        any::<usize>(),
        any::<usize>(),
        0..1_000_000_u64,
        prop::bool::weighted(0.25),
    );
    let done = runner.run(&any, |case| {
        let (function, end) = check(&place, &runs, case).map_err(TestCaseError::fail)?;
        *tally.borrow_mut().entry((function, end)).or_default() += 1;
        Ok(())
    });
    let tally: Vec<_> = tally
        .take()
        .into_iter()
        .map(|((function, end), n)| format!("{function}: {n} {end}"))
        .collect();
    println!("{cases} cases: {}", tally.join(", "));
    done.unwrap();
}

/// Each scene on each engine, without faults.
fn runs(place: &Place) -> Vec<Run> {
    let mut runs = Vec::new();
    for engine in polychord::available() {
        place.prepare(engine);
        for scene in place::SCENES {
            // Its compiler takes half a minute each time.
            if scene.is_cold && engine == "wasmedge" {
                continue;
            }
            let (ended, counts) = place.count(scene, engine);
            assert_eq!(ended.code, Some(0), "{} on {engine}: {ended:?}", scene.name);
            runs.push(Run { engine, scene, answer: scene.answer(&ended), counts });
        }
    }
    runs
}

/// Runs a case. Returns the function and how it ended, or what is wrong.
fn check(place: &Place, runs: &[Run], case: Case) -> Result<(&'static str, &'static str), String> {
    let (run, function, kind, part, later) = case;
    let run = &runs[run % runs.len()];
    let possible: Vec<_> =
        FAULTS.iter().filter(|(name, _)| run.counts.contains_key(*name)).collect();
    let (function, kinds) = possible[function % possible.len()];
    let kind = kinds[kind % kinds.len()];
    let number = 1 + run.counts[*function] * part / 1_000_000;
    // A call that is interrupted is made again; a clock of this kind goes on as it was.
    let later = later && kind != "4" && *function != "monotonic" || *function == "realtime";
    let fault = format!("{function}:{number}{}:{kind}", if later { "+" } else { "" });
    let what = format!("{} on {} with {fault}", run.scene.name, run.engine);
    let place = place.fresh(run.scene);
    let ended = place.run(run.scene, run.engine, Some(&fault));
    let guest_failed = format!(r#"{{"exited":{}}}"#, place::GUEST_FAILED);
    let wrong = |why: &str| Err(format!("{what}: {why}\nmade to fail: {}\n{ended:?}", place.log()));
    let end = match ended.code {
        // It tells what it finds, such as that a template cannot be used without a thread.
        Some(0) if run.scene.name == "inspected" && ended.stdout.contains("(os error ") => "told",
        // The guest has seen an error of a file, in the process below.
        Some(0) if run.scene.answer(&ended).contains(&guest_failed) => "refused",
        Some(0) if run.scene.answer(&ended) != run.answer => return wrong("another answer"),
        Some(0) if !place.has_results(run.scene) => return wrong("a file is missing"),
        Some(0) => "answered",
        // The guest has seen an error of a file.
        Some(place::GUEST_FAILED) if run.scene.name == "command" => "refused",
        Some(1 | 2 | 125) => "refused",
        // Its loader does not look whether a file could be opened, or mapped (docs/wasmedge.md).
        None if run.engine == "wasmedge"
            && ["memfd:polychord-guest", "/proc/self/fd/"]
                .iter()
                .any(|it| place.log().contains(it)) =>
        {
            return Ok((*function, "ended by a signal in WasmEdge"));
        }
        _ => return wrong("no error of its own"),
    };
    if let Some(why) = unclear(&ended, run.scene.name == "isolated") {
        return wrong(why);
    }
    let left = place.left_over(run.scene);
    if !left.is_empty() {
        return wrong(&format!("{left:?} is left over"));
    }
    let next = place.run(run.scene, run.engine, None);
    if next.code != Some(0) || run.scene.answer(&next) != run.answer {
        return wrong(&format!("the next run fails: {next:?}"));
    }
    Ok((*function, end))
}

/// Why an error is none that one can read. Of two processes, each says its own.
fn unclear(ended: &Ended, are_two: bool) -> Option<&'static str> {
    // Engines give up in their own code, which is caught, and told as such, or done in another way: code that cannot be
    // loaded is compiled. Rust says where, too.
    let is_engines = ended.stderr.contains("which is a defect of")
        || ended.stderr.contains("/wasmer-compiler-") && ended.code == Some(0);
    if ended.stderr.contains("panicked") && !is_engines {
        return Some("a panic");
    }
    if matches!(ended.code, Some(0 | place::GUEST_FAILED)) {
        return None;
    }
    let errors = ended.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    let lines = ended.stderr.trim_end().lines().count();
    match errors {
        1 if is_engines || lines == 1 => None,
        2 if are_two && lines == 2 => None,
        _ => Some("not one paragraph"),
    }
}

/// Failures in one process that goes on: descriptors, mappings and threads stay as many as they are.
#[test]
fn nothing_leaks_when_sessions_fail() {
    if std::env::var_os("POLYCHORD_FAULT").is_some() {
        return alone(test_name!(), &[], || {
            let engine = std::env::var("POLYCHORD_TEST_ENGINE").unwrap();
            fail_again_and_again(&polychord::open(&engine).unwrap());
        });
    }
    let Some(shim) = shim() else { return };
    for engine in polychord::available() {
        for fault in ["mmap:%13:12", "read:%7:5", "thread:%7:11", "open:%3:24", "mprotect:%9:12"] {
            // Of others the test itself has need.
            let file = if fault.starts_with(['o', 'r']) { "model.gguf" } else { "" };
            let variables: [(&str, &OsStr); 6] = [
                ("RUST_BACKTRACE", "0".as_ref()),
                ("POLYCHORD_TEST_ENGINE", engine.as_ref()),
                ("POLYCHORD_CACHE", place::cache().as_os_str()),
                ("LD_PRELOAD", shim.as_os_str()),
                ("POLYCHORD_FAULT", fault.as_ref()),
                ("POLYCHORD_FAULT_PATH", file.as_ref()),
            ];
            alone(test_name!(), &variables, || unreachable!("in another process"));
        }
    }
}

fn fail_again_and_again(engine: &Arc<dyn Engine>) {
    let folder = tempfile::tempdir().unwrap();
    let path = again(|| place::save_model(folder.path()).ok());
    // Compiled once, as by a program that goes on.
    let transformer = again(|| {
        Transformer::new(engine).ok().filter(|it| it.prepare(&Placement::default()).is_ok())
    });
    let (mut failed, mut before) = (0, [0; 3]);
    for round in 0..60 {
        let computed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            compute(&transformer, &path, round % 2 == 0)
        }));
        failed += u32::from(!matches!(computed, Ok(true)));
        if round == 30 {
            before = held();
        }
    }
    let after = held();
    let fault = std::env::var("POLYCHORD_FAULT").unwrap();
    // Not every engine changes what its pages may be used for.
    assert!(failed > 0 || fault.starts_with("mprotect"), "nothing failed with {fault}");
    println!(
        "{failed} of 60 failed; descriptors, mappings, threads: {before:?} and then {after:?}"
    );
    // Allocators keep a few.
    assert!(
        after[0] <= before[0] && after[1] <= before[1] + 8 && after[2] <= before[2],
        "{before:?}, {after:?}"
    );
}

fn compute(transformer: &Transformer, path: &Path, mapped: bool) -> bool {
    #[allow(unsafe_code, reason = "the file belongs to the test alone")]
    // SAFETY: nothing writes to it.
    let model = if mapped { unsafe { Model::open_mapped(path) } } else { Model::open(path) };
    let Ok(model) = model else { return false };
    let options = SessionOptions::new().context(32).ranks(Ranks::Exactly(2));
    let Ok(mut session) = transformer.start(&model, &options) else { return false };
    session.eval(&[1, 5, 9]).is_ok()
}

/// What takes a few attempts where calls fail now and then.
fn again<T>(mut attempt: impl FnMut() -> Option<T>) -> T {
    (0..50).find_map(|_| attempt()).unwrap()
}

/// Descriptors, mappings and threads of this process, read until it works.
fn held() -> [usize; 3] {
    again(|| {
        let count = |folder: &str| Some(fs::read_dir(folder).ok()?.count());
        let maps = fs::read_to_string("/proc/self/maps").ok()?.lines().count();
        Some([count("/proc/self/fd")?, maps, count("/proc/self/task")?])
    })
}

/// The library that makes calls fail.
fn shim() -> Option<PathBuf> {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/faults/shim.c");
    let name = format!("faults-{}-{:?}.so", std::process::id(), std::thread::current().id());
    let built = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name.replace(['(', ')'], ""));
    let mut compiler = Command::new("cc");
    compiler.args(["-O1", "-Wall", "-Werror", "-shared", "-fPIC", source, "-o"]).arg(&built);
    match compiler.args(["-ldl", "-lpthread"]).output() {
        Err(error) => {
            skip(&format!("no fault is injected: cc cannot be run: {error}"));
            None
        }
        Ok(done) => {
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            Some(built)
        }
    }
}
