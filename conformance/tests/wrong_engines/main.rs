//! Engines that are wrong on purpose, one mistake at a time: the suite must notice each.
//!
//! A case that could not fail would prove nothing. Here every defect names the cases that
//! have to catch it, and every group of cases has defects.
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
use polychord_conformance::{Case, all};
use polychord_runtime_api::Engine;

use defects::{DEFECTS, Entry, NONE};
use double::Double;

fn main() -> ExitCode {
    let engine: Arc<dyn Engine> = Arc::new(WasmtimeEngine::new().unwrap());
    let mut trials: Vec<_> = DEFECTS
        .iter()
        .flat_map(|group| *group)
        .map(|entry| {
            let engine = engine.clone();
            Trial::test(entry.name, move || caught(entry, &engine))
        })
        .collect();
    trials.push(Trial::test("every_group_has_defects", every_group_has_defects));
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
    let entry = DEFECTS.iter().flat_map(|group| *group);
    let wrong = entry.into_iter().find(|entry| entry.name == "determinism/last_bit").unwrap();
    let wrong = Double::new(engine.clone(), wrong.defect);
    let folder = tempfile::tempdir()?;
    let differential = Differential::new(100, folder.path());
    let Err(message) = differential.run(&wrong, &**engine) else {
        return Err("no random module noticed a wrong result".into());
    };
    let saved = std::fs::read_dir(folder.path())?.count();
    if saved == 1 { Ok(()) } else { Err(format!("{saved} modules were saved: {message}").into()) }
}

fn every_group_has_defects() -> Result<(), Failed> {
    let group = |name: &str| name.split('/').next().unwrap().to_owned();
    let caught: BTreeSet<_> =
        DEFECTS.iter().flat_map(|group| *group).flat_map(|entry| entry.caught_by).collect();
    let covered: BTreeSet<_> = caught.iter().map(|name| group(name)).collect();
    let groups: BTreeSet<_> = all().iter().map(|case| group(case.name)).collect();
    let missing: Vec<_> = groups.difference(&covered).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("no defects for {missing:?}").into()) }
}

fn case(name: &str) -> Case {
    let found = all().into_iter().find(|case| case.name == name);
    found.unwrap_or_else(|| panic!("there is no case {name}"))
}
