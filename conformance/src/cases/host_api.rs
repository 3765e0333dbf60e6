//! `create_memory64`, `register_layer`, `load_layer`, `release_layer`, reading and writing.

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Engine, Error, LayerId, LayerSpec, LoadMethod, LoadedLayer, MemoryId, MemoryKind, MemorySpec,
    Pager, Policy, Runtime, Source, SourceRange, Stats,
};

use crate::check::{equal, holds, refused, same_bytes};
use crate::guest::{self, NOTHING, PAGE_LEN};
use crate::{Case, Failure, Outcome};

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "host_api/create_memory64",
        promise: "memories have whole pages, are zero, and lie one after the other",
        needs: NOTHING,
        run: create_memory64,
    },
    Case {
        name: "host_api/create_memory64_refusals",
        promise: "a memory without bytes or beyond the limits is refused with the numbers",
        needs: NOTHING,
        run: create_memory64_refusals,
    },
    Case {
        name: "host_api/register_layer_refusals",
        promise: "a layer must have a number, bytes, a source and pages of its own",
        needs: NOTHING,
        run: register_layer_refusals,
    },
    Case {
        name: "host_api/load_layer",
        promise: "a layer is brought in once, to exactly its place, in either kind of memory",
        needs: NOTHING,
        run: load_layer,
    },
    Case {
        name: "host_api/load_layer_refusals",
        promise: "a layer that cannot be read is not loaded, and leaves nothing behind",
        needs: NOTHING,
        run: load_layer_refusals,
    },
    Case {
        name: "host_api/release_layer",
        promise: "a released layer reads as zeros, and can be loaded again",
        needs: NOTHING,
        run: release_layer,
    },
    Case {
        name: "host_api/unregister_layer",
        promise: "a layer that is unregistered leaves zeros, and its number and place to others",
        needs: NOTHING,
        run: unregister_layer,
    },
    Case {
        name: "host_api/anonymous_layer",
        promise: "what is written to a layer without a file survives its release, compressed",
        needs: NOTHING,
        run: anonymous_layer,
    },
    Case {
        name: "host_api/pager",
        promise: "layers that take turns in a window are whole whenever they are required",
        needs: NOTHING,
        run: pager,
    },
    Case {
        name: "host_api/pager_ahead",
        promise: "layers that are read ahead are whole, and what fails there is said when required",
        needs: NOTHING,
        run: pager_ahead,
    },
    Case {
        name: "host_api/read_and_write",
        promise: "what is written is read back, and nothing beside it changes",
        needs: NOTHING,
        run: read_and_write,
    },
    Case {
        name: "host_api/read_and_write_refusals",
        promise: "a range that leaves its memory is refused, although another memory follows",
        needs: NOTHING,
        run: read_and_write_refusals,
    },
    Case {
        name: "host_api/guest_and_host_memory_agree",
        promise: "a memory in the guest is the range that the guest was grown by",
        needs: NOTHING,
        run: guest_and_host_memory_agree,
    },
];

const WAT: &str = r#"(module (memory (export "memory") 2)
    (func (export "size") (result i32) (memory.size))
    (func (export "load") (param i32) (result i32) (i32.load8_u (local.get 0))))"#;

/// Runs a request and checks which counters it changes, and how.
#[track_caller]
fn counts<T>(
    runtime: &mut dyn Runtime,
    request: impl FnOnce(&mut dyn Runtime) -> T,
    count: impl FnOnce(&mut Stats),
) -> Result<T, Failure> {
    let mut expected = runtime.stats();
    let result = request(runtime);
    count(&mut expected);
    let now = runtime.stats();
    expected.load_nanos = now.load_nanos;
    expected.compress_nanos = now.compress_nanos;
    expected.decompress_nanos = now.decompress_nanos;
    equal("counters", now, expected)?;
    Ok(result)
}

/// A request is refused, counts one error and changes nothing else.
#[track_caller]
fn refuses<T>(
    runtime: &mut dyn Runtime,
    says: &[&str],
    request: impl FnOnce(&mut dyn Runtime) -> polychord_runtime_api::Result<T>,
) -> Result<Error, Failure> {
    let before = runtime.memory().to_vec();
    let result = counts(runtime, request, |stats| stats.errors += 1)?;
    let error = refused(result, says)?;
    same_bytes("memory of the guest", runtime.memory(), &before)?;
    Ok(error)
}

/// Memories have whole pages, are zero, and lie one after the other.
pub fn create_memory64(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.memory_mut().fill(0xee);
    equal("at the start", runtime.stats().memory64_bytes, 0)?;
    let specs = [
        (MemorySpec::host(1), 1),
        (MemorySpec::guest(PAGE), 1),
        (MemorySpec::guest(PAGE + 1), 2),
        (MemorySpec::host(3 * PAGE), 3),
    ];
    for (id, (spec, pages)) in (0..).zip(specs) {
        let grown = if spec.kind == MemoryKind::Host { 0 } else { pages * PAGE };
        let memory = counts(
            &mut *runtime,
            |runtime| runtime.create_memory64(&spec),
            |stats| {
                stats.memory64_bytes += pages * PAGE;
                stats.guest_bytes += grown;
            },
        )??;
        equal("number", memory, MemoryId(id))?;
        let mut all = vec![1; usize::try_from(pages * PAGE)?];
        runtime.read_memory64(memory, 0, &mut all)?;
        equal("first byte that is not zero", all.iter().position(|byte| *byte != 0), None)?;
    }
    let size = runtime.call("size", &[])?;
    equal("pages of the guest", size, vec![5.into()])
}

/// A memory without bytes or beyond the limits is refused with the numbers.
pub fn create_memory64_refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    let limit = 1_u64 << 32;
    for spec in [
        MemorySpec::host(0),
        MemorySpec::guest(0),
        MemorySpec::host((16 << 40) + 1),
        MemorySpec::host(u64::MAX),
        MemorySpec::guest(u64::MAX),
        MemorySpec::guest(u64::MAX - PAGE),
        MemorySpec::guest(limit),
        // The guest has two pages, so this is one byte too many.
        MemorySpec::guest(limit - 2 * PAGE + 1),
    ] {
        let error = refuses(&mut *runtime, &[], |runtime| runtime.create_memory64(&spec))?;
        holds(matches!(error, Error::TooLarge { .. }), || format!("{spec:?}: {error}"))?;
    }
    let after = runtime.create_memory64(&MemorySpec::guest(PAGE))?;
    equal("the first that succeeds", after, MemoryId(0))
}

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

/// The bytes at the place of the layer that both memories of a case have.
fn layer(runtime: &dyn Runtime, memory: u32) -> Result<Vec<u8>, Failure> {
    let mut bytes = vec![1; PAGE_LEN + 10];
    runtime.read_memory64(MemoryId(memory), PAGE + 33, &mut bytes)?;
    Ok(bytes)
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
        // The pages before and after belong to nobody, so nobody touches them.
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

/// What is written to a layer without a file survives its release, compressed.
pub fn anonymous_layer(engine: &dyn Engine) -> Outcome {
    const LEN: usize = 2 * PAGE_LEN + 10;
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::guest(4 * PAGE))?;
    runtime.create_memory64(&MemorySpec::host(4 * PAGE))?;
    let (zeros, noise) = (vec![0; LEN], guest::pattern(8, LEN));
    for id in [0, 1] {
        // Room for bytes that are the same over and over, and not for those that are not.
        let source = Source::anonymous(LEN as u64, PAGE);
        runtime.register_layer(guest::layer(id, MemoryId(id), PAGE + 33, &source))?;
        let place = |runtime: &dyn Runtime| {
            let mut bytes = vec![1; LEN];
            runtime.read_memory64(MemoryId(id), PAGE + 33, &mut bytes)?;
            Ok::<_, Failure>(bytes)
        };
        let load = |runtime: &mut dyn Runtime| runtime.load_layer(LayerId(id));
        let loaded = |stats: &mut Stats| {
            stats.loads += 1;
            stats.bytes_loaded += LEN as u64;
        };
        counts(&mut *runtime, load, loaded)??;
        same_bytes("a new layer", &place(&*runtime)?, &zeros)?;
        for seed in 0..3 {
            let written = guest::pattern(seed, 99).repeat(LEN / 99 + 1);
            runtime.write_memory64(MemoryId(id), PAGE + 33, &written[..LEN])?;
            let before = runtime.stats();
            runtime.release_layer(LayerId(id))?;
            let now = runtime.stats();
            same_bytes("after the release", &place(&*runtime)?, &zeros)?;
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
            same_bytes("after loading again", &place(&*runtime)?, &written[..LEN])?;
        }
        runtime.write_memory64(MemoryId(id), PAGE + 33, &noise)?;
        let release = |runtime: &mut dyn Runtime| runtime.release_layer(LayerId(id));
        let error = refuses(&mut *runtime, &["anonymous source", "65536"], release)?;
        holds(matches!(error, Error::TooLarge { .. }), || error.to_string())?;
        counts(&mut *runtime, load, |_| ())??;
        same_bytes("a layer without room", &place(&*runtime)?, &noise)?;
    }
    anonymous_layers_take_turns(engine)
}

/// A pager keeps what was written, wherever it was.
fn anonymous_layers_take_turns(engine: &dyn Engine) -> Outcome {
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
    // A new layer may share a compressed page with its neighbour.
    holds(stats.decompressions >= pager.misses - u64::from(LAYERS), || format!("{stats:?}"))
}

/// Layers that take turns in a window are whole whenever they are required.
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
            // In an order with repetitions that visits every pair of neighbours.
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

/// Layers that are read ahead are whole, and what fails there is said when they are required.
pub fn pager_ahead(engine: &dyn Engine) -> Outcome {
    const LAYERS: u32 = 4;
    const TURNS: u32 = 9;
    let all = guest::pattern(2, 2 * LAYERS as usize * PAGE_LEN);
    let file = guest::file(&all)?;
    let layers = (0..LAYERS).map(|id| {
        SourceRange::new(LayerId(id), format!("layer {id}"), u64::from(id) * 2 * PAGE, 2 * PAGE)
    });
    let mut runtime = guest::start(engine, WAT)?;
    let source = Source::open(file.path())?;
    let mut pager = Pager::new(&mut *runtime, source, layers, 4 * PAGE, Policy::Lru)?;
    let mut turns = 0;
    // The system need not drop all that it is asked to, and may bring it back on its own.
    while turns < TURNS || (pager.stats().prefetch_bytes == 0 && turns < 50 * TURNS) {
        let turn = turns;
        turns += 1;
        let id = LayerId(turn % LAYERS);
        // What was just read is in the cache of the system, but on every other turn.
        if turn % 2 == 0 {
            guest::drop_cached(file.as_file())?;
        }
        if turn > 0 {
            pager.prefetch(&mut *runtime, &[id])?;
        }
        pager.require(&mut *runtime, &[id])?;
        let start = runtime.load_layer(id)?.address.unwrap_or(0);
        let at = usize::try_from(start)?;
        let from = 2 * id.0 as usize * PAGE_LEN;
        let (got, len) = (&runtime.memory()[at..], 2 * PAGE_LEN);
        same_bytes("the layer", &got[..len], &all[from..from + len])?;
    }
    let stats = pager.stats();
    let ahead = u64::from(turns) - 1;
    equal("brought in", stats.misses, u64::from(turns))?;
    equal("asked for ahead", (stats.prefetches, stats.prefetch_hits), (ahead, ahead))?;
    // Nothing is read twice, and nothing is left out.
    let read = stats.prefetch_bytes + stats.prefetch_cached * 2 * PAGE;
    equal("bytes read ahead, or in the cache", read, ahead * 2 * PAGE)?;
    holds(stats.prefetch_bytes > 0, || format!("{stats:?}"))?;
    file.as_file().set_len(PAGE)?;
    let next = [LayerId(turns % LAYERS)];
    for _ in 0..2 {
        pager.prefetch(&mut *runtime, &next)?;
        let error = refused(pager.require(&mut *runtime, &next), &["65536", "131072"])?;
        holds(matches!(error, Error::Truncated { .. }), || error.to_string())?;
    }
    std::fs::write(file.path(), &all)?;
    pager.require(&mut *runtime, &next)?;
    // What nobody requires any more is dropped.
    pager.prefetch(&mut *runtime, &[LayerId(2)])?;
    pager.prefetch(&mut *runtime, &[LayerId(3)])?;
    pager.require(&mut *runtime, &[LayerId(2)])?;
    Ok(pager.require(&mut *runtime, &[LayerId(3)])?)
}

/// What is written is read back, and nothing beside it changes.
pub fn read_and_write(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    runtime.create_memory64(&MemorySpec::host(2 * PAGE))?;
    runtime.create_memory64(&MemorySpec::guest(2 * PAGE))?;
    for memory in [MemoryId(0), MemoryId(1)] {
        let mut expected = vec![0; 2 * PAGE_LEN];
        for (offset, len) in [(0, 1), (17, 300), (PAGE - 5, 10), (2 * PAGE - 9, 9), (2 * PAGE, 0)] {
            let data = guest::pattern(offset, len);
            let write = |runtime: &mut dyn Runtime| runtime.write_memory64(memory, offset, &data);
            counts(&mut *runtime, write, |stats| {
                stats.writes += 1;
                stats.bytes_written += len as u64;
            })??;
            let start = usize::try_from(offset)?;
            expected[start..start + len].copy_from_slice(&data);
            let mut all = vec![1; expected.len()];
            let read = |runtime: &mut dyn Runtime| runtime.read_memory64(memory, 0, &mut all);
            counts(&mut *runtime, read, |stats| {
                stats.reads += 1;
                stats.bytes_read += 2 * PAGE;
            })??;
            same_bytes("the memory", &all, &expected)?;
        }
    }
    equal("errors", runtime.stats().errors, 0)
}

/// A range that leaves its memory is refused, although another memory follows.
pub fn read_and_write_refusals(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    for spec in [MemorySpec::host(PAGE), MemorySpec::guest(PAGE), MemorySpec::host(PAGE)] {
        runtime.create_memory64(&spec)?;
    }
    for memory in [0, 1, 2].map(MemoryId) {
        for (offset, len) in [
            (0, PAGE_LEN + 1),
            (PAGE - 1, 2),
            (PAGE, 1),
            (PAGE + 1, 0),
            (u64::MAX, 1),
            (u64::MAX, 0),
        ] {
            let mut bytes = vec![0x5a; len];
            let error = refuses(&mut *runtime, &["leave the memory"], |runtime| {
                runtime.write_memory64(memory, offset, &bytes)
            })?;
            holds(matches!(error, Error::OutOfRange { .. }), || error.to_string())?;
            refuses(&mut *runtime, &["leave the memory"], |runtime| {
                runtime.read_memory64(memory, offset, &mut bytes)
            })?;
            same_bytes("the buffer of the caller", &bytes, &vec![0x5a; len])?;
        }
        let mut all = vec![1; PAGE_LEN];
        runtime.read_memory64(memory, 0, &mut all)?;
        equal("first byte that is not zero", all.iter().position(|byte| *byte != 0), None)?;
    }
    for memory in [3, u32::MAX].map(MemoryId) {
        let error = refuses(&mut *runtime, &["no memory"], |runtime| {
            runtime.read_memory64(memory, 0, &mut [0])
        })?;
        holds(matches!(error, Error::MemoryNotFound { .. }), || error.to_string())?;
        refuses(&mut *runtime, &["no memory"], |runtime| runtime.write_memory64(memory, 0, &[0]))?;
    }
    Ok(())
}

/// A memory in the guest is the range that the guest was grown by.
pub fn guest_and_host_memory_agree(engine: &dyn Engine) -> Outcome {
    let mut runtime = guest::start(engine, WAT)?;
    let memory = runtime.create_memory64(&MemorySpec::guest(2 * PAGE))?;
    runtime.write_memory64(memory, PAGE - 1, &[7, 9])?;
    for (address, value) in [(3 * PAGE - 1, 7), (3 * PAGE, 9), (3 * PAGE + 1, 0)] {
        let index = usize::try_from(address)?;
        equal("as the host sees it", runtime.memory()[index], u8::try_from(value)?)?;
        let got = runtime.call("load", &[i32::try_from(address)?.into()])?;
        equal("as the guest sees it", got, vec![value.into()])?;
    }
    runtime.memory_mut()[2 * PAGE_LEN] = 4;
    let mut first = [0];
    runtime.read_memory64(memory, 0, &mut first)?;
    equal("as the host API sees it", first, [4])
}
