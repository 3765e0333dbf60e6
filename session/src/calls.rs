//! Calls of a transformer guest, and what their results mean.

use polychord_abi::transformer::{export, status};
use polychord_runtime_api as api;
use polychord_runtime_api::{AddressType, Runtime, Value};

use crate::error::{Error, Result};

/// Calls an export that returns a pointer to `len` bytes, and checks that they are there.
pub(crate) fn pointer(
    runtime: &mut dyn Runtime,
    operation: &'static str,
    args: &[Value],
    len: usize,
) -> Result<usize> {
    let number = first_number(operation, &runtime.call(operation, args)?)?;
    let start = usize::try_from(number).map_err(|_| outside(operation))?;
    if start == 0 && operation == export::ALLOC {
        let status = status::OUT_OF_MEMORY;
        return Err(Error::Guest { operation, status, reason: explain(runtime, status) });
    }
    let end = start.checked_add(len).filter(|end| *end as u64 <= runtime.memory_bytes(0));
    match end {
        Some(_) if start != 0 => Ok(start),
        _ => Err(outside(operation)),
    }
}

/// Calls an export that returns a status.
pub(crate) fn call_status(
    runtime: &mut dyn Runtime,
    operation: &'static str,
    args: &[Value],
) -> Result<()> {
    let mut result = [Value::I32(status::OK)];
    runtime.call_into(operation, args, &mut result)?;
    match result[0].as_i32() {
        Some(status::OK) => Ok(()),
        Some(status) => Err(Error::Guest { operation, status, reason: explain(runtime, status) }),
        None => Err(outside(operation)),
    }
}

/// The result of a function that returns an address or an unsigned number.
pub(crate) fn first_number(operation: &'static str, results: &[Value]) -> Result<u64> {
    match results.first() {
        Some(Value::I32(number)) => Ok(number.cast_unsigned().into()),
        Some(Value::I64(number)) => Ok(number.cast_unsigned()),
        _ => Err(outside(operation)),
    }
}

/// The error of a guest whose answers cannot be those of a transformer.
pub(crate) fn outside(operation: &'static str) -> Error {
    let reason = "its result is not in its memory, so it is no transformer guest".into();
    Error::Guest { operation, status: 0, reason }
}

fn explain(runtime: &dyn Runtime, status: i32) -> String {
    let reason = match status {
        status::BAD_DESCRIPTOR => "it does not understand the descriptor",
        status::BAD_SHAPE => "a size of the network is impossible",
        status::MISSING_TENSOR => {
            "a tensor is missing or given twice, or the network has none like it"
        }
        status::UNSUPPORTED_TYPE => "it has no kernel for a tensor's type",
        status::OUT_OF_MEMORY => "its memory cannot grow any more",
        status::BAD_BATCH => "the batch is empty or too large",
        status::CONTEXT_FULL => "the context is full",
        status::BAD_TOKEN => "a token is not in the vocabulary",
        status::BAD_BLOCK => "it does not hold these blocks",
        status::BAD_ORDER => "calls came in the wrong order",
        status::STATE_LOST => {
            "it has not kept what the sequence needs at this position: evaluate it from its beginning"
        }
        status::LAYER_REFUSED => {
            return format!("a layer cannot be loaded: {}", last_refusal(runtime));
        }
        status::GATHER_REFUSED => {
            return format!("the ranks do not compute together: {}", last_refusal(runtime));
        }
        status::UNKNOWN_FEATURE => {
            "it does not know a feature of the network: use the guest that comes with this host"
        }
        status::BAD_FACTORS => {
            "a factor of rotary frequencies is not finite or not above zero: the file is damaged"
        }
        _ => "for a reason that this host does not know",
    };
    reason.to_owned()
}

fn last_refusal(runtime: &dyn Runtime) -> String {
    runtime.host().last_refusal().map(|error| error.to_string()).unwrap_or_default()
}

/// An address or a length in a guest's memory, as wide as its addresses.
pub(crate) fn address(runtime: &dyn Runtime, number: usize) -> Result<Value> {
    Ok(match runtime.host().module().address() {
        AddressType::I32 => Value::I32(int(number)?),
        AddressType::I64 => Value::I64((number as u64).cast_signed()),
    })
}

/// A size as a guest takes it.
pub(crate) fn int(size: usize) -> Result<i32> {
    u32::try_from(size).map(u32::cast_signed).map_err(|_| {
        Error::Runtime(api::Error::TooLarge {
            what: "an argument".into(),
            asked: size as u64,
            limit: u32::MAX.into(),
            limited_by: "a 32-bit guest".into(),
        })
    })
}
