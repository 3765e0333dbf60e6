//! A live guest: its memories, its growth, its calls, and moving it between threads.
#![allow(unsafe_code)]

use std::sync::Arc;

use polychord_runtime_api::spi::{GlobalAt, Instance, TimeLimit, WholePages};
use polychord_runtime_api::{LinearMemories, Result, Value};
use wasmer::Store;

use crate::live::{Live, Shared};
use crate::memory::bytes_mut;

/// A live guest as Wasmer has it: a store, and everything that lives in it.
pub(crate) struct Guest {
    // Dropped first: it uses a memory of the store.
    pub(crate) time: TimeLimit,
    pub(crate) live: Live<Store, Arc<Shared>>,
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
        self.live.linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.live.linear_memory_mut(index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        let Live { store, shared } = &mut self.live;
        let memory = shared.parts().memories.get(index)?;
        let bytes = bytes_mut(Some(memory), store);
        // SAFETY: the store has the tunables `Limited`, whose `BaseTunables` give every linear
        // memory, the guest's own or made by the host, a static mapping of its own (private and
        // anonymous, 4 GiB and a guard), which never moves and is unmapped whole, with the store;
        // growth makes further pages of it readable and writable and touches no others. It is not
        // shared with threads or other stores. While the store is borrowed exclusively no guest code
        // runs, and `bytes` is the only reference into the memory.
        Some(unsafe { WholePages::new(bytes) })
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
