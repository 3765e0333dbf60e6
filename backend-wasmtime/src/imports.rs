//! Functions of the host, as guests import them.

use polychord_runtime_api::spi::Import;
use polychord_runtime_api::{LinearMemories, ValueType};
use wasmtime::{Caller, Extern, Func, FuncType, Store, Val};

use crate::memory::{State, bytes, bytes_mut};
use crate::values::{from_engine, to_engine, to_type};

/// The host function that a guest imports.
pub(crate) fn define(store: &mut Store<State>, import: &Import) -> Extern {
    let convert = |types: &[ValueType]| types.iter().map(|ty| to_type(*ty)).collect::<Vec<_>>();
    let ty = FuncType::new(store.engine(), convert(&import.ty.params), convert(&import.ty.results));
    let function = import.function;
    let serve = move |caller: Caller<'_, State>, params: &[Val], results: &mut [Val]| {
        let host = caller.data().host.clone();
        let params = params.iter().map(from_engine);
        results[0] = to_engine(function.serve(&host, &mut InCall(caller), params));
        Ok(())
    };
    Func::new(store, ty, serve).into()
}

/// The memories of a guest that has called the host.
struct InCall<'a>(Caller<'a, State>);

impl LinearMemories for InCall<'_> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(&self.0, index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(&mut self.0, index)
    }
}
