//! Names, types and errors of imports, without an engine.

use super::*;
use crate::ErrorKind;
use crate::idle::{self, Idle};
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

/// An engine that runs one call of a guest at a time is not asked for a second one.
#[test]
fn a_call_within_a_call_is_refused_where_there_is_none() {
    let mut imports = Imports::new();
    let back =
        |caller: &mut Caller<'_>, (): ()| Ok::<_, HostError>(caller.call("run", &[], &mut [])?);
    imports.function("host", "back", back).unwrap();
    let refused = |capabilities| {
        let mut guest = Idle::of("(module (func (export \"run\")))", capabilities);
        let host = guest.shared_host();
        let done = function(&imports, "back").call(&host, guest.instance(), &[], &mut []);
        let trap = |_| Error::call("test", "back", Some(crate::TrapKind::Other), "");
        host.end_of_call(done.map_err(trap))
    };
    let Err(Error::Host { source, .. }) = refused(idle::capabilities()) else { panic!() };
    let unmet = source.downcast_ref::<Error>();
    let Some(Error::Unmet { unmet, .. }) = unmet else { panic!("{source}") };
    assert_eq!(unmet[0].field, "reentrance");
    let able = crate::Capabilities { reentrance: true, ..idle::capabilities() };
    refused(able).unwrap();
}

/// Arguments and results are the same numbers, as values and in slots.
#[test]
#[allow(unsafe_code, reason = "the contract of a call is met")]
fn slots_are_what_values_are() {
    type All = (u32, i64, f32, f64, u128);
    let ty = FunctionType { params: vec![I32, V128], results: vec![V128, I32, F64] };
    let mut imports = Imports::new();
    imports
        .function("host", "typed", |_, (a, b, c, d, e): All| (e, d, c, b, a))
        .unwrap()
        .function("host", "fails", |_, (a,): (i32,)| -> Result<i64, HostError> {
            if a < 0 { Err(HostError::exit(a)) } else { Ok(a.into()) }
        })
        .unwrap()
        .untyped("host", "untyped", ty, |_, args, results| {
            let zeros = [Value::V128(0), Value::I32(0), Value::F64(0.0)];
            assert_eq!(results, zeros);
            (results[0], results[1], results[2]) = (args[1], args[0], Value::F64(-0.5));
            Ok(())
        })
        .unwrap();
    let bits = f32::from_bits(0x7fa0_0001);
    for (name, args) in [
        ("typed", vec![(-1).into(), i64::MIN.into(), bits.into(), 0.1.into(), u128::MAX.into()]),
        ("typed", vec![7.into(), 8_i64.into(), 0.5_f32.into(), (-0.0).into(), 9_u128.into()]),
        ("fails", vec![i32::MAX.into()]),
        ("untyped", vec![5.into(), (u128::MAX - 6).into()]),
    ] {
        let function = function(&imports, name);
        let mut guest = Idle::start(1);
        let host = guest.shared_host();
        let results = &function.ty().results;
        let mut slots = vec![Slot::empty(); args.len().max(results.len())];
        for (slot, arg) in slots.iter_mut().zip(&args) {
            *slot = Slot::from(*arg);
        }
        // SAFETY: there are as many as the function has, of its types.
        unsafe { function.call_slots(&host, guest.instance(), &mut slots) }.unwrap();
        let expected = call(&imports, name, &args).unwrap();
        for ((slot, ty), expected) in slots.iter().zip(results).zip(expected) {
            // SAFETY: a result of this type was stored in it.
            let got = unsafe { slot.value(*ty) };
            assert_eq!(same_bits(got), same_bits(expected), "{name}");
        }
    }
    // One that ends the call leaves no result, and one that is called with too few slots reads none.
    let (fails, mut guest) = (function(&imports, "fails"), Idle::start(1));
    let host = guest.shared_host();
    for mut slots in [vec![Slot::from(-3)], Vec::new()] {
        // SAFETY: an argument of its type, or no slot at all, of which none is read.
        let done = unsafe { fails.call_slots(&host, guest.instance(), &mut slots) };
        assert!(done.is_err());
        let trap = |_| Error::call("test", "fails", Some(crate::TrapKind::Other), "");
        let error = host.end_of_call(done.map_err(trap)).unwrap_err();
        assert_eq!(matches!(error, Error::Exit { code: -3 }), !slots.is_empty(), "{error}");
    }
}

fn same_bits(value: Value) -> u128 {
    value.convert(
        |value| value.cast_unsigned().into(),
        |value| value.cast_unsigned().into(),
        |value| value.to_bits().into(),
        |value| value.to_bits().into(),
        |value| value,
    )
}
