//! Random modules do the same as on wasmi, compiled.

use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
use polychord_conformance::differential::Differential;
use polychord_example_wasmi::WasmiEngine;

#[test]
fn random_modules_do_the_same_as_on_wasmi() {
    let engine = WasmEdgeEngine::with_config(
        Config::new(Mode::Aot).cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot")),
    )
    .unwrap();
    let reference = WasmiEngine::new().unwrap();
    Differential::new(50, env!("CARGO_TARGET_TMPDIR")).test(&engine, &reference);
}

#[test]
fn random_modules_with_a_time_limit_do_the_same_as_on_wasmi_without() {
    let engine = WasmEdgeEngine::with_config(
        Config::new(Mode::Aot).cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot")),
    )
    .unwrap();
    let reference = WasmiEngine::new().unwrap();
    Differential::new(25, env!("CARGO_TARGET_TMPDIR"))
        .with_a_time_limit()
        .test(&engine, &reference);
}

#[test]
fn random_modules_that_call_the_hosts_functions_do_the_same_as_on_wasmi() {
    let engine = WasmEdgeEngine::with_config(
        Config::new(Mode::Aot).cache(concat!(env!("CARGO_TARGET_TMPDIR"), "/aot")),
    )
    .unwrap();
    let reference = WasmiEngine::new().unwrap();
    Differential::new(50, env!("CARGO_TARGET_TMPDIR"))
        .with_host_functions()
        .test(&engine, &reference);
}
