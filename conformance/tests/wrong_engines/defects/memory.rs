//! Defects in linear memories and regions.

use polychord_runtime_api::{
    Error, LayerId, LoadedLayer, MemoryId, MemorySpec, Result, TrapKind, Value,
};

use super::Entry;
use crate::double::{Defect, Guest};

pub(super) const DEFECTS: &[Entry] = &[
    Entry {
        name: "memory/off_by_one",
        what: "checks the bounds of an access one byte too late",
        defect: &OffByOne,
        caught_by: &["memory/last_bytes", "memory/top_of_4_gib", "traps/kinds"],
    },
    Entry {
        name: "memory/stale_base",
        what: "keeps the base pointer of a memory that has moved when it grew",
        defect: &StaleBase,
        caught_by: &["memory/base_of_the_host", "memory/base_during_a_call"],
    },
    Entry {
        name: "memory/dirty_pages",
        what: "hands out pages that are not zero",
        defect: &DirtyPages,
        caught_by: &["memory/fresh_pages"],
    },
    Entry {
        name: "memory/cut_addresses",
        what: "cuts 64-bit addresses to 32 bits",
        defect: &CutAddresses,
        caught_by: &[
            "memory/beyond_4_gib",
            "memory/host_pointers",
            "memory/between_32_and_64",
            "traps/memory64",
        ],
    },
    Entry {
        name: "memory/partial_bulk",
        what: "does a part of a bulk operation before it traps",
        defect: &PartialBulk,
        caught_by: &["memory/bulk", "memory/copies_between"],
    },
    Entry {
        name: "memory/endless",
        what: "does not trap at the end of a second memory",
        defect: &Endless,
        caught_by: &["memory/independent", "memory/copies_between"],
    },
    Entry {
        name: "memory/one_for_all",
        what: "takes the first memory for each that a guest exports",
        defect: &OneForAll,
        caught_by: &["memory/exported", "memory/segment_edges"],
    },
    Entry {
        name: "memory/nameless_segments",
        what: "leaves the index of the segment out of addresses",
        defect: &NamelessSegments,
        caught_by: &["memory/segments"],
    },
    Entry {
        name: "memory/ends_at_edges",
        what: "writes no further than to the end of a segment",
        defect: &EndsAtEdges,
        caught_by: &["memory/segment_edges"],
    },
    Entry {
        name: "memory/grows_elsewhere",
        what: "does not keep what a region had when it grows",
        defect: &GrowsElsewhere,
        caught_by: &["memory/regions_grow"],
    },
    Entry {
        name: "memory/nameless_regions",
        what: "puts a memory anywhere, whatever its region is called",
        defect: &NamelessRegions,
        caught_by: &["memory/regions", "memory/regions_by_name"],
    },
];

/// What the trap of a call that left its memory turns into.
fn instead_of_a_trap(
    guest: &mut Guest,
    export: &str,
    args: &[Value],
    change: impl FnOnce(&mut Guest) -> Result<Vec<Value>>,
) -> Result<Vec<Value>> {
    match guest.inner.call(export, args) {
        Err(Error::Trap { kind: TrapKind::MemoryOutOfBounds, .. }) => change(guest),
        other => other,
    }
}

#[derive(Debug)]
struct OffByOne;
impl Defect for OffByOne {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        instead_of_a_trap(guest, export, args, |guest| {
            let mut before = args.to_vec();
            if let Some(Value::I32(address)) = before.first_mut() {
                *address = address.wrapping_sub(1);
            }
            guest.inner.call(export, &before)
        })
    }
}

#[derive(Debug)]
struct StaleBase;

impl StaleBase {
    /// From the moment that the size changes, the host sees what was there before.
    fn note_growth(guest: &mut Guest, before: Vec<u8>) {
        let now = guest.inner.memory().len();
        if now != before.len() {
            guest.old_memory = before;
            guest.old_memory.resize(now, 0);
        }
    }
}

impl Defect for StaleBase {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let before = guest.inner.memory().to_vec();
        let results = guest.inner.call(export, args);
        Self::note_growth(guest, before);
        results
    }

    fn create_memory64(&self, guest: &mut Guest, spec: &MemorySpec) -> Result<MemoryId> {
        let before = guest.inner.memory().to_vec();
        let memory = guest.inner.create_memory64(spec);
        Self::note_growth(guest, before);
        memory
    }

    fn memory<'a>(&self, guest: &'a Guest) -> &'a [u8] {
        if guest.old_memory.is_empty() { guest.inner.memory() } else { &guest.old_memory }
    }
}

#[derive(Debug)]
struct DirtyPages;
impl Defect for DirtyPages {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let before = guest.inner.memory().len();
        let results = guest.inner.call(export, args);
        if let Some(byte) = guest.inner.memory_mut().get_mut(before) {
            *byte = 1;
        }
        results
    }
}

#[derive(Debug)]
struct CutAddresses;
impl Defect for CutAddresses {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let cut = |value: &Value| match value {
            Value::I64(address) => Value::I64(address & 0xffff_ffff),
            other => *other,
        };
        guest.inner.call(export, &args.iter().map(cut).collect::<Vec<_>>())
    }
}

#[derive(Debug)]
struct PartialBulk;
impl Defect for PartialBulk {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let result = guest.inner.call(export, args);
        if matches!(result, Err(Error::Trap { .. }))
            && let Some(last) = guest.inner.memory_mut().last_mut()
        {
            *last = !*last;
        }
        result
    }
}

#[derive(Debug)]
struct Endless;
impl Defect for Endless {
    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let results = guest.zeros(export);
        instead_of_a_trap(guest, export, args, |_| Ok(results))
    }
}

#[derive(Debug)]
struct OneForAll;
impl Defect for OneForAll {
    fn index(&self, _index: usize) -> usize {
        0
    }
}

#[derive(Debug)]
struct NamelessSegments;
impl Defect for NamelessSegments {
    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        let mut loaded = guest.inner.load_layer(id)?;
        loaded.address = loaded.address.map(|address| address & 0xffff_ffff);
        Ok(loaded)
    }
}

#[derive(Debug)]
struct EndsAtEdges;
impl Defect for EndsAtEdges {
    fn write(&self, guest: &mut Guest, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        let stats = guest.inner.memory_stats();
        let mut end = 0;
        let mut ends = stats[memory.0 as usize].segments.iter().map(|segment| {
            end += segment.bytes;
            end
        });
        let room = ends.find(|end| *end > offset).map_or(u64::MAX, |end| end - offset);
        let len = usize::try_from(room).map_or(data.len(), |room| room.min(data.len()));
        guest.inner.write_memory64(memory, offset, &data[..len])
    }
}

#[derive(Debug)]
struct GrowsElsewhere;
impl Defect for GrowsElsewhere {
    fn grow_region(
        &self,
        guest: &mut Guest,
        memory: MemoryId,
        name: &str,
        bytes: u64,
    ) -> Result<u64> {
        let before = guest.inner.grow_region(memory, name, bytes)?;
        let offset = guest.inner.region(memory, name)?.offset;
        let len = usize::try_from(before).unwrap();
        guest.inner.write_memory64(memory, offset, &vec![0; len])?;
        Ok(before)
    }
}

#[derive(Debug)]
struct NamelessRegions;
impl Defect for NamelessRegions {
    fn create_memory64(&self, guest: &mut Guest, spec: &MemorySpec) -> Result<MemoryId> {
        let mut spec = spec.clone();
        for region in &mut spec.regions {
            region.name.push(' ');
        }
        guest.inner.create_memory64(&spec)
    }
}
