//! Forks share the keys and values of what they have in common, until one side writes to them.
#![allow(clippy::unwrap_used, reason = "tests")]
#![cfg(target_os = "linux")]

mod common;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use polychord::api::{Engine, ImageRoom, Policy};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Activations, CacheType, Error, Placement, Ranks, Session, SessionOptions, Transformer,
};
use sha2::{Digest, Sha256};

use common::architecture::Family;
use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name};

/// Tokens that forks have in common.
const COMMON: u32 = 1000;

const HEADS: u64 = 2;
const BLOCKS: u64 = 3;
const HEAD_DIM: u64 = 64;

fn shape() -> Shape {
    Shape {
        dim: 64,
        ffn: 64,
        heads: 4,
        kv_heads: 2,
        head_dim: 64,
        rope_dim: 64,
        blocks: 3,
        context: 2048,
        ..Shape::of(GgmlType::F32)
    }
}

/// Bytes of the rows of that many tokens, of all ranks.
fn row_bytes(cache_type: CacheType, tokens: u32) -> u64 {
    let row = match cache_type {
        CacheType::F16 => HEAD_DIM * 2,
        CacheType::Q8_0 => HEAD_DIM / 32 * 34,
        _ => HEAD_DIM * 4,
    };
    2 * HEADS * BLOCKS * row * u64::from(tokens)
}

fn options(placement: &Placement, ranks: u32, cache_type: CacheType) -> SessionOptions {
    SessionOptions::new()
        .context(2048)
        .placement(placement.clone())
        .ranks(Ranks::Exactly(ranks))
        .cache_type(cache_type)
}

fn prefix() -> Vec<u32> {
    (0..COMMON).map(|position| position * 37 % 90 + 3).collect()
}

/// The hash of the logits of a few tokens, one after another.
fn chain(session: &mut Session, first: u32) -> String {
    let mut hash = Sha256::new();
    for token in first..first + 4 {
        hash.update(session.eval(&[token]).unwrap().as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn forks_share_what_they_have_in_common() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let most = std::fs::metadata(&path).unwrap().len() / 4 * 3;
        let placements = [
            Placement::resident32(),
            Placement::sharded32(2),
            Placement::Paged { resident_bytes: Some(most), policy: Policy::Lru },
            Placement::multi32(),
        ];
        let mut hashes = String::new();
        for cache_type in [CacheType::F32, CacheType::F16, CacheType::Q8_0] {
            let copies = options(&placements[0], 1, cache_type).fork_room(ImageRoom::new(0));
            let mut copies = transformer.start(&open(&path, true), &copies).unwrap();
            let expected = Expected::of(&mut copies);
            assert_eq!(copies.fork().unwrap().report().shared_bytes, 0, "there is no room");
            hashes += &format!("{:?} {:?}", expected.cuts, expected.others);
            for placement in &placements {
                for ranks in [1, 2] {
                    let case = format!("{cache_type:?}, {placement:?}, {ranks} ranks");
                    let options = options(placement, ranks, cache_type);
                    let session = transformer.start(&open(&path, ranks == 1), &options).unwrap();
                    own_ways(session, &options, &expected, &case);
                    assert_eq!(options.fork_room.used(), 0, "{case}: nothing is left");
                }
            }
        }
        hashes
    });
}

/// Where the processes of [`what_a_fork_saves_goes_on_on_every_engine`] leave snapshots.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("forks")
}

#[test]
fn what_a_fork_saves_goes_on_on_every_engine() {
    _ = std::fs::remove_dir_all(folder());
    std::fs::create_dir_all(folder()).unwrap();
    Llama::random(shape()).save(&folder());
    // Each engine in a process of its own: first all write, then all read.
    engines_agree("part_that_forks", fork_and_save);
    engines_agree("part_that_goes_on", restore_forks);
    std::fs::remove_dir_all(folder()).unwrap();
}

#[test]
#[ignore = "a part of what_a_fork_saves_goes_on_on_every_engine"]
fn part_that_forks() {
    if folder().exists() {
        engines_agree(test_name!(), fork_and_save);
    }
}

#[test]
#[ignore = "a part of what_a_fork_saves_goes_on_on_every_engine"]
fn part_that_goes_on() {
    if folder().exists() {
        engines_agree(test_name!(), restore_forks);
    }
}

/// Saves a fork that shares keys and values with a session that has gone another way since. Tells what the fork
/// computes then.
fn fork_and_save(engine: &Arc<dyn Engine>) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let model = open(&folder().join("model.gguf"), true);
    let mut told = Vec::new();
    for (place, placement) in homes() {
        let options = options(&placement, 1, CacheType::F32);
        let mut session = transformer.start(&model, &options).unwrap();
        session.extend(&prefix()).unwrap();
        let mut fork = session.fork().unwrap();
        assert!(fork.report().shared_bytes > 0, "{place}: nothing is shared");
        behind(&mut session, 500, 30);
        fork.eval(&[20]).unwrap();
        let name = format!("{}.{place}", engine.capabilities().engine);
        let digest = fork.save(File::create(folder().join(name)).unwrap()).unwrap();
        told.push(format!("{digest} {}", next_100(&mut fork)));
    }
    assert!(told.iter().all(|it| *it == told[0]), "{told:?}");
    std::fs::write(folder().join("expected"), &told[0]).unwrap();
    told[0].clone()
}

/// Goes on from what forks on all engines have saved, in each placement.
fn restore_forks(engine: &Arc<dyn Engine>) -> String {
    let transformer = Transformer::new(engine).unwrap();
    let model = open(&folder().join("model.gguf"), true);
    let expected = std::fs::read_to_string(folder().join("expected")).unwrap();
    for other in polychord::available() {
        for (from, _) in homes() {
            for (to, placement) in homes() {
                let snapshot = File::open(folder().join(format!("{other}.{from}"))).unwrap();
                let options = options(&placement, 1, CacheType::F32);
                let mut session = transformer.restore(&model, snapshot, &options).unwrap().session;
                // And what was restored can be forked.
                let mut fork = session.fork().unwrap();
                for session in [&mut fork, &mut session] {
                    let found = next_100(session);
                    assert!(expected.ends_with(&found), "{other} {from} to {to}: {found}");
                }
            }
        }
    }
    expected
}

/// Placements between which forks travel.
fn homes() -> [(&'static str, Placement); 2] {
    [("resident32", Placement::resident32()), ("sharded32", Placement::sharded32(2))]
}

/// The hash of the logits of the next 100 tokens, each chosen by the logits before it.
fn next_100(session: &mut Session) -> String {
    let mut hash = Sha256::new();
    for _ in 0..100 {
        let logits = session.logits();
        let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap();
        let token = u32::try_from(best.0).unwrap();
        hash.update(session.eval(&[token]).unwrap().as_bytes());
    }
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a session computes and saves that shares nothing.
struct Expected {
    /// Behind the first tokens of the prefix, as many as [`CUTS`].
    cuts: [String; 5],
    /// Behind all of it, with other tokens.
    others: [String; 2],
    snapshot: Vec<u8>,
    nothing: String,
}

const CUTS: [u32; 5] = [COMMON, COMMON, 900, 100, 501];

impl Expected {
    fn of(session: &mut Session) -> Self {
        let others = [20, 30].map(|token| behind(session, COMMON, token));
        let cuts = CUTS.map(|len| behind(session, len, 5));
        let nothing = behind(session, 0, 5);
        behind(session, 700, 5);
        Self { cuts, others, snapshot: saved(session), nothing }
    }
}

/// What a session computes behind the first `len` tokens of the prefix.
fn behind(session: &mut Session, len: u32, first: u32) -> String {
    let prefix = &prefix()[..len as usize];
    let seen = session.rewind_to(prefix).unwrap() as usize;
    if seen < prefix.len() {
        session.extend(&prefix[seen..]).unwrap();
    }
    chain(session, first)
}

fn saved(session: &Session) -> Vec<u8> {
    let mut bytes = Vec::new();
    session.save(&mut bytes).unwrap();
    bytes
}

fn own_ways(mut session: Session, options: &SessionOptions, expected: &Expected, case: &str) {
    let (room, rows) = (&options.fork_room, row_bytes(options.cache_type, COMMON));
    session.extend(&prefix()).unwrap();
    let mut forks: Vec<_> = (0..8).map(|_| session.fork().unwrap()).collect();
    // One image for all: about as many bytes as there are rows.
    let image = room.used();
    assert!((rows..rows + rows / 5).contains(&image), "{case}: {image} of {rows}");
    for fork in &forks {
        let report = fork.report();
        assert!(report.shared_bytes >= rows / 5 * 4, "{case}: {report:?}");
        assert_eq!(report.shared_bytes + report.copied_bytes, rows, "{case}");
        assert_eq!(report.image_bytes, image);
        assert_eq!(report.profile.prompt.tokens, 0, "{case}: nothing is computed");
    }
    // Until it goes on, the first one has its own pages.
    assert_eq!(session.report().shared_bytes, 0, "{case}");
    assert_eq!(chain(&mut session, 20), expected.others[0], "{case}");
    let shared = forks[0].report().shared_bytes;
    assert_eq!(session.report().shared_bytes, shared, "{case}");
    // What has grown can be forked, and shares what it did.
    let mut grown = session.fork().unwrap();
    assert_eq!((grown.report().shared_bytes, room.used()), (shared, image), "{case}");
    // Each writes behind what is common, or into it, and no other sees it.
    for (fork, (len, expected)) in forks.iter_mut().zip(CUTS.iter().zip(&expected.cuts)) {
        fork.truncate(*len).unwrap();
        assert_eq!(&chain(fork, 5), expected, "{case}, cut to {len}");
        let after = fork.report().shared_bytes;
        match *len {
            COMMON => assert_eq!(after, shared, "{case}"),
            100 => assert_eq!(after, 0, "{case}: too little is left"),
            _ => assert!(0 < after && after < shared, "{case}: {after} of {shared}"),
        }
    }
    assert_eq!(chain(&mut forks[5], 30), expected.others[1], "{case}");
    // One that was cut can be saved and forked.
    forks[6].truncate(700).unwrap();
    chain(&mut forks[6], 5);
    assert!(saved(&forks[6]) == expected.snapshot, "{case}: saved");
    let mut third = forks[6].fork_at(501).unwrap();
    assert_eq!(third.position(), 501);
    let report = third.report();
    assert!(0 < report.shared_bytes && report.shared_bytes < shared, "{case}: {report:?}");
    assert_eq!(room.used(), image, "{case}");
    assert_eq!(chain(&mut third, 5), expected.cuts[4], "{case}");
    // Those that are left do not need those that are gone.
    drop((session, third));
    drop(forks.drain(..7));
    let mut last = forks[0].fork().unwrap();
    drop(forks);
    assert_eq!(room.used(), image, "{case}");
    assert_eq!(chain(&mut last, 20), expected.others[0], "{case}");
    // Of nothing, nothing is shared.
    let mut empty = grown.fork_at(0).unwrap();
    assert_eq!(chain(&mut empty, 5), expected.nothing, "{case}");
    assert!(matches!(grown.fork_at(2000), Err(Error::Truncate { asked: 2000, .. })), "{case}");
    grown.reset();
    assert_eq!(chain(&mut grown, 5), expected.nothing, "{case}");
    assert_eq!(grown.report().shared_bytes, 0, "{case}");
    drop(last);
    assert_eq!(room.used(), 0, "{case}: the others have forgotten it");
}

/// Blocks that keep a state, or a window that has come round, in a model with others that share.
#[test]
fn what_blocks_keep_otherwise_is_copied() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let transformer = Transformer::new(engine).unwrap();
        let mut hashes = String::new();
        for golden in [
            include_str!("data/architectures/gemma3-small.json"),
            include_str!("data/architectures/qwen35-wide.json"),
        ] {
            let path = Family::of(golden).with_context(2048).save(folder.path());
            let options = options(&Placement::sharded32(2), 2, CacheType::F32);
            let options = options.activations(Activations::F32);
            let start = || transformer.start(&open(&path, true), &options).unwrap();
            let mut session = start();
            session.extend(&prefix()).unwrap();
            let mut forks = [(); 4].map(|()| session.fork().unwrap());
            let report = forks[0].report();
            assert!(report.shared_bytes > 0 && report.copied_bytes > 0, "{report:?}");
            let expected = chain(&mut session, 5);
            assert_eq!(chain(&mut forks[0], 5), expected);
            hashes += &expected;
            // Cut further than they can go on from, and less far.
            for (fork, len) in forks[1..].iter_mut().zip([998, 600, 20]) {
                let mut fresh = start();
                let mut copy = session.fork_at(len).unwrap();
                let expected = behind(&mut fresh, len, 5);
                fork.truncate(len).unwrap();
                assert_eq!(chain(fork, 5), expected, "cut to {len}");
                assert_eq!(chain(&mut copy, 5), expected, "copy of {len}");
            }
            assert_eq!(chain(&mut session, 9), chain(&mut forks[0], 9));
            drop((session, forks));
            assert_eq!(options.fork_room.used(), 0);
        }
        hashes
    });
}

/// Eight forks, each of which has computed a token, take less than eight copies: pages of the process, each
/// divided by the number of places where it is.
#[test]
fn eight_forks_take_little_memory() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        // So that rows are most of a session.
        let shape = Shape { blocks: 8, ..shape() };
        let path = Llama::random(shape.clone()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let rows = row_bytes(CacheType::F32, COMMON) / BLOCKS * shape.blocks as u64;
        let taken = |room: ImageRoom| {
            let options = options(&Placement::resident32(), 1, CacheType::F32).fork_room(room);
            let mut session = transformer.start(&open(&path, true), &options).unwrap();
            session.extend(&prefix()).unwrap();
            chain(&mut session, 5);
            let before = proportional_bytes();
            let mut forks: Vec<_> = (0..8).map(|_| session.fork_at(COMMON).unwrap()).collect();
            let chains: Vec<_> = forks.iter_mut().map(|fork| chain(fork, 5)).collect();
            chain(&mut session, 5);
            assert!(chains.iter().all(|it| *it == chains[0]));
            proportional_bytes().saturating_sub(before)
        };
        let (shared, copied) = (taken(ImageRoom::default()), taken(ImageRoom::new(0)));
        println!("8 forks of {rows} bytes: {shared} bytes when shared, {copied} when copied");
        assert!(copied > 7 * rows, "{copied}");
        assert!(copied - shared > 6 * rows, "{copied} {shared}");
    });
}

/// `Pss` of all mappings, as `/proc/self/smaps_rollup` has it.
fn proportional_bytes() -> u64 {
    let rollup = std::fs::read_to_string("/proc/self/smaps_rollup").unwrap();
    let line = rollup.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

/// Where the system makes no file in memory, forks are copies, with the same bits.
#[test]
fn what_the_system_refuses_is_copied() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let options = options(&Placement::resident32(), 1, CacheType::F32);
        let mut session = transformer.start(&open(&path, true), &options).unwrap();
        session.extend(&prefix()).unwrap();
        let mut shared = session.fork().unwrap();
        assert!(shared.report().shared_bytes > 0);
        let mut other = transformer.start(&open(&path, true), &options).unwrap();
        other.extend(&prefix()[..500]).unwrap();
        // From now on there is no number for another file.
        let before = getrlimit(Resource::Nofile);
        let none = Rlimit { current: Some(0), maximum: before.maximum };
        setrlimit(Resource::Nofile, none).unwrap();
        std::fs::File::open("/dev/null").unwrap_err();
        let mut fork = other.fork().unwrap();
        assert_eq!(fork.report().shared_bytes, 0);
        assert_eq!(fork.report().copied_bytes, row_bytes(CacheType::F32, 500));
        // What is there already is shared as before.
        let mut third = shared.fork_at(500).unwrap();
        assert!(third.report().shared_bytes > 0);
        let expected = chain(&mut other, 5);
        assert_eq!(chain(&mut fork, 5), expected);
        assert_eq!(chain(&mut third, 5), expected);
        shared.truncate(500).unwrap();
        assert_eq!(chain(&mut shared, 5), expected);
        // What the test found is written to a file.
        setrlimit(Resource::Nofile, before).unwrap();
    });
}
