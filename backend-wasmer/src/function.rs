//! Functions that guests export, called by their types where it counts: that allocates nothing,
//! while a call by values allocates several times.
//!
//! Typed are functions with up to four integers as parameters, and those of one or two floats, with one
//! result or none: the stages of a network, and what functions of the host call back.

use polychord_runtime_api::Value;
use wasmer::Type::{F32, F64, I32, I64};
use wasmer::{AsStoreMut, AsStoreRef, Function, RuntimeError, StoreMut, Type, TypedFunction};

use crate::values::{from_engine, to_engine};

/// A function that a guest exports.
pub(crate) struct Exported {
    function: Function,
    typed: Option<Box<dyn Typed>>,
}

impl Exported {
    pub(crate) fn new(function: &Function, store: &impl AsStoreRef) -> Self {
        Self { function: function.clone(), typed: find(function, store) }
    }

    /// Calls it. Numbers and types of `args` and `results` are those of the function.
    pub(crate) fn call(
        &self,
        store: &mut impl AsStoreMut,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<(), RuntimeError> {
        let typed = self.typed.as_ref();
        match typed.and_then(|typed| typed.call_with(&mut store.as_store_mut(), args, results)) {
            Some(done) => done,
            None => self.call_by_values(store, args, results),
        }
    }

    fn call_by_values(
        &self,
        store: &mut impl AsStoreMut,
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

/// A function of one of the types that are here.
trait Typed: Send + Sync {
    /// Calls it; none if the arguments have other types.
    fn call_with(
        &self,
        store: &mut StoreMut<'_>,
        args: &[Value],
        results: &mut [Value],
    ) -> Option<Result<(), RuntimeError>>;
}

/// The function by its type, if it is one of those.
fn find(function: &Function, store: &impl AsStoreRef) -> Option<Box<dyn Typed>> {
    /// Takes the types of the parameters that are left one by one.
    macro_rules! choose {
        ($of:ident $results:ident [] $($ty:ty)*) => { $of::<$($ty),*>(function, store, $results) };
        ($of:ident $results:ident [$next:ident $($rest:ident)*] $($ty:ty)*) => {
            match $next {
                I32 => choose!($of $results [$($rest)*] $($ty)* i32),
                I64 => choose!($of $results [$($rest)*] $($ty)* i64),
                _ => None,
            }
        };
    }
    let ty = function.ty(store);
    let results = ty.results();
    match *ty.params() {
        [] => of0(function, store, results),
        [F32] => of1::<f32>(function, store, results),
        [F64] => of1::<f64>(function, store, results),
        [F32, F32] => of2::<f32, f32>(function, store, results),
        [F64, F64] => of2::<f64, f64>(function, store, results),
        [a] => choose!(of1 results [a]),
        [a, b] => choose!(of2 results [a b]),
        [a, b, c] => choose!(of3 results [a b c]),
        [a, b, c, d] => choose!(of4 results [a b c d]),
        _ => None,
    }
}

/// A number, as Wasmer passes it.
trait Number: wasmer::FromToNativeWasmType + Into<Value> + Send + Sync + 'static {
    fn of(value: Value) -> Option<Self>;
}

macro_rules! numbers {
    ($($ty:ident $variant:ident)*) => {$(
        impl Number for $ty {
            fn of(value: Value) -> Option<Self> {
                match value {
                    Value::$variant(number) => Some(number),
                    _ => None,
                }
            }
        }
    )*};
}
numbers! { i32 I32 i64 I64 f32 F32 f64 F64 }

/// What a function returns.
trait Results: wasmer::WasmTypeList + Send + Sync + 'static {
    fn put(self, results: &mut [Value]);
}

impl Results for () {
    fn put(self, _: &mut [Value]) {}
}

impl<N: Number + wasmer::WasmTypeList> Results for N {
    fn put(self, results: &mut [Value]) {
        if let [result] = results {
            *result = self.into();
        }
    }
}

/// Functions of each number of parameters, of any types.
macro_rules! arities {
    ($($of:ident [$($arg:ident)*];)*) => {$(
        #[allow(non_snake_case, unused_parens, reason = "values are named like their types")]
        impl<Out: Results, $($arg: Number),*> Typed for TypedFunction<($($arg),*), Out> {
            fn call_with(
                &self,
                store: &mut StoreMut<'_>,
                args: &[Value],
                results: &mut [Value],
            ) -> Option<Result<(), RuntimeError>> {
                let [$($arg),*] = args else { return None };
                let done = self.call(store, $($arg::of(*$arg)?),*);
                Some(done.map(|out| out.put(results)))
            }
        }

        #[allow(unused_parens, reason = "one type is no tuple")]
        fn $of<$($arg: Number),*>(
            function: &Function,
            store: &impl AsStoreRef,
            results: &[Type],
        ) -> Option<Box<dyn Typed>> {
            /// As a function with these results.
            macro_rules! returning {
                ($out:ty) => {
                    Box::new(function.typed::<($($arg),*), $out>(store).ok()?)
                };
            }
            Some(match *results {
                [] => returning!(()),
                [I32] => returning!(i32),
                [I64] => returning!(i64),
                [F32] => returning!(f32),
                [F64] => returning!(f64),
                _ => return None,
            })
        }
    )*};
}

arities! {
    of0 [];
    of1 [A];
    of2 [A B];
    of3 [A B C];
    of4 [A B C D];
}
