//! Linear memories: their edges, their growth, several of them, and 64-bit ones.

use polychord_runtime_api::Requirements;

use crate::Case;
use crate::guest::{MEMORY64, NOTHING};

mod edges;
mod growth;
mod regions;
mod segments;
mod several;
mod wide;

pub use edges::{bulk, last_bytes, top_of_4_gib};
pub use growth::{base_during_a_call, base_of_the_host, fresh_pages};
pub use regions::{region_ends, regions, regions_by_name, regions_grow, regions_touch};
pub use segments::{exported, segment_edges, segments};
pub use several::{copies_between, independent};
pub use wide::{between_32_and_64, beyond_4_gib, host_pointers};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "memory/last_bytes",
        promise: "every load and store reaches the last byte, and none goes beyond it or in part",
        needs: NOTHING,
        run: last_bytes,
    },
    Case {
        name: "memory/bulk",
        promise: "bulk instructions move whole ranges, overlapping or empty, or nothing at all",
        needs: NOTHING,
        run: bulk,
    },
    Case {
        name: "memory/top_of_4_gib",
        promise: "a 32-bit memory has 4 GiB, whose last byte guest and host can use",
        needs: NOTHING.memory32_bytes(1 << 32),
        run: top_of_4_gib,
    },
    Case {
        name: "memory/fresh_pages",
        promise: "pages that a memory grows by are zero, and those before keep their bytes",
        needs: NOTHING,
        run: fresh_pages,
    },
    Case {
        name: "memory/base_during_a_call",
        promise: "a guest that grows during a call is served in its memory as it is then",
        needs: NOTHING,
        run: base_during_a_call,
    },
    Case {
        name: "memory/base_of_the_host",
        promise: "after the host has grown a guest, both see the same bytes",
        needs: NOTHING,
        run: base_of_the_host,
    },
    Case {
        name: "memory/independent",
        promise: "several memories have bytes, sizes and bounds of their own",
        needs: SEVERAL,
        run: independent,
    },
    Case {
        name: "memory/copies_between",
        promise: "memory.copy between memories checks each range against its own memory",
        needs: SEVERAL,
        run: copies_between,
    },
    Case {
        name: "memory/exported",
        promise: "the host sees every memory that a guest exports, and each by its own index",
        needs: SEVERAL,
        run: exported,
    },
    Case {
        name: "memory/segments",
        promise: "over several 32-bit memories, layers are where their addresses say",
        needs: SEVERAL,
        run: segments,
    },
    Case {
        name: "memory/segment_edges",
        promise: "transfers across the edges of segments and memories move every byte",
        needs: SEVERAL,
        run: segment_edges,
    },
    Case {
        name: "memory/regions",
        promise: "regions are named parts of a memory, each with a place and a size",
        needs: NOTHING,
        run: regions,
    },
    Case {
        name: "memory/region_ends",
        promise: "bytes behind the size of a region are refused, to the host and to the guest",
        needs: NOTHING,
        run: region_ends,
    },
    Case {
        name: "memory/regions_grow",
        promise: "a region grows in place up to its largest size, and keeps its bytes",
        needs: NOTHING,
        run: regions_grow,
    },
    Case {
        name: "memory/regions_touch",
        promise: "regions that touch are one range for transfers, and not for layers",
        needs: NOTHING,
        run: regions_touch,
    },
    Case {
        name: "memory/regions_by_name",
        promise: "a memory is put into the linear memory that has its region's name",
        needs: SEVERAL,
        run: regions_by_name,
    },
    Case {
        name: "memory/beyond_4_gib",
        promise: "addresses and offsets beyond 4 GiB are not cut to 32 bits",
        needs: WIDE,
        run: beyond_4_gib,
    },
    Case {
        name: "memory/host_pointers",
        promise: "pointers beyond 4 GiB that a guest hands to the host are not cut to 32 bits",
        needs: WIDE,
        run: host_pointers,
    },
    Case {
        name: "memory/between_32_and_64",
        promise: "memory.copy between a 32-bit and a 64-bit memory takes 64-bit addresses",
        needs: MEMORY64.multi_memory(),
        run: between_32_and_64,
    },
];

const SEVERAL: Requirements = NOTHING.multi_memory();
/// A native 64-bit memory that ends a page behind 4 GiB.
const WIDE: Requirements = NOTHING.memory64_bytes((1 << 32) + 65_536);
