//! Functions that guests export, called with their values as compiled code has them.
//!
//! Wasmtime's own call by values keeps one list of values in its store, so that a call within a call
//! would make another. Here they are on the stack.
#![allow(unsafe_code)]

use std::collections::BTreeMap;

use polychord_runtime_api::{Error, FunctionType, Result, Value};
use wasmtime::{AsContext, AsContextMut, Func, Instance, Store, ValRaw};

use crate::values::{from_raw, of_type, to_raw};
use crate::{NAME, error};

/// The functions that a guest exports, by name.
pub(crate) type Functions = BTreeMap<String, Exported>;

/// A function that a guest exports.
pub(crate) struct Exported {
    function: Func,
    ty: FunctionType,
}

/// Finds the functions of an instance, also those that its module did not export at first.
pub(crate) fn all<T: 'static>(instance: Instance, store: &mut Store<T>) -> Functions {
    let exports = instance.exports(&mut *store);
    let functions =
        exports.filter_map(|export| Some((export.name().to_owned(), export.into_func()?)));
    let functions: Vec<_> = functions.collect();
    let known = |(name, function)| Some((name, Exported::new(function, &*store)?));
    functions.into_iter().filter_map(known).collect()
}

impl Exported {
    /// None if the host has no words for its type: it cannot be called then.
    fn new(function: Func, store: impl AsContext) -> Option<Self> {
        let ty = function.ty(store);
        let params = ty.params().map(|ty| of_type(&ty)).collect::<Option<_>>()?;
        let results = ty.results().map(|ty| of_type(&ty)).collect::<Option<_>>()?;
        Some(Self { function, ty: FunctionType { params, results } })
    }

    /// Calls it, and stores its results.
    pub(crate) fn call(
        &self,
        store: impl AsContextMut,
        export: &str,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let Self { function, ty } = self;
        let fits = args.iter().map(|arg| arg.ty()).eq(ty.params.iter().copied());
        if !fits || results.len() != ty.results.len() {
            let reason = format!("it is called with other values than its type {ty} has");
            return Err(Error::call(NAME, export, None, reason));
        }
        with_raw(args.len().max(results.len()), |raw| {
            for (raw, arg) in raw.iter_mut().zip(args) {
                *raw = to_raw(*arg);
            }
            // SAFETY: `raw` begins with an argument of its type for each parameter, which was compared
            // above, and has room for as many results. None is a reference.
            let done = unsafe { function.call_unchecked(store, raw) };
            done.map_err(|error| error::call(&error, export))?;
            for ((result, raw), ty) in results.iter_mut().zip(raw).zip(&ty.results) {
                *result = from_raw(*raw, *ty);
            }
            Ok(())
        })
    }
}

/// Room for the values of a call: on the stack, unless they are very many.
fn with_raw<T>(count: usize, run: impl FnOnce(&mut [ValRaw]) -> T) -> T {
    const FEW: usize = 16;
    match count {
        0..=FEW => run(&mut [ValRaw::v128(0); FEW][..count]),
        _ => run(&mut vec![ValRaw::v128(0); count]),
    }
}
