//! What is checked in place of a case whose needs the engine does not meet.

use polychord_runtime_api::imports::Imports;
use polychord_runtime_api::{
    Engine, Instantiation, Limits, LoadMethod, Memory64, MemorySpec, Requirements, Value,
};
use std::time::Duration;

use crate::check::{equal, holds, unmet};
use crate::failure::{Failure, Outcome};
use crate::guest::{self, PAGE_LEN};

const MEMORY64: &str = r#"(module (memory (export "memory") i64 1))"#;
const MULTI_MEMORY: &str = r#"(module (memory (export "memory") 1) (memory 1))"#;
const RELAXED_SIMD: &str = r#"(module (func (export "madd") (param v128 v128 v128) (result v128)
    (f32x4.relaxed_madd (local.get 0) (local.get 1) (local.get 2))))"#;
const MINIMAL: &str = r#"(module (memory (export "memory") 1))"#;

/// Checks that asking for what the engine does not claim is refused, at every place in the API.
pub(crate) fn check(engine: &dyn Engine, needs: &Requirements) -> Outcome {
    let missing = unmet(needs.check(engine.capabilities()))?;
    for unmet in missing {
        match unmet.field {
            "memory64_bytes" => memory64(engine)?,
            "multi_memory" => module(engine, MULTI_MEMORY, "multi_memory")?,
            "relaxed_simd" => module(engine, RELAXED_SIMD, "relaxed_simd")?,
            "time_limit" => time_limit(engine)?,
            "mapping" => mapping(engine)?,
            "reentrance" => reentrance(engine)?,
            // No call asks for the others; opening the engine with the requirement does.
            _ => {}
        }
    }
    Ok(())
}

fn memory64(engine: &dyn Engine) -> Outcome {
    match engine.capabilities().memory64 {
        Memory64::Host => module(engine, MEMORY64, "memory64"),
        // Native, but too small: the requirement is refused, the module is not.
        _ => Ok(()),
    }
}

/// A module that uses the feature is not compiled, and the refusal names the feature.
fn module(engine: &dyn Engine, wat: &str, field: &str) -> Outcome {
    let fields: Vec<_> = unmet(engine.compile(&wat::parse_str(wat)?))?
        .into_iter()
        .map(|unmet| unmet.field)
        .collect();
    equal("what the refusal names", fields, vec![field])
}

fn time_limit(engine: &dyn Engine) -> Outcome {
    let limits = Limits::default().call_time(Duration::from_secs(1));
    let missing = unmet(guest::compile(engine, MINIMAL)?.instantiate(&limits))?;
    holds(missing.iter().any(|unmet| unmet.field == "time_limit"), || format!("{missing:?}"))
}

/// A function of the host that calls its guest is refused, and the call goes on.
fn reentrance(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "back", |caller, (): ()| {
        let missing = unmet(caller.call("fine", &[], &mut []));
        i32::from(missing.is_ok_and(|missing| missing.iter().any(|it| it.field == "reentrance")))
    })?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "back" (func $back (result i32)))
            (func (export "fine")) (func (export "run") (result i32) (call $back)))"#,
    )?;
    let limits = Limits::default();
    let mut runtime = module.instantiate_with(Instantiation::new(&limits).imports(&imports))?;
    equal("whether it was refused", runtime.call("run", &[])?, vec![Value::I32(1)])
}

/// A file that may be mapped is copied, and the result says so.
fn mapping(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(1, PAGE_LEN);
    let file = guest::file(&bytes)?;
    let mut runtime = guest::start(engine, MINIMAL)?;
    let memory = runtime.create_memory64(&MemorySpec::guest(bytes.len() as u64))?;
    let spec = guest::layer(0, memory, 0, &guest::mapped(file.path())?);
    let id = spec.id;
    runtime.register_layer(spec)?;
    let loaded = runtime.load_layer(id)?;
    equal("how it was loaded", loaded.method, LoadMethod::Copied)?;
    let start = loaded.address.ok_or_else(|| Failure::new("no address"))?;
    let start = usize::try_from(start)?;
    let got = &runtime.memory()[start..start + bytes.len()];
    crate::check::same_bytes("the layer", got, &bytes)
}
