//! A live guest: its memories, its growth and its calls.

use polychord_runtime_api::spi::{Instance, TimeLimit, WholePages};
use polychord_runtime_api::{Error, LinearMemories, Result, Value};
use wasmedge_sys::ffi;

use crate::executor::Executor;
use crate::memory::{LinearMemory, OwnedInstance};
use crate::values::{from_engine, to_engine};
use crate::{NAME, error};

/// A live guest.
pub(crate) struct Guest {
    time: TimeLimit,
    instance: OwnedInstance,
    executor: Executor,
    /// Arguments and results of the last call, kept so that the next one allocates nothing.
    values: Vec<ffi::WasmEdge_Value>,
}

impl Guest {
    pub(crate) fn new(time: TimeLimit, instance: OwnedInstance) -> Result<Self> {
        let reason = "WasmEdge has no memory for an executor".to_owned();
        let executor = Executor::new().ok_or(Error::Instantiate { engine: NAME, reason })?;
        Ok(Self { time, instance, executor, values: Vec::new() })
    }

    /// The memories that the guest exports, by the index that the host knows them by.
    pub(crate) fn memories(&self) -> &[LinearMemory] {
        self.instance.memories()
    }

    /// Calls a function, which errors call `operation`, under the time limit.
    #[allow(unsafe_code, reason = "the contract of the executor module is met here")]
    pub(crate) fn call(
        &mut self,
        export: &str,
        operation: &str,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let function =
            self.instance.function(export).ok_or_else(|| Error::missing_export(export))?;
        let Self { time, executor, values, .. } = self;
        values.clear();
        values.extend(args.iter().chain(&*results).map(|value| to_engine(*value)));
        let (args, out) = values.split_at_mut(args.len());
        // SAFETY: the function is one of `self.instance`, which `self` keeps while it runs; the
        // caller has checked numbers and types of values.
        let mut invoke = || unsafe { executor.invoke(function, args, out) };
        time.run(|| invoke().map_err(|code| error::call(code, operation)))?;
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(*value);
        }
        Ok(())
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
        self.instance.grow(memory, pages).ok_or_else(|| {
            let reason = match self.instance.memories().get(memory) {
                Some(memory) => format!(
                    "it has {} pages, and its limit or the system allows no more",
                    memory.pages()
                ),
                None => "it has none of this index".into(),
            };
            Error::cannot_grow(NAME, pages, reason)
        })
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.call(export, export, args, results)
    }
}
