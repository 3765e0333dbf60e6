//! The host side of every function that a guest may import, for all engines.
//!
//! A backend defines the functions of [`ModuleInfo::imports`](crate::ModuleInfo::imports) by
//! passing each call on to [`HostFunction::call`], with the guest's memories as they are then.

use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use polychord_abi::{Stats, code};
use polychord_plan::LayerId;

use crate::host::{ANY_KIND, Host};
use crate::memory::segment::LinearMemories;
use crate::module::Function;
pub use crate::module::{HOST_FUNCTIONS, HostFunction};
use crate::ranks::{self, Rank};
use crate::value::{AddressType, Value, ValueType};
use crate::{Error, Result};

/// One call of a host function.
struct Call<'a> {
    name: &'static str,
    host: &'a Host,
    guest: &'a mut dyn LinearMemories,
    args: &'a [Value],
}

impl HostFunction {
    /// Serves a call. `guest` is the guest's linear memories as they are now, and `args` have
    /// the types of [`ty`](Self::ty). Pointers are about the memory of index 0.
    ///
    /// Never panics and never fails: every refusal is a negative
    /// [`code`] and counts in the statistics.
    pub fn call(&self, host: &Arc<Host>, guest: &mut dyn LinearMemories, args: &[Value]) -> Value {
        let mut call = Call { name: self.name, host, guest, args };
        // No panic may cross the boundary: for some engines it would be undefined behavior.
        let result = catch_unwind(AssertUnwindSafe(|| call.serve(self.function)));
        let number = match result {
            Ok(Ok(number)) => number,
            Ok(Err(error)) => i64::from(host.refuse(error).code()),
            Err(_) => {
                host.refuse(Error::Panic { operation: self.name });
                i64::from(code::INTERNAL)
            }
        };
        if self.result == ValueType::I64 {
            return Value::I64(number);
        }
        Value::I32(i32::try_from(number).unwrap_or(code::INTERNAL))
    }
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
    let len = to.len() as u64;
    call.host.copy_out(call.guest, address, to)?;
    to_result(len)
}

fn write(call: &mut Call<'_>) -> Result<i64> {
    call.require_enabled()?;
    let from = call.buffer(1, 2)?;
    let address = call.transfer(&from)?;
    let len = from.len() as u64;
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
    let given = to.len() as u64;
    let Some(slot) = call.guest.linear_memory_mut(0)[to].get_mut(..bytes.len()) else {
        let needed = bytes.len() as u64;
        return Err(Error::BufferTooSmall { operation: call.name, given, needed });
    };
    slot.copy_from_slice(&bytes);
    to_result(Stats::SIZE as u64)
}

fn all_gather(call: &mut Call<'_>) -> Result<i64> {
    // The others must not wait for a rank that will never ask.
    let _guard = call.host.rank().map(Rank::stop_if_panicking);
    let (range, chunk) = (call.buffer(0, 2), call.address(1));
    match call.host.rank() {
        Some(rank) => {
            rank.all_gather(range.map(|range| &mut call.guest.linear_memory_mut(0)[range]), chunk)?
        }
        None => ranks::check_chunk(chunk, range?.len() as u64, 1)?,
    }
    Ok(0)
}

impl Call<'_> {
    fn serve(&mut self, function: Function) -> Result<i64> {
        match function {
            Function::IsEnabled => is_enabled(self),
            Function::LoadLayer => load_layer(self),
            Function::Read => read(self),
            Function::Write => write(self),
            Function::MapLayer => map_layer(self),
            Function::LayerBytes => layer_bytes(self),
            Function::Prefetch | Function::Release => hint(self),
            Function::Stats => stats(self),
            Function::StatsInto => stats_into(self),
            Function::AllGather => all_gather(self),
        }
    }

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
    fn transfer(&self, buffer: &Range<usize>) -> Result<u64> {
        let offset = match self.args.first() {
            Some(Value::I64(offset)) => offset.cast_unsigned(),
            _ => u64::MAX,
        };
        let len = buffer.len() as u64;
        if i32::try_from(len).is_err() {
            let size = i32::MAX as u64;
            return Err(Error::OutOfRange { operation: self.name, offset, len, size });
        }
        Ok(offset)
    }

    /// The guest buffer that arguments `ptr` and `len` name, checked against the guest's
    /// memory before anything is read or allocated. A null pointer is refused, but for an
    /// empty buffer.
    fn buffer(&self, ptr: usize, len: usize) -> Result<Range<usize>> {
        let operation = self.name;
        let (ptr, len) = (self.address(ptr), self.address(len));
        let size = self.guest.linear_memory(0).len() as u64;
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
        match (usize::try_from(ptr), usize::try_from(end)) {
            (Ok(start), Ok(end)) => Ok(start..end),
            _ => Err(outside),
        }
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
