//! The same logits wherever weights live: in one memory, in several guests, in a window.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

mod common;

use std::path::Path;
#[cfg(feature = "wasmedge")]
use std::sync::Arc;

use polychord::api::{self, Engine, Memory64, Memory64Choice, Plan, PlannedMemory, Policy};
use polychord::hub::{Hub, ModelRef};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Error, Model, Placement, Ranks, Session, SessionOptions, Split, Transformer,
};
use sha2::{Digest, Sha256};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, skip, test_name};

const PAGE: u64 = 65_536;
/// Room for some layers of the model of [`shape`], but not for all.
const WINDOW: u64 = 16 * PAGE;

/// Seven blocks, some of which begin in the middle of a page.
fn shape() -> Shape {
    Shape { blocks: 7, dim: 128, ffn: 320, vocab: 513, ..Shape::of(GgmlType::Q8_0) }
}

#[test]
fn no_placement_changes_a_bit() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let shapes = [
            shape(),
            Shape { tied: true, ..shape() },
            Shape { rope_freqs: true, kind: GgmlType::F32, ..shape() },
        ];
        shapes.map(|shape| all_placements(engine, &transformer, shape)).concat()
    });
}

/// Where bytes lie in a guest's memory changes nothing either.
#[test]
fn no_split_changes_a_bit() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let shape = Shape { rope_freqs: true, ..shape() };
        let path = Llama::random(shape).save(folder.path());
        let expected = logits(&mut start(&transformer, &path, false, Placement::resident32()));
        let sharded = Placement::sharded32(3);
        let mut plans = String::new();
        for (placement, split, memories) in [
            // Embeddings, attention, feed-forward, output, frequencies, and the cache.
            (Placement::resident32(), Split::ByKind, 6),
            (Placement::auto(), Split::ByKind, 6),
            (Placement::resident32(), Split::CacheApart, 2),
            (Placement::multi32(), Split::ByLayer, 2),
            (Placement::multi32(), Split::ByKind, 6),
            (sharded.clone(), Split::CacheApart, 6),
        ] {
            let model = Model::open(&path).unwrap();
            let options = options(placement.with_split(split).unwrap());
            let mut session = transformer.start(&model, &options).unwrap();
            assert!(logits(&mut session) == expected, "{options:?}");
            let plan = session.placed().plan.clone();
            assert_eq!(plan.memories.len(), memories);
            plans.push_str(&serde_json::to_string(&plan).unwrap());
            // A plan carries its split, and is made for a length of context.
            let mut planned = self::options(Placement::Planned(plan));
            let mut again = transformer.start(&model, &planned).unwrap();
            assert!(logits(&mut again) == expected, "{planned:?}");
            planned.context = Some(128);
            let error = transformer.start(&model, &planned).unwrap_err().to_string();
            assert!(error.contains("128 tokens need"), "{error}");
        }
        let paged = Placement::Paged { resident_bytes: Some(WINDOW), policy: Policy::Lru };
        for (placement, split) in
            [(sharded, Split::ByKind), (paged.clone(), Split::ByKind), (paged, Split::CacheApart)]
        {
            // What makes no sense cannot be asked for.
            assert_eq!(placement.with_split(split), None);
        }
        plans + &hash(&expected)
    });
}

fn all_placements(engine: &dyn Engine, transformer: &Transformer, shape: Shape) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = Llama::random(shape.clone()).save(folder.path());
    let expected = logits(&mut start(transformer, &path, false, Placement::resident32()));
    let weights = std::fs::metadata(&path).unwrap().len();
    // Each part in a memory of its own; with a tied output there is one part less.
    let parts = shape.blocks + if shape.tied { 1 } else { 2 };
    let mut placements = vec![Placement::auto()];
    placements.extend([1, 2, 5, parts].map(Placement::sharded32));
    placements.push(Placement::multi32());
    placements.extend(common::wide(engine.capabilities().memory64));
    for policy in [Policy::Pinned, Policy::Lru] {
        for resident in [weights / 2, weights * 3 / 4, weights * 2] {
            placements.push(Placement::Paged { resident_bytes: Some(resident), policy });
        }
    }
    for placement in placements {
        for mapped in [false, true] {
            let mut session = start(transformer, &path, mapped, placement.clone());
            assert!(logits(&mut session) == expected, "{placement:?}, mapped: {mapped}");
            // And again, when all layers were there once.
            session.reset();
            assert!(logits(&mut session) == expected, "{placement:?}, mapped: {mapped}, again");
            assert_eq!(session.stats().errors, 0);
        }
    }
    hash(&expected)
}

#[test]
fn a_plan_that_was_saved_runs_anywhere() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let mut plans = String::new();
        let mut results = Vec::new();
        for placement in [
            Placement::sharded32(3),
            Placement::Paged { resident_bytes: Some(WINDOW), policy: Policy::Pinned },
        ] {
            let first = &mut start(&transformer, &path, false, placement);
            let text = serde_json::to_string(&first.placed().plan).unwrap();
            let plan: Plan = serde_json::from_str(&text).unwrap();
            let mut again = start(&transformer, &path, false, Placement::Planned(plan));
            assert_eq!(again.placed().plan, first.placed().plan);
            assert_eq!(again.placed().name, first.placed().name);
            results.extend([logits(first), logits(&mut again)]);
            plans.push_str(&text);
        }
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        // The plan itself does not depend on the engine either.
        plans + &hash(&results[0])
    });
}

#[test]
fn paging_is_counted() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let model = Model::open(&path).unwrap();
        // A token uses the embedding, seven blocks and the output, in order.
        let pages = |layer: &api::SourceRange| (layer.start % PAGE + layer.bytes).div_ceil(PAGE);
        let sizes: Vec<_> = model.layers().iter().map(pages).collect();
        let largest = sizes.iter().max().unwrap();
        let window = |policy, pages: u64| {
            let placement = Placement::Paged { resident_bytes: Some(pages * PAGE), policy };
            let mut session = start(&transformer, &path, false, placement);
            assert_eq!(session.pager_stats().unwrap().misses, 0);
            for token in 0..4 {
                session.eval(&[token]).unwrap();
            }
            let stats = session.pager_stats().unwrap();
            assert_eq!(stats.hits + stats.misses, 4 * 9);
            assert_eq!(session.stats().loads, stats.misses);
            assert_eq!(session.stats().bytes_loaded, stats.bytes_loaded);
            assert_eq!(session.stats().releases, stats.evictions);
            stats
        };
        // No layer is there when it comes round again.
        let lru = window(Policy::Lru, largest * 4);
        assert_eq!((lru.hits, lru.misses), (0, 36));
        // Those that stay are missed once, the others each time.
        let stay = 3;
        let room = sizes[..stay].iter().sum::<u64>() + 2 * largest;
        let pinned = window(Policy::Pinned, room);
        assert_eq!((pinned.hits, pinned.misses), (3 * stay as u64, 36 - 3 * stay as u64));
        assert!(pinned.evictions > 0 && pinned.bytes_loaded < lru.bytes_loaded);
        // All batches of a prompt go through a block while it is there.
        let bytes = Some(largest * 4 * PAGE);
        let paged = Placement::Paged { resident_bytes: bytes, policy: Policy::Lru };
        let mut session = start(&transformer, &path, false, paged);
        session.eval(&[1, 2, 3, 4, 5, 6]).unwrap();
        let stats = session.pager_stats().unwrap();
        assert_eq!((stats.hits, stats.misses), (1, 9));
    });
}

#[test]
fn what_does_not_fit_is_refused_with_the_numbers() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let refused = |placement: Placement, parts: &[&str]| {
            let model = Model::open(&path).unwrap();
            let error = transformer.start(&model, &options(placement)).unwrap_err().to_string();
            parts.iter().for_each(|part| assert!(error.contains(part), "no {part} in: {error}"));
        };
        let paged =
            |bytes| Placement::Paged { resident_bytes: Some(bytes), policy: Policy::default() };
        refused(paged(0), &["at once", "262144 bytes", "more than the 0 bytes"]);
        refused(paged(PAGE), &["at once", "262144 bytes", "more than the 65536 bytes"]);
        refused(Placement::sharded32(0), &["memories of 0", "1 to 9"]);
        refused(Placement::sharded32(10), &["memories of 10", "1 to 9"]);
    });
}

/// Where there are no 64-bit memories of the engine's own, the error says what an engine needs, and
/// what to do.
#[test]
fn a_64_bit_memory_is_had_or_refused_with_the_reason() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let model = Model::open(&path).unwrap();
        for (placement, name) in
            [(Placement::native64(), "native64"), (Placement::flat64(), "flat64")]
        {
            let options = options(placement);
            let started = Transformer::new(engine).unwrap().start(&model, &options);
            let placed = model.place(&options, engine.capabilities());
            let native = matches!(engine.capabilities().memory64, Memory64::Native { .. });
            if name == "native64" && !native {
                for error in [started.map(|_| ()).unwrap_err(), placed.map(|_| ()).unwrap_err()] {
                    let error = error.to_string();
                    for part in ["native64", "native memory64", "engines that have", "flat64"] {
                        assert!(error.contains(part), "no {part} in: {error}");
                    }
                }
                continue;
            }
            if engine.capabilities().memory64 == Memory64::Host {
                for error in [started.map(|_| ()).unwrap_err(), placed.map(|_| ()).unwrap_err()] {
                    assert!(error.to_string().contains("flat64"), "{error}");
                }
                continue;
            }
            let mut large = placed.unwrap().plan;
            assert_eq!(started.unwrap().placed().name, name);
            large.memories[0].bytes = 1 << 40;
            let options = self::options(Placement::Planned(large));
            let error = model.place(&options, engine.capabilities()).unwrap_err().to_string();
            assert!(error.contains("memory64_bytes"), "{error}");
        }
    });
}

/// Weights beyond 4 GiB, and on both sides of the edge of two segments, mapped and copied, compute what
/// they compute anywhere; so do guests that are lowered although the engine has 64-bit memories.
#[test]
fn weights_beyond_4_gib_are_the_same() {
    let can = |engine: &dyn Engine| engine.capabilities().memory64 != Memory64::Host;
    common::engines_that_can_agree(test_name!(), can, |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let expected = logits(&mut start(&transformer, &path, true, Placement::resident32()));
        let lowered = Transformer::new(engine).unwrap().memory64(Memory64Choice::Lowered);
        let four_gib = 4_u64 << 30;
        for weights_from in [0, four_gib - (3 << 16), four_gib, 2 * four_gib - (5 << 16)] {
            for mapped in [true, false] {
                for transformer in [&transformer, &lowered] {
                    let placement = Placement::Flat64 { split: Split::ByLayer, weights_from };
                    let mut session = start(transformer, &path, mapped, placement);
                    assert!(logits(&mut session) == expected, "{weights_from:#x}, {mapped}");
                    let report = session.load_report();
                    let maps = mapped && engine.capabilities().mapping;
                    assert_eq!(report.mapped > 0, maps, "{report:?}");
                    assert_eq!(report.copied > 0, !maps, "{report:?}");
                }
            }
        }
        hash(&expected)
    });
}

/// WasmEdge has 64-bit memories in its interpreter, which shares a process with other engines.
#[cfg(feature = "wasmedge")]
#[test]
fn interpreted_64_bit_memories_are_the_same() {
    use polychord::wasmedge::{Mode, WasmEdgeEngine};

    let folder = tempfile::tempdir().unwrap();
    let path = Llama::random(Shape::of(GgmlType::Q8_0)).save(folder.path());
    let interpreter: Arc<dyn Engine> = Arc::new(WasmEdgeEngine::new(Mode::Interpreter).unwrap());
    let transformer = Transformer::new(&interpreter).unwrap();
    let results = [Placement::resident32(), Placement::native64()]
        .map(|placement| logits(&mut start(&transformer, &path, true, placement)));
    assert!(results[0] == results[1]);
    let first = polychord::available()[0];
    if first != "wasmedge" {
        let transformer = Transformer::new(&polychord::open(first).unwrap()).unwrap();
        let compiled = logits(&mut start(&transformer, &path, true, Placement::auto()));
        assert!(compiled == results[0], "{first} and WasmEdge's interpreter differ");
    }
}

#[test]
fn a_plan_that_cannot_be_run_is_refused() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let model = Model::open(&path).unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let sharded = options(Placement::sharded32(2));
        let good = model.place(&sharded, engine.capabilities()).unwrap().plan;
        let refused = |change: &dyn Fn(&mut Plan), part: &str| {
            let mut plan = good.clone();
            change(&mut plan);
            let result = transformer.start(&model, &options(Placement::Planned(plan)));
            let error = result.expect_err(part).to_string();
            assert!(error.contains(part), "no {part} in: {error}");
        };
        refused(&|plan| plan.version = 7, "version 7");
        refused(&|plan| plan.layers[1].source.start += 32, "another model");
        refused(&|plan| _ = plan.layers.pop(), "no place for output");
        refused(&|plan| plan.memories.clear(), "does not exist");
        refused(&|plan| plan.memories[1].guest = 7, "no guest 1");
        refused(&|plan| plan.layers[2].offset = plan.layers[1].offset, "share page");
        // A block twice, and one in the midst of others.
        let third = |plan: &Plan| {
            let PlannedMemory { region, bytes, .. } = &plan.memories[0];
            PlannedMemory::new(2, region.clone(), *bytes)
        };
        let again = |plan: &mut Plan| {
            let mut layer = plan.layers[1].clone();
            layer.memory = 2;
            plan.memories.push(third(plan));
            plan.layers.push(layer);
        };
        refused(&again, "nowhere, or twice");
        let apart = |plan: &mut Plan| {
            plan.memories.push(third(plan));
            plan.layers[2].memory = 2;
        };
        refused(&apart, "do not follow each other");
    });
}

/// What happens to one session must not happen to another, nor to the process.
#[test]
fn a_file_that_ends_too_early_stops_one_session_only() {
    each_engine(test_name!(), |engine| {
        for mapped in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (cut, whole) = (folder.path().join("cut"), folder.path().join("whole"));
            let file = Llama::random(shape()).file();
            std::fs::write(&cut, &file).unwrap();
            std::fs::write(&whole, &file).unwrap();
            let transformer = Transformer::new(engine).unwrap();
            let paged = Placement::Paged { resident_bytes: Some(WINDOW), policy: Policy::Lru };
            let mut stopped = start(&transformer, &cut, mapped, paged.clone());
            let mut other = start(&transformer, &whole, mapped, paged);
            let expected = logits(&mut other);
            assert!(logits(&mut stopped) == expected);
            let half = file.len() as u64 / 2;
            std::fs::OpenOptions::new().write(true).open(&cut).unwrap().set_len(half).unwrap();
            stopped.reset();
            let error = stopped.eval(&[1]).map(|_| ()).unwrap_err();
            assert!(
                matches!(error, Error::Runtime(api::Error::Truncated { now, .. }) if now == half),
                "{error}"
            );
            other.reset();
            assert!(logits(&mut other) == expected);
            // The file is whole again, and so is the session, unless it has lost pages.
            std::fs::write(&cut, &file).unwrap();
            stopped.reset();
            match stopped.eval(&[1, 2, 3, 4, 5, 6]) {
                Ok(logits) => assert!(expected.starts_with(logits.as_bytes())),
                Err(error) => assert!(mapped, "{error}"),
            }
        }
    });
}

/// The default model, as people run it.
#[test]
fn the_default_model_is_the_same_everywhere() {
    engines_agree(test_name!(), |engine| {
        let Some(path) = Hub::new().unwrap().cached(&ModelRef::Default) else {
            skip("the default model is not in the cache; run `polychord pull`");
            return String::new();
        };
        let transformer = Transformer::new(engine).unwrap();
        let two_layers = Model::open(&path).unwrap().layers()[0].bytes + (8 << 20);
        let paged = |policy| Placement::Paged { resident_bytes: Some(two_layers), policy };
        let mut placements = vec![
            Placement::resident32(),
            Placement::sharded32(2),
            Placement::sharded32(5),
            Placement::multi32(),
            paged(Policy::Pinned),
            paged(Policy::Lru),
        ];
        placements.extend(common::wide(engine.capabilities().memory64));
        let run = |placement| logits(&mut start(&transformer, &path, true, placement));
        let results: Vec<_> = placements.into_iter().map(run).collect();
        assert!(results.windows(2).all(|pair| pair[0] == pair[1]));
        hash(&results[0])
    });
}

fn options(placement: Placement) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.placement = placement;
    options.batch = 4;
    options.context = Some(32);
    options
}

fn start(transformer: &Transformer, path: &Path, mapped: bool, placement: Placement) -> Session {
    transformer.start(&open(path, mapped), &options(placement)).unwrap()
}

/// Logits after a prompt of several batches, and after single tokens.
fn logits(session: &mut Session) -> Vec<u8> {
    let mut all = Vec::new();
    for tokens in [&[1, 2, 3, 4, 5, 6][..], &[7], &[8]] {
        all.extend_from_slice(session.eval(tokens).unwrap().as_bytes());
    }
    all
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Weights are mapped once, whatever the number of sessions: each adds the part of its cache that
/// is filled and its activations, and computes what it would alone.
#[cfg(target_os = "linux")]
#[test]
fn sessions_share_the_pages_of_one_model() {
    each_engine(test_name!(), |engine| {
        const SESSIONS: u64 = 4;
        /// The guest's stack and data, the instance, the thread's stack, and the pages at both
        /// ends of each layer, which are copied where they are shared with others.
        const SLACK: u64 = 1 << 20;
        let huge = std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
        if huge.is_ok_and(|huge| huge.contains("[always]")) {
            skip("the system takes 2 MiB for each page that is touched");
            return;
        }
        let heads = Shape { heads: 16, kv_heads: 4, head_dim: 64, rope_dim: 64, ..shape() };
        let shape = Shape { dim: 1024, ffn: 4096, blocks: 8, context: 4096, ..heads };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.gguf");
        let weights = common::large::write(&shape, false, &path);
        let transformer = Transformer::new(engine).unwrap();
        let model = open(&path, true);
        let mut options = options(Placement::resident32());
        options.context = Some(4096);
        // Each one has activations of its own.
        options.ranks = Ranks::Exactly(1);
        let run = || {
            let mut session = transformer.start(&model, &options).unwrap();
            let result = logits(&mut session);
            (session, result)
        };
        // The first one also brings in what all share, such as code and the pages of the file.
        let (_first, expected) = run();
        let before = anonymous_memory();
        let sessions: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..SESSIONS).map(|_| scope.spawn(run)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let grown = anonymous_memory().saturating_sub(before) / SESSIONS;
        assert!(sessions.iter().all(|(_, result)| *result == expected));
        let (cache, activations) = own_bytes(&shape, options.batch as usize, 8);
        let whole_cache = own_bytes(&shape, options.batch as usize, 4096).0;
        let limit = cache + activations + SLACK;
        // Otherwise the limit would also let a copy of weights or an empty cache pass.
        assert!(limit * 8 < weights && limit * 8 < whole_cache, "{limit} {weights} {whole_cache}");
        assert!(
            grown < limit,
            "a session of a model of {weights} bytes took {grown} bytes; its cache has {cache}, \
             its activations {activations}"
        );
    });
}

/// Bytes of the cache that a session touches for `positions` positions, and of its activations.
#[cfg(target_os = "linux")]
fn own_bytes(shape: &Shape, batch: usize, positions: usize) -> (u64, u64) {
    const SYSTEM_PAGE: usize = 4096;
    let Shape { dim, ffn, vocab, heads, kv_heads, head_dim, blocks, .. } = *shape;
    // Keys and values of each head lie together, and begin anywhere in a page.
    let head = (positions * head_dim * 4).next_multiple_of(SYSTEM_PAGE) + SYSTEM_PAGE;
    let cache = 2 * blocks * kv_heads * head;
    let row = 3 * dim + 2 * heads * head_dim + 2 * kv_heads * head_dim + 2 * ffn;
    // Those that are multiplied are also there as integers, in less.
    let activations = 2 * batch * row * 4 + vocab * 4;
    (cache as u64, activations as u64)
}

/// Memory of this process that no file has, in bytes: copies of mapped pages are in it, and other
/// processes that share its files do not change it.
#[cfg(target_os = "linux")]
fn anonymous_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Anonymous:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// What a plan leaves for activations is enough, also where that is all the guest may have.
#[test]
fn activations_fit_beside_the_weights() {
    each_engine(test_name!(), |engine| {
        let Some(placement) = common::wide(engine.capabilities().memory64) else { return };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.gguf");
        let wide = Shape { dim: 256, ffn: 65_536, blocks: 1, ..shape() };
        common::large::write(&wide, true, &path);
        let mut session = start(&Transformer::new(engine).unwrap(), &path, false, placement);
        session.eval(&[1]).unwrap();
        let mut options = options(Placement::flat64());
        options.batch = 64;
        options.context = Some(128);
        let model = Model::open(&path).unwrap();
        Transformer::new(engine).unwrap().start(&model, &options).unwrap();
    });
}

/// A model may be shared between threads, and a session may move from one to another.
#[test]
fn models_are_shared_and_sessions_move() {
    const fn shared<T: Send + Sync>() {}
    const fn moved<T: Send>() {}
    shared::<Model>();
    shared::<Transformer>();
    moved::<Session>();
}
