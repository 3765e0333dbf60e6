//! A live guest: its memories, its growth and its calls.

use polychord_runtime_api::spi::{Instance as GuestInstance, TimeLimit, WholePages};
use polychord_runtime_api::{Error, LinearMemories, Result, Value};
use wasmtime::{Instance, Store, Val};

use crate::memory::{self, State, bytes, bytes_mut};
use crate::values::{from_engine, to_engine};
use crate::{NAME, error};

/// A live guest.
pub(crate) struct Guest {
    pub(crate) time: TimeLimit,
    pub(crate) store: Store<State>,
    pub(crate) instance: Instance,
    /// Arguments and results of the last call, kept so that the next one allocates nothing.
    pub(crate) values: Vec<Val>,
}

impl LinearMemories for Guest {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(&self.store, index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(&mut self.store, index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        memory::whole_pages(&mut self.store, index)
    }
}

impl GuestInstance for Guest {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let memory = self.store.data().memories.get(memory).copied();
        let before = match memory {
            Some(memory) => memory.grow(&mut self.store, pages).map_err(|e| e.to_string()),
            None => Err("it has none of this index".to_owned()),
        };
        before.map_err(|reason| Error::cannot_grow(NAME, pages, reason))
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.call(export, export, args, results)
    }
}

impl Guest {
    /// Calls a function, which errors call `operation`, under the time limit.
    pub(crate) fn call(
        &mut self,
        export: &str,
        operation: &str,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let Self { time, store, instance, values } = self;
        let function = instance.get_func(&mut *store, export);
        let function = function.ok_or_else(|| Error::missing_export(export))?;
        values.clear();
        values.extend(args.iter().chain(&*results).map(|value| to_engine(*value)));
        let (given, out) = values.split_at_mut(args.len());
        let mut call = || function.call(&mut *store, given, out);
        let done = time.run(|| call().map_err(|error| error::call(&error, operation)));
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(value);
        }
        done
    }
}
