//! The host API of one live guest.

use std::any::Any;
use std::ops::Range;

use polychord_plan::LayerId;

use crate::host::Host;
use crate::interrupt::Interrupter;
use crate::layers::layer::{LayerSpec, LoadedLayer};
use crate::memory::image::Image;
use crate::memory::region::{MemorySpec, Region};
use crate::memory::segment::LinearMemories;
use crate::memory::stats::{MemoryId, MemoryStats};
use crate::ranks::Rank;
use crate::stats::Stats;
use crate::value::Value;
use crate::{Error, Result};

/// One live guest with its linear memories: the host API.
///
/// [`Module::instantiate`](crate::Module::instantiate) makes it. It is the same for every engine:
/// a backend implements [`Instance`](crate::spi::Instance), which knows nothing of layers. The runtime
/// may move between threads, but one call runs at a time.
///
/// ```
/// use polychord_runtime_api::{LayerId, LayerSpec, MemorySpec, Result, Runtime, Source, Value};
///
/// fn run(guest: &mut dyn Runtime, source: &Source) -> Result<Vec<Value>> {
///     let memory = guest.create_memory64(&MemorySpec::guest(source.len()))?;
///     guest.register_layer(LayerSpec::new(LayerId(0), memory, source))?;
///     guest.load_layer(LayerId(0))?;
///     guest.call("run", &[])
/// }
/// ```
///
/// The host behind a guest serves that guest alone. It cannot be taken out for another one:
///
/// ```compile_fail,E0308
/// use polychord_runtime_api::{Runtime, spi::Module};
/// fn second(module: &dyn Module, guest: &dyn Runtime) {
///     module.start(guest.host().clone());
/// }
/// ```
///
/// Only the guest itself ends the watch over its mapped layers:
///
/// ```compile_fail,E0599
/// fn forget(guest: &dyn polychord_runtime_api::Runtime) {
///     drop(guest.host().mapped_layers());
/// }
/// ```
///
/// ```compile_fail,E0624
/// fn forget(guest: &dyn polychord_runtime_api::Runtime) {
///     guest.host().forget_mapped();
/// }
/// ```
pub trait Runtime: LinearMemories + Send {
    /// The host's side of this guest: its limits, its module and its last refusal.
    fn host(&self) -> &Host;

    /// The linear memory of index 0, which the guest exports as `memory` or else imports as its first;
    /// empty if there is none. Others are seen by [`linear_memory`](LinearMemories::linear_memory).
    ///
    /// Of a 64-bit memory that was [lowered](crate::Memory64::Lowered) this is the first segment, of at most
    /// 4 GiB; [`memory_slice`](Self::memory_slice) and [`read_memory`](Self::read_memory) reach all of it.
    fn memory(&self) -> &[u8] {
        self.linear_memory(0)
    }

    /// The linear memory of index 0, mutably.
    fn memory_mut(&mut self) -> &mut [u8] {
        self.linear_memory_mut(0)
    }

    /// Bytes of the linear memory of this index, also if it was lowered.
    fn memory_bytes(&self, memory: usize) -> u64 {
        self.linear_memory(memory).len() as u64
    }

    /// A range of the linear memory of this index. None if it is not there, or if it is on both sides of the
    /// edge of two segments of a memory that was lowered.
    fn memory_slice(&self, memory: usize, range: Range<u64>) -> Option<&[u8]> {
        self.linear_memory(memory).get(index(range)?)
    }

    /// A range of the linear memory of this index, mutably, as [`memory_slice`](Self::memory_slice) has it.
    fn memory_slice_mut(&mut self, memory: usize, range: Range<u64>) -> Option<&mut [u8]> {
        self.linear_memory_mut(memory).get_mut(index(range)?)
    }

    /// Copies out of the linear memory of this index.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if it is not as large.
    fn read_memory(&self, memory: usize, address: u64, out: &mut [u8]) -> Result<()> {
        let (len, size) = (out.len() as u64, self.memory_bytes(memory));
        let end = address.checked_add(len);
        let bytes = end.and_then(|end| self.memory_slice(memory, address..end));
        let operation = "reading a memory of the guest";
        let outside = Error::OutOfRange { operation, offset: address, len, size };
        out.copy_from_slice(bytes.ok_or(outside)?);
        Ok(())
    }

    /// Copies into the linear memory of this index.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if it is not as large.
    fn write_memory(&mut self, memory: usize, address: u64, data: &[u8]) -> Result<()> {
        let (len, size) = (data.len() as u64, self.memory_bytes(memory));
        let end = address.checked_add(len);
        let bytes = end.and_then(|end| self.memory_slice_mut(memory, address..end));
        let operation = "writing a memory of the guest";
        let outside = Error::OutOfRange { operation, offset: address, len, size };
        bytes.ok_or(outside)?.copy_from_slice(data);
        Ok(())
    }

    /// Gives the linear memory of this index the bytes of a range of an image. Tells how many bytes were not copied:
    /// whole pages show the image, shared with all guests that do, until the guest writes to them.
    ///
    /// Pages show it where the engine can map ([`Capabilities::mapping`](crate::Capabilities::mapping)) and the
    /// range lies in them as it does in those of the image ([`ImageBuilder::begin`](crate::ImageBuilder::begin));
    /// what cannot be mapped is copied. Either way the memory has the same bytes, and does as before.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if memory or image are not as large, and [`Error::Io`] if the image cannot be read.
    fn write_image(
        &mut self,
        memory: usize,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        copy_image(image, range, |skip, bytes| self.write_memory(memory, address + skip, bytes))?;
        Ok(0)
    }

    /// Makes a range of the linear memory of this index zero, so that nothing of it shows an image any more. The
    /// bytes around it stay as they are.
    ///
    /// # Errors
    ///
    /// [`Error::OutOfRange`] if it is not as large, and [`Error::OutOfMemory`](crate::Error::OutOfMemory) if there
    /// are no pages to put in the place of shared ones.
    fn release_image(&mut self, memory: usize, range: Range<u64>) -> Result<()> {
        let zeros = [0; 4096];
        let mut at = range.start;
        while at < range.end {
            let bytes = zeros.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
            self.write_memory(memory, at, &zeros[..bytes])?;
            at += bytes as u64;
        }
        Ok(())
    }

    /// Makes a 64-bit memory behind the guest's imports. The memories of a runtime form one
    /// space of addresses, each beginning where the one before it ends.
    ///
    /// A memory in a guest with several 32-bit linear memories is put into the first that has
    /// room for all of it, or into as many as it takes: one that is exported by the name of the
    /// memory's first region before the others, then those with an index of 1 or more in
    /// order, and the one with the guest's own data last.
    /// [`memory_stats`](Self::memory_stats) says where it is.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidMemory`](crate::Error::InvalidMemory) if it is described wrongly, [`Error::TooLarge`](crate::Error::TooLarge) if a region has
    /// no bytes or more than the limits allow, and [`Error::OutOfMemory`](crate::Error::OutOfMemory) if there is not that
    /// much.
    fn create_memory64(&mut self, spec: &MemorySpec) -> Result<MemoryId>;

    /// A region of a memory as it is now.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`](crate::Error::MemoryNotFound) or [`Error::RegionNotFound`](crate::Error::RegionNotFound).
    fn region(&self, memory: MemoryId, name: &str) -> Result<Region>;

    /// Makes a region larger by `bytes`, in whole pages of zeros, and returns its size
    /// before. Nothing moves: what it may grow to was set aside when the memory was made.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`](crate::Error::TooLarge) beyond its largest size; [`Error::MemoryNotFound`](crate::Error::MemoryNotFound) or
    /// [`Error::RegionNotFound`](crate::Error::RegionNotFound).
    fn grow_region(&mut self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64>;

    /// Registers a layer: from then on the guest can ask for it by its number.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`](crate::Error::MemoryNotFound) if its memory was not made, [`Error::InvalidLayer`](crate::Error::InvalidLayer) if its
    /// number is taken, if it has no bytes, leaves its memory or its source, crosses the edge
    /// of a segment, or shares a page with another layer.
    fn register_layer(&mut self, spec: LayerSpec) -> Result<()>;

    /// Brings a layer into its memory, by mapping or copying as its source says, unless it is
    /// there already. Where pages cannot be mapped they are copied; the result says how.
    ///
    /// Only this maps. A layer that a running guest asks for by itself
    /// ([`memory64_map_layer`](crate::abi::import::MAP_LAYER)) and that is not loaded is copied,
    /// and stays a copy until it is released: so load what is large, and may be mapped, before
    /// the call.
    ///
    /// # Errors
    ///
    /// [`Error::LayerNotFound`](crate::Error::LayerNotFound) if it is not registered, [`Error::Truncated`](crate::Error::Truncated) or
    /// [`Error::Io`](crate::Error::Io) if its source cannot be read. The layer is then not loaded, and
    /// its place as it was, or zeros if some of it had been read.
    fn load_layer(&mut self, id: LayerId) -> Result<LoadedLayer>;

    /// Brings a layer into its memory from `bytes`, which were read from its source before.
    ///
    /// If there are not as many as the layer has, it is read from its source, as by
    /// [`load_layer`](Self::load_layer).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`load_layer`](Self::load_layer).
    fn load_layer_from(&mut self, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer>;

    /// Takes a layer out of its memory and gives the pages back; they read as zeros. What was
    /// written there is gone, unless its source is [anonymous](crate::Source::anonymous): it is
    /// then compressed until the layer is loaded again. Does nothing if it is not loaded.
    ///
    /// Until it is loaded again, its place is the host's: what is written there stays, and no call
    /// brings the layer back unless the guest asks for it, which copies it (see
    /// [`load_layer`](Self::load_layer)).
    ///
    /// # Errors
    ///
    /// [`Error::LayerNotFound`](crate::Error::LayerNotFound) if it is not registered; [`Error::TooLarge`](crate::Error::TooLarge) or
    /// [`Error::OutOfMemory`](crate::Error::OutOfMemory) if it cannot be compressed for lack of room, or pages cannot be
    /// exchanged. The layer then stays.
    fn release_layer(&mut self, id: LayerId) -> Result<()>;

    /// Releases a layer and forgets it: its number and its place are free for another one, also
    /// for one with the same bytes of an anonymous source.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`release_layer`](Self::release_layer).
    fn unregister_layer(&mut self, id: LayerId) -> Result<()>;

    /// Copies from a memory made by `create_memory64`. A layer's bytes are there once it is
    /// loaded; bytes that were never written are zero.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`](crate::Error::MemoryNotFound) or [`Error::OutOfRange`](crate::Error::OutOfRange), and [`Error::Truncated`](crate::Error::Truncated) if a mapped
    /// layer is not in its file any more.
    fn read_memory64(&self, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()>;

    /// Copies to a memory made by `create_memory64`.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`](crate::Error::MemoryNotFound) or [`Error::OutOfRange`](crate::Error::OutOfRange).
    fn write_memory64(&mut self, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()>;

    /// Makes the guest one of several that compute together.
    ///
    /// # Errors
    ///
    /// [`Error::HasRank`](crate::Error::HasRank) if it is one already.
    fn join(&mut self, rank: Rank) -> Result<()>;

    /// Guest address of the memory's first byte, in the form of [`LoadedLayer::address`]; none if
    /// the memory is in the host.
    ///
    /// # Errors
    ///
    /// [`Error::MemoryNotFound`](crate::Error::MemoryNotFound).
    fn memory_address(&self, memory: MemoryId) -> Result<Option<u64>>;

    /// What the memories were used for, since the guest was started.
    fn stats(&self) -> Stats;

    /// Statistics of each memory made by `create_memory64`. Asks the system about every page
    /// of their regions, which takes a millisecond or so for each GiB.
    fn memory_stats(&self) -> Vec<MemoryStats>;

    /// Calls an exported function.
    ///
    /// # Errors
    ///
    /// [`Error::MissingExport`](crate::Error::MissingExport) or [`Error::Signature`](crate::Error::Signature) if there is no such function,
    /// [`Error::Trap`](crate::Error::Trap) if the guest traps or exceeds its time, and [`Error::Truncated`](crate::Error::Truncated) if a
    /// mapped layer is not in its file any more; the guest's results are then worth nothing,
    /// until the layer is loaded again.
    fn call(&mut self, export: &str, args: &[Value]) -> Result<Vec<Value>>;

    /// Calls an exported function and stores its results where the caller has room for them. Nothing
    /// is allocated for it here; an engine may allocate for functions of other types than those of
    /// the transformer guest, and for calls that have a time limit.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`call`](Self::call), and [`Error::Signature`](crate::Error::Signature)
    /// if it has another number of results.
    fn call_into(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()>;

    /// The value of a global that the guest exports by this name, or else imports by it. An import
    /// may be named with its module, `env.name`.
    ///
    /// # Errors
    ///
    /// [`Error::MissingGlobal`](crate::Error::MissingGlobal) if there is none of this name, or one of
    /// references.
    fn global(&mut self, name: &str) -> Result<Value>;

    /// Sets a global, named as for [`global`](Self::global).
    ///
    /// # Errors
    ///
    /// [`Error::MissingGlobal`](crate::Error::MissingGlobal), and
    /// [`Error::GlobalType`](crate::Error::GlobalType) if it cannot change, or has another type.
    fn set_global(&mut self, name: &str, value: Value) -> Result<()>;

    /// What stops a running call of this guest from another thread.
    ///
    /// # Errors
    ///
    /// [`Error::NotInterruptible`](crate::Error::NotInterruptible) if the guest was started without
    /// [`Limits::interruptible`](crate::Limits::interruptible) and without a time limit.
    fn interrupter(&self) -> Result<Interrupter>;

    /// The user's state of this guest; [`state`](#method.state) has it by its type.
    fn state_any(&self) -> Option<&(dyn Any + Send)>;

    /// The user's state of this guest, mutably.
    fn state_any_mut(&mut self) -> Option<&mut (dyn Any + Send)>;
}

/// Hands a range of an image to `write`, in pieces, given how many bytes are before each.
fn copy_image(
    image: &Image,
    range: Range<u64>,
    mut write: impl FnMut(u64, &[u8]) -> Result<()>,
) -> Result<()> {
    image.check(&range)?;
    let mut room = [0; 4096];
    let mut at = range.start;
    while at < range.end {
        let len = room.len().min(usize::try_from(range.end - at).unwrap_or(usize::MAX));
        let bytes = &mut room[..len];
        image.read_at(at, bytes)?;
        write(at - range.start, bytes)?;
        at += len as u64;
    }
    Ok(())
}

/// A range as an index.
fn index(range: Range<u64>) -> Option<Range<usize>> {
    Some(usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?)
}

impl dyn Runtime + '_ {
    /// The state that this guest was given by
    /// [`Instantiation::state`](crate::Instantiation::state), if it has this type.
    #[must_use]
    pub fn state<T: 'static>(&self) -> Option<&T> {
        self.state_any()?.downcast_ref()
    }

    /// The state of this guest, mutably.
    #[must_use]
    pub fn state_mut<T: 'static>(&mut self) -> Option<&mut T> {
        self.state_any_mut()?.downcast_mut()
    }
}
