//! Loading layers and releasing them.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, LoadMethod, MemoryId, MemorySpec, Runtime, Source,
};

use super::requests::{WAT, counts, refuses};
use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

/// A layer is brought in once, to exactly its place, in either kind of memory.
pub fn load_layer(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::guest(4 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(4 * PAGE))?;
    let bytes = guest::pattern(5, PAGE_LEN + 10);
    let source = Source::from_bytes(bytes.clone());
    for (id, address) in [(0, Some(2 * PAGE + PAGE + 33)), (1, None)] {
        runtime.register_layer(guest::layer(id, MemoryId(id), PAGE + 33, &source))?;
        equal("before", &layer(&*runtime, id)?, &vec![0; bytes.len()])?;
        let load = |runtime: &mut dyn Runtime| runtime.load_layer(LayerId(id));
        let loaded = counts(&mut *runtime, load, |stats| {
            stats.loads += 1;
            stats.bytes_loaded += bytes.len() as u64;
        })??;
        equal("address", loaded.address, address)?;
        equal("bytes", loaded.bytes, bytes.len() as u64)?;
        equal("method", loaded.method, LoadMethod::Copied)?;
        same_bytes("the layer", &layer(&*runtime, id)?, &bytes)?;

        let again = counts(&mut *runtime, load, |_| ())??;
        equal(
            "again",
            (again.address, again.bytes, again.method),
            (address, loaded.bytes, loaded.method),
        )?;
        equal("time that it took again", again.took.as_nanos(), 0)?;
        let around = [(PAGE, 33), (2 * PAGE + 43, PAGE - 43)];
        for (offset, len) in around {
            let mut beside = vec![1; usize::try_from(len)?];
            runtime.read_memory64(MemoryId(id), offset, &mut beside)?;
            equal("bytes beside it", beside.iter().position(|byte| *byte != 0), None)?;
        }
    }
    Ok(())
}

/// A layer that cannot be read is not loaded, and leaves nothing behind.
pub fn load_layer_refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    for id in [0, 7, u32::MAX] {
        let load = |runtime: &mut dyn Runtime| runtime.load_layer(LayerId(id));
        let error = refuses(&mut *runtime, &[&id.to_string()], load)?;
        holds(matches!(error, Error::LayerNotFound { .. }), || error.to_string())?;
        let release = |runtime: &mut dyn Runtime| runtime.release_layer(LayerId(id));
        let error = refuses(&mut *runtime, &[&id.to_string()], release)?;
        holds(matches!(error, Error::LayerNotFound { .. }), || error.to_string())?;
    }
    runtime.create_memory64(&MemorySpec::guest(4 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(4 * PAGE))?;
    let bytes = guest::pattern(6, PAGE_LEN + 10);
    let file = guest::file(&bytes)?;
    let source = Source::open(file.path())?;
    file.as_file().set_len(5_000)?;
    for id in [0, 1] {
        runtime.register_layer(guest::layer(id, MemoryId(id), PAGE + 33, &source))?;
        let load = |runtime: &mut dyn Runtime| runtime.load_layer(LayerId(id));
        let error = refuses(&mut *runtime, &["shrunk to 5000 bytes"], load)?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
        let zeros = vec![0; bytes.len()];
        same_bytes("the place of the layer", &layer(&*runtime, id)?, &zeros)?;
    }
    // With the file restored, so is the layer.
    std::fs::write(file.path(), &bytes)?;
    for id in [0, 1] {
        runtime.load_layer(LayerId(id))?;
        same_bytes("the layer", &layer(&*runtime, id)?, &bytes)?;
    }
    Ok(())
}

/// A released layer reads as zeros, and can be loaded again.
pub fn release_layer(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.memory_mut().fill(0x11);
    runtime.create_memory64(&MemorySpec::guest(4 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(4 * PAGE))?;
    let bytes = guest::pattern(5, PAGE_LEN + 10);
    let source = Source::from_bytes(bytes.clone());
    for id in [0, 1] {
        let (memory, zeros) = (MemoryId(id), vec![0; bytes.len()]);
        runtime.register_layer(guest::layer(id, memory, PAGE + 33, &source))?;
        // The pages before and after belong to no layer, so loading and releasing leave them alone.
        for page in [0, 3] {
            runtime.write_memory64(memory, page * PAGE, &[0x22; PAGE_LEN])?;
        }
        let release = |runtime: &mut dyn Runtime| runtime.release_layer(LayerId(id));
        counts(&mut *runtime, release, |_| ())??;
        for _ in 0..3 {
            runtime.load_layer(LayerId(id))?;
            runtime.write_memory64(memory, PAGE + 33, b"overwritten")?;
            counts(&mut *runtime, release, |stats| stats.releases += 1)??;
            same_bytes("after the release", &layer(&*runtime, id)?, &zeros)?;
            counts(&mut *runtime, release, |_| ())??;
            let loaded = runtime.load_layer(LayerId(id))?;
            equal("method", loaded.method, LoadMethod::Copied)?;
            same_bytes("after loading again", &layer(&*runtime, id)?, &bytes)?;
            runtime.release_layer(LayerId(id))?;
        }
        for page in [0, 3] {
            let mut beside = vec![0; PAGE_LEN];
            runtime.read_memory64(memory, page * PAGE, &mut beside)?;
            same_bytes("the page beside", &beside, &[0x22; PAGE_LEN])?;
        }
    }
    let own = &runtime.memory()[..2 * PAGE_LEN];
    same_bytes("the guest's own pages", own, &[0x11; 2 * PAGE_LEN])
}

/// The bytes at the place of the layer that both memories of a case have.
fn layer(runtime: &dyn Runtime, memory: u32) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![1; PAGE_LEN + 10];
    runtime.read_memory64(MemoryId(memory), PAGE + 33, &mut bytes)?;
    Ok(bytes)
}
