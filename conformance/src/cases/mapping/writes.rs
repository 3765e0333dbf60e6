//! Writing to mapped pages, and growing beside them.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, MemoryId, MemorySpec, Value};

use super::address_space::mappings;
use super::setup::{PAGES, map_all};
use crate::Outcome;
use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};

/// A guest that writes to a mapped layer changes neither file nor other guests.
pub fn copy_on_write(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(2, 3 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let (mut writer, address) = map_all(engine, file.path())?;
    let (other, _) = map_all(engine, file.path())?;
    for at in [0, 1, PAGE - 1, PAGE, 3 * PAGE - 1] {
        let index = usize::try_from(address + at)?;
        let new = i32::from(writer.memory()[index] ^ 0xff);
        let at = i32::try_from(address + at)?;
        writer.call("store", &[at.into(), new.into()])?;
        equal("what was written", writer.call("load", &[at.into()])?, vec![Value::I32(new)])?;
        equal("as the host sees it", i32::from(writer.memory()[index]), new)?;
    }
    let start = usize::try_from(address)?;
    same_bytes("the other guest", &other.memory()[start..start + bytes.len()], &bytes)?;
    same_bytes("the file", &std::fs::read(file.path())?, &bytes)?;
    let (later, _) = map_all(engine, file.path())?;
    same_bytes("a later guest", &later.memory()[start..start + bytes.len()], &bytes)
}

/// Bulk instructions of the guest write to mapped pages like any other.
pub fn bulk_writes(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(3, 3 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let (mut runtime, address) = map_all(engine, file.path())?;
    let start = usize::try_from(address)?;
    let at = i32::try_from(address)?;
    let [at, len] = [at + 10, 70_000].map(Value::I32);
    runtime.call("fill", &[at, Value::I32(0x3c), len])?;
    let mut expected = bytes.clone();
    expected[10..70_010].fill(0x3c);
    same_bytes("after fill", &runtime.memory()[start..start + bytes.len()], &expected)?;
    // From the guest's own first page over the edge into the layer.
    runtime.call(
        "copy",
        &[Value::I32(i32::try_from(address)? - 50), Value::I32(0), Value::I32(100)],
    )?;
    expected[..50].fill(0x77);
    same_bytes("after copy", &runtime.memory()[start..start + bytes.len()], &expected)?;
    same_bytes("the file", &std::fs::read(file.path())?, &bytes)
}

/// The host's functions write to mapped pages like any other.
pub fn host_writes(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(4, 2 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let (mut runtime, address) = map_all(engine, file.path())?;
    let start = usize::try_from(address)?;
    let mut expected = bytes.clone();
    runtime.write_memory64(MemoryId(0), 5, b"by the host")?;
    expected[5..16].copy_from_slice(b"by the host");
    // The guest has the host read from the memory into the layer.
    let at = Value::I32(i32::try_from(address)? + 100);
    let got = runtime.call("read", &[Value::I64(5), at, Value::I32(11)])?;
    equal("bytes read", got, vec![Value::I32(11)])?;
    expected[100..111].copy_from_slice(b"by the host");
    runtime.memory_mut()[start + 200] = 1;
    expected[200] = 1;
    same_bytes("the layer", &runtime.memory()[start..start + bytes.len()], &expected)?;
    same_bytes("the file", &std::fs::read(file.path())?, &bytes)
}

/// A guest that grows keeps its base and what is mapped.
pub fn grow(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(6, 2 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let (mut runtime, address) = map_all(engine, file.path())?;
    let base = runtime.memory().as_ptr();
    let mut pages = i32::try_from(1 + PAGES)?;
    for by in [1, 100, 5_000] {
        equal("grown by the guest", runtime.call("grow", &[by.into()])?, vec![pages.into()])?;
        pages += by;
    }
    let memory = runtime.create_memory64(&MemorySpec::guest(PAGE))?;
    runtime.write_memory64(memory, 0, b"behind")?;
    equal("base", runtime.memory().as_ptr(), base)?;
    let start = usize::try_from(address)?;
    same_bytes("the layer", &runtime.memory()[start..start + bytes.len()], &bytes)?;
    let still = mappings(&*runtime, file.path())?;
    holds(still.is_none_or(|lines| lines.of_file > 0), || "the file is not mapped any more".into())
}
