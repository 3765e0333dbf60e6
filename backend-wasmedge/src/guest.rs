//! A live guest: its memories, its growth and its calls.

use polychord_runtime_api::spi::{GlobalAt, Instance, TimeLimit, WholePages};
use polychord_runtime_api::{LinearMemories, Result, Value};

use crate::instance::OwnedInstance;

/// A live guest.
pub(crate) struct Guest {
    // Dropped first: it uses a memory of the instance.
    time: TimeLimit,
    instance: OwnedInstance,
}

impl Guest {
    pub(crate) const fn new(time: TimeLimit, instance: OwnedInstance) -> Self {
        Self { time, instance }
    }
}

impl LinearMemories for Guest {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.instance.linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.instance.linear_memory_mut(index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        self.instance.whole_pages(index)
    }
}

impl Instance for Guest {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        self.instance.shared().grow(memory, pages)
    }

    #[allow(unsafe_code, reason = "the contract of a call is met here")]
    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let Self { time, instance } = self;
        // SAFETY: the instance lives in `self`, which is borrowed exclusively, and the host has
        // checked numbers and types of values.
        time.run(|| unsafe { instance.shared().call(export, args, results) })
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        Ok(self.instance.shared().global(at)?.get())
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        self.instance.shared().global(at)?.set(value)
    }
}
