//! Sums layers of floats: where they lie, and in a copy.

#![no_std]

extern crate alloc;

use alloc::vec;

use polychord_guest::{Error, layer, memory64};

/// The sum of a layer where it lies, or NaN if the host refuses. Nothing is copied if the host has
/// loaded the layer before.
#[unsafe(no_mangle)]
pub extern "C" fn sum_mapped(id: u32) -> f64 {
    polychord_guest::call(|call| -> Result<f64, Error> { Ok(sum(layer::map(call, id)?.values()?)) })
        .unwrap_or(f64::NAN)
}

/// The sum of a copy, for layers in a memory of the host.
#[unsafe(no_mangle)]
pub extern "C" fn sum_loaded(id: u32) -> f64 {
    load(id).unwrap_or(f64::NAN)
}

fn load(id: u32) -> Result<f64, Error> {
    let len = usize::try_from(layer::bytes(id)?).map_err(|_| Error::BufferTooSmall)?;
    let mut copy = vec![0; len];
    layer::load(id, &mut copy)?;
    Ok(copy.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).sum())
}

fn sum(values: &[f32]) -> f64 {
    values.iter().copied().map(f64::from).sum()
}

/// Why a layer cannot be mapped: a code of the ABI, or 0 if it can be.
#[unsafe(no_mangle)]
pub extern "C" fn refusal(id: u32) -> i32 {
    polychord_guest::call(|call| layer::map(call, id).map_or_else(Error::code, |_| 0))
}

/// Layers that were copied in since the guest was started.
#[unsafe(no_mangle)]
pub extern "C" fn copied() -> u64 {
    memory64::stats().map_or(0, |stats| stats.loads - stats.maps)
}
