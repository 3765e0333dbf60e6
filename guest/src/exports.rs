//! The functions that a host calls: see `polychord_abi::transformer::export`.
//!
//! The names are those constants; attributes take none, so they are spelled out.
#![allow(unsafe_code)]

use core::cell::Cell;
use core::ptr::NonNull;

use polychord_abi::buffers::{self, Integers};
use polychord_abi::transformer::{VERSION, status};

use crate::forward::Network;
use crate::kernels::{self, Activations, Input, Kind, Matrix, Output, Rows};
use crate::{Status, alloc, host, model};

/// What lives as long as the instance.
struct Global {
    /// What `INIT` has made.
    network: Cell<Option<NonNull<Network>>>,
    /// Whether a call runs, or was stopped: a host that calls back from an import is refused, and
    /// nothing relies on what a stopped call left behind before `RESTART`.
    busy: Cell<bool>,
    /// Whether `INIT` has begun.
    started: Cell<bool>,
    /// Expanded rows for `kernel_matmul`.
    scratch: Cell<Option<&'static mut [f32]>>,
    /// Quantized columns for `kernel_matmul_int8`.
    integers: Cell<Option<Activations>>,
}

// SAFETY: the module has no threads: its memory is not shared.
unsafe impl Sync for Global {}

static GLOBAL: Global = Global {
    network: Cell::new(None),
    busy: Cell::new(false),
    started: Cell::new(false),
    scratch: Cell::new(None),
    integers: Cell::new(None),
};

/// The version of the contract.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_version() -> i32 {
    VERSION
}

/// Memory that is never freed, or null.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_alloc(bytes: usize) -> *mut u8 {
    alloc::bytes(bytes).map_or(core::ptr::null_mut(), <[u8]>::as_mut_ptr)
}

/// Takes the descriptor; may be called again only after it was refused.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_init(address: usize, len: usize) -> Status {
    if GLOBAL.started.replace(true) {
        return status::BAD_ORDER;
    }
    let done = init(address, len);
    GLOBAL.started.set(done.is_ok());
    code(done)
}

fn init(address: usize, len: usize) -> Result<(), Status> {
    let bytes = host::bytes(address, len).ok_or(status::BAD_DESCRIPTOR)?;
    let mut network = Some(Network::new(model::read(bytes)?)?);
    let kept = alloc::filled(1, || network.take()).ok_or(status::OUT_OF_MEMORY)?;
    GLOBAL.network.set(kept.first_mut().map(NonNull::from));
    Ok(())
}

/// Where token ids go, or null before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_tokens() -> *const u32 {
    with(|network| Ok(network.tokens())).unwrap_or(core::ptr::null())
}

/// The hidden state, or null before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_hidden() -> *const f32 {
    with(|network| Ok(network.hidden())).unwrap_or(core::ptr::null())
}

/// What goes with the hidden state, or null before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_carried() -> *const f32 {
    with(|network| Ok(network.carried())).unwrap_or(core::ptr::null())
}

/// The logits, or null before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_logits() -> *const f32 {
    with(|network| Ok(network.logits())).unwrap_or(core::ptr::null())
}

/// Hidden state of the first `n` tokens.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_embed(n: i32) -> Status {
    code(with(|network| network.embed(n)))
}

/// Runs blocks over `n` rows of hidden state.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_blocks(first: i32, count: i32, position: i32, n: i32) -> Status {
    code(with(|network| network.run(first, count, position, n)))
}

/// Runs the attention of one block.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_attention(block: i32, position: i32, n: i32) -> Status {
    code(with(|network| network.attention(block, position, n)))
}

/// Runs the feed-forward part of one block.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_feed_forward(block: i32, n: i32) -> Status {
    code(with(|network| network.feed_forward(block, n)))
}

/// Logits of one row of hidden state.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_head(row: i32) -> Status {
    code(with(|network| network.head(row)))
}

/// Sets how many bytes of weights are touched at once, ahead of their use.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_touch_ahead(bytes: i32) -> Status {
    code(usize::try_from(bytes).map(kernels::touch_ahead).map_err(|_| status::BAD_SHAPE))
}

/// Expands `n` weights to floats.
#[unsafe(no_mangle)]
pub extern "C" fn kernel_dequantize(kind: i32, src: usize, dst: usize, n: usize) -> Status {
    code(dequantize(kind, src, dst, n))
}

fn dequantize(kind: i32, src: usize, dst: usize, n: usize) -> Result<(), Status> {
    let weights = matrix(kind, src, 1, n)?;
    let out = host::floats_mut(dst, n).ok_or(status::BAD_SHAPE)?;
    if host::overlap(weights.rows.bytes, out) {
        return Err(status::BAD_SHAPE);
    }
    weights.expand(0, out);
    Ok(())
}

/// `y[n][rows] = x[n][cols] * w[rows][cols]^T`.
#[unsafe(no_mangle)]
pub extern "C" fn kernel_matmul(
    kind: i32,
    w: usize,
    rows: i32,
    cols: i32,
    x: usize,
    n: i32,
    y: usize,
) -> Status {
    code(matmul(kind, w, [rows, cols, n], [x, y], false))
}

/// The product with activations that are quantized to 8 bits.
#[unsafe(no_mangle)]
pub extern "C" fn kernel_matmul_int8(
    kind: i32,
    w: usize,
    rows: i32,
    cols: i32,
    x: usize,
    n: i32,
    y: usize,
) -> Status {
    code(matmul(kind, w, [rows, cols, n], [x, y], true))
}

fn matmul(
    kind: i32,
    w: usize,
    sizes: [i32; 3],
    [x, y]: [usize; 2],
    int8: bool,
) -> Result<(), Status> {
    let [rows, cols, n] = sizes.map(|size| usize::try_from(size).unwrap_or(0));
    let weights = matrix(kind, w, rows, cols)?;
    let len =
        |a: usize, b: usize| a.checked_mul(b).filter(|&len| len != 0).ok_or(status::BAD_SHAPE);
    let x = host::floats(x, len(n, cols)?).ok_or(status::BAD_SHAPE)?;
    let y = host::floats_mut(y, len(n, rows)?).ok_or(status::BAD_SHAPE)?;
    if host::overlap(weights.rows.bytes, y) || host::overlap(x, y) {
        return Err(status::BAD_SHAPE);
    }
    let scratch = scratch(alloc::len(buffers::scratch(cols as u64))?)?;
    let mut integers = if int8 { Some(integers(n, cols)?) } else { None };
    let y = Output::whole(y, n);
    Input::new(x, integers.as_mut()).multiply(&weights, y, scratch);
    GLOBAL.scratch.set(Some(scratch));
    if integers.is_some() {
        GLOBAL.integers.set(integers);
    }
    Ok(())
}

/// Weights at an address that the host gave.
fn matrix<'a>(kind: i32, address: usize, rows: usize, cols: usize) -> Result<Matrix<'a>, Status> {
    let kind = Kind::new(kind.cast_unsigned())?;
    let row_bytes = kind.row_bytes(cols)?;
    let len = row_bytes.checked_mul(rows).filter(|&len| len != 0).ok_or(status::BAD_SHAPE)?;
    let bytes = host::bytes(address, len).ok_or(status::BAD_SHAPE)?;
    Ok(Matrix { kind, rows: Rows { cols, bytes, row_bytes } })
}

/// The scratch of the last `kernel_matmul` if it is long enough, else a new one.
fn scratch(len: usize) -> Result<&'static mut [f32], Status> {
    match GLOBAL.scratch.take() {
        Some(scratch) if scratch.len() >= len => Ok(scratch),
        _ => alloc::floats(len).ok_or(status::OUT_OF_MEMORY),
    }
}

/// The room of the last `kernel_matmul_int8` if it is large enough, else a new one.
fn integers(rows: usize, cols: usize) -> Result<Activations, Status> {
    let lens = Integers::new(rows as u64, cols as u64).ok_or(status::OUT_OF_MEMORY)?;
    match GLOBAL.integers.take() {
        Some(room) if room.fits(&lens) => Ok(room),
        _ => Activations::new(&lens).ok_or(status::OUT_OF_MEMORY),
    }
}

/// Begins anew after a call that was stopped; `restart` has set the stack pointer.
///
/// Nothing here depends on how far that call came, nor on the order of what it wrote, in which
/// a compiler is free. It may have been stopped
///
/// - while it wrote activations: a batch begins with the embedding, and writes all of them before
///   it reads them;
/// - while it put keys and values into the cache: those are behind `position`, and are written
///   again before they are read, or in the place of some that no position from there on sees;
/// - while it changed the state of a block, which then goes on at position 0 only: see `Progress`;
/// - while it divided frequencies, see `Rope`, or brought in rows from another memory: that is
///   done again;
/// - while it allocated, which only calls before `INIT` and those for kernels do: what was left of
///   the last range is lost.
pub(crate) fn restart(position: i32) -> Status {
    alloc::forget_rest();
    #[cfg(feature = "multi32")]
    crate::memories::restart();
    GLOBAL.busy.set(false);
    code(with(|network| network.restart(position)))
}

/// Runs a call on the network that `INIT` has made.
pub(crate) fn with<T>(call: impl FnOnce(&mut Network) -> Result<T, Status>) -> Result<T, Status> {
    let mut network = GLOBAL.network.get().ok_or(status::BAD_ORDER)?;
    if GLOBAL.busy.replace(true) {
        return Err(status::BAD_ORDER);
    }
    // SAFETY: made from a reference that `INIT` has leaked. No other call has one: `busy` was not
    // set, and a call that was stopped, which leaves it set until `restart`, does not go on.
    let result = call(unsafe { network.as_mut() });
    GLOBAL.busy.set(false);
    result
}

/// What an export returns.
pub(crate) fn code(result: Result<(), Status>) -> Status {
    result.map_or_else(|refused| refused, |()| status::OK)
}
