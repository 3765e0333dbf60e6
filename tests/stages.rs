//! Stages of a pipeline: plans that name hosts, stages of several ranks, and several sequences at once. None of it
//! changes a bit.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::sync::Arc;

use polychord::api::{Engine, Hosts, Plan, Policy, Rank};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    Error, Flow, Logits, Model, Placement, Ranks, Session, SessionOptions, Stage, Transformer,
};

use common::llama::{Llama, Shape};
use common::{each_engine, open, test_name};

fn shape(tied: bool) -> Shape {
    Shape {
        blocks: 4,
        dim: 288,
        ffn: 416,
        heads: 9,
        kv_heads: 3,
        head_dim: 32,
        rope_dim: 32,
        vocab: 301,
        tied,
        ..Shape::of(GgmlType::Q4_1)
    }
}

fn options() -> SessionOptions {
    SessionOptions::new().context(40).batch(4).ranks(Ranks::Exactly(1))
}

/// The layers over some hosts, of which each has one guest or more.
fn planned(model: &Model, engine: &Arc<dyn Engine>, hosts: &Hosts, guests: usize) -> Plan {
    let options = options().placement(Placement::sharded32(guests));
    model.place_on(hosts, &options, engine.capabilities()).unwrap().plan
}

/// Runs each rank of a group in a thread of its own.
fn by_rank<T: Send>(count: usize, work: impl Fn(Rank) -> T + Sync) -> Vec<T> {
    let work = &work;
    std::thread::scope(|scope| {
        let ranks = Rank::group(count).unwrap().into_iter();
        let threads: Vec<_> = ranks.map(|rank| scope.spawn(move || work(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

fn logits(session: &mut Session) -> Vec<u8> {
    common::logits(session, [3, 50, 300])
}

#[test]
fn hosts_of_a_plan_and_ranks_of_each_have_the_same_bits() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape(false)).save(folder.path());
        let expected = logits(&mut transformer.start(&open(&path, false), &options()).unwrap());
        let small = Hosts::OfBytes(vec![6_000_000, 18_000_000]);
        for (hosts, guests, processes, threads) in [
            (Hosts::Equal(2), 1, 2, 1),
            (Hosts::Equal(3), 1, 3, 1),
            (small, 1, 2, 1),
            (Hosts::Equal(2), 2, 4, 1),
            (Hosts::Equal(2), 1, 2, 2),
            (Hosts::Equal(2), 1, 4, 2),
        ] {
            let plan = planned(&open(&path, false), engine, &hosts, guests);
            assert_eq!(plan.host_count() as usize, hosts.count());
            let loaded = by_rank(processes, |rank| {
                let (stage, team) = Stage::of(&rank, hosts.count()).unwrap();
                let options = options()
                    .placement(Placement::Planned(plan.clone()))
                    .ranks(Ranks::Exactly(threads))
                    .rank(team)
                    .stage(stage);
                let mut session = transformer.start(&open(&path, false), &options).unwrap();
                session.agree(&[]).unwrap();
                if rank.index() == 0 {
                    session.lead().unwrap();
                    assert!(logits(&mut session) == expected, "{hosts:?} {processes} {threads}");
                    session.reset();
                    // More than a batch.
                    session.eval(&[7; 11]).unwrap();
                    session.truncate(0).unwrap();
                    assert!(logits(&mut session) == expected, "{hosts:?} {processes} {threads}");
                    session.dismiss().unwrap();
                } else {
                    session.follow().unwrap();
                    assert!(expected.ends_with(session.logits().as_bytes()));
                }
                session.load_report().bytes
            });
            let whole: u64 = plan.layers.iter().map(|layer| layer.source.bytes).sum();
            let copies = loaded.iter().sum::<u64>() / whole;
            assert_eq!(copies, (processes * threads as usize / hosts.count()) as u64, "{loaded:?}");
        }
        // A plan for other hosts, and stages that are not alike.
        let plan = planned(&open(&path, false), engine, &Hosts::Equal(3), 1);
        let refused = by_rank(2, |rank| {
            let options = options().placement(Placement::Planned(plan.clone())).stage(rank);
            transformer.start(&open(&path, false), &options).map(|_| ()).unwrap_err().to_string()
        });
        assert!(refused[0].contains("for 3 hosts, and there are 2 stages"), "{refused:?}");
        assert!(by_rank(3, |rank| Stage::of(&rank, 2).is_err()).iter().all(|it| *it));
    });
}

/// The best token, and another one now and then.
fn choose(sequence: usize, logits: Logits<'_>) -> u32 {
    let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b)).unwrap().0;
    (u32::try_from(best).unwrap() + u32::try_from(sequence).unwrap()) % 301
}

/// What sequences of these prompts have, one alone after another.
fn one_by_one(transformer: &Transformer, path: &Path, prompts: &[Vec<u32>]) -> Vec<Vec<Vec<u8>>> {
    let alone = |(sequence, prompt): (usize, &Vec<u32>)| {
        let mut session = transformer.start(&open(path, false), &options()).unwrap();
        let (mut all, mut tokens) = (Vec::new(), prompt.clone());
        for _ in 0..5 + sequence {
            let logits = session.eval(&tokens).unwrap();
            all.push(logits.as_bytes().to_vec());
            tokens = vec![choose(sequence, logits)];
        }
        all
    };
    prompts.iter().enumerate().map(alone).collect()
}

#[test]
fn sequences_that_share_stages_have_the_bits_of_each_alone() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        for tied in [false, true] {
            let path = Llama::random(shape(tied)).save(folder.path());
            // One of them is longer than a batch.
            let prompts = [vec![3, 50, 300], (7..18).collect(), vec![1], vec![2, 2]];
            let expected = one_by_one(&transformer, &path, &prompts);
            // Stages of one rank, of two processes, of two threads, and of both.
            for (stages, sequences, processes, threads) in [
                (1, 3, 1, 1),
                (2, 1, 2, 1),
                (2, 4, 2, 1),
                (3, 4, 3, 1),
                (2, 3, 4, 1),
                (2, 3, 2, 2),
                (2, 2, 4, 2),
            ] {
                let plan = planned(&open(&path, false), engine, &Hosts::Equal(stages), 1);
                let prompts = &prompts[..sequences];
                by_rank(processes, |rank| {
                    let first = rank.index() == 0;
                    let options = options()
                        .placement(Placement::Planned(plan.clone()))
                        .ranks(Ranks::Exactly(threads));
                    let options = if stages == 1 {
                        options
                    } else {
                        let (stage, team) = Stage::of(&rank, stages).unwrap();
                        options.rank(team).stage(stage)
                    };
                    let model = open(&path, false);
                    let start = |_| transformer.start(&model, &options).unwrap();
                    let mut sessions: Vec<_> = (0..sequences).map(start).collect();
                    if !first {
                        let flow = Flow::follow(&mut sessions).unwrap();
                        assert!(flow.busy <= flow.took);
                        let tokens: usize = sessions.iter().map(|it| it.tokens().len()).sum();
                        assert_eq!(flow.tokens, tokens as u64);
                        return;
                    }
                    let mut found = vec![Vec::new(); sequences];
                    Flow::lead(&mut sessions, prompts, &mut |sequence, logits| {
                        found[sequence].push(logits.as_bytes().to_vec());
                        let more = found[sequence].len() < 5 + sequence;
                        more.then(|| choose(sequence, logits))
                    })
                    .unwrap();
                    let expected = &expected[..sequences];
                    assert!(found == expected, "{stages} {sequences} {processes} {threads} {tied}");
                });
            }
        }
    });
}

#[test]
fn what_a_stage_sends_is_checked() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape(false)).save(folder.path());
        let plan = planned(&open(&path, false), engine, &Hosts::Equal(2), 1);
        let row = 288 * 4;
        let part = |numbers: [u32; 5], rows: usize| {
            let header = numbers.iter().flat_map(|number| number.to_le_bytes());
            header.chain(std::iter::repeat_n(0, rows)).collect::<Vec<u8>>()
        };
        for message in [
            vec![1],
            part([1, 0, 0, 1, 5], row - 1),
            // Another kind, sequence, position, and number of tokens.
            part([3, 0, 0, 1, 5], row),
            part([1, 1, 0, 1, 5], row),
            part([1, 0, 7, 1, 5], row),
            part([1, 0, 0, 5, 5], 5 * row),
            part([1, 0, 0, 0, 5], row),
            part([1, 0, 0, u32::MAX, 5], row),
            vec![0; 1 << 20],
        ] {
            let results = by_rank(2, |rank| {
                if rank.index() == 0 {
                    rank.send_to(1, &message).unwrap();
                    return rank.finish().map_err(Error::from);
                }
                let options = options().placement(Placement::Planned(plan.clone())).stage(rank);
                let mut sessions = [transformer.start(&open(&path, false), &options).unwrap()];
                let done = Flow::follow(&mut sessions);
                assert_eq!(sessions[0].position(), 0);
                done.map(|_| ())
            });
            assert!(results.iter().all(Result::is_err), "{} {results:?}", message.len());
        }
        // The first leads, and no other.
        by_rank(2, |rank| {
            let first = rank.index() == 0;
            let options = options().placement(Placement::Planned(plan.clone())).stage(rank);
            let mut sessions = [transformer.start(&open(&path, false), &options).unwrap()];
            let done = if first {
                Flow::follow(&mut sessions)
            } else {
                Flow::lead(&mut sessions, &[vec![1]], &mut |_, _| None)
            };
            assert!(matches!(done, Err(Error::NoRank { .. })), "{done:?}");
        });
    });
}

#[test]
fn a_layer_that_has_changed_since_the_plan_was_made_is_refused() {
    each_engine(test_name!(), |engine| {
        let transformer = Transformer::new(engine).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape(false)).save(folder.path());
        let model = open(&path, false);
        let expected = logits(&mut transformer.start(&model, &options()).unwrap());
        let window = model.layers().iter().map(|layer| layer.bytes).sum::<u64>() / 2;
        let paged = Placement::Paged { resident_bytes: Some(window), policy: Policy::Lru };
        let placements = [Placement::resident32(), Placement::sharded32(2), paged];
        let plans: Vec<_> = placements
            .into_iter()
            .map(|placement| {
                let options = options().placement(placement);
                let mut plan = model.place(&options, engine.capabilities()).unwrap().plan;
                model.hash_layers(&mut plan).unwrap();
                Plan::from_json(&serde_json::to_string(&plan).unwrap()).unwrap()
            })
            .collect();
        let run = |path: &Path, plan: &Plan, mapped: bool| {
            let options = options().placement(Placement::Planned(plan.clone()));
            let mut session = transformer.start(&open(path, mapped), &options)?;
            [3, 50, 300].iter().try_for_each(|token| session.eval(&[*token]).map(|_| ()))?;
            session.reset();
            Ok::<_, Error>(logits(&mut session))
        };
        // Another file with the same header, in which one bit of a layer is different.
        let last = model.layers().iter().max_by_key(|layer| layer.start).unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[usize::try_from(last.start + last.bytes / 2).unwrap()] ^= 1;
        let changed = folder.path().join("changed.gguf");
        std::fs::write(&changed, bytes).unwrap();
        for plan in &plans {
            for mapped in [false, true] {
                assert!(run(&path, plan, mapped).unwrap() == expected);
                let error = run(&changed, plan, mapped).unwrap_err().to_string();
                let says = format!("({}) has the SHA-256", last.name);
                assert!(error.contains(&says) && error.contains("since the plan"), "{error}");
            }
        }
    });
}
