//! What a function of the host may use of the guest that has called it.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::sync::Arc;

use polychord_plan::LayerId;

use crate::host::{CallState, Host, UserState};
use crate::interrupt::Interrupter;
use crate::memory::MemoryId;
use crate::spi::Instance;
use crate::stats::Stats;
use crate::value::Value;
use crate::{Error, Result};

/// The guest that has called a function of the host, for as long as that function runs.
///
/// Pointers are about the guest's memory of index 0: the one that it exports as `memory`, else the
/// first that it imports. They are checked against the memory as it is then.
///
/// A 64-bit memory that was [lowered](crate::Memory64::Lowered) consists of segments of 4 GiB. Slices are
/// of one of them, and those of whole memories are of the first; [`read_into`](Self::read_into) and
/// [`write`](Self::write) copy across their edges.
///
/// ```
/// use polychord_runtime_api::imports::{Caller, HostError, Imports};
///
/// /// What one guest has written.
/// #[derive(Default)]
/// struct Log(Vec<u8>);
///
/// fn write(caller: &mut Caller<'_>, (ptr, len): (u32, u32)) -> Result<u32, HostError> {
///     let range = caller.range(ptr, len)?;
///     let (memory, log) = caller.memory_and_state::<Log>().ok_or(HostError::new("no log"))?;
///     log.0.extend_from_slice(&memory[range]);
///     Ok(len)
/// }
///
/// Imports::new().function("host", "write", write)?;
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
pub struct Caller<'a> {
    host: &'a Arc<Host>,
    guest: &'a mut dyn Instance,
    /// The user's state, if the function has asked for it: no call pays for what it does not use. It is given
    /// back at the end, so that the compiler need not look whether it has to be dropped.
    state: ManuallyDrop<OnceCell<Option<UserState>>>,
}

/// What pointers of functions are about.
const POINTERS: usize = 0;

impl<'a> Caller<'a> {
    #[inline]
    pub(super) fn new(host: &'a Arc<Host>, guest: &'a mut dyn Instance) -> Self {
        Self { host, guest, state: ManuallyDrop::new(OnceCell::new()) }
    }

    /// The state of this guest, if it was given one of this type by
    /// [`Instantiation::state`](crate::Instantiation::state).
    #[must_use]
    pub fn state<T: 'static>(&self) -> Option<&T> {
        self.state.get_or_init(|| self.host.take_state()).as_ref()?.downcast_ref()
    }

    /// The state of this guest, mutably.
    #[must_use]
    pub fn state_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.state.get_or_init(|| self.host.take_state());
        self.state.get_mut()?.as_mut()?.downcast_mut()
    }

    /// The guest's memory of index 0, and its state.
    #[must_use]
    pub fn memory_and_state<T: 'static>(&mut self) -> Option<(&mut [u8], &mut T)> {
        self.state.get_or_init(|| self.host.take_state());
        let state = self.state.get_mut()?.as_mut()?.downcast_mut()?;
        let first = self.host.view().first(POINTERS);
        Some((self.guest.linear_memory_mut(first), state))
    }

    /// The bytes of the guest's memory of index 0, as it is now.
    #[must_use]
    pub fn memory(&self) -> &[u8] {
        self.linear_memory(POINTERS)
    }

    /// The bytes of the guest's memory of index 0, mutably.
    #[must_use]
    pub fn memory_mut(&mut self) -> &mut [u8] {
        self.linear_memory_mut(POINTERS)
    }

    /// The bytes of a memory by its index in [`ModuleInfo::memories`](crate::ModuleInfo::memories);
    /// empty if there is none.
    #[must_use]
    pub fn linear_memory(&self, index: usize) -> &[u8] {
        self.guest.linear_memory(self.host.view().first(index))
    }

    /// The bytes of a memory by its index, mutably.
    #[must_use]
    pub fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.guest.linear_memory_mut(self.host.view().first(index))
    }

    /// The index of the memory that the guest exports by a name.
    #[must_use]
    pub fn memory_index(&self, export: &str) -> Option<usize> {
        self.host.module().memories().iter().position(|memory| memory.name == export)
    }

    /// Makes the memory of this index larger by whole pages of 64 KiB. Its size before, in pages.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`] beyond the guest's limits, and [`Error::OutOfMemory`] if the engine
    /// cannot.
    pub fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        self.host.check_growth(&*self.guest, memory, pages)?;
        self.host.view().grow(self.guest, memory, pages)
    }

    /// The `len` bytes at `ptr`, as a range of [`memory`](Self::memory).
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if they leave the guest's memory as it is now, and
    /// [`Error::AcrossSegments`] if they are in it, but not in the first segment.
    pub fn range(&self, ptr: impl Into<u64>, len: impl Into<u64>) -> Result<Range<usize>> {
        let (ptr, len) = (ptr.into(), len.into());
        within(self.memory().len(), ptr, len).ok_or_else(|| self.outside(ptr, len))
    }

    /// The `len` bytes at `ptr`.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if they leave the guest's memory as it is now, and
    /// [`Error::AcrossSegments`] if they are in two segments of it.
    pub fn read(&self, ptr: impl Into<u64>, len: impl Into<u64>) -> Result<&[u8]> {
        let (ptr, len) = (ptr.into(), len.into());
        let memory = self.memory();
        match within(memory.len(), ptr, len) {
            Some(range) => Ok(&memory[range]),
            None => self.read_beyond(ptr, len),
        }
    }

    /// Copies the bytes at `ptr` into `out`.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if they leave the guest's memory.
    pub fn read_into(&self, ptr: impl Into<u64>, out: &mut [u8]) -> Result<()> {
        let (ptr, memory) = (ptr.into(), self.memory());
        match within(memory.len(), ptr, out.len() as u64) {
            Some(range) => {
                out.copy_from_slice(&memory[range]);
                Ok(())
            }
            None => self.read_segments(ptr, out),
        }
    }

    /// The `len` bytes at `ptr`, to be written to.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if they leave the guest's memory as it is now, and
    /// [`Error::AcrossSegments`] if they are in two segments of it.
    pub fn slice_mut(&mut self, ptr: impl Into<u64>, len: impl Into<u64>) -> Result<&mut [u8]> {
        let (ptr, len) = (ptr.into(), len.into());
        if let Some(range) = within(self.memory().len(), ptr, len) {
            return Ok(&mut self.memory_mut()[range]);
        }
        // Found out before, as a slice that is returned stays borrowed.
        self.read_beyond(ptr, len)?;
        let bytes = self.host.view().slice_mut(self.guest, POINTERS, ptr..ptr + len);
        Ok(bytes.unwrap_or_default())
    }

    /// Writes bytes at `ptr`.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if they leave the guest's memory; nothing is written then.
    pub fn write(&mut self, ptr: impl Into<u64>, bytes: &[u8]) -> Result<()> {
        let (ptr, memory) = (ptr.into(), self.memory_mut());
        match within(memory.len(), ptr, bytes.len() as u64) {
            Some(range) => {
                memory[range].copy_from_slice(bytes);
                Ok(())
            }
            None => self.write_segments(ptr, bytes),
        }
    }

    /// The text of `len` bytes at `ptr`.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`], and [`Error::NotText`] if the bytes are no UTF-8.
    pub fn read_str(&self, ptr: impl Into<u64>, len: impl Into<u64>) -> Result<&str> {
        let (ptr, len) = (ptr.into(), len.into());
        std::str::from_utf8(self.read(ptr, len)?).map_err(|error| Error::NotText {
            ptr,
            len,
            valid: error.valid_up_to() as u64,
        })
    }

    /// The number at `ptr`, least significant byte first.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if it leaves the guest's memory.
    pub fn read_value<T: Bytes>(&self, ptr: impl Into<u64>) -> Result<T> {
        let (ptr, memory) = (ptr.into(), self.memory());
        // Where it is, and not from a copy: functions of the host read little, and often.
        if let Some(range) = within(memory.len(), ptr, size_of::<T>() as u64) {
            return Ok(T::read(&memory[range]));
        }
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        self.read_segments(ptr, bytes)?;
        Ok(T::read(bytes))
    }

    /// Writes a number at `ptr`, least significant byte first.
    ///
    /// # Errors
    ///
    /// [`Error::PointerOutOfBounds`] if it leaves the guest's memory.
    pub fn write_value<T: Bytes>(&mut self, ptr: impl Into<u64>, value: T) -> Result<()> {
        let mut bytes = [0; 16];
        let bytes = &mut bytes[..size_of::<T>()];
        value.write(bytes);
        self.write(ptr, bytes)
    }

    /// Calls a function that the guest exports, from within the guest's own call. The time limit is
    /// that of the outer call.
    ///
    /// # Errors
    ///
    /// The errors of [`Runtime::call_into`](crate::Runtime::call_into), and [`Error::Unmet`] if the
    /// engine cannot run a guest within a call of the same guest
    /// ([`Capabilities::reentrance`](crate::Capabilities::reentrance)). Calls within calls that go
    /// deeper than 64, or for which there is no stack, end in a trap,
    /// [`TrapKind::StackOverflow`](crate::TrapKind::StackOverflow).
    pub fn call(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.host.module().check_call(export, args, Some(results.len()))?;
        let _deeper = self.host.go_deeper(export)?;
        self.give_state_back();
        let done = self.guest.invoke(export, args, results);
        self.host.end_of_call(done)
    }

    /// What a function that the guest exports has to be called with, if there is one.
    #[must_use]
    pub fn export(&self, name: &str) -> Option<&crate::FunctionType> {
        self.host.module().functions().get(name)
    }

    /// The value of a global, by the name that [`Runtime::global`](crate::Runtime::global) takes.
    ///
    /// # Errors
    ///
    /// [`Error::MissingGlobal`] if there is none of this name.
    pub fn global(&mut self, name: &str) -> Result<Value> {
        let (at, _) = self.host.module().global(name)?;
        self.guest.global(self.host.view().global(at))
    }

    /// Sets a global.
    ///
    /// # Errors
    ///
    /// [`Error::MissingGlobal`] if there is none of this name, and [`Error::GlobalType`] if it does
    /// not change, or has another type.
    pub fn set_global(&mut self, name: &str, value: Value) -> Result<()> {
        let at = self.host.module().global_to_set(name, value)?;
        self.guest.set_global(self.host.view().global(at), value)
    }

    /// What stops the call that is running; none for a guest that cannot be stopped.
    #[must_use]
    pub fn interrupter(&self) -> Option<Interrupter> {
        self.host.switch().cloned().map(Interrupter::new)
    }

    /// The host's side of the guest: its module, its limits and its last refusal.
    #[must_use]
    pub fn host(&self) -> &Host {
        self.host
    }

    /// What the guest's memories were used for.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.host.stats(&*self.guest)
    }

    /// Copies from a memory that was made by `create_memory64`.
    ///
    /// # Errors
    ///
    /// The errors of [`Runtime::read_memory64`](crate::Runtime::read_memory64).
    pub fn read_memory64(&self, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()> {
        let address = self.host.address(memory, offset, out.len() as u64)?;
        self.host.read(&*self.guest, address, out)
    }

    /// Copies to a memory that was made by `create_memory64`.
    ///
    /// # Errors
    ///
    /// The errors of [`Runtime::write_memory64`](crate::Runtime::write_memory64).
    pub fn write_memory64(&mut self, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        let address = self.host.address(memory, offset, data.len() as u64)?;
        self.host.write(self.guest, address, data)
    }

    /// Brings a layer into its memory by copying it, unless it is there already: pages of files are
    /// mapped only while no guest runs. Its address in the guest; none for a memory in the host.
    ///
    /// # Errors
    ///
    /// The errors of [`Runtime::load_layer`](crate::Runtime::load_layer).
    pub fn load_layer(&mut self, layer: LayerId) -> Result<Option<u64>> {
        let loaded = self.host.load_layer(self.guest, layer, CallState::Running, None)?;
        Ok(loaded.address)
    }

    /// The guest itself, for functions of our own.
    pub(super) fn parts(&mut self) -> (&'a Arc<Host>, &mut dyn Instance) {
        (self.host, self.guest)
    }

    /// Bytes that are not in the first segment of the guest's memory, or nowhere.
    #[inline(never)]
    fn read_beyond(&self, ptr: u64, len: u64) -> Result<&[u8]> {
        let end = ptr.checked_add(len);
        let bytes = end.and_then(|end| self.host.view().slice(&*self.guest, POINTERS, ptr..end));
        bytes.ok_or_else(|| self.outside(ptr, len))
    }

    /// Copies bytes that are not in the first segment of the guest's memory, or nowhere.
    #[inline(never)]
    fn read_segments(&self, ptr: u64, out: &mut [u8]) -> Result<()> {
        let read = self.host.view().read(&*self.guest, POINTERS, ptr, out);
        read.map_err(|_| self.outside(ptr, out.len() as u64))
    }

    /// Copies bytes to where [`read_segments`](Self::read_segments) reads them.
    #[inline(never)]
    fn write_segments(&mut self, ptr: u64, bytes: &[u8]) -> Result<()> {
        let written = self.host.view().write(self.guest, POINTERS, ptr, bytes);
        written.map_err(|_| self.outside(ptr, bytes.len() as u64))
    }

    /// Why bytes of the guest's memory are not one slice of it.
    #[cold]
    fn outside(&self, ptr: u64, len: u64) -> Error {
        let size = self.host.view().size(&*self.guest, POINTERS);
        let operation = "a function of the host";
        match ptr.checked_add(len) {
            Some(end) if end <= size => Error::AcrossSegments { operation, ptr, len },
            _ => Error::PointerOutOfBounds { operation, ptr, len, size },
        }
    }

    #[inline]
    fn give_state_back(&mut self) {
        // Most functions have not asked for it, and nothing else is done for these.
        if self.state.get().is_some() {
            self.give_back_what_was_taken();
        }
    }

    #[inline(never)]
    fn give_back_what_was_taken(&mut self) {
        if let Some(Some(state)) = self.state.take() {
            self.host.give_state(state);
        }
    }
}

impl Drop for Caller<'_> {
    #[inline]
    fn drop(&mut self) {
        self.give_state_back();
    }
}

impl fmt::Debug for Caller<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("host", &self.host).finish_non_exhaustive()
    }
}

/// Some bytes of a memory of this size; none if they leave it.
#[inline]
fn within(size: usize, ptr: u64, len: u64) -> Option<Range<usize>> {
    let (start, end) = (usize::try_from(ptr).ok()?, usize::try_from(ptr.checked_add(len)?).ok()?);
    (end <= size).then_some(start..end)
}

/// A number with as many bytes in the guest's memory as it has in Rust.
///
/// ```
/// use polychord_runtime_api::imports::Caller;
///
/// fn sum(caller: &Caller<'_>, at: u32) -> polychord_runtime_api::Result<u64> {
///     let (a, b): (u32, u16) = (caller.read_value(at)?, caller.read_value(at + 4)?);
///     Ok(u64::from(a) + u64::from(b))
/// }
/// ```
pub trait Bytes: Copy + Any + sealed::Sealed {
    #[doc(hidden)]
    fn read(bytes: &[u8]) -> Self;
    #[doc(hidden)]
    fn write(self, bytes: &mut [u8]);
}

mod sealed {
    pub trait Sealed {}
}

macro_rules! bytes {
    ($($number:ty)*) => {$(
        impl sealed::Sealed for $number {}

        impl Bytes for $number {
            #[inline]
            fn read(bytes: &[u8]) -> Self {
                let mut own = [0; size_of::<Self>()];
                own.copy_from_slice(bytes);
                Self::from_le_bytes(own)
            }

            #[inline]
            fn write(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }
        }
    )*};
}

bytes! { u8 i8 u16 i16 u32 i32 u64 i64 u128 i128 f32 f64 }
