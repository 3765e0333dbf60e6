//! Defects in the ABI: what imports return.

use polychord_runtime_api::abi::{code, import};
use polychord_runtime_api::{Result, Stats, Value};

use super::{Entry, map_results};
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "abi/swapped_codes",
        what: "confuses two error codes",
        defect: &SwappedCodes,
        caught_by: &[
            "abi/wasm32/pointers",
            "abi/wasm64/pointers",
            "abi/wasm32/transfers",
            "abi/wasm64/transfers",
            "abi/start_function",
            "abi/without_a_memory",
        ],
    },
    Entry {
        name: "abi/other_codes_swapped",
        what: "confuses two other error codes",
        defect: &OtherCodesSwapped,
        caught_by: &[
            "abi/wasm32/not_enabled",
            "abi/wasm64/not_enabled",
            "abi/wasm32/layers",
            "abi/wasm32/too_small",
            "abi/wasm64/too_small",
            "abi/wasm32/read_failed",
            "abi/wasm64/read_failed",
            "abi/start_function",
        ],
    },
    Entry {
        name: "abi/refusals_not_counted",
        what: "does not count what it refuses",
        defect: &RefusalsNotCounted,
        caught_by: &[
            "abi/wasm32/pointers",
            "abi/wasm64/layers",
            "abi/wasm32/stats",
            "abi/wasm64/stats",
            "abi/wasm32/stats_saturate",
            "abi/wasm64/stats_saturate",
            "abi/start_function",
            "host_api/create_memory64_refusals",
        ],
    },
    Entry {
        name: "abi/one_byte_more",
        what: "writes one byte beyond the buffer that a guest gives",
        defect: &OneByteMore,
        caught_by: &["abi/wasm32/transfers_count", "abi/wasm64/transfers_count"],
    },
    Entry {
        name: "abi/wrong_length",
        what: "returns one byte more than it moved",
        defect: &WrongLength,
        caught_by: &[
            "abi/wasm32/loads",
            "abi/wasm64/loads",
            "abi/wasm32/transfers_count",
            "abi/address_space_end",
            "memory/base_during_a_call",
        ],
    },
    Entry {
        name: "abi/wrong_place",
        what: "says that a layer lies one byte further",
        defect: &WrongPlace,
        caught_by: &["abi/wasm32/maps", "abi/wasm64/maps"],
    },
    Entry {
        name: "abi/gathers_nothing",
        what: "always refuses to gather",
        defect: &GathersNothing,
        caught_by: &["abi/wasm32/all_gather", "abi/wasm64/all_gather"],
    },
    Entry {
        name: "abi/copies_forwards",
        what: "copies ranges that overlap byte by byte from the front",
        defect: &CopiesForwards,
        caught_by: &["abi/wasm32/overlapping", "abi/wasm64/overlapping"],
    },
    Entry {
        name: "abi/negative_lengths",
        what: "serves lengths that its result cannot express",
        defect: &NegativeLengths,
        caught_by: &["abi/wasm32/beyond_two_gib", "abi/wasm64/beyond_two_gib"],
    },
];

/// Changes the result of an import that the guest of a case passes on.
fn changed(
    guest: &mut Guest,
    export: &str,
    args: &[Value],
    change: impl Fn(i64) -> i64,
) -> Result<Vec<Value>> {
    let change = |value| match value {
        Value::I32(x) => Value::I32(i32::try_from(change(x.into())).unwrap_or(x)),
        Value::I64(x) => Value::I64(change(x)),
        other => other,
    };
    map_results(guest, export, args, change)
}

/// A pointer or a length, of either width.
fn number(value: &Value) -> Option<usize> {
    match value {
        Value::I32(x) => usize::try_from(*x).ok(),
        Value::I64(x) => usize::try_from(*x).ok(),
        _ => None,
    }
}

fn swapped(result: i64, one: i32, other: i32) -> i64 {
    match i32::try_from(result) {
        Ok(code) if code == one => other.into(),
        Ok(code) if code == other => one.into(),
        _ => result,
    }
}

#[derive(Debug)]
struct SwappedCodes;
impl Defect for SwappedCodes {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        changed(guest, export, args, |result| {
            swapped(result, code::POINTER_OUT_OF_BOUNDS, code::INVALID_RANGE)
        })
    }
}

#[derive(Debug)]
struct OtherCodesSwapped;
impl Defect for OtherCodesSwapped {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        changed(guest, export, args, |result| {
            let result = swapped(result, code::NOT_ENABLED, code::LAYER_NOT_FOUND);
            swapped(result, code::BUFFER_TOO_SMALL, code::READ_FAILED)
        })
    }
}

#[derive(Debug)]
struct RefusalsNotCounted;
impl Defect for RefusalsNotCounted {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        // In the packed form, errors are the upper 16 bits.
        let keep = if export == import::STATS { i64::MAX >> 15 } else { !0 };
        changed(guest, export, args, |result| result & keep)
    }

    fn stats(&self, guest: &Guest) -> Stats {
        let mut stats = guest.inner.stats();
        stats.errors = 0;
        stats
    }
}

#[derive(Debug)]
struct OneByteMore;
impl Defect for OneByteMore {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let results = guest.inner.call(export, args)?;
        if export == import::READ
            && let [_, ptr, len] = args
            && let (Some(ptr), Some(len)) = (number(ptr), number(len))
            && let Some(byte) = guest.inner.memory_mut().get_mut(ptr + len)
        {
            *byte = !*byte;
        }
        Ok(results)
    }
}

#[derive(Debug)]
struct WrongLength;
impl Defect for WrongLength {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        changed(guest, export, args, |result| if result > 0 { result + 1 } else { result })
    }
}

#[derive(Debug)]
struct WrongPlace;
impl Defect for WrongPlace {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let by = i64::from(export == import::MAP_LAYER);
        changed(guest, export, args, |result| if result > 0 { result + by } else { result })
    }
}

#[derive(Debug)]
struct GathersNothing;
impl Defect for GathersNothing {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        changed(guest, export, args, |result| {
            if export == import::ALL_GATHER { code::INTERNAL.into() } else { result }
        })
    }
}

/// Emulates `memcpy` where `memmove` is needed, for buffers that begin behind their source.
#[derive(Debug)]
struct CopiesForwards;
impl Defect for CopiesForwards {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let results = guest.inner.call(export, args)?;
        if export == import::READ
            && let [_, ptr, len] = args
            && let (Some(ptr), Some(len)) = (number(ptr), number(len))
            && let Some(buffer) = guest.inner.memory_mut().get_mut(ptr..ptr + len)
            && len > 10
        {
            buffer.copy_within(..10, 10);
        }
        Ok(results)
    }
}

#[derive(Debug)]
struct NegativeLengths;
impl Defect for NegativeLengths {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let long = match args.last() {
            Some(Value::I32(len)) => *len < 0,
            Some(Value::I64(len)) => *len > i32::MAX.into(),
            _ => false,
        };
        changed(guest, export, args, |result| {
            if long && result == i64::from(code::INVALID_RANGE) { i32::MIN.into() } else { result }
        })
    }
}
