//! Functions of the host by their types: a call by values allocates in Wasmer, one by types does not.
//!
//! Typed are functions with up to four integers as parameters, and those of one or two floats, with
//! one result or none: what guests call while they compute.

use polychord_runtime_api::Value;
use polychord_runtime_api::ValueType::{F32, F64, I32, I64};
use polychord_runtime_api::spi::{HostFunction, Stopped};
use wasmer::{FromToNativeWasmType, Function, FunctionEnv, FunctionEnvMut, Store};

use crate::live::State;

/// The function, if its type is one of those.
pub(crate) fn define(
    store: &mut Store,
    env: &FunctionEnv<State>,
    function: &HostFunction,
) -> Option<Function> {
    /// Takes the types of the parameters that are left one by one.
    macro_rules! choose {
        ($of:ident [] $($ty:ty)*) => { $of::<$($ty),*>(store, env, function) };
        ($of:ident [$next:ident $($rest:ident)*] $($ty:ty)*) => {
            match $next {
                I32 => choose!($of [$($rest)*] $($ty)* i32),
                I64 => choose!($of [$($rest)*] $($ty)* i64),
                _ => None,
            }
        };
    }
    match function.ty().params[..] {
        [] => of0(store, env, function),
        [F32] => of1::<f32>(store, env, function),
        [F64] => of1::<f64>(store, env, function),
        [F32, F32] => of2::<f32, f32>(store, env, function),
        [F64, F64] => of2::<f64, f64>(store, env, function),
        [a] => choose!(of1[a]),
        [a, b] => choose!(of2 [a b]),
        [a, b, c] => choose!(of3 [a b c]),
        [a, b, c, d] => choose!(of4 [a b c d]),
        _ => None,
    }
}

/// A number, as Wasmer passes it.
trait Number: FromToNativeWasmType + Copy + Send + Sync + 'static {
    fn value(self) -> Value;

    /// Zero, if it is of another type: the host has checked that it is not.
    fn of(value: Value) -> Self;
}

macro_rules! numbers {
    ($($ty:ident $variant:ident)*) => {$(
        impl Number for $ty {
            #[inline]
            fn value(self) -> Value {
                Value::$variant(self)
            }

            #[inline]
            fn of(value: Value) -> Self {
                match value {
                    Value::$variant(number) => number,
                    _ => Self::default(),
                }
            }
        }
    )*};
}
numbers! { i32 I32 i64 I64 f32 F32 f64 F64 }

/// Functions of each number of parameters, of any types.
macro_rules! arities {
    ($($of:ident $one:ident [$($arg:ident)*];)*) => {$(
        #[allow(non_snake_case, reason = "values are named like their types")]
        fn $of<$($arg: Number),*>(
            store: &mut Store,
            env: &FunctionEnv<State>,
            function: &HostFunction,
        ) -> Option<Function> {
            match function.ty().results[..] {
                [] => {
                    let function = function.clone();
                    let serve = move |env: FunctionEnvMut<'_, State>, $($arg: $arg),*| {
                        State::serve(env, &function, &[$($arg.value()),*], &mut [])
                    };
                    Some(Function::new_typed_with_env(store, env, serve))
                }
                [I32] => Some($one::<i32, $($arg),*>(store, env, function.clone())),
                [I64] => Some($one::<i64, $($arg),*>(store, env, function.clone())),
                [F32] => Some($one::<f32, $($arg),*>(store, env, function.clone())),
                [F64] => Some($one::<f64, $($arg),*>(store, env, function.clone())),
                _ => None,
            }
        }

        #[allow(non_snake_case, reason = "values are named like their types")]
        fn $one<Out: Number, $($arg: Number),*>(
            store: &mut Store,
            env: &FunctionEnv<State>,
            function: HostFunction,
        ) -> Function {
            let serve = move |env: FunctionEnvMut<'_, State>, $($arg: $arg),*| {
                let mut results = [Value::I32(0)];
                State::serve(env, &function, &[$($arg.value()),*], &mut results)?;
                Ok::<Out, Stopped>(Out::of(results[0]))
            };
            Function::new_typed_with_env(store, env, serve)
        }
    )*};
}

arities! {
    of0 one_of0 [];
    of1 one_of1 [A];
    of2 one_of2 [A B];
    of3 one_of3 [A B C];
    of4 one_of4 [A B C D];
}
