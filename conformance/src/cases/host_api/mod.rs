//! `create_memory64`, `register_layer`, `load_layer`, `release_layer`, reading and writing.

use crate::Case;
use crate::guest::NOTHING;

mod anonymous;
mod layers;
mod memories;
mod pager;
mod registration;
mod requests;
mod transfers;

pub use anonymous::{anonymous_layer, anonymous_layer_without_room, anonymous_pager};
pub use layers::{load_layer, load_layer_refusals, release_layer};
pub use memories::{create_memory64, create_memory64_refusals, guest_and_host_memory_agree};
pub use pager::{pager, pager_ahead, pager_ahead_dropped, pager_ahead_failure};
pub use registration::{register_layer_refusals, unregister_layer};
pub use transfers::{read_and_write, read_and_write_refusals};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "host_api/create_memory64",
        promise: "memories have whole pages, are zero, and lie one after the other",
        needs: NOTHING,
        run: create_memory64,
    },
    Case {
        name: "host_api/create_memory64_refusals",
        promise: "a memory without bytes or beyond the limits is refused with the numbers",
        needs: NOTHING,
        run: create_memory64_refusals,
    },
    Case {
        name: "host_api/register_layer_refusals",
        promise: "a layer must have a number, bytes, a source and pages of its own",
        needs: NOTHING,
        run: register_layer_refusals,
    },
    Case {
        name: "host_api/load_layer",
        promise: "a layer is brought in once, to exactly its place, in either kind of memory",
        needs: NOTHING,
        run: load_layer,
    },
    Case {
        name: "host_api/load_layer_refusals",
        promise: "a layer that cannot be read is not loaded, and leaves nothing behind",
        needs: NOTHING,
        run: load_layer_refusals,
    },
    Case {
        name: "host_api/release_layer",
        promise: "a released layer reads as zeros, and can be loaded again",
        needs: NOTHING,
        run: release_layer,
    },
    Case {
        name: "host_api/unregister_layer",
        promise: "a layer that is unregistered leaves zeros, and its number and place to others",
        needs: NOTHING,
        run: unregister_layer,
    },
    Case {
        name: "host_api/anonymous_layer",
        promise: "what is written to a layer without a file survives its release, compressed",
        needs: NOTHING,
        run: anonymous_layer,
    },
    Case {
        name: "host_api/anonymous_layer_without_room",
        promise: "a layer that its source has no room for is not released, and keeps its bytes",
        needs: NOTHING,
        run: anonymous_layer_without_room,
    },
    Case {
        name: "host_api/anonymous_pager",
        promise: "layers without a file that share a window keep what was written to them",
        needs: NOTHING,
        run: anonymous_pager,
    },
    Case {
        name: "host_api/pager",
        promise: "layers that share a window are whole whenever they are required",
        needs: NOTHING,
        run: pager,
    },
    Case {
        name: "host_api/pager_ahead",
        promise: "layers that are read ahead are whole, and none is read twice",
        needs: NOTHING,
        run: pager_ahead,
    },
    Case {
        name: "host_api/pager_ahead_failure",
        promise: "a failure to read ahead is an error when the layer is required, and can pass",
        needs: NOTHING,
        run: pager_ahead_failure,
    },
    Case {
        name: "host_api/pager_ahead_dropped",
        promise: "a layer that was read ahead in vain makes way for the one that is required",
        needs: NOTHING,
        run: pager_ahead_dropped,
    },
    Case {
        name: "host_api/read_and_write",
        promise: "what is written is read back, and nothing beside it changes",
        needs: NOTHING,
        run: read_and_write,
    },
    Case {
        name: "host_api/read_and_write_refusals",
        promise: "a range that leaves its memory is refused, although another memory follows",
        needs: NOTHING,
        run: read_and_write_refusals,
    },
    Case {
        name: "host_api/guest_and_host_memory_agree",
        promise: "a memory in the guest is the range that the guest was grown by",
        needs: NOTHING,
        run: guest_and_host_memory_agree,
    },
];
