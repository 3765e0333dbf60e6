//! The same logits however many ranks compute them, and one error if one of them fails.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::time::Duration;

use polychord::api::abi::transformer::{Descriptor, VERSION};
use polychord::api::{Policy, Rank};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, Error, Placement, Ranks, Session, SessionOptions, Transformer,
};
use sha2::{Digest, Sha256};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name};

/// Nine heads and three for keys and values, rows that no number of ranks divides, and a
/// feed-forward part that leaves the last of seven ranks less than the others.
fn shape() -> Shape {
    Shape {
        blocks: 3,
        dim: 288,
        ffn: 416,
        heads: 9,
        kv_heads: 3,
        head_dim: 32,
        rope_dim: 32,
        vocab: 301,
        ..Shape::of(GgmlType::Q4_1)
    }
}

fn start(
    transformer: &Transformer,
    path: &Path,
    mapped: bool,
    options: &SessionOptions,
) -> Session {
    transformer.start(&open(path, mapped), options).unwrap()
}

/// The last token of the vocabulary comes last.
fn logits(session: &mut Session) -> Vec<u8> {
    common::logits(session, [3, 50, 300])
}

fn options(ranks: u32) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.context = Some(40);
    options.batch = 4;
    options.ranks = Ranks::Exactly(ranks);
    options
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn no_number_of_ranks_changes_a_bit() {
    engines_agree(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let half = std::fs::metadata(&path).unwrap().len() / 2;
        let mut hashes = String::new();
        for activations in [Activations::F32, Activations::Int8] {
            let with = |ranks, placement| {
                let mut options = options(ranks);
                options.placement = placement;
                options.activations = activations;
                options
            };
            let alone = with(1, Placement::resident32());
            let expected = logits(&mut start(&transformer, &path, false, &alone));
            let paged = |policy| Placement::Paged { resident_bytes: Some(half), policy };
            for (ranks, mapped, placement) in [
                (2, true, Placement::resident32()),
                (2, false, Placement::sharded32(3)),
                (2, true, paged(Policy::Pinned)),
                (3, false, Placement::resident32()),
                (3, true, Placement::sharded32(2)),
                (3, false, paged(Policy::Lru)),
                // More than heads of keys and values, which some then share, and a rank without
                // any head.
                (4, true, Placement::resident32()),
                (7, true, Placement::resident32()),
                (9, true, Placement::auto()),
                (2, true, Placement::multi32()),
                (3, true, Placement::native64()),
            ] {
                let capabilities = engine.capabilities();
                let placement = match placement {
                    Placement::Native64 { .. } => match common::wide(capabilities.memory64) {
                        Some(placement) => placement,
                        None => continue,
                    },
                    placement => placement,
                };
                let options = with(ranks, placement);
                let mut session = start(&transformer, &path, mapped, &options);
                assert_eq!(session.ranks(), ranks as usize);
                assert!(logits(&mut session) == expected, "mapped: {mapped}, {options:?}");
                session.reset();
                assert!(logits(&mut session) == expected, "again, {options:?}");
                assert_eq!(session.stats().errors, 0);
            }
            hashes += &hash(&expected);
        }
        hashes
    });
}

#[test]
fn each_rank_has_all_weights_and_the_cache_of_its_heads() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape { context: 8192, ..shape() }).save(folder.path());
        let mut guest_bytes = [0; 2];
        for (ranks, bytes) in [1, 3].into_iter().zip(&mut guest_bytes) {
            let mut options = options(ranks);
            options.context = Some(8192);
            let session = start(&transformer, &path, false, &options);
            assert_eq!(session.load_report().bytes, session.stats().bytes_loaded);
            *bytes = session.stats().guest_bytes - session.load_report().bytes;
        }
        // 18 MiB of cache, once, and little else for each.
        let [alone, three] = guest_bytes;
        assert!(three < alone + alone / 2, "{alone} {three}");
    });
}

#[test]
fn impossible_numbers_are_refused() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        for ranks in [0, 10, u32::MAX] {
            let refused = transformer.start(&open(&path, false), &options(ranks)).unwrap_err();
            assert!(matches!(refused, Error::Ranks { limit: 9, .. }), "{refused}");
        }
    });
}

#[test]
fn by_default_there_are_as_many_as_pay() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let automatic = options(1).ranks(Ranks::default());
        let processors = std::thread::available_parallelism().unwrap().get();
        let mut session = start(&transformer, &path, true, &automatic);
        let can_map = engine.capabilities().mapping;
        let most = if can_map { processors.min(3) } else { 1 };
        // Two processors may be one core.
        assert!((most.div_ceil(2)..=most).contains(&session.ranks()), "{}", session.ranks());
        let alone = logits(&mut start(&transformer, &path, true, &options(1)));
        assert!(logits(&mut session) == alone);
        assert_eq!(session.fork().unwrap().ranks(), session.ranks());
        // Each would have weights, or limits, of its own.
        assert_eq!(start(&transformer, &path, false, &automatic).ranks(), 1);
        let bounded = automatic.clone().memory_bytes(1 << 30);
        assert_eq!(start(&transformer, &path, true, &bounded).ranks(), 1);
        // One head of keys and values.
        let folder = tempfile::tempdir().unwrap();
        let single = Llama::random(Shape { kv_heads: 1, ..shape() }).save(folder.path());
        assert_eq!(start(&transformer, &single, true, &automatic).ranks(), 1);
    });
}

#[test]
fn what_all_refuse_harms_nothing() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let expected = logits(&mut start(&transformer, &path, false, &options(1)));
        let mut session = start(&transformer, &path, false, &options(2));
        for _ in 0..2 {
            let error = session.eval(&[5, 301]).unwrap_err();
            assert!(error.to_string().contains("a token is not in the vocabulary"), "{error}");
            assert!(logits(&mut session) == expected);
            session.reset();
        }
    });
}

/// A guest that says it is a transformer; rank 1 of several does something else than the others.
const HOSTILE: &str = r#"(module
    (import "env" "all_gather" (func $gather (param i32 i32 i32) (result i32)))
    (memory (export "memory") 4)
    (global $rank (mut i32) (i32.const 0))
    (func (export "transformer_version") (result i32) (i32.const VERSION))
    (func (export "transformer_alloc") (param i32) (result i32) (i32.const 1024))
    (func (export "transformer_init") (param $at i32) (param i32) (result i32)
        (global.set $rank (i32.load offset=RANK_AT (local.get $at))) (i32.const 0))
    (func (export "transformer_tokens") (result i32) (i32.const 65536))
    (func (export "transformer_hidden") (result i32) (i32.const 66048))
    (func (export "transformer_logits") (result i32) (i32.const 131072))
    (func (export "transformer_embed") (param i32) (result i32) (i32.const 0))
    (func (export "transformer_restart") (param i32) (result i32) (i32.const 0))
    (func (export "transformer_cache") (param i32) (result i32) (i32.const 0))
    (func (export "transformer_blocks") (param i32 i32 i32 i32) (result i32)
        (if (i32.eq (global.get $rank) (i32.const 1)) (then RANK_1))
        (select (i32.const -112) (i32.const 0)
            (call $gather (i32.const 16) (i32.const 32) (i32.const 96))))
    (func (export "transformer_head") (param i32) (result i32) (i32.const 0)))"#;

#[test]
fn a_hostile_rank_stops_all_with_its_error() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let timed = Some(Duration::from_millis(300));
        for (rank_1, call_time, says) in [
            ("(unreachable)", None, "unreachable code was reached"),
            ("(drop (i32.load (i32.const -1)))", None, "memory access out of bounds"),
            ("(return (i32.const 0))", None, "rank 1 has finished"),
            ("(return (i32.const -109))", None, "does not hold these blocks"),
            (
                "(drop (call $gather (i32.const 16) (i32.const 8) (i32.const 96)))",
                None,
                "from each of 3 ranks does not make up 96 bytes",
            ),
            (
                "(drop (call $gather (i32.const 16) (i32.const 33) (i32.const 96)))",
                None,
                "gathers 96 bytes in chunks of 33",
            ),
            (
                "(drop (call $gather (i32.const -8) (i32.const 32) (i32.const 96)))",
                None,
                "leaves the guest's address space",
            ),
            ("(loop $for_ever (br $for_ever))", timed, "time limit of 300 ms"),
        ] {
            let version = VERSION.to_string();
            let at = std::mem::offset_of!(Descriptor, rank).to_string();
            let wat = HOSTILE.replace("VERSION", &version).replace("RANK_AT", &at);
            let wat = wat.replace("RANK_1", rank_1);
            let transformer =
                Transformer::from_wasm(engine, &wat::parse_str(wat).unwrap()).unwrap();
            let mut options = options(3);
            options.call_time = call_time;
            let mut session = start(&transformer, &path, false, &options);
            for _ in 0..2 {
                let error = session.eval(&[1, 2, 3]).unwrap_err().to_string();
                // What another rank says of it, or what it says itself.
                assert!(error.contains(says), "{rank_1}: {error}");
            }
        }
        let transformer = Transformer::new(engine).unwrap();
        logits(&mut start(&transformer, &path, false, &options(3)));
    });
}

/// One that runs out of time, and one whose file has shrunk: one error, and others go on.
#[test]
fn a_rank_that_fails_stops_all() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let mut other = start(&transformer, &path, true, &options(3));
        let expected = logits(&mut other);

        let mut hasty = options(3);
        hasty.call_time = Some(Duration::from_nanos(1));
        let error = transformer
            .start(&open(&path, true), &hasty)
            .map(|mut it| it.eval(&[1, 2, 3]).map(|_| ()).unwrap_err());
        let error = error.unwrap_or_else(|error| error).to_string();
        assert!(error.contains("time limit"), "{error}");

        let mut paged = options(3);
        let half = std::fs::metadata(&path).unwrap().len() / 2;
        paged.placement = Placement::Paged { resident_bytes: Some(half), policy: Policy::Lru };
        let copy = folder.path().join("copy.gguf");
        std::fs::copy(&path, &copy).unwrap();
        let mut session = start(&transformer, &copy, false, &paged);
        assert!(logits(&mut session) == expected);
        session.reset();
        std::fs::File::options().write(true).open(&copy).unwrap().set_len(5_000).unwrap();
        let error = session.eval(&[1, 2, 3]).unwrap_err().to_string();
        assert!(error.contains("has shrunk"), "{error}");
        std::fs::copy(&path, &copy).unwrap();
        assert!(logits(&mut session) == expected, "it goes on when the file is back");

        other.reset();
        assert!(logits(&mut other) == expected);
    });
}

/// Runs each rank of a group in a thread of its own.
fn by_rank<T: Send>(ranks: usize, work: impl Fn(&Rank) -> T + Sync) -> Vec<T> {
    let group = Rank::group(ranks).unwrap();
    std::thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> = group.iter().map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn one_rank_decides_and_the_others_follow() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let expected = logits(&mut start(&transformer, &path, true, &options(1)));
        // Three processes, of one thread each and of two.
        for threads in [1, 2] {
            let positions = by_rank(3, |rank| {
                let options = options(threads).rank(rank.clone());
                let mut session = start(&transformer, &path, true, &options);
                assert_eq!(session.ranks(), 3 * threads as usize);
                session.agree(&[("model", "the same".to_owned())]).unwrap();
                if rank.index() == 0 {
                    session.lead().unwrap();
                    assert!(session.fork().is_err());
                    for _ in 0..2 {
                        assert!(logits(&mut session) == expected);
                        session.reset();
                    }
                    // Many tokens, of which most are forgotten.
                    session.eval(&[7; 30]).unwrap();
                    session.truncate(2).unwrap();
                    session.eval(&[5]).unwrap();
                    session.dismiss().unwrap();
                } else {
                    assert!(session.lead().is_err());
                    session.follow().unwrap();
                }
                session.position()
            });
            assert_eq!(positions, [3; 3]);
        }
    });
}

#[test]
fn ranks_that_differ_are_refused_with_all_differences() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let errors = by_rank(2, |rank| {
            let (context, batch) = if rank.index() == 0 { (40, 4) } else { (48, 8) };
            let options = options(1).rank(rank.clone()).context(context).batch(batch);
            let session = start(&transformer, &path, true, &options);
            session.agree(&[("model", format!("digest {}", rank.index()))]).unwrap_err()
        });
        for error in errors {
            let Error::RanksDiffer { differences } = &error else { panic!("{error}") };
            assert_eq!(
                *differences,
                [
                    "batch: 4 on rank 0; 8 on rank 1",
                    "context: 40 on rank 0; 48 on rank 1",
                    "model: digest 0 on rank 0; digest 1 on rank 1"
                ]
            );
        }
    });
}

#[test]
fn what_the_first_rank_refuses_and_what_a_follower_refuses_stops_all() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let errors = by_rank(2, |rank| {
            // The follower has no room for what rank 0 evaluates.
            let context = if rank.index() == 0 { 40 } else { 8 };
            let mut session =
                start(&transformer, &path, true, &options(1).rank(rank.clone()).context(context));
            if rank.index() == 0 {
                session.lead().unwrap();
                session.eval(&[1; 12]).map(|_| ()).unwrap_err().to_string()
            } else {
                session.follow().unwrap_err().to_string()
            }
        });
        assert!(
            errors
                .iter()
                .any(|error| error.contains("takes at most") || error.contains("do not fit")),
            "{errors:?}"
        );
        let alone = start(&transformer, &path, true, &options(1)).lead().unwrap_err();
        assert!(matches!(alone, Error::NoRank { .. }), "{alone}");
    });
}

#[test]
fn stages_of_a_pipeline_have_the_same_bits() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for tied in [false, true] {
            let path = Llama::random(Shape { tied, ..shape() }).save(folder.path());
            let expected = logits(&mut start(&transformer, &path, false, &options(1)));
            let whole = start(&transformer, &path, false, &options(1)).load_report().bytes;
            for (stages, guests) in [(2, 2), (2, 3), (3, 3)] {
                let loaded = by_rank(stages, |rank| {
                    let options =
                        options(1).stage(rank.clone()).placement(Placement::sharded32(guests));
                    let mut session = start(&transformer, &path, false, &options);
                    session.agree(&[]).unwrap();
                    if rank.index() == 0 {
                        session.lead().unwrap();
                        assert!(logits(&mut session) == expected, "{stages} {guests}");
                        session.reset();
                        // More than a batch.
                        session.eval(&[7; 11]).unwrap();
                        session.truncate(0).unwrap();
                        assert!(logits(&mut session) == expected, "{stages} {guests}");
                        session.dismiss().unwrap();
                    } else {
                        session.follow().unwrap();
                        assert!(expected.ends_with(session.logits().as_bytes()));
                    }
                    session.load_report().bytes
                });
                // Each has its own layers alone.
                assert!(loaded.iter().all(|bytes| *bytes < whole), "{loaded:?} {whole}");
                assert_eq!(loaded.iter().sum::<u64>(), whole);
            }
            let few = by_rank(3, |rank| {
                let options = options(1).stage(rank.clone()).placement(Placement::sharded32(2));
                transformer
                    .start(&open(&path, false), &options)
                    .map(|_| ())
                    .unwrap_err()
                    .to_string()
            });
            assert!(few[0].contains("too few for 3 stages"), "{few:?}");
        }
    });
}
