//! Engines that are wrong on purpose, one mistake at a time: the suite must notice each.
//!
//! A case that could not fail would prove nothing. Here every defect names the cases that
//! have to catch it, and every case has a defect that it catches.
#![allow(clippy::unwrap_used, reason = "tests")]

mod defects;
mod double;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_conformance::differential::Differential;
use polychord_conformance::spec::SUITES;
use polychord_conformance::{Case, all};
use polychord_runtime_api::Engine;

use defects::{DEFECTS, Entry, NONE};
use double::Double;

fn main() -> ExitCode {
    let engine: Arc<dyn Engine> = Arc::new(WasmtimeEngine::new().unwrap());
    let mut trials: Vec<_> = entries()
        .map(|entry| {
            let engine = engine.clone();
            Trial::test(entry.name, move || caught(entry, &engine))
        })
        .collect();
    trials.push(Trial::test("every_case_catches_a_defect", every_case_catches_a_defect));
    let shared = engine.clone();
    trials.push(Trial::test("spec", move || spec_notices(&shared)));
    trials.push(Trial::test("differential", move || differential_notices(&engine)));
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// The cases that an entry names fail with its defect, and only because of it.
fn caught(entry: &'static Entry, engine: &Arc<dyn Engine>) -> Result<(), Failed> {
    assert!(!entry.caught_by.is_empty());
    for name in entry.caught_by {
        let case = case(name);
        let sound = case.check(&Double::new(engine.clone(), &NONE));
        sound.map_err(|failure| format!("{name} fails without a defect: {failure}"))?;
        // A case that panics has noticed, too: the test harness takes it for a failure.
        let wrong = Double::new(engine.clone(), entry.defect);
        let outcome = catch_unwind(AssertUnwindSafe(|| case.check(&wrong)));
        if matches!(outcome, Ok(Ok(()))) {
            return Err(format!("{name} does not notice that the engine {}", entry.what).into());
        }
    }
    Ok(())
}

/// Random modules notice an engine whose results are wrong, and the module is kept.
fn differential_notices(engine: &Arc<dyn Engine>) -> Result<(), Failed> {
    let wrong = Double::new(engine.clone(), entry("determinism/last_bit").defect);
    let folder = tempfile::tempdir()?;
    let differential = Differential::new(100, folder.path());
    let Err(message) = differential.run(&wrong, &**engine) else {
        return Err("no random module noticed a wrong result".into());
    };
    let saved = std::fs::read_dir(folder.path())?.count();
    if saved == 1 { Ok(()) } else { Err(format!("{saved} modules were saved: {message}").into()) }
}

/// The official tests notice wrong results, lost traps and modules that are none.
fn spec_notices(engine: &Arc<dyn Engine>) -> Result<(), Failed> {
    let suite = SUITES.iter().find(|suite| suite.name == "multi-memory").unwrap();
    let sound = suite.run(&Double::new(engine.clone(), &NONE));
    if sound.failed > 0 {
        return Err(format!("fails without a defect: {:?}", sound.failures).into());
    }
    for name in ["determinism/last_bit", "traps/lost", "compile/takes_anything"] {
        let wrong = suite.run(&Double::new(engine.clone(), entry(name).defect));
        if wrong.failed == 0 {
            return Err(format!("the official tests do not notice {name}").into());
        }
    }
    Ok(())
}

fn every_case_catches_a_defect() -> Result<(), Failed> {
    let caught: BTreeSet<_> = entries().flat_map(|entry| entry.caught_by).copied().collect();
    let cases: BTreeSet<_> = all().iter().map(|case| case.name).collect();
    let missing: Vec<_> = cases.difference(&caught).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let message = "nothing shows that these cases can fail; \
        name each as one that catches a defect (tests/wrong_engines/defects)";
    Err(format!("{message}: {missing:?}").into())
}

fn entries() -> impl Iterator<Item = &'static Entry> {
    DEFECTS.iter().flat_map(|group| *group)
}

fn entry(name: &str) -> &'static Entry {
    entries().find(|entry| entry.name == name).unwrap()
}

fn case(name: &str) -> Case {
    let found = all().into_iter().find(|case| case.name == name);
    found.unwrap_or_else(|| panic!("there is no case {name}"))
}
