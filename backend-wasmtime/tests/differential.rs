//! Random modules do the same as on wasmi.

use polychord_backend_wasmtime::WasmtimeEngine;
use polychord_conformance::differential::Differential;
use polychord_example_wasmi::WasmiEngine;

#[test]
fn random_modules_do_the_same_as_on_wasmi() {
    let engine = WasmtimeEngine::new().unwrap();
    let reference = WasmiEngine::new().unwrap();
    Differential::new(200, env!("CARGO_TARGET_TMPDIR")).test(&engine, &reference);
}

#[test]
fn random_modules_with_a_time_limit_do_the_same_as_on_wasmi_without() {
    let engine = WasmtimeEngine::new().unwrap();
    let reference = WasmiEngine::new().unwrap();
    Differential::new(100, env!("CARGO_TARGET_TMPDIR"))
        .with_a_time_limit()
        .test(&engine, &reference);
}

#[test]
fn random_modules_that_call_the_hosts_functions_do_the_same_as_on_wasmi() {
    let engine = WasmtimeEngine::new().unwrap();
    let reference = WasmiEngine::new().unwrap();
    Differential::new(200, env!("CARGO_TARGET_TMPDIR"))
        .with_host_functions()
        .test(&engine, &reference);
}
