//! Sessions that travel: what one engine saves, another one goes on from, in any placement.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};

use polychord::api::abi::PAGE;
use polychord::api::{Engine, Memory64, Policy, Rank};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, Budget, CacheType, Error, ErrorKind, Finish, GenerateOptions, Generator, Model,
    Placement, Progress, Ranks, Sampling, SaveOptions, Session, SessionOptions, Token, Transformer,
};
use polychord::receipts::{self, Digest};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name};

fn shape() -> Shape {
    // Heads of whole blocks of the cache type q8_0.
    let (head_dim, rope_dim) = (32, 32);
    let plain = Shape::of(GgmlType::Q4_0);
    Shape { rope_freqs: true, blocks: 4, context: 256, head_dim, rope_dim, ..plain }
}

const PROMPT: [u32; 13] = [1, 50, 3, 90, 7, 7, 20, 60, 11, 2, 33, 12, 5];

fn options(cache_type: CacheType) -> SessionOptions {
    SessionOptions::new().context(200).batch(4).cache_type(cache_type)
}

/// The placements between which sessions travel.
fn placements() -> [(&'static str, Placement, u32); 4] {
    let paged = Placement::Paged { resident_bytes: Some(3 * PAGE), policy: Policy::Lru };
    [
        ("resident32", Placement::resident32(), 1),
        ("sharded32", Placement::sharded32(3), 1),
        ("paged", paged, 1),
        ("2-ranks", Placement::resident32(), 2),
    ]
}

/// The SHA-256 over the logits of the next 100 tokens, each chosen by the logits before it.
fn next_100(session: &mut Session) -> String {
    let mut all = Vec::new();
    for _ in 0..100 {
        let logits = session.logits();
        let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
        let token = u32::try_from(best.0).unwrap();
        all.extend_from_slice(session.eval(&[token]).unwrap().as_bytes());
    }
    Digest::of(all).to_string()
}

/// Where the processes of [`every_engine_and_placement_goes_on_from_every_other`] leave snapshots.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("travel")
}

const CACHES: [CacheType; 3] = [CacheType::F32, CacheType::F16, CacheType::Q8_0];

#[test]
fn every_engine_and_placement_goes_on_from_every_other() {
    _ = std::fs::remove_dir_all(folder());
    std::fs::create_dir_all(folder()).unwrap();
    Llama::random(shape()).save(&folder());
    // Each engine in a process of its own: first all write, then all read.
    engines_agree("part_that_saves", save_all);
    engines_agree("part_that_restores", restore_all);
    std::fs::remove_dir_all(folder()).unwrap();
}

#[test]
#[ignore = "a part of every_engine_and_placement_goes_on_from_every_other"]
fn part_that_saves() {
    if folder().exists() {
        engines_agree(test_name!(), save_all);
    }
}

#[test]
#[ignore = "a part of every_engine_and_placement_goes_on_from_every_other"]
fn part_that_restores() {
    if folder().exists() {
        engines_agree(test_name!(), restore_all);
    }
}

fn model() -> Model {
    open(&folder().join("model.gguf"), true)
}

/// Saves a session in each placement, and tells the snapshots' digests, which are all one, and what
/// the sessions compute without an interruption.
fn save_all(engine: &std::sync::Arc<dyn Engine>) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let name = engine.capabilities().engine;
    let mut told = String::new();
    for cache_type in CACHES {
        let mut all: Vec<_> = placements().into();
        all.push(("multi32", Placement::multi32(), 1));
        all.push(("multi32-ranks", Placement::multi32(), 2));
        if matches!(engine.capabilities().memory64, Memory64::Native { .. }) {
            all.push(("native64", Placement::native64(), 1));
        }
        let mut digests = Vec::new();
        for (place, placement, ranks) in all {
            let options = options(cache_type).placement(placement).ranks(Ranks::Exactly(ranks));
            let mut session = transformer.start(&model(), &options).unwrap();
            session.eval(&PROMPT).unwrap();
            let path = folder().join(format!("{name}.{place}.{cache_type}"));
            digests.push(session.save(File::create(path).unwrap()).unwrap().to_string());
            told = format!("{told}{cache_type} {}\n", next_100(&mut session));
        }
        assert!(digests.iter().all(|digest| *digest == digests[0]), "{digests:?}");
        told += &digests[0];
    }
    // Engines do not all have all placements.
    let mut lines: Vec<_> = told.lines().collect();
    lines.sort_unstable();
    lines.dedup();
    let told = lines.join("\n");
    std::fs::write(folder().join("expected"), &told).unwrap();
    told
}

/// Goes on from each snapshot in each placement.
fn restore_all(engine: &std::sync::Arc<dyn Engine>) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let expected = std::fs::read_to_string(folder().join("expected")).unwrap();
    let mut pairs = 0;
    for cache_type in CACHES {
        for other in polychord::available() {
            for (from, ..) in placements() {
                let path = folder().join(format!("{other}.{from}.{cache_type}"));
                for (to, placement, ranks) in placements() {
                    let options =
                        options(cache_type).placement(placement).ranks(Ranks::Exactly(ranks));
                    let snapshot = File::open(&path).unwrap();
                    let restored = transformer.restore(&model(), snapshot, &options).unwrap();
                    let mut session = restored.session;
                    assert_eq!(session.tokens(), PROMPT);
                    assert_eq!(session.profile().prompt.tokens, 0, "computed again");
                    let line = format!("{cache_type} {}", next_100(&mut session));
                    assert!(expected.contains(&line), "{other} {from} to {to}: {line}");
                    pairs += 1;
                }
            }
        }
    }
    assert_eq!(pairs, CACHES.len() * polychord::available().len() * 16);
    expected
}

/// A session that has seen the prompt, its model and its snapshot.
fn saved(transformer: &Transformer, folder: &Path, options: &SessionOptions) -> (Model, Vec<u8>) {
    let model = open(&Llama::random(shape()).save(folder), false);
    let mut session = transformer.start(&model, options).unwrap();
    session.eval(&PROMPT).unwrap();
    let mut bytes = Vec::new();
    session.save(&mut bytes).unwrap();
    (model, bytes)
}

#[test]
fn a_snapshot_of_something_else_is_refused_by_name() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let f32 = options(CacheType::F32);
        let (model, bytes) = saved(&transformer, folder.path(), &f32);
        let refused = |model: &Model, options: &SessionOptions| {
            let error = transformer.restore(model, &bytes[..], options).unwrap_err();
            (error.kind(), error.to_string())
        };
        let both = f32.clone().cache_type(CacheType::F16).activations(Activations::F32);
        let (kind, text) = refused(&model, &both);
        assert_eq!(kind, ErrorKind::InvalidArgument);
        assert!(text.contains("cache_type is f32 there and f16 here"), "{text}");
        assert!(text.contains("activations is int8 there and f32 here"), "{text}");
        let (_, text) = refused(&model, &f32.clone().context(12));
        assert!(text.contains("12 tokens"), "{text}");
        let other = tempfile::tempdir().unwrap();
        let other = Llama::random(Shape { seed: 99, ..shape() }).save(other.path());
        let (_, text) = refused(&open(&other, false), &f32);
        assert!(text.contains("the model is "), "{text}");
        // Its compiler takes a minute for a guest that is new.
        if engine.capabilities().engine != "wasmedge" {
            let guest = Transformer::from_wasm(engine, &with_section(&common::guest())).unwrap();
            let text = guest.restore(&model, &bytes[..], &f32).unwrap_err().to_string();
            assert!(text.contains("the guest is "), "{text}");
        }
        // The plain guest that comes with the library is the one that comes with the library.
        let guest = Transformer::from_wasm(engine, &common::guest()).unwrap();
        assert!(guest.restore(&model, &bytes[..], &f32).is_ok());
    });
}

/// A module with a custom section more.
fn with_section(wasm: &[u8]) -> Vec<u8> {
    [wasm, &[0, 2, 1, b'x'][..]].concat()
}

#[test]
fn a_changed_snapshot_gives_no_session() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let options = options(CacheType::F16);
        let (model, bytes) = saved(&transformer, folder.path(), &options);
        for at in (0..bytes.len()).step_by(bytes.len() / 40) {
            let mut changed = bytes.clone();
            changed[at] ^= 4;
            assert!(transformer.restore(&model, &changed[..], &options).is_err(), "{at}");
            let error = transformer.restore(&model, &bytes[..at], &options).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidFile, "{at}: {error}");
        }
    });
}

/// Snapshots that are well made, and have rows or logits that this model has not.
#[test]
fn a_well_made_snapshot_of_nonsense_gives_no_session() {
    use receipts::snapshot::{Compression, Meta, RowHeader, State, Writer, tag};
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let options = options(CacheType::F32);
        let model = open(&Llama::random(shape()).save(folder.path()), false);
        let identity = transformer.start(&model, &options).unwrap().identity().unwrap();
        let try_it = |tokens: &[u32], position: u32, sections: &[([u8; 4], Vec<u8>)]| {
            let mut bytes = Vec::new();
            let mut writer = Writer::new(&mut bytes, Compression::Zstd).unwrap();
            let state = State::new(Meta::new(identity.clone(), position), tokens);
            state.write(&mut writer).unwrap();
            for (tag, section) in sections {
                writer.begin(*tag, section.len() as u64).unwrap();
                writer.write(section).unwrap();
            }
            writer.finish().unwrap();
            transformer.restore(&model, &bytes[..], &options).unwrap_err().to_string()
        };
        let head = |block, part, head| {
            [&RowHeader::new(block, part, head, 128).to_bytes()[..], &[0; 128]].concat()
        };
        let heads = |parts: &[[u32; 3]]| -> Vec<u8> {
            parts.iter().flat_map(|[block, part, at]| head(*block, *part, *at)).collect()
        };
        let all: Vec<_> = (0..16).map(|at| [at / 4, at / 2 % 2, at % 2]).collect();
        let rows = (tag::ROWS, heads(&all));
        let mut swapped = all.clone();
        swapped.swap(3, 4);
        let mut twice = all.clone();
        twice[1] = twice[0];
        for (tokens, position, sections, expected) in [
            (&[97][..], 1, vec![rows.clone()], "token 97"),
            (&[1], 1, vec![], "ROWS"),
            (&[1], 1, vec![(tag::ROWS, heads(&all[..15]))], "bytes"),
            (&[1, 2], 2, vec![rows.clone()], "bytes"),
            (&[1], 1, vec![(tag::ROWS, heads(&swapped))], "is due"),
            (&[1], 1, vec![(tag::ROWS, heads(&twice))], "is due"),
            (&[1], 1, vec![(tag::LOGITS, vec![0; 8]), rows.clone()], "LGTS"),
            (&[1], 1, vec![rows.clone(), rows.clone()], "twice"),
            (&[1], 1, vec![(*b"RECR", vec![]), rows.clone()], "RECR"),
        ] {
            let error = try_it(tokens, position, &sections);
            assert!(error.contains(expected), "{expected}: {error}");
        }
    });
}

fn sampling() -> Sampling {
    Sampling::new().temperature(0.9).repeat_penalty(1.2).seed(5)
}

fn collect(generator: &mut Generator) -> Vec<Token> {
    generator.map(Result::unwrap).collect()
}

/// An answer that is not interrupted, on a fresh session.
fn whole(transformer: &Transformer, model: &Model, options: &GenerateOptions) -> Vec<Token> {
    let session = transformer.start(model, &crate::options(CacheType::F32)).unwrap();
    let mut generator = Generator::new(session).unwrap();
    generator.begin(&PROMPT, options).unwrap();
    collect(&mut generator)
}

#[test]
fn an_answer_that_travels_has_the_tokens_and_the_text_of_one_that_does_not() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let model = open(&Llama::random(shape()).save(folder.path()), true);
        let generate = GenerateOptions::new().sampling(sampling()).max_tokens(40);
        let expected = whole(&transformer, &model, &generate);
        let session = transformer.start(&model, &options(CacheType::F32)).unwrap();
        let mut generator = Generator::new(session).unwrap();
        generator.begin(&PROMPT, &generate).unwrap();
        let mut got = Vec::new();
        let mut places = placements().into_iter().cycle();
        // Moves on after each few tokens.
        loop {
            got.extend(generator.by_ref().take(3).map(Result::unwrap));
            if generator.finish().is_some() || got.len() >= expected.len() {
                break;
            }
            let mut bytes = Vec::new();
            generator.save(&mut bytes).unwrap();
            let (_, placement, ranks) = places.next().unwrap();
            let options =
                options(CacheType::F32).placement(placement).ranks(Ranks::Exactly(ranks)).batch(3);
            let restored = transformer.restore(&model, &bytes[..], &options).unwrap();
            assert_eq!(restored.tokens, generator.tokens());
            // Whatever it says about sampling.
            let rest = GenerateOptions::new().max_tokens(40 - got.len());
            generator = restored.into_generator(&rest).unwrap();
        }
        assert_eq!(got, expected);
        format!("{got:?}")
    });
}

#[test]
fn an_answer_in_small_steps_is_the_answer() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let model = open(&Llama::random(shape()).save(folder.path()), false);
        let generate = GenerateOptions::new().sampling(sampling()).max_tokens(10);
        let expected = whole(&transformer, &model, &generate);
        for tokens in [0, 1, 2, 5, 13, 14, 100] {
            let session = transformer.start(&model, &options(CacheType::F32)).unwrap();
            let mut generator = Generator::new(session).unwrap();
            generator.begin(&PROMPT, &generate).unwrap();
            let (mut got, mut calls) = (Vec::new(), 0);
            while generator.finish().is_none() {
                let before = generator.session().position();
                let mut budget = Budget::tokens(tokens);
                calls += 1;
                while let Some(progress) = generator.next_within(&mut budget) {
                    match progress.unwrap() {
                        Progress::Token(token) => got.push(token),
                        _ => break,
                    }
                }
                let evaluated = (generator.session().position() - before) as usize;
                assert!(evaluated <= tokens.max(1), "{evaluated} of {tokens}");
            }
            assert_eq!(got, expected);
            // The last token is not evaluated.
            let all = PROMPT.len() + expected.len() - 1;
            assert_eq!(calls, all.div_ceil(tokens.max(1)), "{tokens}");
        }
        // A time that is over lets one batch through.
        let session = transformer.start(&model, &options(CacheType::F32)).unwrap();
        let mut generator = Generator::new(session).unwrap();
        generator.begin(&PROMPT, &generate).unwrap();
        let mut budget = Budget::unlimited().time(std::time::Duration::ZERO);
        let paused = generator.next_within(&mut budget).unwrap().unwrap();
        assert_eq!((paused, generator.session().position()), (Progress::Paused, 4));
        let paused = generator.next_within(&mut budget).unwrap().unwrap();
        assert_eq!((paused, generator.session().position()), (Progress::Paused, 4));
        assert_eq!(collect(&mut generator), expected);
        assert!(generator.next_within(&mut Budget::unlimited()).is_none());
        let finish = generator.finish().unwrap();
        assert!(matches!(finish, Finish::MaxTokens | Finish::EndOfText));
    });
}

/// Three ranks divide four heads, of which two and two have their keys and values in common.
#[test]
fn heads_that_several_ranks_compute_are_saved_once() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let one = options(CacheType::F16);
        let (model, bytes) = saved(&transformer, folder.path(), &one);
        let expected =
            next_100(&mut transformer.restore(&model, &bytes[..], &one).unwrap().session);
        for placement in [Placement::resident32(), Placement::sharded32(3)] {
            let three = one.clone().placement(placement).ranks(Ranks::Exactly(3));
            let mut session = transformer.start(&model, &three).unwrap();
            session.eval(&PROMPT).unwrap();
            let mut again = Vec::new();
            session.save(&mut again).unwrap();
            assert!(again == bytes);
            let mut session = transformer.restore(&model, &bytes[..], &three).unwrap().session;
            assert_eq!(next_100(&mut session), expected);
        }
    });
}

#[test]
fn what_was_forgotten_is_not_saved_and_a_rank_alone_saves_nothing() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let (model, bytes) = saved(&transformer, folder.path(), &options(CacheType::F32));
        let restored = transformer.restore(&model, &bytes[..], &options(CacheType::F32)).unwrap();
        assert_eq!(restored.digest, restored.session.save(std::io::sink()).unwrap());
        // An empty sequence, one that is shorter than it was, and one with more to come.
        let mut session = restored.session;
        for (len, more) in [(13, &[][..]), (5, &[8, 9][..]), (0, &[1, 2, 3])] {
            session.truncate(len).unwrap();
            let mut bytes = Vec::new();
            let whole = [&PROMPT[..len as usize], more].concat();
            session
                .save_with(&mut bytes, &SaveOptions::new().compress().tokens(&whole[..]))
                .unwrap();
            let restored =
                transformer.restore(&model, &bytes[..], &options(CacheType::F32)).unwrap();
            assert_eq!((&restored.tokens, restored.session.position()), (&whole, len));
            let mut other = restored.session;
            let next = other.eval(&[7]).unwrap().to_vec();
            assert!(session.eval(&[7]).unwrap().to_vec() == next, "{len}");
            session.truncate(len).unwrap();
        }
        let other = session.save_with(std::io::sink(), &SaveOptions::new().tokens([9, 9]));
        assert!(other.is_ok(), "nothing was seen, so anything follows it");
        session.eval(&[1]).unwrap();
        let refused = session.save_with(std::io::sink(), &SaveOptions::new().tokens([9, 9]));
        assert!(refused.unwrap_err().to_string().contains("begin"));
        // A rank takes what is its own from a snapshot of all, and cannot write one.
        let ranks = Rank::group(2).unwrap();
        std::thread::scope(|scope| {
            for rank in &ranks {
                let (transformer, model, bytes) = (&transformer, &model, &bytes);
                scope.spawn(move || {
                    let options = options(CacheType::F32).rank(rank.clone());
                    let mut session =
                        transformer.restore(model, &bytes[..], &options).unwrap().session;
                    let refused = session.save(std::io::sink()).unwrap_err();
                    assert!(matches!(refused, Error::PartOfRanks { ranks: 2, .. }), "{refused}");
                    session.eval(&[7]).unwrap();
                });
            }
        });
    });
}
