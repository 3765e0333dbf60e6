//! A guest in its store: what is the same between its calls and in the middle of one.

use polychord_runtime_api::spi::{GlobalAt, Instance as GuestInstance};
use polychord_runtime_api::{Error, LinearMemories, Result, Value};
use wasmtime::{AsContextMut, Extern, Global};

use crate::memory::{State, bytes, bytes_mut};
use crate::values::{from_engine, to_engine};
use crate::{NAME, error};

/// A guest, by its store or by what Wasmtime gives to a function of the host.
pub(crate) struct Live<C>(pub(crate) C);

impl<C: AsContextMut<Data = State>> LinearMemories for Live<C> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(self.0.as_context(), index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(self.0.as_context_mut(), index)
    }
}

impl<C: AsContextMut<Data = State>> GuestInstance for Live<C> {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let memory = self.0.as_context().data().memories.get(memory).copied();
        let before = match memory {
            Some(memory) => memory.grow(&mut self.0, pages).map_err(|e| e.to_string()),
            None => Err("it has none of this index".to_owned()),
        };
        before.map_err(|reason| Error::cannot_grow(NAME, pages, reason))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        // Shared with the store, which the call borrows for itself.
        let functions = self.0.as_context().data().functions.clone();
        let function = functions.get(export).ok_or_else(|| Error::missing_export(export))?;
        function.call(&mut self.0, export, args, results)
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        let global = self.find(at)?;
        Ok(from_engine(&global.get(&mut self.0)))
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        let global = self.find(at)?;
        let set = global.set(&mut self.0, to_engine(value));
        set.map_err(|error| error::call(&error, "setting a global"))
    }
}

impl<C: AsContextMut<Data = State>> Live<C> {
    fn find(&mut self, at: GlobalAt<'_>) -> Result<Global> {
        let mut store = self.0.as_context_mut();
        let global = match at {
            GlobalAt::Export(name) => {
                store.data().instance.and_then(|it| it.get_global(&mut store, name))
            }
            GlobalAt::Import(index) => {
                store.data().imports.get(index).cloned().and_then(Extern::into_global)
            }
            _ => None,
        };
        global.ok_or_else(|| Error::lost_global(NAME, at))
    }
}
