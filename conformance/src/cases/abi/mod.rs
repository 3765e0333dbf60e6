//! What guests get from the host's functions, above all those that mean no good.
//!
//! Every refusal is a code, counts as exactly one error, and changes nothing: no byte of the
//! guest or of the memories behind it, and no other counter.

mod codes;
mod probe;
mod success;

pub use codes::{
    address_space_end, beyond_two_gib, layers, not_enabled, pointers, read_failed, start_function,
    too_small, transfers, without_a_memory,
};
pub use probe::{Wasm32, Wasm64, Width};
pub use success::{all_gather, loads, maps, overlapping, stats, stats_saturate, transfers_count};

use polychord_runtime_api::{Engine, Requirements};

use crate::guest::{MEMORY64, NOTHING};
use crate::{Case, Outcome};

const fn case(
    name: &'static str,
    promise: &'static str,
    needs: Requirements,
    run: fn(&dyn Engine) -> Outcome,
) -> Case {
    Case { name, promise, needs, run }
}

const LARGE32: Requirements = NOTHING.memory32_bytes(1 << 32);
const LARGE64: Requirements = NOTHING.memory64_bytes(3 << 30);

const NOT_ENABLED: &str = "without a 64-bit memory every import that needs one says so";
const POINTERS: &str = "null, overflow and out of bounds have a code each, to the last byte";
const TRANSFERS: &str = "reads and writes agree with plain arithmetic at all extremes";
const LAYERS: &str = "layers that do not exist or cannot be mapped are refused";
const TOO_SMALL: &str = "a buffer that is one byte too small gets nothing";
const READ_FAILED: &str = "a file that has shrunk is a failed read, and no partial one";
const BEYOND: &str = "lengths that a result cannot express are refused";
const COUNTED: &str = "reads and writes count calls and bytes, and move exactly those";
const LOADS: &str = "loading a layer counts as a load, and as a read once it is resident";
const MAPS: &str = "mapping a layer tells where it is, and loads it at most once";
const STATS: &str = "both forms of the statistics tell what the host counts";
const SATURATE: &str = "packed counters saturate and do not spill into each other";
const GATHER: &str = "one rank gathers its own part, which is the whole";
const OVERLAP: &str = "a transfer within the guest's memory behaves as if by a copy in between";

/// The table of this group.
pub const CASES: &[Case] = &[
    case("abi/wasm32/not_enabled", NOT_ENABLED, NOTHING, not_enabled::<Wasm32>),
    case("abi/wasm32/pointers", POINTERS, NOTHING, pointers::<Wasm32>),
    case("abi/wasm32/transfers", TRANSFERS, NOTHING, transfers::<Wasm32>),
    case("abi/wasm32/layers", LAYERS, NOTHING, layers::<Wasm32>),
    case("abi/wasm32/too_small", TOO_SMALL, NOTHING, too_small::<Wasm32>),
    case("abi/wasm32/read_failed", READ_FAILED, NOTHING, read_failed::<Wasm32>),
    case("abi/wasm32/beyond_two_gib", BEYOND, LARGE32, beyond_two_gib::<Wasm32>),
    case("abi/wasm32/transfers_count", COUNTED, NOTHING, transfers_count::<Wasm32>),
    case("abi/wasm32/loads", LOADS, NOTHING, loads::<Wasm32>),
    case("abi/wasm32/maps", MAPS, NOTHING, maps::<Wasm32>),
    case("abi/wasm32/stats", STATS, NOTHING, stats::<Wasm32>),
    case("abi/wasm32/stats_saturate", SATURATE, NOTHING, stats_saturate::<Wasm32>),
    case("abi/wasm32/all_gather", GATHER, NOTHING, all_gather::<Wasm32>),
    case("abi/wasm32/overlapping", OVERLAP, NOTHING, overlapping::<Wasm32>),
    case("abi/wasm64/not_enabled", NOT_ENABLED, MEMORY64, not_enabled::<Wasm64>),
    case("abi/wasm64/pointers", POINTERS, MEMORY64, pointers::<Wasm64>),
    case("abi/wasm64/transfers", TRANSFERS, MEMORY64, transfers::<Wasm64>),
    case("abi/wasm64/layers", LAYERS, MEMORY64, layers::<Wasm64>),
    case("abi/wasm64/too_small", TOO_SMALL, MEMORY64, too_small::<Wasm64>),
    case("abi/wasm64/read_failed", READ_FAILED, MEMORY64, read_failed::<Wasm64>),
    case("abi/wasm64/beyond_two_gib", BEYOND, LARGE64, beyond_two_gib::<Wasm64>),
    case("abi/wasm64/transfers_count", COUNTED, MEMORY64, transfers_count::<Wasm64>),
    case("abi/wasm64/loads", LOADS, MEMORY64, loads::<Wasm64>),
    case("abi/wasm64/maps", MAPS, MEMORY64, maps::<Wasm64>),
    case("abi/wasm64/stats", STATS, MEMORY64, stats::<Wasm64>),
    case("abi/wasm64/stats_saturate", SATURATE, MEMORY64, stats_saturate::<Wasm64>),
    case("abi/wasm64/all_gather", GATHER, MEMORY64, all_gather::<Wasm64>),
    case("abi/wasm64/overlapping", OVERLAP, MEMORY64, overlapping::<Wasm64>),
    case(
        "abi/address_space_end",
        "a buffer that ends where the 32-bit address space ends is served",
        LARGE32,
        address_space_end,
    ),
    case(
        "abi/start_function",
        "in its start function a guest may call imports, which find its memory",
        NOTHING,
        start_function,
    ),
    case(
        "abi/without_a_memory",
        "a guest that exports no memory has no valid pointer",
        NOTHING,
        without_a_memory,
    ),
];
