//! The bytes that a layer leaves, mapped or copied.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, LoadMethod, Source, Value};

use super::setup::{LAYER, PAGES, start, start_filled};
use crate::Outcome;
use crate::check::{equal, same_bytes};
use crate::guest::{self, PAGE_LEN};

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
