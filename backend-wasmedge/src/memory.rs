//! The bytes of a WasmEdge memory, and the objects of a live guest in the order that their
//! pointers into each other need.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::slice;
use std::sync::{Arc, OnceLock};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{Host, TimeLimit, Variant, WholePages};
use polychord_runtime_api::{LinearMemories, LinearMemory as ExportedMemory, ModuleInfo, Result};
use wasmedge_sdk::config::Config;
use wasmedge_sdk::{AsInstance, ImportObject, Instance, Module, Store, WasmEdgeResult};
use wasmedge_sys::ffi;

use crate::NAME;

/// Whether WasmEdge's allocator maps its memories on this machine. Elsewhere it is `realloc`.
pub(crate) const MAPPING: bool =
    cfg!(all(unix, any(target_arch = "x86_64", target_arch = "aarch64")));

/// Address space that WasmEdge's allocator takes for each memory, in bytes.
pub(crate) const RESERVED: u64 = 12 << 30;

/// Whether there is as much address space as a memory takes: where there is not, WasmEdge
/// makes one of no pages, and fails in other ways later.
#[cfg(all(unix, any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(crate) fn check_address_space() -> std::io::Result<()> {
    use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous, munmap};

    let len = usize::try_from(RESERVED).map_err(std::io::Error::other)?;
    let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
    // SAFETY: new pages at an address that the system chooses.
    let start = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags)? };
    // SAFETY: just mapped, and nothing else knows them.
    unsafe { munmap(start, len)? };
    Ok(())
}

/// Elsewhere WasmEdge's allocator reserves nothing.
#[cfg(not(all(unix, any(target_arch = "x86_64", target_arch = "aarch64"))))]
pub(crate) fn check_address_space() -> std::io::Result<()> {
    Ok(())
}

/// The host functions as one module, and their state.
pub(crate) type Imports = ImportObject<State>;

/// The state that host functions find.
pub(crate) struct State {
    pub(crate) host: Arc<Host>,
    /// Not set until the guest has started.
    pub(crate) memories: Arc<OnceLock<Vec<LinearMemory>>>,
}

/// An instance with the store and the host functions that it points into.
pub(crate) struct OwnedInstance {
    // Fields are dropped in this order: the instance uses the store and the imports, and the
    // store points to the imports.
    instance: Instance,
    _store: Store<'static, Imports>,
    _imports: Owned,
    memories: Vec<LinearMemory>,
    functions: BTreeMap<String, ExportedFunction>,
}

/// Imports on the heap, owned by a pointer and not a `Box`, because a store borrows them.
struct Owned(NonNull<Imports>);

// SAFETY: owns what it points to, like a `Box`, and `Imports` are `Send`.
unsafe impl Send for Owned {}

/// A memory of an instance, as WasmEdge's C interface knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LinearMemory(NonNull<ffi::WasmEdge_MemoryInstanceContext>);

// SAFETY: a memory is plain data for WasmEdge, bound to no thread. The methods that touch it
// are called by the owner of the guest, one thread at a time: see `bytes` and `bytes_mut`.
unsafe impl Send for LinearMemory {}
// SAFETY: as above; sharing the pointer gives no access without `bytes` or `bytes_mut`.
unsafe impl Sync for LinearMemory {}

/// A function that an instance exports, as WasmEdge's C interface knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ExportedFunction(NonNull<ffi::WasmEdge_FunctionInstanceContext>);

// SAFETY: a function is plain data for WasmEdge, bound to no thread; its caller owns the guest.
unsafe impl Send for ExportedFunction {}

impl OwnedInstance {
    /// Makes an instance with these exported memories, and runs its start function.
    pub(crate) fn start(
        config: &Config,
        module: &Module,
        imports: Imports,
        exported: &ModuleInfo,
    ) -> WasmEdgeResult<Self> {
        let owned = Owned(NonNull::from(Box::leak(Box::new(imports))));
        // SAFETY: just made and not borrowed otherwise. The store, which is dropped before
        // `owned` in every case, is the only one to use this borrow.
        let borrowed = unsafe { &mut *owned.0.as_ptr() };
        let instances = [(polychord_runtime_api::abi::MODULE.to_owned(), borrowed)].into();
        let mut store = Store::new(Some(config), instances)?;
        let instance = store.register_active_module(module)?;
        let find = |memory: &ExportedMemory| LinearMemory::find(&instance, &memory.name);
        let memories = exported.memories().iter().filter_map(find).collect();
        let find = |name: &String| {
            ExportedFunction::find(&instance, name).map(|function| (name.clone(), function))
        };
        let functions = exported.functions().keys().filter_map(find).collect();
        Ok(Self { instance, _store: store, _imports: owned, memories, functions })
    }

    /// The time limit of an instance of this variant. It must not outlive the guest.
    pub(crate) fn time_limit(&self, variant: &Variant<'_, Module>) -> Result<TimeLimit> {
        let memory = |name: &str| {
            let (base, _) = LinearMemory::find(&self.instance, name)?.data()?;
            Some(base)
        };
        // SAFETY: the memory has one page, never grows (that is its maximum), and is mapped until
        // the instance is dropped, which the guest's runtime owns together with the limit.
        unsafe { variant.time_limit(NAME, memory) }
    }

    /// The function that the guest exports by this name.
    pub(crate) fn function(&self, name: &str) -> Option<ExportedFunction> {
        let known = self.functions.get(name).copied();
        known.or_else(|| ExportedFunction::find(&self.instance, name))
    }

    /// The memories that the guest exports, by the index that the host knows them by.
    pub(crate) fn memories(&self) -> &[LinearMemory] {
        &self.memories
    }

    /// Grows a memory by whole pages. The size before, or nothing if it stays as it is.
    pub(crate) fn grow(&mut self, index: usize, pages: u64) -> Option<u64> {
        let memory = *self.memories.get(index)?;
        let before = memory.pages();
        // SAFETY: the memory is the instance's, which lives in `self`; the exclusive borrow
        // excludes slices of it.
        let result = unsafe { ffi::WasmEdge_MemoryInstanceGrowPage(memory.0.as_ptr(), pages) };
        // SAFETY: reads a number in a plain value.
        let ok = unsafe { ffi::WasmEdge_ResultOK(result) };
        (ok && memory.pages() == before + pages).then_some(before)
    }
}

impl LinearMemories for OwnedInstance {
    fn linear_memory(&self, index: usize) -> &[u8] {
        // SAFETY: the instance, which owns the memory, lives as long as the borrow of `self`,
        // and nothing that writes or grows (`linear_memory_mut`, `grow`, running the guest) is
        // possible meanwhile, because all of it borrows `self` exclusively.
        self.memories.get(index).map_or(&[], |memory| unsafe { memory.bytes() })
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow of `self` excludes every other slice.
        self.memories.get(index).map_or(&mut [], |memory| unsafe { memory.bytes_mut() })
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

impl ExportedFunction {
    /// The function that an instance exports by this name.
    pub(crate) fn find(instance: &Instance, name: &str) -> Option<Self> {
        let function = instance.get_func(name).ok()?;
        // SAFETY: only takes the pointer out; the instance owns what it points to.
        NonNull::new(unsafe { function.as_ptr() }).map(Self)
    }

    /// What it points to, for as long as its instance lives.
    pub(crate) const fn as_ptr(self) -> *const ffi::WasmEdge_FunctionInstanceContext {
        self.0.as_ptr()
    }
}

impl LinearMemory {
    fn find(instance: &Instance, name: &str) -> Option<Self> {
        let memory = instance.get_memory_ref(name).ok()?;
        // SAFETY: only takes the pointer out; the instance owns what it points to.
        let context = unsafe { memory.as_ptr() };
        NonNull::new(context.cast_mut()).map(Self)
    }

    /// Its size now, in pages.
    pub(crate) fn pages(self) -> u64 {
        // SAFETY: `self` is made by `find` and kept by a `OwnedInstance` and its host functions only,
        // which do not outlive the instance that owns the memory.
        unsafe { ffi::WasmEdge_MemoryInstanceGetPageSize(self.0.as_ptr()) }
    }

    /// Its bytes as they are now.
    ///
    /// # Safety
    ///
    /// For as long as the result is used, the instance lives, its memory does not grow and
    /// is not written to.
    unsafe fn bytes<'a>(self) -> &'a [u8] {
        let Some((data, len)) = self.data() else { return &[] };
        // SAFETY: `data` and `len` are the whole memory; the rest is the caller's promise.
        unsafe { slice::from_raw_parts(data.as_ptr(), len) }
    }

    /// Its bytes as they are now, to write to.
    ///
    /// # Safety
    ///
    /// For as long as the result is used, the instance lives, its memory does not grow and
    /// nothing else reads or writes it.
    unsafe fn bytes_mut<'a>(self) -> &'a mut [u8] {
        let Some((data, len)) = self.data() else { return &mut [] };
        // SAFETY: `data` and `len` are the whole memory; the rest is the caller's promise.
        unsafe { slice::from_raw_parts_mut(data.as_ptr(), len) }
    }

    /// Where the memory begins, and its length; none if it is empty. All further bounds are
    /// checked by slices, because the offsets of WasmEdge's own accessors have 32 bits.
    fn data(self) -> Option<(NonNull<u8>, usize)> {
        let bytes = self.pages().checked_mul(PAGE)?;
        // SAFETY: the memory lives (see `pages`); WasmEdge checks the range and returns null
        // if it is not inside.
        let data = unsafe { ffi::WasmEdge_MemoryInstanceGetPointer(self.0.as_ptr(), 0, bytes) };
        Some((NonNull::new(data)?, usize::try_from(bytes).ok()?))
    }
}

impl State {
    fn memory(&self, index: usize) -> Option<&LinearMemory> {
        self.memories.get()?.get(index)
    }
}

/// For host functions, which borrow the state that they are given.
impl LinearMemories for State {
    fn linear_memory(&self, index: usize) -> &[u8] {
        // SAFETY: the state is used by a host function only, so the guest is in the middle of
        // a call: its instance lives, it waits for the result (guests have no threads), and
        // its caller has the `OwnedInstance` borrowed exclusively. The borrow of the state
        // excludes `linear_memory_mut`.
        self.memory(index).map_or(&[], |memory| unsafe { memory.bytes() })
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        // SAFETY: as above, and the exclusive borrow excludes every other slice.
        self.memory(index).map_or(&mut [], |memory| unsafe { memory.bytes_mut() })
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made from a `Box` in `OwnedInstance::start`, owned here alone, and the store that
        // borrowed it was dropped before: see the order of fields in `OwnedInstance`.
        drop(unsafe { Box::from_raw(self.0.as_ptr()) });
    }
}
