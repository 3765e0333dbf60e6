//! The objects of a live guest, in the order that their pointers into each other need.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::sync::Arc;

use polychord_runtime_api::spi::{TimeLimit, Variant, WholePages};
use polychord_runtime_api::{LinearMemories, LinearMemory as ExportedMemory, ModuleInfo, Result};
use wasmedge_sdk::config::Config;
use wasmedge_sdk::{Instance, Module, Store};

use crate::error;
use crate::imports::{self, Imports};
use crate::live::{Parts, Shared};
use crate::memory::{ExportedFunction, LinearMemory, MAPPING, find_global, find_memory};

/// An instance with the store and the functions of the host that it points into.
pub(crate) struct OwnedInstance {
    // Fields are dropped in this order: the instance uses the store and the imports, the store
    // points to the imports, and their functions to what is shared.
    instance: Instance,
    _store: Store<'static, Imports>,
    _imports: Owned,
    shared: Arc<Shared>,
}

/// Imports on the heap, owned by pointers and not `Box`es, because a store borrows them.
struct Owned(Vec<NonNull<Imports>>);

// SAFETY: owns what it points to, like `Box`es, and `Imports` are `Send`.
unsafe impl Send for Owned {}

impl OwnedInstance {
    /// Makes an instance with what `shared` says that it imports.
    pub(crate) fn start(
        config: &Config,
        module: &Module,
        shared: Arc<Shared>,
        info: &ModuleInfo,
    ) -> Result<Self> {
        let failed = |e: Box<_>| error::instantiate(&e);
        let imports = imports::define(info, &shared)?;
        let made = |index: usize| {
            let import = info.imports().get(index)?;
            Some((imports.get(&import.module)?, &import.name))
        };
        let imported = |index: usize| {
            let (module, name) = made(index)?;
            Some((index, find_global(module, name)?))
        };
        let imported = (0..info.imports().len()).filter_map(imported).collect();
        let given = |memory: &ExportedMemory| {
            let (module, name) = made(memory.import?)?;
            find_memory(module, name)
        };
        let given: Vec<_> = info.memories().iter().map(given).collect();
        let leak = |(name, imports)| (name, NonNull::from(Box::leak(Box::new(imports))));
        let (names, owned): (Vec<_>, Vec<_>) = imports.into_iter().map(leak).unzip();
        let owned = Owned(owned);
        let borrow = |imports: &NonNull<Imports>| {
            // SAFETY: just made and not borrowed otherwise. The store, which is dropped before
            // `owned` in every case, is the only one to use this borrow.
            unsafe { &mut *imports.as_ptr() }
        };
        let instances = names.into_iter().zip(owned.0.iter().map(borrow)).collect();
        let mut store = Store::new(Some(config), instances).map_err(failed)?;
        let instance = store.register_active_module(module).map_err(failed)?;
        let memories = info.memories().iter().zip(given);
        let memories = memories
            .filter_map(|(memory, given)| given.or_else(|| find_memory(&instance, &memory.name)));
        let globals = info.exports().iter().filter_map(|export| {
            Some((export.name.clone(), find_global(&instance, &export.name)?))
        });
        let parts = Parts {
            memories: memories.collect(),
            functions: ExportedFunction::all(&instance).into_iter().collect(),
            globals: globals.collect(),
            imported,
        };
        shared.set(parts);
        Ok(Self { instance, _store: store, _imports: owned, shared })
    }

    /// What stops an instance of this variant. It must not outlive the guest.
    pub(crate) fn time_limit(&self, variant: &Variant<'_, Module>) -> Result<TimeLimit> {
        let memory = |name: &str| {
            let (base, _) = find_memory(&self.instance, name)?.data()?;
            Some(base)
        };
        // SAFETY: the memory has one page, never grows (that is its maximum), and is mapped until
        // the instance is dropped, which the guest's runtime owns together with the limit.
        unsafe { variant.time_limit(&self.shared.host, memory) }
    }

    /// What the functions of the host have, too.
    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// The memories of the guest, by the index that the host knows them by.
    pub(crate) fn memories(&self) -> &[LinearMemory] {
        &self.shared.parts().memories
    }
}

impl LinearMemories for OwnedInstance {
    fn linear_memory(&self, index: usize) -> &[u8] {
        // SAFETY: the instance, which owns the memory, lives as long as the borrow of `self`,
        // and nothing that writes or grows (`linear_memory_mut`, `grow`, running the guest) is
        // possible meanwhile, because all of it borrows `self` exclusively.
        self.memories().get(index).map_or(&[], |memory| unsafe { memory.bytes() })
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow of `self` excludes every other slice.
        self.memories().get(index).map_or(&mut [], |memory| unsafe { memory.bytes_mut() })
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        if !MAPPING {
            return None;
        }
        let bytes = self.linear_memory_mut(index);
        // SAFETY: with `MAPPING`, WasmEdge's allocator gives every memory a range of 12 GiB of its
        // own (private and anonymous) that never moves; it makes pages readable and writable as
        // the memory grows, without touching those before, and unmaps the whole range when the
        // instance is dropped, which `self` owns. `WasmEdgeModule` refuses memories of more than
        // the 8 GiB that the range has room for. While `self` is borrowed exclusively no guest
        // code runs, and `bytes` is the only reference into the memory.
        Some(unsafe { WholePages::new(bytes) })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        for imports in &self.0 {
            // SAFETY: made from a `Box` in `OwnedInstance::start`, owned here alone, and the store that
            // borrowed it was dropped before: see the order of fields in `OwnedInstance`.
            drop(unsafe { Box::from_raw(imports.as_ptr()) });
        }
    }
}
