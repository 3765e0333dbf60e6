//! Layers of a mapped file that are copied all the same, or not loaded.

use std::path::Path;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Engine, LoadMethod, MemorySpec, Source, Value};

use super::setup::{LAYER, PAGES, WAT, start, start_filled};
use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

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
