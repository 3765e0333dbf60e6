//! What a host import returns when it refuses: always negative, one meaning each.
//!
//! A non-negative result is a success (bytes copied, an address, or zero). The order in
//! which a host checks is fixed, so that every engine reports the same code for the same
//! mistake: enabled, pointer overflow, pointer bounds, layer or range, capacity, reading.

/// No 64-bit memory stands behind the imports: the host made none for this guest.
pub const NOT_ENABLED: i32 = -1;
/// No layer with this id is registered.
pub const LAYER_NOT_FOUND: i32 = -2;
/// The buffer that the guest offers is smaller than the layer or structure.
pub const BUFFER_TOO_SMALL: i32 = -3;
/// The range `offset..offset + len` leaves the 64-bit memory, or `len` is negative.
pub const INVALID_RANGE: i32 = -4;
/// The bytes exist but could not be brought in: an I/O error or a file that has shrunk.
pub const READ_FAILED: i32 = -5;
/// `ptr + len` leaves the guest's address space (2^32 bytes, or 2^64 for a wasm64 guest).
pub const POINTER_OVERFLOW: i32 = -6;
/// `ptr` is null, or `ptr + len` lies beyond the guest's memory as it is now.
pub const POINTER_OUT_OF_BOUNDS: i32 = -7;
/// The host failed in a way that is not the guest's fault.
pub const INTERNAL: i32 = -8;
