//! What a session can do with its sequence: shorten it, go on from it twice, be one rank of many.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::thread;

use polychord::api::abi::PAGE;
use polychord::api::{Engine, Policy, Rank};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    CacheType, Error, ErrorKind, Model, Placement, Profile, Ranks, Session, SessionOptions,
    ShardSplit, Split, Transformer,
};
use sha2::{Digest, Sha256};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name};

fn shape() -> Shape {
    Shape { rope_freqs: true, blocks: 4, ..Shape::of(GgmlType::Q4_0) }
}

fn options() -> SessionOptions {
    SessionOptions::new().context(64).batch(4)
}

const TOKENS: [u32; 13] = [1, 50, 3, 90, 7, 7, 20, 60, 11, 2, 33, 12, 5];

fn eval(session: &mut Session, tokens: &[u32]) -> Vec<u8> {
    session.eval(tokens).unwrap().as_bytes().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Options for each kind of placement and number of ranks that an engine can run.
fn all_options(engine: &dyn Engine) -> Vec<SessionOptions> {
    let paged = |policy| Placement::Paged { resident_bytes: Some(3 * PAGE), policy };
    let mut all = vec![
        options().placement(Placement::resident32()),
        options().placement(Placement::Resident32 { split: Split::ByKind }),
        options().placement(Placement::sharded32(3)),
        options()
            .placement(Placement::Sharded32 { memories: Some(2), split: ShardSplit::CacheApart }),
        options().placement(paged(Policy::Lru)),
        options().placement(paged(Policy::Pinned)),
        options().placement(Placement::multi32()),
    ];
    let wide = common::wide(engine.capabilities().memory64);
    all.extend(wide.map(|placement| options().placement(placement)));
    let ranks = all.clone().into_iter().map(|options| options.ranks(Ranks::Exactly(2)));
    let ranks: Vec<_> = ranks.collect();
    all.extend(ranks);
    all
}

/// What a fresh session computes of a sequence.
fn fresh(transformer: &Transformer, path: &Path, tokens: &[u32]) -> Vec<u8> {
    let options = options().placement(Placement::resident32());
    eval(&mut transformer.start(&open(path, false), &options).unwrap(), tokens)
}

#[test]
fn a_truncated_session_goes_on_as_if_it_had_seen_no_more() {
    engines_agree("a_truncated_session_goes_on_as_if_it_had_seen_no_more", |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let mut expected = None;
        for (index, options) in all_options(&**engine).iter().enumerate() {
            let mut session = transformer.start(&open(&path, index % 2 == 0), options).unwrap();
            eval(&mut session, &TOKENS);
            let mut hashes = String::new();
            for (len, more) in [
                (13, &[9][..]),
                (14, &[8, 9]),
                (6, &[40, 41, 42, 43, 44, 45]),
                (1, &[2]),
                (0, &[3, 4]),
            ] {
                session.truncate(len).unwrap();
                let mut sequence = session.tokens().to_vec();
                let got = eval(&mut session, more);
                sequence.extend(more);
                assert_eq!(session.tokens(), sequence);
                assert!(got == fresh(&transformer, &path, &sequence), "{len}: {options:?}");
                hashes += &hash(&got);
            }
            assert_eq!(*expected.get_or_insert_with(|| hashes.clone()), hashes);
            let refused = session.truncate(3).unwrap_err();
            assert!(matches!(refused, Error::Truncate { asked: 3, position: 2 }), "{refused}");
            assert_eq!(refused.kind(), ErrorKind::InvalidArgument);
            assert_eq!(session.position(), 2);
        }
        expected.unwrap()
    });
}

#[test]
fn forks_go_their_own_ways() {
    each_engine("forks_go_their_own_ways", |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let expected = |tokens: &[u32]| fresh(&transformer, &path, tokens);
        for (index, options) in all_options(&**engine).iter().enumerate() {
            let mut session = transformer.start(&open(&path, index % 2 == 1), options).unwrap();
            assert_eq!(session.fork().unwrap().position(), 0);
            let seen = eval(&mut session, &TOKENS);
            let mut fork = session.fork().unwrap();
            // Copied, not computed again.
            let profile = fork.profile();
            assert_eq!((profile.prompt.tokens, profile.decode.tokens), (0, 0), "{options:?}");
            assert_eq!(fork.tokens(), TOKENS);
            assert!(fork.logits().as_bytes() == seen, "{options:?}");
            assert_eq!(fork.placed(), session.placed());
            assert_eq!(fork.ranks(), session.ranks());
            let (one, two) = (eval(&mut fork, &[8]), eval(&mut session, &[9, 10]));
            assert!(one == expected(&[&TOKENS[..], &[8]].concat()), "{options:?}");
            assert!(two == expected(&[&TOKENS[..], &[9, 10]].concat()), "{options:?}");
            drop(session);
            fork.truncate(2).unwrap();
            // Forks can be forked, also after a failure.
            assert!(fork.eval(&[5, u32::MAX]).is_err());
            let mut third = fork.fork().unwrap();
            drop(fork);
            assert_eq!(third.profile(), Profile::default());
            for (len, token) in [(3, 4), (4, 9), (5, 4)] {
                let sequence = [1, 50, 4, 9, 4];
                assert!(eval(&mut third, &[token]) == expected(&sequence[..len]), "{options:?}");
            }
        }
    });
}

#[test]
fn forks_copy_rounded_caches_and_no_more_than_is_used() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape { context: 32 << 10, ..shape() }).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        for cache_type in [CacheType::F32, CacheType::F16] {
            let all = [
                options().placement(Placement::Resident32 { split: Split::ByKind }),
                options().placement(Placement::multi32()),
            ];
            for options in all.map(|options| options.cache_type(cache_type).context(32 << 10)) {
                let model = open(&path, true);
                let mut session = transformer.start(&model, &options).unwrap();
                eval(&mut session, &TOKENS);
                let mut fork = session.fork().unwrap();
                let kv = |session: &Session| {
                    let guest = session.memory_stats().remove(0);
                    let kv = guest.memories.into_iter().find(|it| it.regions[0].name == "kv");
                    let kv = kv.unwrap();
                    (kv.resident_bytes.unwrap(), kv.regions[0].bytes)
                };
                let ((used, _), (copied, all)) = (kv(&session), kv(&fork));
                assert!(0 < copied && copied <= used, "{copied} of {used}");
                // Pages of 4 KiB may become 64 KiB, no more.
                assert!(copied < all / 8, "{copied} of {all}: {options:?}");
                let expected = eval(&mut session, &[8, 9]);
                assert!(eval(&mut fork, &[8, 9]) == expected, "{options:?}");
            }
        }
    });
}

#[test]
fn sessions_of_one_given_rank_each_compute_together() {
    each_engine("sessions_of_one_given_rank_each_compute_together", |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let expected = [
            fresh(&transformer, &path, &TOKENS),
            fresh(&transformer, &path, &[&TOKENS[..], &[9]].concat()),
        ];
        let model = open(&path, true);
        let run = |rank: &Rank| {
            let options = options().rank(rank.clone());
            let mut session = transformer.start(&model, &options).unwrap();
            assert_eq!(session.ranks(), 2);
            let stats = session.memory_stats();
            assert!(stats.iter().all(|guest| guest.rank == rank.index()) && stats.len() == 1);
            let got = [eval(&mut session, &TOKENS), eval(&mut session, &[9])];
            assert!(got == expected, "rank {}", rank.index());
            // Each forks when it likes to; then both sessions compute in the same order.
            let mut fork = session.fork().unwrap();
            fork.truncate(13).unwrap();
            assert!(eval(&mut fork, &[9]) == expected[1]);
            drop(fork);
            // What one of them refuses fails for all.
            let refused = session.eval(&[if rank.index() == 0 { u32::MAX } else { 1 }]);
            let refused = refused.map(|_| ()).unwrap_err().kind();
            assert!(matches!(refused, ErrorKind::InvalidArgument | ErrorKind::Rank), "{refused:?}");
            session
        };
        let ranks = Rank::group(2).unwrap();
        let mut sessions: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = ranks.iter().map(|rank| scope.spawn(|| run(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        // Until the group begins anew.
        assert_eq!(sessions[0].eval(&[1]).map(|_| ()).unwrap_err().kind(), ErrorKind::Rank);
        ranks[0].renew().unwrap();
        thread::scope(|scope| {
            for session in &mut sessions {
                scope.spawn(|| {
                    session.truncate(13).unwrap();
                    assert!(eval(session, &[9]) == expected[1]);
                });
            }
        });
        let too_many = options().rank(Rank::group(5).unwrap().remove(0));
        let refused = transformer.start(&model, &too_many).unwrap_err();
        assert!(matches!(refused, Error::Ranks { asked: 5, limit: 4 }), "{refused}");
    });
}

#[test]
fn memory_of_all_guests_together_has_a_limit() {
    each_engine("memory_of_all_guests_together_has_a_limit", |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let model = Model::open(&path).unwrap();
        for options in all_options(&**engine) {
            let refused = transformer.start(&model, &options.clone().memory_bytes(1)).unwrap_err();
            let Error::MemoryBytes { least, limit: 1, .. } = refused else { panic!("{refused}") };
            assert_eq!(refused.kind(), ErrorKind::TooLarge);
            let text = refused.to_string();
            assert!(text.contains(&format!("allow {least}")) && text.contains("memory_bytes"));
            let placed = model.place(&options, engine.capabilities()).unwrap();
            let ranks = if options.ranks == Ranks::Exactly(2) { 2 } else { 1 };
            assert_eq!(least, placed.guest_needs.iter().sum::<u64>() * ranks);
            let below = transformer.start(&model, &options.clone().memory_bytes(least - 1));
            assert!(matches!(below, Err(Error::MemoryBytes { .. })), "{options:?}");
            let mut session =
                transformer.start(&model, &options.clone().memory_bytes(least)).unwrap();
            let got = eval(&mut session, &TOKENS);
            assert!(got == fresh(&transformer, &path, &TOKENS), "{options:?}");
            let bytes = session.stats().guest_bytes;
            assert!(bytes <= least, "{bytes} of {least}: {options:?}");
        }
    });
}

#[test]
fn statistics_name_rank_and_guest() {
    each_engine("statistics_name_rank_and_guest", |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let options =
            options().placement(Placement::sharded32(3)).ranks(Ranks::Exactly(2)).profile();
        let mut session = transformer.start(&open(&path, false), &options).unwrap();
        eval(&mut session, &TOKENS);
        let stats = session.memory_stats();
        let places: Vec<_> = stats.iter().map(|guest| (guest.rank, guest.guest)).collect();
        assert_eq!(places, [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]);
        assert!(stats.iter().all(|guest| guest.memories.len() == 1));
        let report = session.report();
        assert_eq!(report.totals, session.stats());
        assert_eq!(report.paging, None);
        assert_eq!(report.profile, session.profile());
        assert_eq!(report.profile.prompt.tokens, 13);
        let loads: u64 = stats.iter().flat_map(|guest| &guest.memories).map(|it| it.loads).sum();
        assert_eq!(report.totals.loads, loads);
    });
}
