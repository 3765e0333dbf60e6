//! Mapping a file's pages leaves the bytes that copying them leaves, only faster.

use crate::Case;
use crate::guest::{MAPPING, NOTHING};

mod address_space;
mod copies;
mod equality;
mod setup;
mod shrinking;
mod writes;

pub use address_space::{many_layers, no_leak, unmapped_with_the_guest};
pub use copies::{during_a_call, half_read, in_the_host, unaligned};
pub use equality::{equals_copying, release, zeros_around};
pub use shrinking::{shrinks_in_use, truncated};
pub use writes::{bulk_writes, copy_on_write, grow, host_writes};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "mapping/equals_copying",
        promise: "a mapped layer and a copied one leave every byte of the guest alike",
        needs: MAPPING,
        run: equals_copying,
    },
    Case {
        name: "mapping/copy_on_write",
        promise: "a guest that writes to a mapped layer changes neither file nor other guests",
        needs: MAPPING,
        run: copy_on_write,
    },
    Case {
        name: "mapping/bulk_writes",
        promise: "bulk instructions of the guest write to mapped pages like any other",
        needs: MAPPING,
        run: bulk_writes,
    },
    Case {
        name: "mapping/host_writes",
        promise: "the host's functions write to mapped pages like any other",
        needs: MAPPING,
        run: host_writes,
    },
    Case {
        name: "mapping/release",
        promise: "a released layer reads as zeros, and comes back as the file has it",
        needs: MAPPING,
        run: release,
    },
    Case {
        name: "mapping/grow",
        promise: "a guest that grows keeps its base and what is mapped",
        needs: MAPPING,
        run: grow,
    },
    Case {
        name: "mapping/unaligned",
        promise: "a layer that does not lie in its page as in the file is copied, and says so",
        needs: MAPPING,
        run: unaligned,
    },
    Case {
        name: "mapping/during_a_call",
        promise: "a layer that a running guest asks for is copied, and its pages stay mapped as they were",
        needs: MAPPING,
        run: during_a_call,
    },
    Case {
        name: "mapping/in_the_host",
        promise: "a layer of a memory in the host is copied",
        needs: MAPPING,
        run: in_the_host,
    },
    Case {
        name: "mapping/no_leak",
        promise: "mapping and releasing a thousand times leaves the address space as it was",
        needs: MAPPING,
        run: no_leak,
    },
    Case {
        name: "mapping/unmapped_with_the_guest",
        promise: "nothing of a file stays mapped once its guest is gone",
        needs: MAPPING,
        run: unmapped_with_the_guest,
    },
    Case {
        name: "mapping/truncated",
        promise: "a file that has shrunk before it was mapped is an error, and nothing is mapped",
        needs: MAPPING,
        run: truncated,
    },
    Case {
        name: "mapping/shrinks_in_use",
        promise: "a file that shrinks while it is mapped fails the calls that may have used it, until it is loaded again",
        needs: MAPPING,
        run: shrinks_in_use,
    },
    Case {
        name: "mapping/zeros_around",
        promise: "a layer that is loaded leaves zeros in the rest of its pages, mapped or copied, and nothing beyond",
        needs: NOTHING,
        run: zeros_around,
    },
    Case {
        name: "mapping/half_read",
        promise: "a layer of which only a part can be read is not loaded, and zeros are in its place",
        needs: NOTHING,
        run: half_read,
    },
    Case {
        name: "mapping/many_layers",
        promise: "40,000 small layers that were loaded and released leave no mappings behind",
        needs: MAPPING.memory32_bytes(3 << 30),
        run: many_layers,
    },
];
