//! Functions that guests export, called by their types where it counts: that allocates nothing,
//! while a call by values allocates several times.

use polychord_runtime_api::Value;
use wasmer::{AsStoreMut, AsStoreRef, Function, RuntimeError, TypedFunction};

use crate::values::{from_engine, to_engine};

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

    /// Calls it. Numbers and types of `args` and `results` are those of the function.
    pub(crate) fn call(
        &self,
        store: &mut impl AsStoreMut,
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
