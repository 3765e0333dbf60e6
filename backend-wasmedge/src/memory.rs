//! Memories, globals and functions of a WasmEdge instance, by its C interface.
#![allow(unsafe_code)]

use std::ptr::NonNull;
use std::slice;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Result, Value};
use wasmedge_sdk::{AsInstance, Instance};
use wasmedge_sys::ffi;

use crate::error::{self, check};
use crate::values::{from_engine, to_engine};

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

/// A global of an instance, as WasmEdge's C interface knows it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Global(NonNull<ffi::WasmEdge_GlobalInstanceContext>);

// SAFETY: a global is plain data for WasmEdge, bound to no thread; who uses it owns the guest.
unsafe impl Send for Global {}
// SAFETY: as above.
unsafe impl Sync for Global {}
// SAFETY: as for `Global`: the functions are called by the owner of the guest only.
unsafe impl Sync for ExportedFunction {}

pub(crate) fn find_memory(instance: &impl AsInstance, name: &str) -> Option<LinearMemory> {
    let memory = instance.get_memory_ref(name).ok()?;
    // SAFETY: only takes the pointer out; the instance owns what it points to.
    let context = unsafe { memory.as_ptr() };
    NonNull::new(context.cast_mut()).map(LinearMemory)
}

pub(crate) fn find_global(instance: &impl AsInstance, name: &str) -> Option<Global> {
    let global = instance.get_global(name).ok()?;
    // SAFETY: only takes the pointer out; the instance owns what it points to.
    let context = unsafe { global.as_ptr() };
    NonNull::new(context.cast_mut()).map(Global)
}

impl Global {
    /// Its value now.
    pub(crate) fn get(self) -> Value {
        // SAFETY: `self` is made by `find_global` and kept by a guest and its functions of the host
        // only, which do not outlive the instance that owns the global.
        from_engine(unsafe { ffi::WasmEdge_GlobalInstanceGetValue(self.0.as_ptr()) })
    }

    /// Sets it to a value of its type.
    pub(crate) fn set(self, value: Value) -> Result<()> {
        // SAFETY: as above; WasmEdge refuses what does not fit.
        let result =
            unsafe { ffi::WasmEdge_GlobalInstanceSetValue(self.0.as_ptr(), to_engine(value)) };
        check(result).map_err(|code| error::call(code, "setting a global"))
    }
}

impl ExportedFunction {
    /// The function that an instance exports by this name.
    pub(crate) fn find(instance: &Instance, name: &str) -> Option<Self> {
        let function = instance.get_func(name).ok()?;
        // SAFETY: only takes the pointer out; the instance owns what it points to.
        NonNull::new(unsafe { function.as_ptr() }).map(Self)
    }

    /// All functions that an instance exports, also those that its module did not.
    pub(crate) fn all(instance: &Instance) -> Vec<(String, Self)> {
        let names = instance.func_names().unwrap_or_default().into_iter();
        names.filter_map(|name| Some((name.clone(), Self::find(instance, &name)?))).collect()
    }

    /// What it points to, for as long as its instance lives.
    pub(crate) const fn as_ptr(self) -> *const ffi::WasmEdge_FunctionInstanceContext {
        self.0.as_ptr()
    }
}

impl LinearMemory {
    /// Grows it by whole pages. The size before, or nothing if it stays as it is.
    ///
    /// # Safety
    ///
    /// No slice of the memory is in use.
    pub(crate) unsafe fn grow(self, pages: u64) -> Option<u64> {
        let before = self.pages();
        // SAFETY: the memory is that of an instance that lives (see `pages`); the rest is the
        // caller's promise.
        let result = unsafe { ffi::WasmEdge_MemoryInstanceGrowPage(self.0.as_ptr(), pages) };
        (check(result).is_ok() && self.pages() == before + pages).then_some(before)
    }

    /// Its size now, in pages.
    pub(crate) fn pages(self) -> u64 {
        // SAFETY: `self` is made by `find_memory` and kept by a guest and its functions of the host only,
        // which do not outlive the instance that owns the memory.
        unsafe { ffi::WasmEdge_MemoryInstanceGetPageSize(self.0.as_ptr()) }
    }

    /// Its bytes as they are now.
    ///
    /// # Safety
    ///
    /// For as long as the result is used, the instance lives, its memory does not grow and
    /// is not written to.
    pub(crate) unsafe fn bytes<'a>(self) -> &'a [u8] {
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
    pub(crate) unsafe fn bytes_mut<'a>(self) -> &'a mut [u8] {
        let Some((data, len)) = self.data() else { return &mut [] };
        // SAFETY: `data` and `len` are the whole memory; the rest is the caller's promise.
        unsafe { slice::from_raw_parts_mut(data.as_ptr(), len) }
    }

    /// Where the memory begins, and its length; none if it is empty. All further bounds are
    /// checked by slices, because the offsets of WasmEdge's own accessors have 32 bits.
    pub(crate) fn data(self) -> Option<(NonNull<u8>, usize)> {
        let bytes = self.pages().checked_mul(PAGE)?;
        // SAFETY: the memory lives (see `pages`); WasmEdge checks the range and returns null
        // if it is not inside.
        let data = unsafe { ffi::WasmEdge_MemoryInstanceGetPointer(self.0.as_ptr(), 0, bytes) };
        Some((NonNull::new(data)?, usize::try_from(bytes).ok()?))
    }
}
