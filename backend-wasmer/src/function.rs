//! Functions of guests and of the host, called by their types where it counts: that allocates
//! nothing, while a call by values allocates several times.

use polychord_runtime_api::abi::code;
use polychord_runtime_api::spi::Import;
use polychord_runtime_api::{Value, ValueType};
use wasmer::{
    AsStoreRef, Extern, Function, FunctionEnv, FunctionEnvMut, FunctionType, RuntimeError, Store,
    Type, TypedFunction,
};

use crate::runtime::State;

/// A function that a guest exports.
pub(crate) struct Exported {
    function: Function,
    typed: Option<Typed>,
}

/// Functions of 32-bit integers with one result, as the stages of a network are.
enum Typed {
    Of0(TypedFunction<(), i32>),
    Of1(TypedFunction<i32, i32>),
    Of2(TypedFunction<(i32, i32), i32>),
    Of3(TypedFunction<(i32, i32, i32), i32>),
    Of4(TypedFunction<(i32, i32, i32, i32), i32>),
}

impl Exported {
    pub(crate) fn new(function: &Function, store: &impl AsStoreRef) -> Self {
        let typed = None
            .or_else(|| function.typed(store).ok().map(Typed::Of0))
            .or_else(|| function.typed(store).ok().map(Typed::Of1))
            .or_else(|| function.typed(store).ok().map(Typed::Of2))
            .or_else(|| function.typed(store).ok().map(Typed::Of3))
            .or_else(|| function.typed(store).ok().map(Typed::Of4));
        Self { function: function.clone(), typed }
    }

    /// Called with numbers and types of values that the function has.
    pub(crate) fn call(
        &self,
        store: &mut Store,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), RuntimeError> {
        let ([result], Some(typed)) = (&mut *results, &self.typed) else {
            return self.call_by_values(store, args, results);
        };
        *result = Value::I32(match (typed, args) {
            (Typed::Of0(function), []) => function.call(store)?,
            (Typed::Of1(function), [Value::I32(a)]) => function.call(store, *a)?,
            (Typed::Of2(function), [Value::I32(a), Value::I32(b)]) => {
                function.call(store, *a, *b)?
            }
            (Typed::Of3(function), [Value::I32(a), Value::I32(b), Value::I32(c)]) => {
                function.call(store, *a, *b, *c)?
            }
            (
                Typed::Of4(function),
                [Value::I32(a), Value::I32(b), Value::I32(c), Value::I32(d)],
            ) => function.call(store, *a, *b, *c, *d)?,
            _ => return self.call_by_values(store, args, results),
        });
        Ok(())
    }

    fn call_by_values(
        &self,
        store: &mut Store,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), RuntimeError> {
        let args: Vec<_> = args.iter().map(|value| to_engine(*value)).collect();
        let out = self.function.call(store, &args)?;
        for (result, value) in results.iter_mut().zip(&out) {
            *result = from_engine(value);
        }
        Ok(())
    }
}

/// A function of the host, for a guest that imports it.
pub(crate) fn import(store: &mut Store, env: &FunctionEnv<State>, import: &Import) -> Extern {
    let function = import.function;
    match (&import.ty.params[..], &import.ty.results[..]) {
        // What guests call while they compute.
        ([ValueType::I32, ValueType::I32, ValueType::I32], [ValueType::I32]) => {
            let serve = move |env: FunctionEnvMut<'_, State>, a: i32, b: i32, c: i32| {
                let result = State::serve(env, function, &[a, b, c].map(Value::I32));
                result.as_i32().unwrap_or(code::INTERNAL)
            };
            Function::new_typed_with_env(store, env, serve).into()
        }
        ([ValueType::I32], [ValueType::I64]) => {
            let serve = move |env: FunctionEnvMut<'_, State>, a: i32| {
                let result = State::serve(env, function, &[Value::I32(a)]);
                result.as_i64().unwrap_or(code::INTERNAL.into())
            };
            Function::new_typed_with_env(store, env, serve).into()
        }
        _ => import_by_values(store, env, import),
    }
}

fn import_by_values(store: &mut Store, env: &FunctionEnv<State>, import: &Import) -> Extern {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = FunctionType::new(convert(&import.ty.params), convert(&import.ty.results));
    let function = import.function;
    let serve = move |env: FunctionEnvMut<'_, State>, params: &[wasmer::Value]| {
        let mut args = [Value::I32(0); 4];
        for (arg, param) in args.iter_mut().zip(params) {
            *arg = from_engine(param);
        }
        Ok(vec![to_engine(State::serve(env, function, &args[..params.len()]))])
    };
    Function::new_with_env(store, env, ty, serve).into()
}

const fn to_type(ty: ValueType) -> Type {
    match ty {
        ValueType::I32 => Type::I32,
        ValueType::I64 => Type::I64,
        ValueType::F32 => Type::F32,
        ValueType::F64 => Type::F64,
        _ => Type::V128,
    }
}

const fn to_engine(value: Value) -> wasmer::Value {
    match value {
        Value::I32(value) => wasmer::Value::I32(value),
        Value::I64(value) => wasmer::Value::I64(value),
        Value::F32(value) => wasmer::Value::F32(value),
        Value::F64(value) => wasmer::Value::F64(value),
        Value::V128(value) => wasmer::Value::V128(value),
        // `Value` is non-exhaustive for users; a new kind must be translated above.
        _ => wasmer::Value::I32(0),
    }
}

/// Only the types of [`ValueType`] occur: others cannot be called or imported.
fn from_engine(value: &wasmer::Value) -> Value {
    match value {
        wasmer::Value::I32(value) => Value::I32(*value),
        wasmer::Value::I64(value) => Value::I64(*value),
        wasmer::Value::F32(value) => Value::F32(*value),
        wasmer::Value::F64(value) => Value::F64(*value),
        wasmer::Value::V128(value) => Value::V128(*value),
        _ => Value::I32(0),
    }
}
