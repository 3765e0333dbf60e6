//! Calls of a guest within its own calls.

use polychord_runtime_api::imports::{Caller, HostError, Imports};
use polychord_runtime_api::{Engine, Error, Instantiation, Limits, Runtime, TrapKind, Value};

use super::start::start;
use crate::check::{equal, trapped};
use crate::guest;
use crate::{Failure, Outcome};

/// Calls back into the export of this name with a number, and returns its result.
fn call(caller: &mut Caller<'_>, export: &str, number: i32) -> polychord_runtime_api::Result<i32> {
    let mut results = [Value::I32(0)];
    caller.call(export, &[Value::I32(number)], &mut results)?;
    Ok(results[0].as_i32().unwrap_or(0))
}

/// A function calls the guest that has called it, with arguments and results.
pub fn into_the_guest(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "down", |caller, (left,): (i32,)| {
        Ok::<_, HostError>(if left == 0 { 1 } else { left + call(caller, "go", left - 1)? })
    })?;
    imports.function("host", "wrong", |caller, (): ()| {
        let missing = caller.call("nothing", &[], &mut []);
        let types = caller.call("go", &[Value::I64(0)], &mut [Value::I32(0)]);
        let room = caller.call("go", &[Value::I32(0)], &mut []);
        let right = [
            matches!(missing, Err(Error::MissingExport { .. })),
            matches!(types, Err(Error::Signature { .. })),
            matches!(room, Err(Error::Signature { .. })),
        ];
        i32::from(right == [true; 3])
    })?;
    let mut runtime = start(
        engine,
        r#"(module (import "host" "down" (func $down (param i32) (result i32)))
            (import "host" "wrong" (func $wrong (result i32)))
            (global $calls (mut i32) (i32.const 0))
            (func (export "go") (param i32) (result i32)
                (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
                (i32.mul (i32.const 2) (call $down (local.get 0))))
            (func (export "wrong") (result i32) (call $wrong))
            (func (export "calls") (result i32) (global.get $calls)))"#,
        &imports,
    )?;
    // f(0) = 2, f(n) = 2 * (n + f(n - 1)).
    let expected = (1..=20).fold(2, |inner, left| 2 * (left + inner));
    equal("twenty deep", runtime.call("go", &[Value::I32(20)])?, vec![Value::I32(expected)])?;
    equal("calls of the guest", runtime.call("calls", &[])?, vec![Value::I32(21)])?;
    equal("wrong calls", runtime.call("wrong", &[])?, vec![Value::I32(1)])
}

const ENDS: &str = r#"(module (import "host" "back" (func $back (param i32) (result i32)))
    (import "host" "end" (func $end (param i32) (result i32)))
    (func (export "go") (param i32) (result i32) (call $back (local.get 0)))
    (func (export "inner") (param i32) (result i32)
        (if (i32.eqz (local.get 0)) (then unreachable))
        (call $end (local.get 0))))"#;

/// What ends a call within a call ends the outer one alike, unless the function catches it.
pub fn error_within(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports
        .function("host", "back", |caller, (how,): (i32,)| match how {
            // What happened is caught, and the call goes on.
            10.. => Ok(call(caller, "inner", how - 10).unwrap_or(-1)),
            how => Ok::<_, HostError>(call(caller, "inner", how)?),
        })?
        .function("host", "end", |_, (how,): (i32,)| match how {
            1 => Err(HostError::exit(9)),
            2 => Err(HostError::new("within")),
            3 => panic!("within"),
            how => Ok(how),
        })?;
    let mut runtime = start(engine, ENDS, &imports)?;
    let go = |runtime: &mut dyn Runtime, how| runtime.call("go", &[Value::I32(how)]);
    for _ in 0..5 {
        trapped(go(&mut *runtime, 0), "inner", TrapKind::Unreachable)?;
        match go(&mut *runtime, 1) {
            Err(Error::Exit { code: 9 }) => {}
            other => return Err(Failure::new(format!("an exit within: {other:?}"))),
        }
        for how in [2, 3] {
            match go(&mut *runtime, how) {
                Err(Error::Host { name, source, .. }) => {
                    equal("the function", name.as_str(), "end")?;
                    equal("says why", source.to_string().contains("within"), true)?;
                }
                other => return Err(Failure::new(format!("an error within: {other:?}"))),
            }
        }
        for how in 10..14 {
            let caught = go(&mut *runtime, how)?;
            equal("an end that is caught", caught, vec![Value::I32(-1)])?;
        }
        equal("no end", go(&mut *runtime, 14)?, vec![Value::I32(4)])?;
    }
    Ok(())
}

/// The state and the memory are the same in calls within calls.
pub fn state_within(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "add", |caller, (number,): (i32,)| {
        caller.state_mut::<Vec<i32>>().ok_or(HostError::new("no state"))?.push(number);
        let at = u32::try_from(number)?;
        caller.write_value(4 * at, number)?;
        if number > 1 {
            call(caller, "add", number - 1)?;
        }
        let (memory, list) =
            caller.memory_and_state::<Vec<i32>>().ok_or(HostError::new("no state"))?;
        // What the calls within have written is seen here.
        list.push(memory[4].into());
        Ok::<_, HostError>(u32::try_from(list.len())?)
    })?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "add" (func $add (param i32) (result i32)))
            (memory (export "memory") 1)
            (func (export "add") (param i32) (result i32) (call $add (local.get 0))))"#,
    )?;
    let limits = Limits::default();
    let with = Instantiation::new(&limits).imports(&imports).state(Vec::<i32>::new());
    let mut runtime = module.instantiate_with(with)?;
    equal("entries", runtime.call("add", &[Value::I32(3)])?, vec![Value::I32(6)])?;
    equal("the state", runtime.state::<Vec<i32>>(), Some(&vec![3, 2, 1, 1, 1, 1]))
}

/// Calls within calls without an end are a stack overflow, and the guest goes on.
pub fn too_deep(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "again", |caller, (depth,): (i32,)| {
        let deepest = caller.state_mut::<i32>().ok_or(HostError::new("no state"))?;
        *deepest = depth.max(*deepest);
        Ok::<_, HostError>(call(caller, "again", depth + 1)?)
    })?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "again" (func $again (param i32) (result i32)))
            (func (export "again") (param i32) (result i32) (call $again (local.get 0)))
            (func (export "fine") (result i32) (i32.const 42)))"#,
    )?;
    let limits = Limits::default();
    let with = Instantiation::new(&limits).imports(&imports).state(0);
    let mut runtime = module.instantiate_with(with)?;
    for _ in 0..3 {
        trapped(runtime.call("again", &[Value::I32(1)]), "again", TrapKind::StackOverflow)?;
        let deepest = runtime.state::<i32>().copied().unwrap_or(0);
        // As deep on every engine, where the host's own frames are small.
        equal("how deep it went", deepest, 65)?;
        equal("after it", runtime.call("fine", &[])?, vec![Value::I32(42)])?;
    }
    Ok(())
}
