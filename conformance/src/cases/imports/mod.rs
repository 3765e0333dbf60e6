//! What guests import of the program that runs them: functions, memories, and how they are matched.

mod functions;
mod matching;
mod memories;
mod nested;
mod start;

use polychord_runtime_api::{Engine, Requirements};

pub use functions::{errors, exits, many, pointers, round_trip, state, twelve_of_each, untyped};
pub use matching::{described, every_mismatch, given_twice, reserved, twice_imported, unused};
pub use memories::{grown_by_a_function, imported, limited, other_sizes, wide};
pub use nested::{error_within, into_the_guest, state_within, too_deep};

use crate::Case;
use crate::guest::{MEMORY64, NOTHING};

const fn case(
    name: &'static str,
    promise: &'static str,
    needs: Requirements,
    run: fn(&dyn Engine) -> crate::Outcome,
) -> Case {
    Case { name, promise, needs, run }
}

const REENTRANCE: Requirements = NOTHING.reentrance();

/// The table of this group.
pub const CASES: &[Case] = &[
    case(
        "imports/round_trip",
        "numbers and vectors cross to a function of the host and back with all their bits",
        NOTHING,
        round_trip,
    ),
    case(
        "imports/twelve_of_each",
        "functions with twelve parameters of each type get them in order",
        NOTHING,
        twelve_of_each,
    ),
    case(
        "imports/untyped",
        "a function of a type that is known at run time gets values, and returns several",
        NOTHING,
        untyped,
    ),
    case(
        "imports/many",
        "a guest with a thousand functions of the host calls the right one",
        NOTHING,
        many,
    ),
    case(
        "imports/errors",
        "an error or a panic of a function ends the call, is what the caller gets, and the guest goes on",
        NOTHING,
        errors,
    ),
    case(
        "imports/exits",
        "an exit is no trap, brings its code, and the guest goes on; in a start function, too",
        NOTHING,
        exits,
    ),
    case(
        "imports/state",
        "each guest has a state of its own, which functions and the host see",
        NOTHING,
        state,
    ),
    case(
        "imports/pointers",
        "what a function reads or writes is checked to the last byte, for any number of a guest",
        NOTHING,
        pointers,
    ),
    case(
        "imports/into_the_guest",
        "a function calls the guest that has called it, with arguments and results",
        REENTRANCE,
        into_the_guest,
    ),
    case(
        "imports/error_within",
        "a trap, an error or an exit in a call within a call ends the outer one alike, unless it is caught",
        REENTRANCE,
        error_within,
    ),
    case(
        "imports/state_within",
        "the state and the memory are the same in calls within calls",
        REENTRANCE,
        state_within,
    ),
    case(
        "imports/too_deep",
        "calls within calls without an end are a stack overflow, and the guest goes on",
        REENTRANCE,
        too_deep,
    ),
    case(
        "imports/described",
        "a module tells all that it imports and exports, also what no host could use",
        NOTHING,
        described,
    ),
    case(
        "imports/every_mismatch",
        "every import that is missing or of another type is listed, with similar names",
        NOTHING,
        every_mismatch,
    ),
    case(
        "imports/given_twice",
        "the same name cannot be given twice, nor can a function of env be replaced",
        NOTHING,
        given_twice,
    ),
    case(
        "imports/reserved",
        "functions of the user stand beside those of env in the same module",
        NOTHING,
        reserved,
    ),
    case(
        "imports/twice_imported",
        "what a module imports twice is the same thing twice",
        NOTHING,
        twice_imported,
    ),
    case("imports/unused", "what a guest does not import does not matter to it", NOTHING, unused),
    case(
        "imports/memory",
        "a memory that the host makes is the guest's own, and layers can lie in it",
        NOTHING,
        imported,
    ),
    case(
        "imports/memory_sizes",
        "a memory that is smaller or may grow larger than the guest declares is refused",
        NOTHING,
        other_sizes,
    ),
    case(
        "imports/memory_limits",
        "a memory that the host makes keeps the guest's limits",
        NOTHING,
        limited,
    ),
    case("imports/memory_wide", "a memory with 64-bit addresses can be imported", MEMORY64, wide),
    case(
        "imports/grown_by_a_function",
        "a function sees the memory as it is after it has grown it, and so does the guest",
        NOTHING,
        grown_by_a_function,
    ),
];
