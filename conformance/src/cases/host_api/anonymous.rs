//! Layers without a file.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, MemoryId, MemorySpec, Pager, Policy, Runtime, Source, SourceRange,
    Stats,
};

use super::requests::{WAT, counts, refuses};
use crate::check::{equal, holds, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

/// The length of the layers without a file.
const LEN: usize = 2 * PAGE_LEN + 10;

/// What is written to a layer without a file survives its release, compressed.
pub fn anonymous_layer(engine: &dyn Engine) -> Outcome {
    for id in [0, 1] {
        let (mut runtime, source) = start(engine, id)?;
        let load = |runtime: &mut dyn Runtime| runtime.load_layer(LayerId(id));
        let loaded = |stats: &mut Stats| {
            stats.loads += 1;
            stats.bytes_loaded += LEN as u64;
        };
        counts(&mut *runtime, load, loaded)??;
        same_bytes("a new layer", &place(&*runtime, id)?, &[0; LEN])?;
        for seed in 0..3 {
            let written = guest::pattern(seed, 99).repeat(LEN / 99 + 1);
            runtime.write_memory64(MemoryId(id), PAGE + 33, &written[..LEN])?;
            let before = runtime.stats();
            runtime.release_layer(LayerId(id))?;
            let now = runtime.stats();
            same_bytes("after the release", &place(&*runtime, id)?, &[0; LEN])?;
            equal("compressions", now.compressions, before.compressions + 1)?;
            let bytes = now.bytes_compressed - before.bytes_compressed;
            equal("bytes before", bytes, LEN as u64)?;
            let compressed = now.compressed_bytes - before.compressed_bytes;
            equal("bytes after", compressed, source.compressed_bytes())?;
            holds(0 < compressed && compressed < PAGE / 8, || format!("{compressed} bytes"))?;
            counts(&mut *runtime, load, |stats| {
                loaded(stats);
                stats.decompressions += 1;
            })??;
            same_bytes("after loading again", &place(&*runtime, id)?, &written[..LEN])?;
        }
    }
    Ok(())
}

/// A layer that its source has no room for is not released, and keeps its bytes.
pub fn anonymous_layer_without_room(engine: &dyn Engine) -> Outcome {
    let noise = guest::pattern(8, LEN);
    for id in [0, 1] {
        let (mut runtime, _) = start(engine, id)?;
        runtime.load_layer(LayerId(id))?;
        runtime.write_memory64(MemoryId(id), PAGE + 33, &noise)?;
        let release = |runtime: &mut dyn Runtime| runtime.release_layer(LayerId(id));
        let error = refuses(&mut *runtime, &["anonymous source", "65536"], release)?;
        holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
        let load = |runtime: &mut dyn Runtime| runtime.load_layer(LayerId(id));
        counts(&mut *runtime, load, |_| ())??;
        same_bytes("a layer without room", &place(&*runtime, id)?, &noise)?;
    }
    Ok(())
}

/// A guest with a layer without a file, in a memory of the guest (0) or of the host (1). Its source
/// has room for bytes that repeat, and not for those that do not.
fn start(engine: &dyn Engine, id: u32) -> Result<(Box<dyn Runtime>, Source), Failure> {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::guest(4 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(4 * PAGE))?;
    let source = Source::anonymous(LEN as u64, PAGE);
    runtime.register_layer(guest::layer(id, MemoryId(id), PAGE + 33, &source))?;
    Ok((runtime, source))
}

/// The bytes at the place of the layer.
fn place(runtime: &dyn Runtime, memory: u32) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![1; LEN];
    runtime.read_memory64(MemoryId(memory), PAGE + 33, &mut bytes)?;
    Ok(bytes)
}

/// Layers without a file that share a window keep what was written to them.
pub fn anonymous_pager(engine: &dyn Engine) -> Outcome {
    const LAYERS: u32 = 5;
    let layers = (0..LAYERS).map(|id| {
        SourceRange::new(LayerId(id), format!("layer {id}"), u64::from(id) * (PAGE + 77), PAGE + 77)
    });
    let bytes = u64::from(LAYERS) * (PAGE + 77);
    let source = Source::anonymous(bytes, bytes.next_multiple_of(PAGE));
    let mut runtime = guest::start(engine, WAT)?;
    let mut pager = Pager::new(&mut *runtime, source, layers, 6 * PAGE, Policy::Lru)?;
    let mut expected = vec![vec![0; PAGE_LEN + 77]; LAYERS as usize];
    for turn in 0..3 * LAYERS {
        let id = turn * 2 % LAYERS;
        pager.require(&mut *runtime, &[LayerId(id)])?;
        let at = usize::try_from(runtime.load_layer(LayerId(id))?.address.unwrap_or(0))?;
        let place = at..at + PAGE_LEN + 77;
        let layer = &mut expected[id as usize];
        same_bytes("the layer", &runtime.memory()[place.clone()], layer)?;
        *layer = guest::pattern(turn.into(), layer.len());
        runtime.memory_mut()[place].copy_from_slice(layer);
    }
    let (pager, stats) = (pager.stats(), runtime.stats());
    holds(pager.evictions > 0, || format!("{pager:?}"))?;
    equal("compressions", stats.compressions, pager.evictions)?;
    // A new layer may share a compressed page with its neighbor.
    holds(stats.decompressions >= pager.misses - u64::from(LAYERS), || format!("{stats:?}"))
}
