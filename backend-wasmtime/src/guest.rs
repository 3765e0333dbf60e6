//! A live guest: its memories, its growth and its calls.

use polychord_runtime_api::spi::{GlobalAt, Instance, TimeLimit, WholePages};
use polychord_runtime_api::{LinearMemories, Result, Value};
use wasmtime::Store;

use crate::live::Live;
use crate::memory::{self, State};

/// A live guest.
pub(crate) struct Guest {
    // Dropped first: it uses a memory of the store.
    pub(crate) time: TimeLimit,
    pub(crate) live: Live<Store<State>>,
}

impl LinearMemories for Guest {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.live.linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.live.linear_memory_mut(index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        memory::whole_pages(&mut self.live.0, index)
    }
}

impl Instance for Guest {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        self.live.grow(memory, pages)
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let Self { time, live } = self;
        time.run(|| live.invoke(export, args, results))
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        self.live.global(at)
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        self.live.set_global(at, value)
    }
}
