//! Sessions that are computed together have the bits that each has alone.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/traps.rs"]
mod traps;

use std::path::Path;

use polychord::api::abi::transformer::status;
use polychord::api::{self, Engine, Memory64, Policy};
use polychord::model::{
    Activations, Batch, CacheType, Error, ErrorKind, Model, Placement, Ranks, Session,
    SessionOptions, Split, Transformer,
};

use common::architecture::Family;
use common::{each_engine, engines_agree, open, test_name};
use traps::trapping;

/// A model of each kind of what stands in the place of attention, of what goes in and comes out of it,
/// and of feed-forward parts.
const MODELS: [(&str, &str); 15] = [
    ("heads", include_str!("data/architectures/llama-small.json")),
    ("one head of keys", include_str!("data/architectures/llama-mqa.json")),
    ("factors of frequencies", include_str!("data/architectures/llama-freqs.json")),
    ("norms of all queries", include_str!("data/architectures/olmo2-small.json")),
    ("fused products", include_str!("data/architectures/phi3-small.json")),
    ("parallel parts", include_str!("data/architectures/cohere2-small.json")),
    ("sinks", include_str!("data/architectures/gpt-oss-small.json")),
    ("windows", include_str!("data/architectures/gemma3-small.json")),
    ("shared keys, inputs of layers", include_str!("data/architectures/gemma4-e2b.json")),
    ("chunks, late norms, temperature", include_str!("data/architectures/llama4-chunk.json")),
    ("latent keys", include_str!("data/architectures/deepseek2-v3.json")),
    ("fused latent keys", include_str!("data/architectures/deepseek2-legacy.json")),
    ("short convolutions", include_str!("data/architectures/lfm2-small.json")),
    ("delta nets", include_str!("data/architectures/qwen35-small.json")),
    ("delta nets and experts", include_str!("data/architectures/qwen3next-small.json")),
];

fn options(placement: Placement, ranks: u32) -> SessionOptions {
    let mut options = SessionOptions::new().context(96).placement(placement).batch(4);
    options.activations = Activations::F32;
    options.ranks(Ranks::Exactly(ranks))
}

fn placements(engine: &dyn Engine, path: &Path) -> Vec<(Placement, u32)> {
    // Each layer has pages of its own, and some are needed at once, however small they are.
    let most = (std::fs::metadata(path).unwrap().len() / 4 * 3).max(8 << 16);
    let paged = Placement::Paged { resident_bytes: Some(most), policy: Policy::Lru };
    let mut all = vec![
        (Placement::resident32(), 1),
        (Placement::resident32(), 2),
        (Placement::sharded32(2), 1),
        (paged.clone(), 1),
        (paged, 2),
        (Placement::multi32(), 1),
        (Placement::multi32(), 3),
    ];
    let native = matches!(engine.capabilities().memory64, Memory64::Native { .. });
    all.extend(native.then(|| (Placement::native64(), 1)));
    all
}

/// Prompts of several lengths: longer than windows and batches, and of one token.
fn prompt(sequence: usize) -> Vec<u32> {
    let len = [23, 1, 9, 41, 2][sequence];
    let tokens = (0..len).map(|position| (position * 37 + sequence * 11) % 250 + 3);
    tokens.map(|token| u32::try_from(token).unwrap()).collect()
}

fn token(sequence: usize, step: usize) -> u32 {
    u32::try_from((sequence * 31 + step * 17) % 250 + 3).unwrap()
}

const SEQUENCES: usize = 5;
const STEPS: usize = 5;

/// Logits after each prompt and each step, sequence by sequence.
type All = Vec<Vec<Vec<u8>>>;

fn alone(start: impl Fn() -> Session) -> All {
    let of_one = |sequence: usize| {
        let mut session = start();
        let mut logits = vec![session.eval(&prompt(sequence)).unwrap().as_bytes().to_vec()];
        for step in 0..STEPS {
            let next = session.eval(&[token(sequence, step)]).unwrap();
            logits.push(next.as_bytes().to_vec());
        }
        logits
    };
    (0..SEQUENCES).map(of_one).collect()
}

fn together(start: impl Fn() -> Session) -> All {
    let mut sessions: Vec<_> = (0..SEQUENCES).map(|_| start()).collect();
    let mut all: All = Vec::new();
    for (sequence, session) in sessions.iter_mut().enumerate() {
        all.push(vec![session.eval(&prompt(sequence)).unwrap().as_bytes().to_vec()]);
    }
    for step in 0..STEPS {
        // One rests in each step but the first, and is evaluated alone; another one is first in each.
        let resting = if step == 0 { SEQUENCES } else { step % SEQUENCES };
        let mut numbers: Vec<usize> = (0..SEQUENCES).filter(|it| *it != resting).collect();
        numbers.rotate_left(step % 3);
        let mut parts: Vec<_> = sessions.iter_mut().enumerate().collect();
        parts.retain(|(number, _)| *number != resting);
        parts.rotate_left(step % 3);
        let mut parts: Vec<_> =
            parts.into_iter().map(|(number, it)| (it, token(number, step))).collect();
        let batch = Batch::step(&mut parts).unwrap();
        // A pass has at most 4 rows: the fifth is alone.
        assert_eq!((batch.together, batch.passes), (4, if step == 0 { 2 } else { 1 }));
        for (number, (session, _)) in numbers.iter().zip(&parts) {
            all[*number].push(session.logits().as_bytes().to_vec());
        }
        if let Some(session) = sessions.get_mut(resting) {
            let next = session.eval(&[token(resting, step)]).unwrap();
            all[resting].push(next.as_bytes().to_vec());
        }
    }
    all
}

#[test]
fn each_session_has_the_bits_that_it_has_alone() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let mut bits = String::new();
        for (what, golden) in MODELS {
            let path = Family::of(golden).save(folder.path());
            let model = open(&path, true);
            let one = options(Placement::resident32(), 1);
            let expected = alone(|| transformer.start(&model, &one).unwrap());
            for (placement, ranks) in placements(&**engine, &path) {
                let options = options(placement, ranks);
                if what.starts_with("chunks") && ranks > 2 {
                    let error = transformer.start(&model, &options).unwrap_err().to_string();
                    assert!(
                        error.contains("3 ranks are not possible: the model's 2 heads"),
                        "{error}"
                    );
                    continue;
                }
                let logits = together(|| transformer.start(&model, &options).unwrap());
                assert!(logits == expected, "{what}: {:?}, {ranks} ranks", options.placement);
            }
            bits += &format!("{:x?}", &expected[3][STEPS][..64]);
        }
        bits
    });
}

#[test]
fn numbers_copies_and_caches_apart_change_no_bit() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let mut bits = String::new();
        for golden in [
            include_str!("data/architectures/llama-wide.json"),
            include_str!("data/architectures/qwen3moe-wide.json"),
        ] {
            let path = Family::of(golden).save(folder.path());
            let apart = Placement::sharded32(2).with_split(Split::CacheApart);
            for (mapped, placement) in
                [(false, Placement::resident32()), (true, apart.unwrap_or(Placement::sharded32(3)))]
            {
                let model = open(&path, mapped);
                for (activations, cache_type) in
                    [(Activations::Int8, CacheType::F32), (Activations::Int8, CacheType::F16)]
                {
                    let mut options = options(placement.clone(), 1).cache_type(cache_type);
                    options.activations = activations;
                    let start = || transformer.start(&model, &options).unwrap();
                    let expected = alone(start);
                    assert!(together(start) == expected, "{options:?}");
                    bits += &format!("{:x?}", &expected[0][STEPS][..64]);
                }
            }
        }
        bits
    });
}

fn bytes(session: &Session) -> Vec<u8> {
    session.logits().as_bytes().to_vec()
}

fn four(transformer: &Transformer, model: &Model, options: &SessionOptions) -> Vec<Session> {
    let start = |sequence: usize| {
        let mut session = transformer.start(model, options).unwrap();
        session.eval(&prompt(sequence)).unwrap();
        session
    };
    (0..4).map(start).collect()
}

fn step(sessions: &mut [Session], tokens: &[u32]) -> Result<Batch, Error> {
    let mut members: Vec<_> = sessions.iter_mut().zip(tokens.iter().copied()).collect();
    Batch::step(&mut members)
}

#[test]
fn sessions_are_cut_copied_and_dropped_between_steps() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let mut bits = String::new();
        for (what, golden) in MODELS {
            let model = open(&Family::of(golden).save(folder.path()), true);
            let options = options(Placement::resident32(), 1);
            let fresh = |tokens: &[u32]| {
                let mut session = transformer.start(&model, &options).unwrap();
                session.eval(tokens).unwrap().as_bytes().to_vec()
            };
            let mut sessions = four(&transformer, &model, &options);
            step(&mut sessions, &[5, 6, 7, 8]).unwrap();
            let mut copy = sessions[3].fork().unwrap();
            assert!(bytes(&copy) == bytes(&sessions[3]), "{what}");
            sessions[0].truncate(20).unwrap();
            sessions[3].truncate(3).unwrap();
            sessions[2].reset();
            sessions.remove(1);
            let (tokens, mut members) = ([9, 10, 11], Vec::new());
            members.extend(sessions.iter_mut().zip(tokens));
            members.push((&mut copy, 12));
            assert_eq!(Batch::step(&mut members).unwrap().passes, 1);
            let expected = [
                fresh(&[&prompt(0)[..20], &[9]].concat()),
                fresh(&[10]),
                fresh(&[&prompt(3)[..3], &[11]].concat()),
            ];
            for (session, expected) in sessions.iter().zip(&expected) {
                assert!(bytes(session) == *expected, "{what}");
            }
            let of_copy = fresh(&[&prompt(3)[..], &[8, 12]].concat());
            assert!(bytes(&copy) == of_copy, "{what}");
            bits += &format!("{:x?}", &of_copy[..64]);
        }
        bits
    });
}

#[test]
fn what_cannot_be_computed_leaves_all_as_they_were() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let model = open(&Family::of(MODELS[13].1).save(folder.path()), true);
        let other = open(&Family::of(MODELS[0].1).save(folder.path()), true);
        let options = options(Placement::resident32(), 1);
        assert!(matches!(Batch::step(&mut []), Err(Error::EmptyPrompt)));
        let mut sessions = four(&transformer, &model, &options);
        let mut full = transformer.start(&model, &options.clone().context(9)).unwrap();
        full.eval(&prompt(2)).unwrap();
        let lengths =
            |sessions: &[Session]| sessions.iter().map(Session::position).collect::<Vec<_>>();
        let before = lengths(&sessions);
        let unknown = step(&mut sessions, &[5, 6, 70_000, 8]).unwrap_err();
        let is_named = matches!(&unknown, Error::Guest { status: status::BAD_TOKEN, reason, .. } if reason.contains("70000"));
        assert!(is_named, "{unknown}");
        assert_eq!(lengths(&sessions), before);
        sessions.push(full);
        let refused = step(&mut sessions, &[5, 6, 7, 8, 9]).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ContextFull, "{refused}");
        assert_eq!(lengths(&sessions[..4]), before);
        sessions.pop();
        // Another model is computed beside them; and of two passes, the first is taken back.
        let mut beside = transformer.start(&other, &options).unwrap();
        let mut members: Vec<_> = sessions.iter_mut().map(|it| (it, 7)).collect();
        members.push((&mut beside, 7));
        let batch = Batch::step(&mut members).unwrap();
        assert_eq!((batch.passes, batch.together), (2, 4));
        beside.eval(&[9]).unwrap();
        let mut members: Vec<_> = sessions.iter_mut().map(|it| (it, 9)).collect();
        members.push((&mut beside, 70_000));
        Batch::step(&mut members).unwrap_err();
        assert_eq!(lengths(&sessions), before.iter().map(|it| it + 1).collect::<Vec<_>>());
        step(&mut sessions, &[1, 2, 3, 4]).unwrap();
        for (sequence, (session, last)) in sessions.iter().zip([1, 2, 3, 4]).enumerate() {
            let mut fresh = transformer.start(&model, &options).unwrap();
            fresh.eval(&[&prompt(sequence)[..], &[7, last]].concat()).unwrap();
            assert!(bytes(session) == bytes(&fresh), "sequence {sequence}");
        }
    });
}

#[test]
fn a_step_that_was_stopped_anywhere_is_repeated_with_the_same_bits() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let sound = Transformer::new(engine).unwrap();
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/built");
        let built = std::fs::read(built.join("transformer-wasm32-plain.wasm")).unwrap();
        let hostile = Transformer::from_wasm(engine, &trapping(&built, 1_777, 8)).unwrap();
        let mut bits = String::new();
        for (what, golden) in [MODELS[0], MODELS[7], MODELS[10], MODELS[13]] {
            let model = open(&Family::of(golden).save(folder.path()), true);
            let options = options(Placement::resident32(), 1);
            let mut sessions: Vec<_> =
                (0..4).map(|_| hostile.start(&model, &options).unwrap()).collect();
            let mut stops = 0;
            for (sequence, session) in sessions.iter_mut().enumerate() {
                insist(&mut stops, || session.eval(&prompt(sequence)).map(|_| ()));
            }
            let stops_before = stops;
            for tokens in [[5, 6, 7, 8], [9, 10, 11, 12], [13, 14, 15, 16]] {
                insist(&mut stops, || step(&mut sessions, &tokens).map(|_| ()));
            }
            assert!(stops > stops_before, "{what}");
            for (sequence, session) in sessions.iter().enumerate() {
                let then = (5..).step_by(4).take(3).map(|it| it + u32::try_from(sequence).unwrap());
                let tokens: Vec<_> = prompt(sequence).into_iter().chain(then).collect();
                let mut fresh = sound.start(&model, &options).unwrap();
                assert!(bytes(session) == fresh.eval(&tokens).unwrap().as_bytes(), "{what}");
            }
            bits += &format!("{stops} {:x?}", &bytes(&sessions[2])[..64]);
        }
        bits
    });
}

/// Repeats what is stopped until it succeeds, and counts how often it was.
fn insist(stops: &mut usize, mut what: impl FnMut() -> Result<(), Error>) {
    for _ in 0..10_000 {
        match what() {
            Ok(()) => return,
            Err(Error::Runtime(api::Error::Trap { kind: api::TrapKind::Unreachable, .. })) => {
                *stops += 1;
            }
            Err(error) => panic!("after {stops} stops: {error}"),
        }
    }
    panic!("it does not get through");
}
