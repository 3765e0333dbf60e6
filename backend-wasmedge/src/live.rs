//! What a guest and the functions of the host that it calls have in common.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use polychord_runtime_api::spi::{GlobalAt, Host, Instance, Item};
use polychord_runtime_api::{Error, LinearMemories, Result, Value};
use wasmedge_sys::ffi;

use crate::executor::Executor;
use crate::memory::{ExportedFunction, Global, LinearMemory};
use crate::values::{from_engine, to_engine};
use crate::{NAME, error};

/// What a guest and the functions of the host that it calls have in common. Nothing in it changes
/// once the guest is there, since calls within calls share it.
pub(crate) struct Shared {
    pub(crate) host: Arc<Host>,
    /// What the guest imports; WasmEdge has pointers to the functions in it.
    pub(crate) items: Vec<Item>,
    pub(crate) executor: Executor,
    parts: OnceLock<Parts>,
}

/// What a guest is made of.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    /// By the index that the host knows them by.
    pub(crate) memories: Vec<LinearMemory>,
    /// The exported ones.
    pub(crate) functions: BTreeMap<String, ExportedFunction>,
    /// The exported ones.
    pub(crate) globals: BTreeMap<String, Global>,
    /// The imported ones, by the index of the import.
    pub(crate) imported: BTreeMap<usize, Global>,
}

impl Shared {
    pub(crate) fn new(host: Arc<Host>, items: Vec<Item>) -> Result<Self> {
        let reason = "WasmEdge has no memory for an executor".to_owned();
        let executor = Executor::new().ok_or(Error::Instantiate { engine: NAME, reason })?;
        Ok(Self { host, items, executor, parts: OnceLock::new() })
    }

    /// Sets what the guest is made of, once it is there.
    pub(crate) fn set(&self, parts: Parts) {
        _ = self.parts.set(parts);
    }

    /// What the guest is made of: it runs only when it is there.
    pub(crate) fn parts(&self) -> &Parts {
        self.parts.get_or_init(Parts::default)
    }

    /// Calls a function.
    ///
    /// # Safety
    ///
    /// The guest lives, and its thread is this one. The caller has checked numbers and types.
    pub(crate) unsafe fn call(
        &self,
        export: &str,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let function = self.parts().functions.get(export);
        let function = *function.ok_or_else(|| Error::missing_export(export))?;
        with_room(args.len() + results.len(), |values| {
            for (value, given) in values.iter_mut().zip(args.iter().chain(&*results)) {
                *value = to_engine(*given);
            }
            let (args, out) = values.split_at_mut(args.len());
            // SAFETY: the function is one of the guest's, by the caller's promise, and so are the values.
            let done = unsafe { self.executor.invoke(function, args, out) };
            done.map_err(|code| error::call(code, export))?;
            for (result, value) in results.iter_mut().zip(out) {
                *result = from_engine(*value);
            }
            Ok(())
        })
    }

    pub(crate) fn grow(&self, memory: usize, pages: u64) -> Result<u64> {
        let memory = self.parts().memories.get(memory);
        // SAFETY: no slice of the memory is used: both callers have the guest borrowed exclusively.
        let grown = memory.and_then(|memory| unsafe { memory.grow(pages) });
        grown.ok_or_else(|| {
            let reason = match memory {
                Some(memory) => format!(
                    "it has {} pages, and its limit or the system allows no more",
                    memory.pages()
                ),
                None => "it has none of this index".into(),
            };
            Error::cannot_grow(NAME, pages, reason)
        })
    }

    pub(crate) fn global(&self, at: GlobalAt<'_>) -> Result<Global> {
        let parts = self.parts();
        let global = match at {
            GlobalAt::Export(name) => parts.globals.get(name),
            GlobalAt::Import(index) => parts.imported.get(&index),
            _ => None,
        };
        global.copied().ok_or_else(|| Error::lost_global(NAME, at))
    }
}

/// Room for the values of a call: on the stack, unless they are very many.
fn with_room<T>(count: usize, run: impl FnOnce(&mut [ffi::WasmEdge_Value]) -> T) -> T {
    const FEW: usize = 16;
    let zero = to_engine(Value::I32(0));
    match count {
        0..=FEW => run(&mut [zero; FEW][..count]),
        _ => run(&mut vec![zero; count]),
    }
}

/// A guest in the middle of a call of a function of the host.
pub(crate) struct InCall<'a>(&'a Shared);

impl<'a> InCall<'a> {
    /// To be made by a function of the host only.
    pub(crate) const fn new(shared: &'a Shared) -> Self {
        Self(shared)
    }

    fn memory(&self, index: usize) -> Option<&LinearMemory> {
        self.0.parts().memories.get(index)
    }
}

impl LinearMemories for InCall<'_> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        // SAFETY: a function of the host has this, so the guest is in the middle of a call: its
        // instance lives, it waits for the result (guests have no threads), and its caller has the
        // guest borrowed exclusively. The borrow of `self` excludes `linear_memory_mut`, growth, and
        // calls within the call.
        self.memory(index).map_or(&[], |memory| unsafe { memory.bytes() })
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow excludes every other slice.
        self.memory(index).map_or(&mut [], |memory| unsafe { memory.bytes_mut() })
    }
}

impl Instance for InCall<'_> {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        self.0.grow(memory, pages)
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        // SAFETY: the guest is in the middle of a call, in this thread.
        unsafe { self.0.call(export, args, results) }
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        Ok(self.0.global(at)?.get())
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        self.0.global(at)?.set(value)
    }
}
