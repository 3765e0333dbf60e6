//! Names, types and errors of imports, without an engine.

use super::*;
use crate::ErrorKind;
use crate::idle::Idle;
use crate::value::ValueType::{F32, F64, I32, I64, V128};

fn function(imports: &Imports, name: &str) -> HostFunction {
    match imports.get("host", name) {
        Some(Item::Function(function)) => function.clone(),
        other => panic!("{name} is {other:?}"),
    }
}

/// Calls a function for a guest that does nothing.
fn call(imports: &Imports, name: &str, args: &[Value]) -> Result<Vec<Value>> {
    let mut guest = Idle::start(1);
    let host = guest.shared_host();
    let function = function(imports, name);
    let mut results: Vec<_> = function.ty().results.iter().map(|ty| ty.zero()).collect();
    let done = function.call(&host, guest.instance(), args, &mut results);
    let trap = |_| Error::call("test", name, Some(crate::TrapKind::Other), "");
    host.end_of_call(done.map_err(trap)).map(|()| results)
}

#[test]
fn types_are_those_of_the_closures() {
    type All = (i32, u32, i64, u64, f32, f64, u128);
    let mut imports = Imports::new();
    imports
        .function("host", "all", |_, (_, _, _, _, _, _, _): All| ())
        .unwrap()
        .function("host", "one", |_, (): ()| Ok::<f64, HostError>(1.0))
        .unwrap()
        .function("host", "two", |_, (a, b): (u128, f32)| (b, a))
        .unwrap();
    for (name, params, results) in [
        ("all", vec![I32, I32, I64, I64, F32, F64, V128], vec![]),
        ("one", vec![], vec![F64]),
        ("two", vec![V128, F32], vec![F32, V128]),
    ] {
        assert_eq!(*function(&imports, name).ty(), FunctionType { params, results }, "{name}");
    }
    let two = call(&imports, "two", &[Value::V128(9), Value::F32(0.5)]).unwrap();
    assert_eq!(two, [Value::F32(0.5), Value::V128(9)]);
}

#[test]
fn what_a_function_returns_is_what_the_caller_gets() {
    let mut imports = Imports::new();
    imports
        .function("host", "end", |_, (how,): (u32,)| -> Result<(), HostError> {
            match how {
                0 => Ok(()),
                1 => Err(HostError::exit(3)),
                2 => Err("12x".parse::<i32>().unwrap_err().into()),
                // What has ended a call within ends this one, and other errors of ours do not.
                3 => Err(Error::Exit { code: 4 }.into()),
                4 => Err(Error::NotInterruptible.into()),
                how => panic!("{how}"),
            }
        })
        .unwrap();
    let end = |how: i32| call(&imports, "end", &[Value::I32(how)]);
    assert_eq!(end(0).unwrap(), []);
    assert!(matches!(end(1), Err(Error::Exit { code: 3 })));
    assert!(matches!(end(3), Err(Error::Exit { code: 4 })));
    for how in [2, 4, 5] {
        let error = end(how).unwrap_err();
        assert_eq!((error.kind(), error.operation()), (ErrorKind::Host, Some("end")));
        let Error::Host { source, .. } = error else { panic!("{error}") };
        let expected = match how {
            2 => source.is::<std::num::ParseIntError>(),
            4 => matches!(source.downcast_ref(), Some(Error::NotInterruptible)),
            _ => source.downcast_ref::<HostPanic>().is_some_and(|panic| panic.message == "5"),
        };
        assert!(expected, "{source}");
    }
}

#[test]
fn nothing_is_added_of_a_set_that_does_not_fit() {
    let mut imports = Imports::new();
    imports.function("host", "b", |_, (): ()| 1).unwrap();
    let mut other = Imports::new();
    other.function("host", "a", |_, (): ()| 2).unwrap();
    imports.clone().extend(&other).unwrap();
    other.function("host", "b", |_, (): ()| 3).unwrap();
    let error = imports.extend(&other).unwrap_err();
    assert!(matches!(error, Error::Import { .. }), "{error}");
    let names: Vec<_> = imports.iter().map(|(module, name, _)| (module, name)).collect();
    assert_eq!(names, [("host", "b")]);
}
