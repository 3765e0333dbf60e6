//! A guest in its store: what is the same between its calls and in the middle of one.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use polychord_runtime_api::spi::{GlobalAt, Host, Instance as GuestInstance};
use polychord_runtime_api::{Error, LinearMemories, ModuleInfo, Result, Value};
use wasmer::{AsStoreMut, AsStoreRef, Extern, Global, Instance, Memory};

use crate::function::Exported;
use crate::memory::{bytes, bytes_mut};
use crate::values::{from_engine, to_engine};
use crate::{NAME, error};

/// What a guest and the functions of the host that it calls have in common. It is on the heap and not
/// in Wasmer's store, since a call within a call borrows what is in the store once more.
pub(crate) struct Shared {
    pub(crate) host: Arc<Host>,
    parts: OnceLock<Parts>,
}

/// What a guest is made of, in its store.
#[derive(Default)]
pub(crate) struct Parts {
    /// The exported functions that a host can call.
    functions: BTreeMap<String, Exported>,
    /// By the index that the host knows them by.
    pub(crate) memories: Vec<Memory>,
    exported: BTreeMap<String, Global>,
    /// The imported globals, by the index of the import.
    imported: BTreeMap<usize, Global>,
}

/// A guest, by its store or by what Wasmer gives to a function of the host.
pub(crate) struct Live<S, P> {
    pub(crate) store: S,
    pub(crate) shared: P,
}

impl Shared {
    pub(crate) const fn new(host: Arc<Host>) -> Self {
        Self { host, parts: OnceLock::new() }
    }

    /// Sets what the guest is made of, once it is there.
    pub(crate) fn set(&self, parts: Parts) {
        _ = self.parts.set(parts);
    }

    /// What the guest is made of: it runs only when it is there.
    pub(crate) fn parts(&self) -> &Parts {
        self.parts.get_or_init(Parts::default)
    }
}

impl Parts {
    pub(crate) fn find(
        instance: &Instance,
        imports: &[Extern],
        info: &ModuleInfo,
        store: &impl AsStoreRef,
    ) -> Self {
        let memories = info.memories().iter().filter_map(|memory| match memory.import {
            Some(index) => match imports.get(index)? {
                Extern::Memory(memory) => Some(memory.clone()),
                _ => None,
            },
            None => instance.exports.get_memory(&memory.name).ok().cloned(),
        });
        let functions = instance.exports.iter().functions();
        let functions = functions.map(|(name, it)| (name.clone(), Exported::new(it, store)));
        let globals = instance.exports.iter().globals();
        let imported = imports.iter().enumerate().filter_map(|(index, item)| match item {
            Extern::Global(global) => Some((index, global.clone())),
            _ => None,
        });
        Self {
            functions: functions.collect(),
            memories: memories.collect(),
            exported: globals.map(|(name, global)| (name.clone(), global.clone())).collect(),
            imported: imported.collect(),
        }
    }

    fn global(&self, at: GlobalAt<'_>) -> Result<&Global> {
        let global = match at {
            GlobalAt::Export(name) => self.exported.get(name),
            GlobalAt::Import(index) => self.imported.get(&index),
            _ => None,
        };
        global.ok_or_else(|| Error::lost_global(NAME, at))
    }
}

impl<S: AsStoreMut, P: Borrow<Shared>> LinearMemories for Live<S, P> {
    fn linear_memory(&self, index: usize) -> &[u8] {
        bytes(self.shared.borrow().parts().memories.get(index), &self.store)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        bytes_mut(self.shared.borrow().parts().memories.get(index), &mut self.store)
    }
}

impl<S: AsStoreMut, P: Borrow<Shared>> GuestInstance for Live<S, P> {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        let Self { store, shared } = self;
        let shared: &P = shared;
        let parts = Borrow::<Shared>::borrow(shared).parts();
        let memory = parts.memories.get(memory).ok_or("it has none of this index".to_owned());
        let before = memory.and_then(|memory| {
            let delta = u32::try_from(pages).map_err(|error| error.to_string())?;
            memory.grow(store, delta).map_err(|error| error.to_string())
        });
        let before = before.map_err(|reason| Error::cannot_grow(NAME, pages, reason))?;
        Ok(before.0.into())
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        let Self { store, shared } = self;
        let shared: &P = shared;
        let parts = Borrow::<Shared>::borrow(shared).parts();
        let function = parts.functions.get(export).ok_or_else(|| Error::missing_export(export))?;
        function.call(store, args, results).map_err(|error| error::call(error, export))
    }

    fn global(&mut self, at: GlobalAt<'_>) -> Result<Value> {
        let global = self.shared.borrow().parts().global(at)?.clone();
        Ok(from_engine(&global.get(&mut self.store)))
    }

    fn set_global(&mut self, at: GlobalAt<'_>, value: Value) -> Result<()> {
        let global = self.shared.borrow().parts().global(at)?.clone();
        let set = global.set(&mut self.store, to_engine(value));
        set.map_err(|error| error::call(error, "setting a global"))
    }
}
