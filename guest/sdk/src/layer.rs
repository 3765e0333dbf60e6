//! Layers: large ranges of bytes that the host has registered, by number.
//!
//! | | [`map`] | [`load`] |
//! | --- | --- | --- |
//! | gives | the bytes where they are, in the guest's own memory | a copy, in a buffer of the guest's |
//! | costs | nothing for a layer that the host has loaded before the call | a copy each time |
//! | for layers in | a memory of [`MemoryKind::Guest`] | any memory |
//! | valid | until the guest returns to the host | as long as the buffer |
//!
//! [`MemoryKind::Guest`]: https://docs.rs/polychord-runtime-api/latest/polychord_runtime_api/enum.MemoryKind.html
//!
//! A layer that the host has *not* loaded before the call is copied when `map` asks for it: pages of
//! a file can be mapped only while no guest code runs. It stays where it is from then on, so that the
//! next `map` costs nothing, but it is a copy, and the time counts against the guest's limit. The
//! host's statistics count such copies, and its log names them.
#![allow(unsafe_code)]

use core::marker::PhantomData;
use core::ops::Deref;

use crate::error::{count, done, number};
use crate::{Call, Error, Plain, imports, plain};

/// The bytes of a layer, where they are in the guest's memory.
///
/// They are there as long as the [`Call`] is borrowed, at most until the guest returns to the host.
///
/// ```
/// use polychord_guest::{Call, Error, layer};
///
/// fn first(call: &Call, id: u32) -> Result<f32, Error> {
///     let weights = layer::map(call, id)?;
///     Ok(weights.values()?[0])
/// }
/// # assert_eq!(polychord_guest::call(|call| first(call, 0)), Err(Error::NotEnabled));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Mapped<'call> {
    bytes: &'call [u8],
    /// The bytes may have another owner in the next call.
    _call: PhantomData<&'call Call>,
}

/// Where a layer is: a memory of the guest, and an offset there.
///
/// For guests with several memories, in which no pointer leads to all of them. Only a number: what
/// it means ends with the call of the host.
///
/// ```
/// use polychord_guest::{Error, layer};
///
/// let place = layer::address(3);
/// # assert_eq!(place, Err(Error::NotEnabled));
/// # fn show(place: layer::Address) {
/// println!("byte {} of memory {}", place.offset(), place.memory());
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(u64);

/// The bytes of a layer, in place. Brings the layer in if it is not there.
///
/// ```
/// use polychord_guest::{Error, layer};
///
/// let sum = polychord_guest::call(|call| -> Result<u64, Error> {
///     Ok(layer::map(call, 7)?.bytes().iter().map(|byte| u64::from(*byte)).sum())
/// });
/// # assert_eq!(sum, Err(Error::NotEnabled));
/// ```
///
/// # Errors
///
/// [`Error::LayerNotFound`], [`Error::NotEnabled`] for a layer in a memory of the host (which
/// [`load`] copies), [`Error::ReadFailed`] if it cannot be brought in, and [`Error::OtherMemory`] in
/// a guest with several memories (see [`address`]).
pub fn map(call: &Call, id: u32) -> Result<Mapped<'_>, Error> {
    let _ = call;
    let address = usize::try_from(address(id)?.get()).map_err(|_| Error::OtherMemory)?;
    let len = usize::try_from(bytes(id)?).map_err(|_| Error::OtherMemory)?;
    if address == 0 || isize::try_from(len).is_err() {
        return Err(Error::OtherMemory);
    }
    let start = core::ptr::with_exposed_provenance(address);
    // SAFETY: the host has put the layer there: `len` bytes of a range of the memory that the guest's
    // allocator never had. Nothing changes them while `call` is borrowed: a host exchanges pages only
    // when no code of the guest runs, and what it would write for the guest needs `&mut Call`, of
    // this call and of those that wait for it (`nothing_is_mapped`).
    let bytes = unsafe { core::slice::from_raw_parts(start, len) };
    Ok(Mapped { bytes, _call: PhantomData })
}

/// Where a layer is. Brings the layer in if it is not there.
///
/// # Errors
///
/// [`Error::LayerNotFound`], [`Error::NotEnabled`] for a layer in a memory of the host, and
/// [`Error::ReadFailed`] if it cannot be brought in.
#[inline]
pub fn address(id: u32) -> Result<Address, Error> {
    // SAFETY: it writes to the layer's own place alone, which is no object's before it is brought in.
    number(unsafe { imports::memory64_map_layer(id.cast_signed()) }).map(Address)
}

/// How long a layer is, in bytes.
///
/// # Errors
///
/// [`Error::LayerNotFound`] if no layer with this number is registered, [`Error::NotEnabled`] if the
/// host made no 64-bit memory.
pub fn bytes(id: u32) -> Result<u64, Error> {
    // SAFETY: it touches no memory of the guest.
    number(unsafe { imports::memory64_layer_bytes(id.cast_signed()) })
}

/// Copies a whole layer into a buffer, and returns its length in bytes.
///
/// ```
/// use polychord_guest::{Error, layer};
///
/// let mut buffer = [0; 4096];
/// let loaded = layer::load(7, &mut buffer).map(|len| &buffer[..len]);
/// # assert_eq!(loaded, Err(Error::NotEnabled));
/// ```
///
/// # Errors
///
/// [`Error::LayerNotFound`], [`Error::NotEnabled`] if the host made no 64-bit memory,
/// [`Error::BufferTooSmall`] (the buffer is left as it is), [`Error::ReadFailed`].
pub fn load(id: u32, to: &mut [u8]) -> Result<usize, Error> {
    // SAFETY: the host writes to the buffer alone, which is borrowed.
    count(unsafe { imports::memory64_load_layer(id.cast_signed(), to.as_mut_ptr(), to.len()) })
}

/// Says that a layer will be needed soon.
///
/// # Errors
///
/// [`Error::LayerNotFound`], or [`Error::NotEnabled`] if the host made no 64-bit memory.
pub fn prefetch(id: u32) -> Result<(), Error> {
    // SAFETY: it touches no bytes that the guest sees.
    done(unsafe { imports::memory64_prefetch(id.cast_signed()) })
}

/// Says that a layer is not needed for now. The host may give its pages to others.
///
/// # Errors
///
/// [`Error::InUse`] in an inner call, [`Error::LayerNotFound`], or [`Error::NotEnabled`] if the host
/// made no 64-bit memory.
pub fn release(call: &mut Call, id: u32) -> Result<(), Error> {
    call.nothing_is_mapped()?;
    // SAFETY: no reference leads to bytes of layers, as was just checked.
    done(unsafe { imports::memory64_release(id.cast_signed()) })
}

impl<'call> Mapped<'call> {
    /// The bytes.
    #[must_use]
    pub const fn bytes(self) -> &'call [u8] {
        self.bytes
    }

    /// The bytes as numbers.
    ///
    /// # Errors
    ///
    /// [`Error::Misaligned`] if they are no whole number of them, or not aligned.
    pub fn values<T: Plain>(self) -> Result<&'call [T], Error> {
        plain::values(self.bytes).ok_or(Error::Misaligned)
    }
}

impl Deref for Mapped<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes
    }
}

impl Address {
    /// The address as the ABI has it: in wasm32 the memory in bits 32 and up, and the offset below.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Index of the memory: 0 for the one that pointers are about.
    #[must_use]
    pub const fn memory(self) -> u32 {
        if cfg!(target_arch = "wasm64") { 0 } else { (self.0 >> 32) as u32 }
    }

    /// Offset in that memory, in bytes.
    #[must_use]
    pub const fn offset(self) -> u64 {
        if cfg!(target_arch = "wasm64") { self.0 } else { self.0 & u32::MAX as u64 }
    }
}
