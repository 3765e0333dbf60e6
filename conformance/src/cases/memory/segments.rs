//! A 64-bit memory over several 32-bit memories of one guest.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Backing, Engine, Error, LayerId, LoadMethod, MemoryId, MemorySpec, Runtime, Segment, Source,
    Value,
};

use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

/// Memories with room for 4, 3 and 3 pages, in the order of their indices.
const WAT: &str = r#"(module
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (import "env" "memory64_write" (func $write (param i64 i32 i32) (result i32)))
    (memory $first (export "first") 1 4)
    (memory $hidden 1)
    (memory $main (export "memory") 6 10)
    (memory $second (export "second") 0 3)
    (export "again" (memory $first))
    (func (export "map") (param i32) (result i64) (call $map (local.get 0)))
    (func (export "read") (param i64 i32 i32) (result i32)
        (call $read (local.get 0) (local.get 1) (local.get 2)))
    (func (export "write") (param i64 i32 i32) (result i32)
        (call $write (local.get 0) (local.get 1) (local.get 2)))
    (func (export "byte") (param $address i64) (result i32) (local $at i32)
        (local.set $at (i32.wrap_i64 (local.get $address)))
        (block $in_second (block $in_first (block $in_main
            (br_table $in_main $in_first $in_second
                (i32.wrap_i64 (i64.shr_u (local.get $address) (i64.const 32)))))
            (return (i32.load8_u $main (local.get $at))))
            (return (i32.load8_u $first (local.get $at))))
        (i32.load8_u $second (local.get $at))))"#;

/// The host sees every memory that a guest exports, and each by its own index.
pub fn exported(engine: &dyn Engine) -> Outcome {
    let mut guest = guest::start(engine, WAT)?;
    let info = guest.host().module().clone();
    let names: Vec<_> = info.memories().iter().map(|memory| memory.name.as_str()).collect();
    equal("names", names.as_slice(), &["memory", "first", "second"])?;
    let limits: Vec<_> = info.memories().iter().map(|memory| memory.max_bytes).collect();
    equal("limits", limits, [10, 4, 3].map(|pages| Some(pages * PAGE)).to_vec())?;
    for (index, byte, pages) in [(0, 0xa0, 6), (1, 0xa1, 1), (2, 0xa2, 0), (3, 0xa3, 0)] {
        guest.linear_memory_mut(index).fill(byte);
        equal("size", guest.linear_memory(index).len(), pages * PAGE_LEN)?;
    }
    for (address, byte) in [(0, 0xa0), (1 << 32, 0xa1), ((1 << 32) + PAGE - 1, 0xa1)] {
        equal("as the guest sees it", read_byte(&mut *guest, address)?, byte)?;
        let at = usize::try_from(address & 0xffff_ffff)?;
        equal("as the host sees it", guest.linear_memory((address >> 32) as usize)[at], byte)?;
    }
    equal("size of all", guest.stats().guest_bytes, 7 * PAGE)
}

/// A memory lies in the first linear memory with room for all of it, else in several; layers
/// are found by addresses that name the one they are in, and do not cross their edges.
pub fn segments(engine: &dyn Engine) -> Outcome {
    let mut guest = start(engine)?;
    let expected = [
        (Backing::Segments, vec![segment(1, 1, 2)]),
        (Backing::Segments, vec![segment(1, 3, 1), segment(2, 0, 3), segment(0, 6, 1)]),
        (Backing::Host, vec![]),
    ];
    let stats = guest.memory_stats();
    let got: Vec<_> = stats.iter().map(|it| (it.backing, it.segments.clone())).collect();
    equal("memories", got.as_slice(), &expected)?;
    // 14 of the 17 pages that the linear memories may have are in use.
    let refusal = [18 * PAGE, 17 * PAGE].map(|bytes| bytes.to_string());
    let refusal = refusal.each_ref().map(String::as_str);
    refused(guest.create_memory64(&MemorySpec::guest(4 * PAGE)), &refusal)?;
    let bytes = guest::pattern(31, PAGE_LEN - 100);
    let file = guest::file(&bytes)?;
    let mut sources = vec![Source::open(file.path())?];
    if engine.capabilities().mapping {
        sources.push(guest::mapped(file.path())?);
    }
    let places = [(0, 1, 1_u64, 2), (1, 0, 1, 3), (1, 1, 2, 0), (1, 3, 2, 2), (1, 4, 0, 6)];
    for (source, mapped) in sources.iter().zip([false, true]) {
        for (id, (memory, page, index, at)) in (0..).zip(places) {
            let spec = guest::layer(id, MemoryId(memory), page * PAGE, source);
            guest.register_layer(spec)?;
            let loaded = guest.load_layer(LayerId(id))?;
            equal("address", loaded.address, Some((index << 32) + at * PAGE))?;
            equal("mapped", loaded.method == LoadMethod::Mapped, mapped)?;
            let address = loaded.address.unwrap_or_default();
            let mapped = guest.call("map", &[Value::I32(id.cast_signed())])?;
            equal("to the guest", mapped, vec![Value::I64(address.cast_signed())])?;
            for at in [0, 1, PAGE_LEN - 101] {
                equal("byte", read_byte(&mut *guest, address + at as u64)?, bytes[at])?;
            }
        }
        for id in 0..5 {
            let address = guest.load_layer(LayerId(id))?.address.unwrap_or_default();
            guest.unregister_layer(LayerId(id))?;
            equal("after it", read_byte(&mut *guest, address)?, 0)?;
        }
    }
    for edge in [PAGE, 4 * PAGE] {
        let spec = guest::layer(0, MemoryId(1), edge - 50, &sources[0]);
        let error = refused(guest.register_layer(spec.clone()), &[&edge.to_string()])?;
        holds(matches!(error, Error::InvalidLayer { .. }), || error.to_string())?;
        guest.register_layer(spec.part(0, 50))?;
        guest.unregister_layer(LayerId(0))?;
    }
    Ok(())
}

/// Transfers across the edges of segments and memories move every byte, for the host and for the guest.
pub fn segment_edges(engine: &dyn Engine) -> Outcome {
    let mut guest = start(engine)?;
    let all = guest::pattern(32, 10 * PAGE_LEN);
    let (mut at, mut got) = (0, vec![0; all.len()]);
    for (memory, pages) in [(0, 2), (1, 5), (2, 3)] {
        let part = at..at + pages * PAGE_LEN;
        guest.write_memory64(MemoryId(memory), 0, &all[part.clone()])?;
        guest.read_memory64(MemoryId(memory), 0, &mut got[part.clone()])?;
        at = part.end;
    }
    same_bytes("by the host", &got, &all)?;
    let (first, second) = (guest.linear_memory(1), guest.linear_memory(2));
    same_bytes("in the first", &first[PAGE_LEN..], &all[..3 * PAGE_LEN])?;
    same_bytes("in the second", second, &all[3 * PAGE_LEN..6 * PAGE_LEN])?;
    let seventh = &guest.memory()[6 * PAGE_LEN..];
    same_bytes("in the guest's own", seventh, &all[6 * PAGE_LEN..7 * PAGE_LEN])?;
    // Edges are behind pages 2, 3, 6 and 7 of the common space.
    let mut expected = all;
    let len = 2 * PAGE_LEN + 300;
    for (turn, start) in (0..).zip([10, PAGE_LEN + 7, 3 * PAGE_LEN - 5, 5 * PAGE_LEN, 7 * PAGE_LEN])
    {
        let args = [Value::I64(start as i64), Value::I32(64), Value::I32(i32::try_from(len)?)];
        let new = guest::pattern(40 + turn, len);
        guest.memory_mut()[64..64 + len].copy_from_slice(&new);
        equal("written", guest.call("write", &args)?, vec![args[2]])?;
        expected[start..start + len].copy_from_slice(&new);
        guest.memory_mut()[64..64 + len].fill(0);
        equal("read", guest.call("read", &args)?, vec![args[2]])?;
        same_bytes("by the guest", &guest.memory()[64..64 + len], &new)?;
    }
    for (memory, part) in [(0, 0..2), (1, 2..7), (2, 7..10)] {
        let part = part.start * PAGE_LEN..part.end * PAGE_LEN;
        guest.read_memory64(MemoryId(memory), 0, &mut got[part])?;
    }
    same_bytes("in the end", &got, &expected)?;
    let beside = guest.linear_memory(1)[..PAGE_LEN].iter().position(|byte| *byte != 0);
    equal("beside it", beside, None)
}

/// A guest with a memory in one segment, one in three, and one in the host.
fn start(engine: &dyn Engine) -> Result<Box<dyn Runtime>, Failure> {
    let mut guest = guest::start(engine, WAT)?;
    guest.create_memory64(&MemorySpec::guest(2 * PAGE))?;
    guest.create_memory64(&MemorySpec::guest(5 * PAGE))?;
    guest.create_memory64(&MemorySpec::host(3 * PAGE))?;
    Ok(guest)
}

const fn segment(memory: usize, page: u64, pages: u64) -> Segment {
    Segment { memory, start: page * PAGE, bytes: pages * PAGE }
}

fn read_byte(guest: &mut dyn Runtime, address: u64) -> Result<u8, Failure> {
    let got = guest.call("byte", &[Value::I64(address.cast_signed())])?;
    let number = got.first().and_then(|value| value.as_i32());
    number
        .and_then(|number| u8::try_from(number).ok())
        .ok_or_else(|| Failure::new(format!("{got:?}")))
}
