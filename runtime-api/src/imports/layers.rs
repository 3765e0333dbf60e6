//! The functions of the module `env`, which every guest may import: they serve its 64-bit memories,
//! layers and ranks. They are functions of the host like any others.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use polychord_abi::{MODULE, Stats, code, import};
use polychord_plan::LayerId;

use super::caller::Caller;
use super::function::HostFunction;
use crate::host::{ANY_KIND, Host};
use crate::ranks::{self, Rank};
use crate::spi::Instance;
use crate::value::{AddressType, FunctionType, Value, ValueType};
use crate::{Error, Result};

/// A function of the module `env`.
///
/// ```
/// use polychord_runtime_api::AddressType;
/// use polychord_runtime_api::imports::LAYER_FUNCTIONS;
///
/// for function in LAYER_FUNCTIONS {
///     println!("{} {}", function.name, function.ty(AddressType::I32));
/// }
/// ```
#[derive(Debug)]
pub struct LayerFunction {
    /// Its name in module [`polychord_abi::MODULE`].
    pub name: &'static str,
    params: &'static [Param],
    result: ValueType,
    serve: fn(&mut Call<'_>) -> Result<i64>,
}

/// The functions of the module `env`.
pub static LAYER_FUNCTIONS: &[LayerFunction] = &[
    offer(import::IS_ENABLED, &[], I32, is_enabled),
    offer(import::LOAD_LAYER, &[Param::I32, Param::Address, Param::Address], I32, load_layer),
    offer(import::READ, &[Param::I64, Param::Address, Param::Address], I32, read),
    offer(import::WRITE, &[Param::I64, Param::Address, Param::Address], I32, write),
    offer(import::MAP_LAYER, &[Param::I32], I64, map_layer),
    offer(import::LAYER_BYTES, &[Param::I32], I64, layer_bytes),
    offer(import::PREFETCH, &[Param::I32], I32, hint),
    offer(import::RELEASE, &[Param::I32], I32, hint),
    offer(import::STATS, &[], I64, stats),
    offer(import::STATS_INTO, &[Param::Address, Param::Address], I32, stats_into),
    offer(import::ALL_GATHER, &[Param::Address, Param::Address, Param::Address], I32, all_gather),
];

const I32: ValueType = ValueType::I32;
const I64: ValueType = ValueType::I64;

/// A parameter of such a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Param {
    I32,
    I64,
    /// A pointer or length: as wide as the guest's addresses.
    Address,
}

const fn offer(
    name: &'static str,
    params: &'static [Param],
    result: ValueType,
    serve: fn(&mut Call<'_>) -> Result<i64>,
) -> LayerFunction {
    LayerFunction { name, params, result, serve }
}

/// Whether this is the name of one of these functions.
pub(super) fn is_reserved(module: &str, name: &str) -> bool {
    module == MODULE && LAYER_FUNCTIONS.iter().any(|function| function.name == name)
}

impl LayerFunction {
    /// Its type for a guest with this type of addresses.
    #[must_use]
    pub fn ty(&self, address: AddressType) -> FunctionType {
        let param = |param: &Param| match param {
            Param::I32 => I32,
            Param::I64 => I64,
            Param::Address => address.value_type(),
        };
        let params = self.params.iter().map(param).collect();
        FunctionType { params, results: vec![self.result] }
    }

    /// The function, for guests with this type of addresses.
    pub(super) fn for_guests(&'static self, address: AddressType) -> HostFunction {
        HostFunction::new(MODULE, self.name, self.ty(address), |caller, args, results| {
            let number = self.serve(caller, args);
            if let [result] = results {
                *result = match self.result {
                    I64 => Value::I64(number),
                    _ => Value::I32(i32::try_from(number).unwrap_or(code::INTERNAL)),
                };
            }
            Ok(())
        })
    }

    /// Serves a call. Never fails: every refusal is a negative [`code`], and a panic, too, and counts
    /// in the statistics.
    fn serve(&self, caller: &mut Caller<'_>, args: &[Value]) -> i64 {
        let (host, guest) = caller.parts();
        let mut call = Call { name: self.name, host, guest, args };
        match catch_unwind(AssertUnwindSafe(|| (self.serve)(&mut call))) {
            Ok(Ok(number)) => number,
            Ok(Err(error)) => host.refuse(error).code().into(),
            Err(_) => host.refuse(Error::Panic { operation: self.name }).code().into(),
        }
    }
}

/// A function of the module `env`, for tests.
#[cfg(test)]
pub(crate) fn layer_function(name: &str) -> HostFunction {
    let function = LAYER_FUNCTIONS.iter().find(|function| function.name == name);
    function.unwrap().for_guests(AddressType::I32)
}

/// One call of such a function.
struct Call<'a> {
    name: &'static str,
    host: &'a Host,
    guest: &'a mut dyn Instance,
    args: &'a [Value],
}

fn is_enabled(call: &mut Call<'_>) -> Result<i64> {
    Ok(i64::from(call.host.is_enabled()))
}

fn load_layer(call: &mut Call<'_>) -> Result<i64> {
    call.require_enabled()?;
    let to = call.buffer(1, 2)?;
    let layer = call.layer();
    to_result(call.host.copy_layer(call.guest, layer, to)?)
}

fn read(call: &mut Call<'_>) -> Result<i64> {
    call.require_enabled()?;
    let to = call.buffer(1, 2)?;
    let address = call.transfer(&to)?;
    let len = to.end - to.start;
    call.host.copy_out(call.guest, address, to)?;
    to_result(len)
}

fn write(call: &mut Call<'_>) -> Result<i64> {
    call.require_enabled()?;
    let from = call.buffer(1, 2)?;
    let address = call.transfer(&from)?;
    let len = from.end - from.start;
    call.host.copy_in(call.guest, from, address)?;
    to_result(len)
}

fn map_layer(call: &mut Call<'_>) -> Result<i64> {
    let layer = call.layer();
    to_result(call.host.map_layer(call.guest, layer)?)
}

fn layer_bytes(call: &mut Call<'_>) -> Result<i64> {
    call.require_enabled()?;
    to_result(call.host.layer_bytes(call.layer())?)
}

fn hint(call: &mut Call<'_>) -> Result<i64> {
    call.require_enabled()?;
    call.host.hint(call.layer())?;
    Ok(0)
}

fn stats(call: &mut Call<'_>) -> Result<i64> {
    let packed = call.host.stats(call.guest).to_abi().packed();
    Ok(packed.cast_signed())
}

fn stats_into(call: &mut Call<'_>) -> Result<i64> {
    let to = call.buffer(0, 1)?;
    let bytes = call.host.stats(call.guest).to_abi().to_le_bytes();
    let (given, needed) = (to.end - to.start, bytes.len() as u64);
    if given < needed {
        return Err(Error::BufferTooSmall { operation: call.name, given, needed });
    }
    call.host.view().write(call.guest, 0, to.start, &bytes)?;
    to_result(Stats::SIZE as u64)
}

fn all_gather(call: &mut Call<'_>) -> Result<i64> {
    // The others must not wait for a rank that will never ask.
    let _guard = call.host.rank().map(Rank::stop_if_panicking);
    let (range, chunk) = (call.buffer(0, 2), call.address(1));
    let Some(rank) = call.host.rank() else {
        let range = range?;
        ranks::check_chunk(chunk, range.end - range.start, 1)?;
        return Ok(0);
    };
    let view = call.host.view();
    let across = |range: &Range<u64>| view.slice(call.guest, 0, range.clone()).is_none();
    match range {
        // On both sides of the edge of two segments of a memory that was lowered.
        Ok(range) if across(&range) => {
            let len = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
            let mut bytes = vec![0; len];
            view.read(call.guest, 0, range.start, &mut bytes)?;
            rank.all_gather(Ok(&mut bytes), chunk)?;
            view.write(call.guest, 0, range.start, &bytes)?;
        }
        range => {
            let all = range.map(|range| view.slice_mut(call.guest, 0, range).unwrap_or_default());
            rank.all_gather(all, chunk)?;
        }
    }
    Ok(0)
}

impl Call<'_> {
    fn require_enabled(&self) -> Result<()> {
        if self.host.is_enabled() {
            return Ok(());
        }
        Err(Error::NotEnabled { operation: self.name, kind: ANY_KIND })
    }

    /// The first argument as the number of a layer. A negative one is never registered.
    fn layer(&self) -> LayerId {
        match self.args.first() {
            Some(Value::I32(id)) => LayerId(id.cast_unsigned()),
            _ => LayerId(u32::MAX),
        }
    }

    /// The first argument as an offset in the 64-bit memory, for a transfer of a buffer whose
    /// length the result can express.
    fn transfer(&self, buffer: &Range<u64>) -> Result<u64> {
        let offset = match self.args.first() {
            Some(Value::I64(offset)) => offset.cast_unsigned(),
            _ => u64::MAX,
        };
        let len = buffer.end - buffer.start;
        if i32::try_from(len).is_err() {
            let size = i32::MAX as u64;
            return Err(Error::OutOfRange { operation: self.name, offset, len, size });
        }
        Ok(offset)
    }

    /// The guest buffer that arguments `ptr` and `len` name, checked against the guest's
    /// memory before anything is read or allocated. A null pointer is refused, but for an
    /// empty buffer.
    fn buffer(&self, ptr: usize, len: usize) -> Result<Range<u64>> {
        let operation = self.name;
        let (ptr, len) = (self.address(ptr), self.address(len));
        let size = self.host.view().size(self.guest, 0);
        let space = match self.host.module().address() {
            AddressType::I32 => 1_u128 << 32,
            AddressType::I64 => 1 << 64,
        };
        // One past the last byte of the address space is a valid end, which a `u64` cannot hold.
        let end = u128::from(ptr) + u128::from(len);
        if end > space {
            return Err(Error::PointerOverflow { operation, ptr, len });
        }
        let outside = Error::PointerOutOfBounds { operation, ptr, len, size };
        if end > size.into() || (ptr == 0 && len > 0) {
            return Err(outside);
        }
        Ok(ptr..ptr + len)
    }

    /// A pointer or length; unsigned, as WebAssembly addresses are.
    fn address(&self, index: usize) -> u64 {
        match self.args.get(index) {
            Some(Value::I32(value)) => u64::from(value.cast_unsigned()),
            Some(Value::I64(value)) => value.cast_unsigned(),
            _ => u64::MAX,
        }
    }
}

fn to_result(number: u64) -> Result<i64> {
    i64::try_from(number).map_err(|_| Error::OutOfRange {
        operation: "returning a number to the guest",
        offset: number,
        len: 0,
        size: i64::MAX as u64,
    })
}
