//! Layers that share a window, and reading them ahead.

use std::path::Path;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, LoadedLayer, Pager, Policy, Runtime, Source, SourceRange,
};

use super::requests::WAT;
use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, PAGE_LEN};
use crate::{Failure, Outcome};

/// Layers that share a window are whole whenever they are required.
pub fn pager(engine: &dyn Engine) -> Outcome {
    const LAYERS: u32 = 9;
    let all = guest::pattern(1, 40 * PAGE_LEN);
    let file = guest::file(&all)?;
    // From one to three pages long, and anywhere in their pages.
    let layers: Vec<_> = (0..LAYERS)
        .map(|id| {
            SourceRange::new(
                LayerId(id),
                format!("layer {id}"),
                u64::from(id) * 4 * PAGE + u64::from(id) * 777,
                PAGE * u64::from(id % 3) + 5_000,
            )
        })
        .collect();
    for policy in [Policy::Pinned, Policy::Lru] {
        for window in [7, 9, 64] {
            let source = Source::open(file.path())?;
            let mut runtime = guest::start(engine, WAT)?;
            let sources = layers.iter().cloned();
            let mut pager = Pager::new(&mut *runtime, source, sources, window * PAGE, policy)?;
            // In an order with repetitions that visits every pair of neighbors.
            for step in 0..40 {
                let ids = [LayerId(step * 2 % LAYERS), LayerId((step * 5 + 1) % LAYERS)];
                pager.prefetch(&mut *runtime, &ids)?;
                pager.require(&mut *runtime, &ids)?;
                for id in ids {
                    let LoadedLayer { address, .. } = runtime.load_layer(id)?;
                    let (layer, start) = (&layers[id.0 as usize], address.unwrap_or(0));
                    let (at, len) = (usize::try_from(start)?, usize::try_from(layer.bytes)?);
                    let from = usize::try_from(layer.start)?;
                    same_bytes(
                        "the layer",
                        &runtime.memory()[at..at + len],
                        &all[from..from + len],
                    )?;
                }
            }
            let stats = pager.stats();
            equal("loads", runtime.stats().loads, stats.misses)?;
            equal("releases", runtime.stats().releases, stats.evictions)?;
            holds((stats.evictions == 0) == (window == 64), || format!("{stats:?}"))?;
            refused(pager.require(&mut *runtime, &[LayerId(LAYERS)]), &["9"])?;
        }
    }
    let mut runtime = guest::start(engine, WAT)?;
    let source = Source::from_bytes(all);
    let mut pager = Pager::new(&mut *runtime, source, layers, 2 * PAGE, Policy::Lru)?;
    refused(pager.require(&mut *runtime, &[LayerId(2)]), &["layer 2", "196608", "131072"])?;
    pager.require(&mut *runtime, &[LayerId(0)])?;
    Ok(())
}

/// Layers in the cases of reading ahead, of two pages each. The window has room for two.
const AHEAD: u32 = 4;

/// Layers that are read ahead are whole, and none is read twice.
pub fn pager_ahead(engine: &dyn Engine) -> Outcome {
    const TURNS: u32 = 9;
    let all = guest::pattern(2, 2 * AHEAD as usize * PAGE_LEN);
    let file = guest::file(&all)?;
    let (mut runtime, mut pager) = window_of_two(engine, file.path())?;
    let mut turns = 0;
    // The system need not drop all that it is asked to, and may bring it back on its own.
    while turns < TURNS || (pager.stats().prefetch_bytes == 0 && turns < 50 * TURNS) {
        let turn = turns;
        turns += 1;
        let id = LayerId(turn % AHEAD);
        // What was just read is in the cache of the system, but on every other turn.
        if turn % 2 == 0 {
            guest::drop_cached(file.as_file())?;
        }
        if turn > 0 {
            pager.prefetch(&mut *runtime, &[id])?;
        }
        pager.require(&mut *runtime, &[id])?;
        is_whole(&mut *runtime, id, &all)?;
    }
    let stats = pager.stats();
    let ahead = u64::from(turns) - 1;
    equal("brought in", stats.misses, u64::from(turns))?;
    equal("asked for ahead", (stats.prefetches, stats.prefetch_hits), (ahead, ahead))?;
    // Nothing is read twice, and nothing is left out.
    let read = stats.prefetch_bytes + stats.prefetch_cached * 2 * PAGE;
    equal("bytes read ahead, or in the cache", read, ahead * 2 * PAGE)?;
    holds(stats.prefetch_bytes > 0, || format!("{stats:?}"))
}

/// A failure to read ahead is an error when the layer is required, and can pass.
pub fn pager_ahead_failure(engine: &dyn Engine) -> Outcome {
    let all = guest::pattern(3, 2 * AHEAD as usize * PAGE_LEN);
    let file = guest::file(&all)?;
    let (mut runtime, mut pager) = window_of_two(engine, file.path())?;
    pager.require(&mut *runtime, &[LayerId(0)])?;
    file.as_file().set_len(PAGE)?;
    let next = [LayerId(1)];
    for _ in 0..2 {
        pager.prefetch(&mut *runtime, &next)?;
        let error = refused(pager.require(&mut *runtime, &next), &["65536", "131072"])?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
    }
    std::fs::write(file.path(), &all)?;
    pager.require(&mut *runtime, &next)?;
    is_whole(&mut *runtime, next[0], &all)
}

/// A layer that was read ahead in vain makes way for the one that is required.
pub fn pager_ahead_dropped(engine: &dyn Engine) -> Outcome {
    let all = guest::pattern(4, 2 * AHEAD as usize * PAGE_LEN);
    let file = guest::file(&all)?;
    let (mut runtime, mut pager) = window_of_two(engine, file.path())?;
    for id in [0, 1].map(LayerId) {
        pager.require(&mut *runtime, &[id])?;
    }
    let [dropped, other] = [2, 3].map(LayerId);
    pager.prefetch(&mut *runtime, &[dropped])?;
    pager.prefetch(&mut *runtime, &[other])?;
    for id in [dropped, other] {
        pager.require(&mut *runtime, &[id])?;
        is_whole(&mut *runtime, id, &all)?;
    }
    Ok(())
}

/// A guest and a window with room for two of the layers of a file.
fn window_of_two(engine: &dyn Engine, path: &Path) -> Result<(Box<dyn Runtime>, Pager), Failure> {
    let layers = (0..AHEAD).map(|id| {
        SourceRange::new(LayerId(id), format!("layer {id}"), u64::from(id) * 2 * PAGE, 2 * PAGE)
    });
    let mut runtime = guest::start(engine, WAT)?;
    let source = Source::open(path)?;
    let pager = Pager::new(&mut *runtime, source, layers, 4 * PAGE, Policy::Lru)?;
    Ok((runtime, pager))
}

/// A layer that is required has the bytes of the file.
fn is_whole(runtime: &mut dyn Runtime, id: LayerId, all: &[u8]) -> Outcome {
    let at = usize::try_from(runtime.load_layer(id)?.address.unwrap_or(0))?;
    let (from, len) = (2 * id.0 as usize * PAGE_LEN, 2 * PAGE_LEN);
    same_bytes("the layer", &runtime.memory()[at..at + len], &all[from..from + len])
}
