//! What comes from the host: ranges of memory that it names, layers of weights, and what other
//! ranks have computed.
#![allow(unsafe_code)]

use core::cell::Cell;
#[cfg(not(feature = "multi32"))]
use core::ops::Range;

use polychord_abi::transformer::status;
use polychord_guest::layer::{self, Address};

use crate::roles::IN_BLOCK;
use crate::{Status, alloc};

/// Bytes that the host has written at `address`, if they are inside the memory.
pub(crate) fn bytes<'a>(address: usize, len: usize) -> Option<&'a [u8]> {
    check(address as u64, len as u64)?;
    isize::try_from(len).ok()?;
    // SAFETY: the range is inside the memory and not null (checked); bytes have no invalid
    // values; the contract lets the host name only memory that it owns (a layer, or what it
    // got from `transformer_alloc`), and it does not run while the guest does.
    Some(unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), len) })
}

/// Floats that the host has written at `address`, if inside the memory and aligned.
pub(crate) fn floats<'a>(address: usize, len: usize) -> Option<&'a [f32]> {
    bytes(address, len.checked_mul(4)?)?;
    address.is_multiple_of(4).then_some(())?;
    // SAFETY: as in `bytes`; also aligned to 4, and every bit pattern is a float.
    Some(unsafe { core::slice::from_raw_parts(core::ptr::with_exposed_provenance(address), len) })
}

/// Room for floats that the host owns at `address`, if inside the memory and aligned.
///
/// The caller makes sure that it overlaps no other slice (see [`overlap`]).
pub(crate) fn floats_mut<'a>(address: usize, len: usize) -> Option<&'a mut [f32]> {
    floats(address, len)?;
    // SAFETY: as in `floats`; exports ask `overlap` for each other range they were given.
    Some(unsafe {
        core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(address), len)
    })
}

/// Room for bytes that the host owns at `address`, if inside the memory; not to overlap any
/// other slice.
#[cfg(not(feature = "multi32"))]
pub(crate) fn bytes_mut<'a>(address: usize, len: usize) -> Option<&'a mut [u8]> {
    bytes(address, len)?;
    // SAFETY: as in `bytes`; it is named once in a descriptor, for the cache alone.
    Some(unsafe {
        core::slice::from_raw_parts_mut(core::ptr::with_exposed_provenance_mut(address), len)
    })
}

/// Floats as bytes.
pub(crate) fn as_bytes(floats: &[f32]) -> &[u8] {
    // SAFETY: the same bytes, and each of a float is one.
    unsafe { core::slice::from_raw_parts(floats.as_ptr().cast(), size_of_val(floats)) }
}

/// Floats as bytes.
#[cfg(feature = "multi32")]
pub(crate) fn as_bytes_mut(floats: &mut [f32]) -> &mut [u8] {
    let (ptr, len) = (floats.as_mut_ptr().cast(), size_of_val(floats));
    // SAFETY: the same bytes, exclusively borrowed; all bits are floats.
    unsafe { core::slice::from_raw_parts_mut(ptr, len) }
}

/// Whether two slices share memory.
pub(crate) fn overlap<A, B>(a: &[A], b: &[B]) -> bool {
    let (a, b) = (a.as_ptr_range(), b.as_ptr_range());
    a.start.addr() < b.end.addr() && b.start.addr() < a.end.addr()
}

fn check(address: u64, len: u64) -> Option<()> {
    (address != 0 && address.checked_add(len)? <= alloc::memory_bytes()).then_some(())
}

/// Exchanges floats with all ranks: each has brought `chunk` of them, and the last ones the rest.
pub(crate) fn all_gather(floats: &mut [f32], chunk: usize) -> Result<(), Status> {
    polychord_guest::all_gather(floats, chunk).map_err(|_| status::GATHER_REFUSED)
}

/// The layers that one stage has asked for: each is mapped once, and its address is
/// forgotten with the stage, because it may move between calls.
pub(crate) struct Layers {
    known: [Cell<Option<(u32, u64)>>; IN_BLOCK],
}

impl Layers {
    /// No layer yet.
    pub(crate) fn new() -> Self {
        Self { known: [const { Cell::new(None) }; IN_BLOCK] }
    }

    /// Some of the stored bytes of the tensor at `offset` of a layer.
    #[cfg(not(feature = "multi32"))]
    pub(crate) fn bytes(
        &self,
        layer: u32,
        offset: u64,
        part: Range<usize>,
    ) -> Result<&[u8], Status> {
        let start = usize::try_from(self.start(layer, offset, part.start)?).ok();
        start.and_then(|start| bytes(start, part.len())).ok_or(status::LAYER_REFUSED)
    }

    /// The address of a byte of the tensor at `offset` of a layer.
    pub(crate) fn start(&self, layer: u32, offset: u64, byte: usize) -> Result<u64, Status> {
        let start = self.address(layer)?.checked_add(offset);
        start.and_then(|start| start.checked_add(byte as u64)).ok_or(status::LAYER_REFUSED)
    }

    fn address(&self, layer: u32) -> Result<u64, Status> {
        for slot in &self.known {
            match slot.get() {
                Some((id, address)) if id == layer => return Ok(address),
                Some(_) => {}
                None => {
                    let address = map(layer)?;
                    slot.set(Some((layer, address)));
                    return Ok(address);
                }
            }
        }
        map(layer)
    }
}

fn map(layer: u32) -> Result<u64, Status> {
    layer::address(layer).map(Address::get).map_err(|_| status::LAYER_REFUSED)
}
