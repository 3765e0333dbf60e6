//! A live guest: its memories, its growth, its calls, and moving it between threads.
#![allow(unsafe_code)]

use std::collections::BTreeMap;

use polychord_runtime_api::spi::{Instance, TimeLimit, WholePages};
use polychord_runtime_api::{Error, LinearMemories, Result, Value};
use wasmer::{Memory, Store};

use crate::function::Exported;
use crate::memory::{bytes, bytes_mut};
use crate::{NAME, error};

/// A live guest as Wasmer has it: a store, and everything that lives in it.
pub(crate) struct Guest {
    pub(crate) time: TimeLimit,
    pub(crate) store: Store,
    /// The exported ones that a host can call.
    pub(crate) functions: BTreeMap<String, Exported>,
    /// The exported ones, by the index that the host knows them by.
    pub(crate) memories: Vec<Memory>,
}

// SAFETY: a `Store` is not `Send` because of raw pointers between its own objects, and because
// of an optional callback and trap handler. All the objects move together here: the store is
// made, filled and owned by this crate alone, and nothing that it hands out outlives a borrow
// of it. The callback and the handler are never set, and our host functions and their state
// are `Send`. What Wasmer keeps per thread (active stores, interrupts) is installed when a
// call begins and removed before it returns, and no call is running while the value moves.
unsafe impl Send for Guest {}

impl LinearMemories for Guest {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(self.memories.get(index), &self.store)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(self.memories.get(index), &mut self.store)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        let memory = self.memories.get(index)?;
        let bytes = bytes_mut(Some(memory), &mut self.store);
        // SAFETY: the store has the tunables `Limited`, whose `BaseTunables` give every linear
        // memory a static mapping of its own (private and anonymous, 4 GiB and a guard), which
        // never moves and is unmapped whole, with the store; growth makes further pages of it
        // readable and writable and touches no others. It is not shared with threads or other
        // stores. While the store is borrowed exclusively no guest code runs, and `bytes` is the
        // only reference into the memory.
        Some(unsafe { WholePages::new(bytes) })
    }
}

impl Instance for Guest {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let Self { store, memories, .. } = self;
        let memory = memories.get(memory).ok_or("it has none of this index".to_owned());
        let before = memory.and_then(|memory| {
            let delta = u32::try_from(pages).map_err(|error| error.to_string())?;
            memory.grow(store, delta).map_err(|error| error.to_string())
        });
        let before = before.map_err(|reason| Error::cannot_grow(NAME, pages, reason))?;
        Ok(before.0.into())
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
        let Self { time, store, functions, .. } = self;
        let function = functions.get(export).ok_or_else(|| Error::missing_export(export))?;
        let mut call = || function.call(store, args, results);
        time.run(|| call().map_err(|error| error::call(error, operation)))
    }
}
