//! Registering layers and unregistering them.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, LayerSpec, MemoryId, MemorySpec, Runtime, Source, Stats,
};

use super::requests::{WAT, counts, refuses};
use crate::Outcome;
use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};

fn spec(id: u32, memory: u32, offset: u64, bytes: u64) -> LayerSpec {
    let source = Source::from_bytes(vec![7; 4 * PAGE_LEN]);
    let memory = MemoryId(memory);
    guest::layer(id, memory, offset, &source).part(0, bytes)
}

/// A layer must have a number, bytes, a source and pages of its own.
pub fn register_layer_refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::guest(6 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(6 * PAGE))?;
    for id in [0, 1] {
        let spec = spec(id, id, 2 * PAGE + 100, PAGE);
        counts(&mut *runtime, |runtime| runtime.register_layer(spec), |stats| stats.layers += 1)??;
    }
    let source_end = spec(9, 0, 0, PAGE).part(3 * PAGE + 1, PAGE);
    let source_max = spec(9, 0, 0, PAGE).part(u64::MAX, PAGE);
    for (layer, says) in [
        (spec(0, 0, 0, 1), "same number"),
        (spec(0, 1, 0, 1), "same number"),
        (spec(1 << 31, 0, 0, 1), "beyond 2147483647"),
        (spec(9, 0, 0, 0), "no bytes"),
        (spec(9, 0, 6 * PAGE, 1), "its place"),
        (spec(9, 0, 6 * PAGE - 1, 2), "its place"),
        (spec(9, 0, u64::MAX, 1), "its place"),
        (spec(9, 0, 1, u64::MAX), "its place"),
        (spec(9, 0, 0, 4 * PAGE + 1), "its source"),
        (source_end, "its source"),
        (source_max, "its source"),
        // The other layer has pages 2 and 3, of which it fills neither.
        (spec(9, 0, 2 * PAGE, 1), "overlap"),
        (spec(9, 0, 4 * PAGE - 1, 1), "overlap"),
        (spec(9, 0, PAGE, PAGE + 1), "overlap"),
        (spec(9, 0, PAGE, 4 * PAGE), "overlap"),
        (spec(9, 1, 3 * PAGE, 1), "overlap"),
    ] {
        let error = refuses(&mut *runtime, &[says], |runtime| runtime.register_layer(layer))?;
        holds(matches!(error, Error::InvalidLayer { .. }), || error.to_string())?;
    }
    let missing = spec(9, 2, 0, 1);
    let error = refuses(&mut *runtime, &["memory 2"], |runtime| runtime.register_layer(missing))?;
    holds(matches!(error, Error::MemoryNotFound { .. }), || error.to_string())?;
    // Beside the others, and up to the last byte of memory and source, all is well.
    for (id, offset, bytes) in [(9, 2 * PAGE - 1, 1), (i32::MAX as u32, 4 * PAGE, 2 * PAGE)] {
        let layer = spec(id, 0, offset, bytes).part(4 * PAGE - bytes, bytes);
        runtime.register_layer(layer)?;
    }
    equal("layers", runtime.stats().layers, 4)
}

/// A layer that is unregistered leaves zeros, and its number and place to others.
pub fn unregister_layer(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::guest(4 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(4 * PAGE))?;
    for id in [0, 1] {
        let unregister = |runtime: &mut dyn Runtime| runtime.unregister_layer(LayerId(id));
        refuses(&mut *runtime, &[&id.to_string()], unregister)?;
        for seed in 0..3 {
            let bytes = guest::pattern(seed, PAGE_LEN + 10);
            let source = Source::from_bytes(bytes.clone());
            // Another source at the same place by the same number, and then at another place.
            let offset = PAGE * (seed % 2) + 33;
            runtime.register_layer(guest::layer(id, MemoryId(id), offset, &source))?;
            counts(&mut *runtime, unregister, |stats| stats.layers -= 1)??;
            runtime.register_layer(guest::layer(id, MemoryId(id), offset, &source))?;
            runtime.load_layer(LayerId(id))?;
            let mut found = vec![0; bytes.len()];
            runtime.read_memory64(MemoryId(id), offset, &mut found)?;
            same_bytes("the layer", &found, &bytes)?;
            let count = |stats: &mut Stats| {
                stats.layers -= 1;
                stats.releases += 1;
            };
            counts(&mut *runtime, unregister, count)??;
            runtime.read_memory64(MemoryId(id), offset, &mut found)?;
            same_bytes("after it", &found, &vec![0; bytes.len()])?;
        }
        refuses(&mut *runtime, &[&id.to_string()], unregister)?;
    }
    Ok(())
}
