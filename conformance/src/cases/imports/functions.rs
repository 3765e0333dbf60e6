//! Functions of the host: values, errors, state and pointers.

use polychord_runtime_api::imports::{Caller, HostError, HostPanic, HostValue, Imports};
use polychord_runtime_api::{Engine, Error, FunctionType, Instantiation, Limits, Value, ValueType};

use super::start::start;
use crate::check::{equal, holds};
use crate::guest;
use crate::{Failure, Outcome};

/// Numbers and vectors cross to a function of the host and back with all their bits.
pub fn round_trip(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports
        .function("host", "i32", |_, (a,): (i32,)| a)?
        .function("host", "i64", |_, (a,): (i64,)| a)?
        .function("host", "f32", |_, (a,): (f32,)| a)?
        .function("host", "f64", |_, (a,): (f64,)| a)?
        .function("host", "v128", |_, (a,): (u128,)| a)?
        .function("host", "swap", |_, (a, b, c, d): (u32, f64, u64, f32)| (d, c, b, a))?;
    let pass = |ty: &str| {
        format!(
            r#"(import "host" "{ty}" (func ${ty} (param {ty}) (result {ty})))
            (func (export "{ty}") (param {ty}) (result {ty}) (call ${ty} (local.get 0)))"#
        )
    };
    // Imports come first.
    let (mut first, mut rest) = (String::new(), String::new());
    for text in ["i32", "i64", "f32", "f64", "v128"].map(pass) {
        let (import, function) = text.split_once('\n').unwrap_or_default();
        first += import;
        rest += function;
    }
    let wat = format!(
        r#"(module {first}
            (import "host" "swap" (func $swap
                (param i32 f64 i64 f32) (result f32 i64 f64 i32)))
            {rest}
            (func (export "swap") (param i32 f64 i64 f32) (result f32 i64 f64 i32)
                (call $swap (local.get 0) (local.get 1) (local.get 2) (local.get 3))))"#
    );
    let mut runtime = start(engine, &wat, &imports)?;
    let quiet32 = f32::from_bits(0x7fc1_2345);
    let quiet64 = f64::from_bits(0xfff8_0123_4567_89ab);
    for value in [
        Value::I32(0),
        Value::I32(-1),
        Value::I32(i32::MIN),
        Value::I64(i64::MIN),
        Value::I64(0x0123_4567_89ab_cdef),
        Value::F32(-0.0),
        Value::F32(f32::MIN_POSITIVE / 2.0),
        Value::F32(quiet32),
        Value::F64(f64::INFINITY),
        Value::F64(quiet64),
        Value::V128(u128::MAX / 3),
        Value::V128(1 << 127 | 7),
    ] {
        let got = runtime.call(value.ty().name(), &[value])?;
        equal("what comes back", bits(&got), bits(&[value]))?;
    }
    let args = [Value::I32(-2), Value::F64(0.5), Value::I64(-3), Value::F32(1.5)];
    let got = runtime.call("swap", &args)?;
    let expected: Vec<_> = args.iter().rev().copied().collect();
    equal("several results", got, expected)
}

fn bits(values: &[Value]) -> Vec<(ValueType, u128)> {
    let bits = |value: &Value| match *value {
        Value::I32(value) => value.cast_unsigned().into(),
        Value::I64(value) => value.cast_unsigned().into(),
        Value::F32(value) => value.to_bits().into(),
        Value::F64(value) => value.to_bits().into(),
        Value::V128(value) => value,
        _ => u128::MAX,
    };
    values.iter().map(|value| (value.ty(), bits(value))).collect()
}

/// Twelve parameters of one type.
type Twelve<T> = (T, T, T, T, T, T, T, T, T, T, T, T);

fn add_twelve<T: HostValue>(imports: &mut Imports) -> Outcome {
    let name = T::TYPE.name();
    imports.function("host", name, |caller: &mut Caller<'_>, all: Twelve<T>| {
        let (a, b, c, d, e, f, g, h, i, j, k, l) = all;
        let values = [a, b, c, d, e, f, g, h, i, j, k, l].map(HostValue::into_value);
        caller.state_mut::<Vec<Value>>().ok_or(HostError::new("no state"))?.extend(values);
        Ok::<_, HostError>(())
    })?;
    Ok(())
}

/// Functions with twelve parameters of each type get them in order.
pub fn twelve_of_each(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    add_twelve::<i32>(&mut imports)?;
    add_twelve::<i64>(&mut imports)?;
    add_twelve::<f32>(&mut imports)?;
    add_twelve::<f64>(&mut imports)?;
    add_twelve::<u128>(&mut imports)?;
    for ty in [ValueType::I32, ValueType::I64, ValueType::F32, ValueType::F64, ValueType::V128] {
        let params = format!(" {ty}").repeat(12);
        let args: String = (0..12).map(|index| format!("(local.get {index})")).collect();
        let wat = format!(
            r#"(module (import "host" "{ty}" (func $host (param{params})))
                (func (export "run") (param{params}) (call $host {args})))"#
        );
        let module = guest::compile(engine, &wat)?;
        let limits = Limits::default();
        let with = Instantiation::new(&limits).imports(&imports).state(Vec::<Value>::new());
        let mut runtime = module.instantiate_with(with)?;
        let value = |number: u8| match ty {
            ValueType::I32 => Value::I32(number.into()),
            ValueType::I64 => Value::I64(i64::from(number) << 33),
            ValueType::F32 => Value::F32(number.into()),
            ValueType::F64 => Value::F64(number.into()),
            _ => Value::V128(u128::from(number) << 64 | 5),
        };
        let args: Vec<_> = (1..=12).map(value).collect();
        runtime.call("run", &args)?;
        equal("what the function got", runtime.state::<Vec<Value>>(), Some(&args))?;
    }
    Ok(())
}

/// A function of a type that is known at run time gets values, and returns several.
pub fn untyped(engine: &dyn Engine) -> Outcome {
    let params = vec![ValueType::F64, ValueType::I32, ValueType::V128];
    let results = vec![ValueType::V128, ValueType::I64];
    let ty = FunctionType { params, results };
    let mut imports = Imports::new();
    imports.untyped("host", "mix", ty.clone(), |_, args, results| {
        results[0] = args[2];
        results[1] = Value::I64(args[1].as_i32().unwrap_or(0).into());
        Ok(())
    })?;
    // What it leaves alone is a zero, and another type is an error.
    imports.untyped("host", "zeros", ty.clone(), |_, _, _| Ok(()))?;
    imports.untyped("host", "wrong", ty, |_, _, results| {
        results[1] = Value::I32(1);
        Ok(())
    })?;
    let ty = "(param f64 i32 v128) (result v128 i64)";
    let function = |name: &str| {
        format!(
            r#"(func (export "{name}") {ty}
                (call ${name} (local.get 0) (local.get 1) (local.get 2)))"#
        )
    };
    let import = |name: &str| format!(r#"(import "host" "{name}" (func ${name} {ty}))"#);
    let names = ["mix", "zeros", "wrong"];
    let text: String = names.map(import).into_iter().chain(names.map(function)).collect();
    let mut runtime = start(engine, &format!("(module {text})"), &imports)?;
    let args = [Value::F64(2.5), Value::I32(-7), Value::V128(u128::MAX - 1)];
    equal("mixed", runtime.call("mix", &args)?, vec![args[2], Value::I64(-7)])?;
    equal("zeros", runtime.call("zeros", &args)?, vec![Value::V128(0), Value::I64(0)])?;
    match runtime.call("wrong", &args) {
        Err(Error::Host { name, .. }) => equal("the function", name.as_str(), "wrong"),
        other => Err(Failure::new(format!("a result of another type: {other:?}"))),
    }
}

/// A guest with a thousand functions of the host calls the right one.
pub fn many(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    let (mut first, mut rest) = (String::new(), String::new());
    for number in 0..1_000_i32 {
        let name = format!("f{number}");
        imports.function("host", &name, move |_, (a,): (i32,)| a.wrapping_add(number * 7))?;
        first += &format!(r#"(import "host" "{name}" (func ${name} (param i32) (result i32)))"#);
        rest += &format!(
            r#"(func (export "{name}") (param i32) (result i32) (call ${name} (local.get 0)))"#
        );
    }
    let mut runtime = start(engine, &format!("(module {first}{rest})"), &imports)?;
    for number in [0, 1, 499, 998, 999] {
        let got = runtime.call(&format!("f{number}"), &[Value::I32(5)])?;
        equal("the function that was called", got, vec![Value::I32(5 + number * 7)])?;
    }
    Ok(())
}

/// An error of the user.
#[derive(Debug, PartialEq, Eq)]
struct Own(u32);

impl std::fmt::Display for Own {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "own error {}", self.0)
    }
}

impl std::error::Error for Own {}

const FAILS: &str = r#"(module (import "host" "fail" (func $fail (param i32) (result i32)))
    (global $after (mut i32) (i32.const 0))
    (func (export "fail") (param i32) (result i32)
        (call $fail (local.get 0))
        (global.set $after (i32.add (global.get $after) (i32.const 1))))
    (func (export "after") (result i32) (global.get $after)))"#;

/// An error or a panic of a function ends the call, is what the caller gets, and the guest goes on.
pub fn errors(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "fail", |_, (how,): (u32,)| match how {
        0 => Ok(1_i32),
        1 => Err(HostError::from(Own(17))),
        2 => panic!("on purpose, {how}"),
        _ => Err(HostError::new("a text")),
    })?;
    let mut runtime = start(engine, FAILS, &imports)?;
    for turn in 0..20 {
        let errors = runtime.stats().errors;
        let Err(Error::Host { engine: name, module, name: function, source }) =
            runtime.call("fail", &[Value::I32(1 + turn % 3)])
        else {
            return Err(Failure::new("a function that fails has not ended the call"));
        };
        equal("engine", name, engine.capabilities().engine)?;
        equal("function", (module.as_str(), function.as_str()), ("host", "fail"))?;
        match turn % 3 {
            0 => equal("the user's error", source.downcast_ref::<Own>(), Some(&Own(17)))?,
            1 => {
                let panic = source.downcast_ref::<HostPanic>();
                let message = panic.map(|panic| panic.message.as_str());
                equal("the panic", message, Some("on purpose, 2"))?;
            }
            _ => equal("the text", source.to_string().as_str(), "a text")?,
        }
        equal("errors counted", runtime.stats().errors, errors + 1)?;
        equal(
            "the function that works",
            runtime.call("fail", &[Value::I32(0)])?,
            vec![Value::I32(1)],
        )?;
    }
    equal("times that the guest went on", runtime.call("after", &[])?, vec![Value::I32(20)])
}

/// An exit is no trap, brings its code, and the guest goes on; in a start function, too.
pub fn exits(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "fail", |_, (code,): (i32,)| match code {
        7 => Ok(7_i32),
        code => Err(HostError::exit(code)),
    })?;
    let mut runtime = start(engine, FAILS, &imports)?;
    for code in [0, 1, 255, -1, i32::MIN] {
        match runtime.call("fail", &[Value::I32(code)]) {
            Err(Error::Exit { code: got }) => equal("code", got, code)?,
            other => return Err(Failure::new(format!("an exit with {code}: {other:?}"))),
        }
        equal("after it", runtime.call("fail", &[Value::I32(7)])?, vec![Value::I32(7)])?;
    }
    equal("an exit is no error", runtime.stats().errors, 0)?;
    let at_start = r#"(module (import "host" "fail" (func $fail (param i32) (result i32)))
        (func $main (drop (call $fail (i32.const 3)))) (start $main))"#;
    let module = guest::compile(engine, at_start)?;
    let limits = Limits::default();
    match module.instantiate_with(Instantiation::new(&limits).imports(&imports)).map(|_| ()) {
        Err(Error::Exit { code }) => equal("code of the start function", code, 3),
        other => Err(Failure::new(format!("an exit of a start function: {other:?}"))),
    }
}

/// Each guest has a state of its own, which functions and the host see.
pub fn state(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports.function("host", "count", |caller, (by,): (u64,)| {
        let count = caller.state_mut::<u64>().ok_or(HostError::new("no count"))?;
        *count += by;
        Ok::<_, HostError>(*count)
    })?;
    let module = guest::compile(
        engine,
        r#"(module (import "host" "count" (func $count (param i64) (result i64)))
            (func $main (drop (call $count (i64.const 1)))) (start $main)
            (func (export "count") (param i64) (result i64) (call $count (local.get 0))))"#,
    )?;
    let limits = Limits::default();
    let begin = |count: u64| {
        module.instantiate_with(Instantiation::new(&limits).imports(&imports).state(count))
    };
    let (mut one, mut other) = (begin(10)?, begin(100)?);
    equal("after the start function", one.state::<u64>(), Some(&11))?;
    equal("of the first", one.call("count", &[Value::I64(5)])?, vec![Value::I64(16)])?;
    equal("of the other", other.call("count", &[Value::I64(7)])?, vec![Value::I64(108)])?;
    equal("outside", (one.state::<u64>(), other.state::<u64>()), (Some(&16), Some(&108)))?;
    *one.state_mut::<u64>().ok_or_else(|| Failure::new("no state"))? = 1_000;
    equal("set outside", one.call("count", &[Value::I64(1)])?, vec![Value::I64(1_001)])?;
    equal("of another type", one.state::<i64>(), None)?;
    let none = module.instantiate_with(Instantiation::new(&limits).imports(&imports));
    holds(matches!(none.map(|_| ()), Err(Error::Host { .. })), || "a state of nothing".into())
}

/// What a function reads or writes is checked to the last byte, for any number of a guest.
pub fn pointers(engine: &dyn Engine) -> Outcome {
    let mut imports = Imports::new();
    imports
        .function("host", "sum", |caller, (ptr, len): (u32, u32)| {
            Ok::<_, HostError>(
                caller.read(ptr, len)?.iter().map(|byte| u64::from(*byte)).sum::<u64>(),
            )
        })?
        .function("host", "copy", |caller, (to, from, len): (u32, u32, u32)| {
            let bytes = caller.read(from, len)?.to_vec();
            Ok::<_, HostError>(caller.write(to, &bytes)?)
        })?;
    let mut runtime = start(
        engine,
        r#"(module
            (import "host" "sum" (func $sum (param i32 i32) (result i64)))
            (import "host" "copy" (func $copy (param i32 i32 i32)))
            (memory (export "memory") 1) (data (i32.const 65533) "\01\02\03")
            (func (export "sum") (param i32 i32) (result i64)
                (call $sum (local.get 0) (local.get 1)))
            (func (export "copy") (param i32 i32 i32)
                (call $copy (local.get 0) (local.get 1) (local.get 2))))"#,
        &imports,
    )?;
    for (ptr, len, expected) in [
        (65_533_u32, 3_u32, Some(6)),
        (65_536, 0, Some(0)),
        (0, 65_536, Some(6)),
        (0, 0, Some(0)),
        (65_534, 3, None),
        (65_537, 0, None),
        (0, 65_537, None),
        (u32::MAX, 1, None),
        (u32::MAX, u32::MAX, None),
        (1 << 31, 1 << 31, None),
    ] {
        let args = [ptr, len].map(|number| Value::I32(number.cast_signed()));
        let got = match runtime.call("sum", &args) {
            Ok(sum) => sum.first().and_then(|sum| sum.as_i64()),
            Err(Error::Host { source, .. }) => {
                let out = matches!(
                    source.downcast_ref::<Error>(),
                    Some(Error::PointerOutOfBounds { ptr: at, len: bytes, size: 65_536, .. })
                        if (*at, *bytes) == (ptr.into(), len.into())
                );
                holds(out, || format!("{ptr} {len}: {source}"))?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        equal(&format!("{len} bytes at {ptr}"), got, expected)?;
    }
    runtime.call("copy", &[Value::I32(65_530), Value::I32(65_533), Value::I32(3)])?;
    equal("copied", &runtime.memory()[65_530..65_533], &[1, 2, 3][..])?;
    let before = runtime.memory().to_vec();
    let beyond = runtime.call("copy", &[Value::I32(65_534), Value::I32(65_530), Value::I32(3)]);
    holds(beyond.is_err(), || "a write beyond the end".into())?;
    equal("nothing was written", runtime.memory() == before, true)
}
