//! What blocks keep of a sequence when that is no cache of all positions: states of fixed size, and
//! the last positions that a window needs. Cut, copied, stopped, and how much it is.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/traps.rs"]
mod traps;

use std::path::Path;

use polychord::api::{self, Engine, Memory64, Policy, Rank};
use polychord::model::{
    Activations, Budget, CancelHandle, Error, Finish, GenerateOptions, Generator, Placement,
    Progress, Ranks, Session, SessionOptions, Transformer,
};

use common::architecture::Family;
use common::{each_engine, engines_agree, open, test_name, transformer};
use traps::trapping;

/// Models of each kind of memory.
const MODELS: [(&str, &str); 7] = [
    ("short convolutions", include_str!("data/architectures/lfm2-small.json")),
    ("delta nets", include_str!("data/architectures/qwen35-small.json")),
    ("delta nets and experts", include_str!("data/architectures/qwen3next-small.json")),
    ("delta nets in turn and experts", include_str!("data/architectures/qwen35moe-small.json")),
    ("windows", include_str!("data/architectures/gemma3-small.json")),
    ("windows and shared keys", include_str!("data/architectures/gemma4-e2b.json")),
    ("latent keys", include_str!("data/architectures/deepseek2-v3.json")),
];

fn options(placement: Placement, ranks: u32) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.placement = placement;
    options.batch = 4;
    options.context = Some(96);
    options.ranks = Ranks::Exactly(ranks);
    options.activations = Activations::F32;
    options
}

fn placements(engine: &dyn Engine, path: &Path) -> Vec<Placement> {
    let most = std::fs::metadata(path).unwrap().len() / 4 * 3;
    let mut all = vec![
        Placement::resident32(),
        Placement::sharded32(2),
        Placement::Paged { resident_bytes: Some(most), policy: Policy::Lru },
        Placement::multi32(),
    ];
    let native = matches!(engine.capabilities().memory64, Memory64::Native { .. });
    all.extend(native.then_some(Placement::native64()));
    all
}

/// A sequence that is longer than windows and batches.
fn sequence() -> Vec<u32> {
    (0..41).map(|position| position * 37 % 250 + 3).collect()
}

fn eval(session: &mut Session, tokens: &[u32]) -> Vec<u8> {
    session.eval(tokens).unwrap().as_bytes().to_vec()
}

#[test]
fn a_sequence_is_cut_and_copied_whatever_blocks_keep() {
    engines_agree("a_sequence_is_cut_and_copied_whatever_blocks_keep", |engine| {
        let (folder, transformer) =
            (tempfile::tempdir().unwrap(), Transformer::new(engine).unwrap());
        let mut bits = String::new();
        for (what, golden) in MODELS {
            let path = Family::of(golden).save(folder.path());
            let start =
                |options: &SessionOptions| transformer.start(&open(&path, true), options).unwrap();
            let all = sequence();
            let fresh =
                |tokens: &[u32]| eval(&mut start(&options(Placement::resident32(), 1)), tokens);
            let cuts = [40, 39, 20, 1, 0].map(|len| [&all[..len], &[77, 78]].concat());
            let expected = cuts.clone().map(|tokens| fresh(&tokens));
            let forked = fresh(&[&all[..], &[5, 6, 7]].concat());
            for placement in placements(&**engine, &path) {
                for ranks in [1, 2] {
                    let case = format!("{what}: {placement:?}, {ranks} ranks");
                    let mut session = start(&options(placement.clone(), ranks));
                    eval(&mut session, &all);
                    let mut fork = session.fork().unwrap();
                    assert_eq!(fork.profile().prompt.tokens, 0, "{case}: nothing is computed");
                    for (tokens, expected) in cuts.iter().zip(&expected) {
                        let len = u32::try_from(tokens.len() - 2).unwrap();
                        if session.position() < len {
                            session.reset();
                            eval(&mut session, &tokens[..tokens.len() - 2]);
                        }
                        session.truncate(len).unwrap();
                        // A cut sequence can be copied, too.
                        let mut copy = session.fork().unwrap();
                        assert!(eval(&mut session, &[77, 78]) == *expected, "{case}: cut to {len}");
                        assert!(eval(&mut copy, &[77, 78]) == *expected, "{case}: copy of {len}");
                    }
                    assert!(eval(&mut fork, &[5, 6, 7]) == forked, "{case}: copied");
                }
            }
            bits += &format!("{:x?}", &expected[2][..64]);
        }
        bits
    });
}

/// Two that compute together, of which the first decides: ranks, or stages.
type Together = fn(SessionOptions, &Rank) -> SessionOptions;

/// What has to be evaluated again is so in pieces, between which an answer can be interrupted.
#[test]
fn evaluating_again_is_divided() {
    engines_agree("evaluating_again_is_divided", |engine| {
        let (folder, transformer) =
            (tempfile::tempdir().unwrap(), Transformer::new(engine).unwrap());
        let all = sequence();
        let cut = [&all[..30], &[77, 78]].concat();
        let mut bits = String::new();
        for (what, golden) in &MODELS[..5] {
            let path = Family::of(golden).save(folder.path());
            let options = options(Placement::resident32(), 1);
            let start = || transformer.start(&open(&path, true), &options).unwrap();
            let expected = eval(&mut start(), &cut);

            let mut session = start();
            eval(&mut session, &all);
            assert_eq!(session.rewind(41).unwrap(), 41, "{what}: nothing was forgotten");
            assert_eq!(session.rewind(30).unwrap(), 0, "{what}");
            session.extend(&cut[..7]).unwrap();
            session.extend(&cut[7..20]).unwrap();
            assert!(eval(&mut session, &cut[20..]) == expected, "{what}: by rewind");

            session.reset();
            eval(&mut session, &all);
            let mut generator = Generator::new(session).unwrap();
            generator.begin(&cut, &GenerateOptions::default()).unwrap();
            let next = |generator: &mut Generator, budget: &mut Budget| {
                generator.next_within(budget).map(Result::unwrap)
            };
            for seen in [5, 10, 15] {
                let paused = next(&mut generator, &mut Budget::tokens(5));
                assert_eq!(paused, Some(Progress::Paused), "{what}");
                assert_eq!(generator.session().position(), seen, "{what}");
            }
            assert!(matches!(
                next(&mut generator, &mut Budget::unlimited()),
                Some(Progress::Token(_))
            ));
            assert!(generator.logits().as_bytes() == expected, "{what}: by a generator");
            let mut session = generator.into_session();

            session.reset();
            eval(&mut session, &all);
            let (cancel, mut asked) = (CancelHandle::new(), GenerateOptions::default());
            cancel.cancel();
            asked.cancel = Some(cancel);
            let mut generator = Generator::new(session).unwrap();
            generator.begin(&cut, &asked).unwrap();
            assert_eq!(next(&mut generator, &mut Budget::unlimited()), None, "{what}");
            assert_eq!(generator.finish(), Some(Finish::Cancelled), "{what}");
            assert_eq!(generator.session().position(), 0, "{what}: nothing was evaluated");
            bits += &format!("{:x?}", &expected[..64]);
        }
        bits
    });
}

#[test]
fn ranks_and_stages_that_follow_evaluate_again_where_the_first_does() {
    each_engine(test_name!(), |engine| {
        let (folder, transformer) =
            (tempfile::tempdir().unwrap(), Transformer::new(engine).unwrap());
        let together: [Together; 2] = [
            |options, rank| options.rank(rank.clone()),
            |options, rank| options.placement(Placement::sharded32(2)).stage(rank.clone()),
        ];
        for (what, golden) in MODELS {
            let path = Family::of(golden).save(folder.path());
            let start =
                |options: &SessionOptions| transformer.start(&open(&path, true), options).unwrap();
            let all = sequence();
            let alone = options(Placement::resident32(), 1);
            let cuts = [20, 12, 0].map(|len| [&all[..len], &[77, 78]].concat());
            let expected = cuts.each_ref().map(|tokens| eval(&mut start(&alone), tokens));
            for (number, together) in together.into_iter().enumerate() {
                let group = Rank::group(2).unwrap();
                let work = |rank: &Rank| {
                    let mut session = start(&together(alone.clone(), rank));
                    session.agree(&[]).unwrap();
                    if rank.index() > 0 {
                        session.follow().unwrap();
                        return session.profile().prompt.tokens;
                    }
                    session.lead().unwrap();
                    eval(&mut session, &all);
                    for (tokens, expected) in cuts.iter().zip(&expected) {
                        session.truncate(u32::try_from(tokens.len() - 2).unwrap()).unwrap();
                        let found = eval(&mut session, &[77, 78]);
                        assert!(found == *expected, "{what}: {number}, {}", tokens.len());
                    }
                    session.dismiss().unwrap();
                    session.profile().prompt.tokens
                };
                let computed = std::thread::scope(|scope| {
                    let work = &work;
                    let ranks = group.iter().map(|rank| scope.spawn(move || work(rank)));
                    let ranks: Vec<_> = ranks.collect();
                    ranks.into_iter().map(|rank| rank.join().unwrap()).collect::<Vec<_>>()
                });
                assert_eq!(computed[0], computed[1], "{what}: {number}");
            }
        }
    });
}

#[test]
fn a_stage_alone_is_neither_saved_nor_restored() {
    each_engine(test_name!(), |engine| {
        let (folder, transformer) =
            (tempfile::tempdir().unwrap(), Transformer::new(engine).unwrap());
        let path = Family::of(MODELS[0].1).save(folder.path());
        let model = open(&path, true);
        let mut bytes = Vec::new();
        let alone = options(Placement::sharded32(2), 1);
        transformer.start(&model, &alone).unwrap().save(&mut bytes).unwrap();
        let group = Rank::group(2).unwrap();
        let stage = alone.stage(group[0].clone());
        let saved = transformer.start(&model, &stage).unwrap().save(std::io::sink());
        assert!(matches!(saved, Err(Error::PartOfStages { .. })), "{saved:?}");
        let restored = transformer.restore(&model, &bytes[..], &stage).map(|_| ());
        assert!(matches!(restored, Err(Error::PartOfStages { .. })), "{restored:?}");
    });
}

#[test]
fn a_stopped_session_goes_on_whatever_blocks_keep() {
    engines_agree("a_stopped_session_goes_on_whatever_blocks_keep", |engine| {
        let folder = tempfile::tempdir().unwrap();
        let sound = transformer(engine);
        let mut bits = String::new();
        for (memory, placement) in
            [("wasm32", Placement::sharded32(2)), ("multi32", Placement::multi32())]
        {
            let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/built");
            let built = std::fs::read(built.join(format!("transformer-{memory}-plain.wasm")));
            // The modules of tests/stopped.rs, which are compiled once.
            let hostile = trapping(&built.unwrap(), 1_777, 8);
            let hostile = Transformer::from_wasm(engine, &hostile).unwrap();
            for (what, golden) in MODELS {
                let path = Family::of(golden).save(folder.path());
                let model = open(&path, true);
                let all = sequence();
                let turns = |session: &mut Session, stops: &mut usize| {
                    let mut logits = insist(session, &all[..17], stops);
                    for token in &all[17..20] {
                        logits.extend(insist(session, &[*token], stops));
                    }
                    logits
                };
                let alone = options(Placement::resident32(), 1);
                let expected = turns(&mut sound.start(&model, &alone).unwrap(), &mut 0);
                let mut session = hostile.start(&model, &options(placement.clone(), 1)).unwrap();
                let mut stops = 0;
                assert!(turns(&mut session, &mut stops) == expected, "{what}: {memory}");
                assert!(stops > 10, "{what}: only {stops}");
                bits += &format!("{stops} {:x?}", &expected[..64]);
            }
        }
        bits
    });
}

/// Evaluates until it succeeds, and counts how often it did not.
fn insist(session: &mut Session, tokens: &[u32], stops: &mut usize) -> Vec<u8> {
    for _ in 0..10_000 {
        match session.eval(tokens) {
            Ok(logits) => return logits.as_bytes().to_vec(),
            Err(Error::Runtime(api::Error::Trap { kind: api::TrapKind::Unreachable, .. })) => {
                *stops += 1;
            }
            Err(error) => panic!("after {stops} stops: {error}"),
        }
    }
    panic!("it does not get through");
}

/// Bytes of keys, values and states, in every placement; computed here from the models' numbers.
#[test]
fn caches_are_as_long_as_windows_need() {
    engines_agree("caches_are_as_long_as_windows_need", |engine| {
        let (folder, transformer) =
            (tempfile::tempdir().unwrap(), Transformer::new(engine).unwrap());
        // Positions of a cache with a window of 8, and a batch of 4; and of others.
        let (local, whole) = (8 + 4, 96);
        // Six blocks of seven have a window; keys and values of two heads of 16.
        let gemma3 = (6 * local + whole) * 2 * 2 * 16 * 4;
        // Eight blocks, of which the last four use the keys of the third and the fourth, which
        // therefore are whole; the first three have a window, and heads of 16 in place of 32.
        let gemma4 = (2 * local * 16 + whole * 16 + whole * 32) * 2 * 4;
        // Three convolutions of 64 channels over 3 positions; two blocks of two heads of 16.
        let lfm2 = 3 * 64 * 2 * 4 + 2 * whole * 2 * 2 * 16 * 4;
        // Three delta nets with 128 channels over 4 positions, and 4 matrices; two heads of 24.
        let qwen35 = 3 * (128 * 3 + 4 * 16 * 16) * 4 + whole * 2 * 2 * 24 * 4;
        // Four blocks, each with one row of 32 and 8 for a position.
        let deepseek = 4 * whole * 40 * 4;
        for (index, bytes) in [(4, gemma3), (5, gemma4), (0, lfm2), (1, qwen35), (6, deepseek)] {
            let (what, golden) = MODELS[index];
            let path = Family::of(golden).save(folder.path());
            for placement in placements(&**engine, &path) {
                let options = options(placement.clone(), 1);
                let session = transformer.start(&open(&path, true), &options).unwrap();
                assert_eq!(session.report().cache_bytes, bytes, "{what}: {placement:?}");
            }
        }
        String::new()
    });
}
