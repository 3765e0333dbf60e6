//! Mapping a file's pages is the same as copying them, only faster.

use std::path::Path;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, LoadMethod, MemoryId, MemorySpec, Runtime, Source, Value,
};

use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, MAPPING, NOTHING, PAGE_LEN};
use crate::{Case, Failure, Outcome};

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
        promise: "a layer that a running guest asks for is copied: its pages stay what they are",
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

const WAT: &str = r#"(module
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (import "env" "memory64_read" (func $read (param i64 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "map") (param i32) (result i64) (call $map (local.get 0)))
    (func (export "read") (param i64 i32 i32) (result i32)
        (call $read (local.get 0) (local.get 1) (local.get 2)))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0)))
    (func (export "store") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
    (func (export "fill") (param i32 i32 i32)
        (memory.fill (local.get 0) (local.get 1) (local.get 2)))
    (func (export "copy") (param i32 i32 i32)
        (memory.copy (local.get 0) (local.get 1) (local.get 2)))
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0))))"#;

/// Pages of the memory that layers are mapped into; it begins at the guest's second page.
const PAGES: u64 = 8;
const LAYER: LayerId = LayerId(1);

/// A guest with a layer that is not loaded yet.
fn start(
    engine: &dyn Engine,
    source: &Source,
    offset: u64,
    source_offset: u64,
    bytes: u64,
) -> Result<Box<dyn Runtime>, Failure> {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.memory_mut().fill(0x77);
    let memory = runtime.create_memory64(&MemorySpec::guest(PAGES * PAGE))?;
    let spec = guest::layer(LAYER.0, memory, offset, source);
    runtime.register_layer(spec.part(source_offset, bytes))?;
    Ok(runtime)
}

/// A guest with all of a file mapped, and the address of the layer.
fn map_all(engine: &dyn Engine, path: &Path) -> Result<(Box<dyn Runtime>, u64), Failure> {
    let source = guest::mapped(path)?;
    let mut runtime = start(engine, &source, 0, 0, source.len())?;
    let loaded = runtime.load_layer(LAYER)?;
    equal("method", loaded.method, LoadMethod::Mapped)?;
    equal("address", loaded.address, Some(PAGE))?;
    Ok((runtime, PAGE))
}

/// A mapped layer and a copied one leave every byte of the guest alike.
pub fn equals_copying(engine: &dyn Engine) -> Outcome {
    // The file ends within a page of any size.
    let bytes = guest::pattern(1, 7 * PAGE_LEN + 1234);
    let file = guest::file(&bytes)?;
    let (copied, mapped) = (Source::open(file.path())?, guest::mapped(file.path())?);
    let end = bytes.len() as u64;
    for (offset, source_offset, len) in [
        (0, 0, 1),
        (0, 0, PAGE),
        (0, 0, end),
        (100, 100, 5_000),
        (100, 100, 4_096 - 100),
        (PAGE + 77, 5 * PAGE + 77, 70_000),
        (PAGE - 1, PAGE - 1, 2),
        (2 * PAGE - 1, 3 * PAGE - 1, 1),
        (3 * PAGE + 1_000, 7 * PAGE + 1_000, 234),
        (7 * PAGE, 0, PAGE),
    ] {
        let mut guests = Vec::new();
        for (source, method) in [(&copied, LoadMethod::Copied), (&mapped, LoadMethod::Mapped)] {
            let mut runtime = start(engine, source, offset, source_offset, len)?;
            let loaded = runtime.load_layer(LAYER)?;
            equal("method", loaded.method, method)?;
            equal("address", loaded.address, Some(PAGE + offset))?;
            let stats = runtime.stats();
            let maps = u64::from(method == LoadMethod::Mapped);
            let got = (stats.loads, stats.maps, stats.bytes_loaded);
            equal("loads, maps and bytes", got, (1, maps, len))?;
            guests.push(runtime);
        }
        let what = format!("{len} bytes at {offset} of those at {source_offset}");
        same_bytes(&what, guests[1].memory(), guests[0].memory())?;
        let (start, from) = (usize::try_from(PAGE + offset)?, usize::try_from(source_offset)?);
        let len = usize::try_from(len)?;
        same_bytes(&what, &guests[1].memory()[start..start + len], &bytes[from..from + len])?;
    }
    Ok(())
}

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

/// A released layer reads as zeros, and comes back as the file has it.
pub fn release(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(5, 5 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let source = guest::mapped(file.path())?;
    let mut runtime = start(engine, &source, PAGE + 900, 900, 2 * PAGE + 300)?;
    let before = runtime.memory().to_vec();
    let (start, len) = (usize::try_from(2 * PAGE + 900)?, 2 * PAGE_LEN + 300);
    let mut after = before.clone();
    after[start..start + len].copy_from_slice(&bytes[900..900 + len]);
    for _ in 0..3 {
        equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Mapped)?;
        same_bytes("loaded", runtime.memory(), &after)?;
        runtime.call("store", &[Value::I32(i32::try_from(start)?), Value::I32(0)])?;
        runtime.release_layer(LAYER)?;
        same_bytes("released", runtime.memory(), &before)?;
        // The pages are the guest's to read and write, not a hole.
        for at in [start, start + len - 1] {
            let at = Value::I32(i32::try_from(at)?);
            equal("read", runtime.call("load", &[at])?, vec![Value::I32(0)])?;
            runtime.call("store", &[at, Value::I32(0)])?;
        }
    }
    equal("releases", runtime.stats().releases, 3)
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

/// A layer that does not lie in its page as in the file is copied, and says so.
pub fn unaligned(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(7, 3 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let source = guest::mapped(file.path())?;
    for (offset, source_offset) in [(0, 1), (1, 0), (PAGE + 5, 6), (10, PAGE - 10), (100, 99)] {
        let mut runtime = start(engine, &source, offset, source_offset, PAGE + 3)?;
        equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Copied)?;
        let stats = runtime.stats();
        equal("loads and maps", (stats.loads, stats.maps), (1, 0))?;
        let (start, from) = (usize::try_from(PAGE + offset)?, usize::try_from(source_offset)?);
        let len = PAGE_LEN + 3;
        let got = &runtime.memory()[start..start + len];
        same_bytes("the layer", got, &bytes[from..from + len])?;
        same_bytes("the guest's own page", &runtime.memory()[..PAGE_LEN], &[0x77; PAGE_LEN])?;
    }
    Ok(())
}

/// A layer that a running guest asks for is copied: its pages stay what they are.
pub fn during_a_call(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(8, 2 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let source = guest::mapped(file.path())?;
    let mut runtime = start(engine, &source, 0, 0, source.len())?;
    let got = runtime.call("map", &[Value::I32(1)])?;
    equal("address", got, vec![Value::I64(PAGE.cast_signed())])?;
    let stats = runtime.stats();
    equal("loads and maps", (stats.loads, stats.maps), (1, 0))?;
    equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Copied)?;
    let start = PAGE_LEN;
    same_bytes("the layer", &runtime.memory()[start..start + bytes.len()], &bytes)?;
    // Released and loaded by the host, the same layer is mapped.
    runtime.release_layer(LAYER)?;
    equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Mapped)
}

/// A layer of a memory in the host is copied.
pub fn in_the_host(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(9, 2 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let mut runtime = guest::start(engine, WAT)?;
    let memory = runtime.create_memory64(&MemorySpec::host(PAGES * PAGE))?;
    let source = guest::mapped(file.path())?;
    runtime.register_layer(guest::layer(LAYER.0, memory, 0, &source))?;
    let loaded = runtime.load_layer(LAYER)?;
    equal("method and address", (loaded.method, loaded.address), (LoadMethod::Copied, None))?;
    let mut got = vec![0; bytes.len()];
    runtime.read_memory64(memory, 0, &mut got)?;
    same_bytes("the layer", &got, &bytes)
}

/// Mapping and releasing a thousand times leaves the address space as it was.
pub fn no_leak(engine: &dyn Engine) -> Outcome {
    let file = guest::file(&guest::pattern(10, 4 * PAGE_LEN))?;
    let source = guest::mapped(file.path())?;
    let mut runtime = start(engine, &source, PAGE, 0, source.len())?;
    let mut first = None;
    for cycle in 0..1_000 {
        equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Mapped)?;
        runtime.release_layer(LAYER)?;
        let now = mappings(&*runtime, file.path())?;
        let Some(now) = now else { continue };
        equal("mappings of the file after its release", now.of_file, 0)?;
        let first = first.get_or_insert(now.of_guest);
        holds(now.of_guest <= *first, || {
            format!("after cycle {cycle} the guest has {} mappings, not {first}", now.of_guest)
        })?;
    }
    Ok(())
}

/// Nothing of a file stays mapped once its guest is gone.
pub fn unmapped_with_the_guest(engine: &dyn Engine) -> Outcome {
    let file = guest::file(&guest::pattern(11, 4 * PAGE_LEN))?;
    let (runtime, _) = map_all(engine, file.path())?;
    let during = mappings(&*runtime, file.path())?;
    holds(during.is_none_or(|lines| lines.of_file == 1), || "the file is not mapped once".into())?;
    drop(runtime);
    let other = guest::start(engine, WAT)?;
    let after = mappings(&*other, file.path())?;
    holds(after.is_none_or(|lines| lines.of_file == 0), || "the file is still mapped".into())
}

/// A file that has shrunk before it was mapped is an error, and nothing is mapped.
pub fn truncated(engine: &dyn Engine) -> Outcome {
    for keep in [0, 1, PAGE, 4 * PAGE - 1] {
        let file = guest::file(&guest::pattern(12, 4 * PAGE_LEN))?;
        let source = guest::mapped(file.path())?;
        let mut runtime = start(engine, &source, 0, 0, source.len())?;
        let before = runtime.memory().to_vec();
        file.as_file().set_len(keep)?;
        let error = refused(runtime.load_layer(LAYER), &["shrunk", &format!("{keep} bytes")])?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
        same_bytes("the guest", runtime.memory(), &before)?;
        equal("errors", runtime.stats().errors, 1)?;
        equal("loads", runtime.stats().loads, 0)?;
        let lines = mappings(&*runtime, file.path())?;
        holds(lines.is_none_or(|lines| lines.of_file == 0), || "the file is mapped".into())?;
    }
    Ok(())
}

/// A file that shrinks while it is mapped fails the calls of its guest, and of no other, and
/// the guest goes on when the layer has been loaded again.
pub fn shrinks_in_use(engine: &dyn Engine) -> Outcome {
    if !cfg!(target_os = "linux") {
        return Ok(());
    }
    let content = guest::pattern(13, 4 * PAGE_LEN);
    let last = PAGE + 4 * PAGE - 1;
    let at = [Value::I32(i32::try_from(last)?)];
    let expected = vec![Value::I32(content[4 * PAGE_LEN - 1].into())];
    // All pages are lost, or some, or a byte of a page that stays.
    for keep in [0, 2 * PAGE, 4 * PAGE - 1] {
        let (file, other) = (guest::file(&content)?, guest::file(&content)?);
        let (mut runtime, _) = map_all(engine, file.path())?;
        let (mut untouched, _) = map_all(engine, other.path())?;
        equal("last byte", runtime.call("load", &at)?, expected.clone())?;
        file.as_file().set_len(keep)?;
        let error = refused(runtime.call("load", &at), &["shrunk", &format!("{keep} bytes")])?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
        equal("errors", runtime.stats().errors, 1)?;
        // A guest that asks for the layer does not make it whole.
        refused(runtime.call("map", &[Value::I32(1)]), &["shrunk"])?;
        let mut byte = [0];
        let read = runtime.read_memory64(MemoryId(0), 4 * PAGE - 1, &mut byte);
        refused(read, &["shrunk"])?;
        let again = runtime.load_layer(LAYER).and_then(|_| runtime.call("load", &at));
        refused(again, &["shrunk"])?;
        std::fs::write(file.path(), &content)?;
        runtime.release_layer(LAYER)?;
        equal("method", runtime.load_layer(LAYER)?.method, LoadMethod::Mapped)?;
        equal("last byte", runtime.call("load", &at)?, expected.clone())?;
        equal("of another file", untouched.call("load", &at)?, expected.clone())?;
    }
    Ok(())
}

/// A layer that is loaded leaves zeros in the rest of its pages, mapped or copied, by the host or
/// for the guest, and nothing beyond.
pub fn zeros_around(engine: &dyn Engine) -> Outcome {
    let bytes = guest::pattern(14, 3 * PAGE_LEN);
    let file = guest::file(&bytes)?;
    let copied = Source::open(file.path())?;
    let in_memory = Source::from_bytes(bytes.clone());
    let mapped = guest::mapped(file.path())?;
    for (offset, source_offset, len) in [
        (PAGE, 0, 1),
        (PAGE + 5_000, 5_000, 10),
        (2 * PAGE - 1, PAGE - 1, 2),
        (PAGE + 7, 7, 2 * PAGE),
    ] {
        let (start, from) = (usize::try_from(PAGE + offset)?, usize::try_from(source_offset)?);
        let end = start + usize::try_from(len)?;
        let mut expected = vec![0x77; PAGE_LEN * (1 + usize::try_from(PAGES)?)];
        expected[start - start % PAGE_LEN..end.next_multiple_of(PAGE_LEN)].fill(0);
        expected[start..end].copy_from_slice(&bytes[from..from + (end - start)]);
        for (source, by_the_guest) in
            [(&copied, false), (&in_memory, false), (&mapped, false), (&mapped, true)]
        {
            let mut runtime = start_filled(engine, source, offset, source_offset, len)?;
            if by_the_guest {
                runtime.call("map", &[Value::I32(1)])?;
            } else {
                runtime.load_layer(LAYER)?;
            }
            same_bytes(&format!("{len} bytes at {offset}"), runtime.memory(), &expected)?;
            runtime.release_layer(LAYER)?;
            let mut released = expected.clone();
            released[start..end].fill(0);
            same_bytes("released", runtime.memory(), &released)?;
        }
    }
    Ok(())
}

/// A guest with a layer that is not loaded yet, every byte of which is 0x77.
fn start_filled(
    engine: &dyn Engine,
    source: &Source,
    offset: u64,
    source_offset: u64,
    bytes: u64,
) -> Result<Box<dyn Runtime>, Failure> {
    let mut runtime = start(engine, source, offset, source_offset, bytes)?;
    runtime.memory_mut().fill(0x77);
    Ok(runtime)
}

/// A layer of which only a part can be read is not loaded, and zeros are in its place.
pub fn half_read(engine: &dyn Engine) -> Outcome {
    let Some(source) = half_readable()? else { return Ok(()) };
    let len = source.len();
    for by_the_guest in [false, true] {
        let mut runtime = start_filled(engine, &source, PAGE, 0, len)?;
        for _ in 0..2 {
            if by_the_guest {
                let got = runtime.call("map", &[Value::I32(1)])?;
                holds(matches!(got[..], [Value::I64(code)] if code < 0), || format!("{got:?}"))?;
            } else {
                let error = runtime.load_layer(LAYER).map(|_| ()).err();
                holds(error.is_some(), || "a layer was loaded that cannot be read".into())?;
            }
            let mut expected = vec![0x77; runtime.memory().len()];
            expected[2 * PAGE_LEN..3 * PAGE_LEN].fill(0);
            same_bytes("the guest", runtime.memory(), &expected)?;
        }
        equal("loads", runtime.stats().loads, 0)?;
    }
    Ok(())
}

/// A file that says it is longer than what can be read of it, if the system has one: those of
/// /sys claim a page.
fn half_readable() -> Result<Option<Source>, Failure> {
    let files = ["/sys/devices/system/cpu/online", "/sys/devices/system/cpu/possible"];
    for path in files.iter().map(Path::new) {
        let (Ok(content), Ok(metadata)) = (std::fs::read(path), std::fs::metadata(path)) else {
            continue;
        };
        if !content.is_empty() && (content.len() as u64) < metadata.len() {
            return Ok(Some(Source::open(path)?));
        }
    }
    Ok(None)
}

/// Many small layers that were loaded and released leave no mappings behind: copied ones, of
/// which there may be as many as there are pages, and mapped ones.
pub fn many_layers(engine: &dyn Engine) -> Outcome {
    const PLACES: u64 = 20_000;
    let file = guest::file(&guest::pattern(15, PAGE_LEN))?;
    let (copied, mapped) = (Source::open(file.path())?, guest::mapped(file.path())?);
    let mut runtime = guest::start(engine, WAT)?;
    let memory = runtime.create_memory64(&MemorySpec::guest(2 * PLACES * PAGE))?;
    let before = mappings(&*runtime, file.path())?;
    let register = |runtime: &mut dyn Runtime, id: u32, place: u64, source: &Source| {
        let spec = guest::layer(id, memory, 2 * place * PAGE, source);
        runtime.register_layer(spec.part(0, 1))
    };
    // Every other page, twice.
    for (id, place) in (0..).zip((0..PLACES).chain(0..PLACES)) {
        register(&mut *runtime, id, place, &copied)?;
        runtime.load_layer(LayerId(id))?;
        if id % 2 == 0 {
            runtime.release_layer(LayerId(id))?;
        }
        runtime.unregister_layer(LayerId(id))?;
    }
    let now = mappings(&*runtime, file.path())?;
    few_more("copied", before.as_ref(), now.as_ref())?;
    // As many as may be mapped at once, and pages between them that the guest uses meanwhile.
    let ids = || (0_u32..).zip(0..1_000);
    for (id, place) in ids() {
        register(&mut *runtime, id, place, &mapped)?;
        equal("method", runtime.load_layer(LayerId(id))?.method, LoadMethod::Mapped)?;
        let beside = i32::try_from((2 * place + 2) * PAGE)?;
        runtime.call("store", &[beside.into(), Value::I32(1)])?;
    }
    for (id, place) in ids().map(|(id, _)| (id * 7 % 1_000, u64::from(id * 7 % 1_000))) {
        runtime.release_layer(LayerId(id))?;
        let at = i32::try_from((2 * place + 1) * PAGE)?;
        equal("released", runtime.call("load", &[at.into()])?, vec![Value::I32(0)])?;
    }
    let now = mappings(&*runtime, file.path())?;
    few_more("mapped", before.as_ref(), now.as_ref())
}

/// Checks that a guest has hardly more mappings than before, and none of the file.
fn few_more(what: &str, before: Option<&Mappings>, now: Option<&Mappings>) -> Outcome {
    let (Some(before), Some(now)) = (before, now) else { return Ok(()) };
    equal("mappings of the file", now.of_file, 0)?;
    holds(now.of_guest <= before.of_guest + 4, || {
        let (before, now) = (before.of_guest, now.of_guest);
        format!("the guest has {now} mappings after {what} layers are gone, and had {before}")
    })
}

/// How many mappings the process has of a file, and within a guest's memory.
struct Mappings {
    of_file: usize,
    of_guest: usize,
}

/// Read from the operating system; none where it does not tell. Other cases may run at the
/// same time, so only what belongs to this one is counted.
fn mappings(runtime: &dyn Runtime, path: &Path) -> Result<Option<Mappings>, Failure> {
    if !cfg!(target_os = "linux") {
        return Ok(None);
    }
    let start = runtime.memory().as_ptr().addr();
    let end = start + runtime.memory().len();
    let path = path.to_string_lossy();
    let mut found = Mappings { of_file: 0, of_guest: 0 };
    for line in std::fs::read_to_string("/proc/self/maps")?.lines() {
        let range = line.split_once(' ').and_then(|(range, _)| range.split_once('-'));
        let Some((from, to)) = range else { continue };
        let (from, to) = (usize::from_str_radix(from, 16)?, usize::from_str_radix(to, 16)?);
        found.of_guest += usize::from(from < end && start < to);
        found.of_file += usize::from(line.ends_with(&*path));
    }
    Ok(Some(found))
}
