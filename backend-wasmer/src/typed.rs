//! Functions of the host by their types: a call by values allocates in Wasmer, one by types does not.
//!
//! What they take and return stays as numbers on the way, in slots: no value is made.
//!
//! Typed are functions with up to four integers as parameters, and those of one or two floats, with
//! one result or none: what guests call while they compute.

#![allow(unsafe_code)]

use std::sync::Arc;

use polychord_runtime_api::ValueType::{F32, F64, I32, I64};
use polychord_runtime_api::spi::{HostFunction, Slot, Stopped};
use wasmer::{FromToNativeWasmType, Function, FunctionEnv, FunctionEnvMut, Store};

use crate::live::{Live, Shared};

/// The function, if its type is one of those.
pub(crate) fn define(
    store: &mut Store,
    env: &FunctionEnv<()>,
    shared: &Arc<Shared>,
    function: &HostFunction,
) -> Option<Function> {
    /// Takes the types of the parameters that are left one by one.
    macro_rules! choose {
        ($of:ident [] $($ty:ty)*) => { $of::<$($ty),*>(store, env, shared, function) };
        ($of:ident [$next:ident $($rest:ident)*] $($ty:ty)*) => {
            match $next {
                I32 => choose!($of [$($rest)*] $($ty)* i32),
                I64 => choose!($of [$($rest)*] $($ty)* i64),
                _ => None,
            }
        };
    }
    match function.ty().params[..] {
        [] => of0(store, env, shared, function),
        [F32] => of1::<f32>(store, env, shared, function),
        [F64] => of1::<f64>(store, env, shared, function),
        [F32, F32] => of2::<f32, f32>(store, env, shared, function),
        [F64, F64] => of2::<f64, f64>(store, env, shared, function),
        [a] => choose!(of1[a]),
        [a, b] => choose!(of2 [a b]),
        [a, b, c] => choose!(of3 [a b c]),
        [a, b, c, d] => choose!(of4 [a b c d]),
        _ => None,
    }
}

/// A number, as Wasmer passes it.
trait Number: FromToNativeWasmType + Into<Slot> + Copy + Send + Sync + 'static {
    /// The number in a slot.
    ///
    /// # Safety
    ///
    /// One of this type was stored in it.
    unsafe fn of(slot: &Slot) -> Self;
}

macro_rules! numbers {
    ($($ty:ident)*) => {$(
        impl Number for $ty {
            #[inline]
            unsafe fn of(slot: &Slot) -> Self {
                // SAFETY: the caller's promise.
                unsafe { slot.$ty() }
            }
        }
    )*};
}
numbers! { i32 i64 f32 f64 }

/// Serves a call of a guest.
///
/// # Safety
///
/// As for [`HostFunction::call_slots`].
unsafe fn serve(
    store: FunctionEnvMut<'_, ()>,
    shared: &Shared,
    function: &HostFunction,
    slots: &mut [Slot],
) -> Result<(), Stopped> {
    // SAFETY: the caller's promise.
    unsafe { function.call_slots(&shared.host, &mut Live { store, shared }, slots) }
}

/// Functions of each number of parameters, of any types.
macro_rules! arities {
    ($($of:ident $one:ident [$($arg:ident)*];)*) => {$(
        #[allow(non_snake_case, reason = "values are named like their types")]
        fn $of<$($arg: Number),*>(
            store: &mut Store,
            env: &FunctionEnv<()>,
            shared: &Arc<Shared>,
            function: &HostFunction,
        ) -> Option<Function> {
            let (function, shared) = (function.clone(), shared.clone());
            match function.ty().results[..] {
                [] => {
                    let run = move |env: FunctionEnvMut<'_, ()>, $($arg: $arg),*| {
                        // SAFETY: an argument of its type for each parameter, and no result.
                        unsafe { serve(env, &shared, &function, &mut [$($arg.into()),*]) }
                    };
                    Some(Function::new_typed_with_env(store, env, run))
                }
                [I32] => Some($one::<i32, $($arg),*>(store, env, shared, function)),
                [I64] => Some($one::<i64, $($arg),*>(store, env, shared, function)),
                [F32] => Some($one::<f32, $($arg),*>(store, env, shared, function)),
                [F64] => Some($one::<f64, $($arg),*>(store, env, shared, function)),
                _ => None,
            }
        }

        #[allow(non_snake_case, reason = "values are named like their types")]
        fn $one<Out: Number, $($arg: Number),*>(
            store: &mut Store,
            env: &FunctionEnv<()>,
            shared: Arc<Shared>,
            function: HostFunction,
        ) -> Function {
            let run = move |env: FunctionEnvMut<'_, ()>, $($arg: $arg),*| {
                let mut slots = [$($arg.into(),)* Slot::empty()];
                // SAFETY: an argument of its type for each parameter, and room for the result.
                unsafe { serve(env, &shared, &function, &mut slots)? };
                // SAFETY: the result is there, and it is of this type.
                Ok::<Out, Stopped>(unsafe { Out::of(&slots[0]) })
            };
            Function::new_typed_with_env(store, env, run)
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
