//! Answers that share a machine: the same as alone, each ended by itself.
#![cfg(feature = "serve")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "serve/http.rs"]
mod http;
#[path = "serve/requests.rs"]
mod requests;
#[path = "common/traps.rs"]
mod traps;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use polychord::model::gguf::GgmlType;
use polychord::model::{ErrorKind, Ranks, Transformer};
use polychord::model::{Finish, GenerateOptions, Generator, Model, Sampling, SessionOptions};
use polychord::serve::scheduler::{
    Event, Job, Refused, Scheduler, SchedulerOptions, TokenLogprobs, Usage,
};
use tokio::sync::mpsc::UnboundedReceiver;

use common::llama::{Llama, Shape};
use common::{each_engine, open, test_name, transformer};
use traps::trapping;

fn model(folder: &Path) -> Model {
    let shape = Shape { blocks: 3, context: 256, ..Shape::of(GgmlType::Q4_0) };
    open(&Llama::random(shape).save(folder), true)
}

fn start(transformer: &Arc<Transformer>, model: &Model, options: &SchedulerOptions) -> Scheduler {
    let session = SessionOptions::new().ranks(Ranks::Exactly(1));
    Scheduler::start(transformer.clone(), model, &session, options).unwrap()
}

/// Jobs of all lengths, drawn and not.
fn job(number: u32) -> Job {
    let length = 3 + number % 7 * 9;
    let prompt: Vec<_> = (0..length).map(|at| (at * 5 + number * 11) % 90).collect();
    let sampling = match number % 3 {
        0 => Sampling::greedy(),
        _ => Sampling::new().temperature(1.5).seed(number.into()).frequency_penalty(0.5),
    };
    Job::new(prompt).sampling(sampling).max_tokens(12 + number as usize % 5)
}

/// All that came of a job.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    ids: Vec<u32>,
    text: String,
    logprobs: Vec<TokenLogprobs>,
    end: Option<(Finish, Usage)>,
    failed: Option<(ErrorKind, String)>,
}

fn answer(events: &mut UnboundedReceiver<Event>) -> Answer {
    let mut answer = Answer::default();
    while let Some(event) = events.blocking_recv() {
        assert!(answer.end.is_none() && answer.failed.is_none(), "something after the end");
        match event {
            Event::Token(token) => {
                answer.ids.push(token.id);
                answer.text += &token.text;
                answer.logprobs.extend(token.logprobs);
            }
            Event::End { finish, usage, .. } => answer.end = Some((finish, usage)),
            Event::Failed { kind, message } => answer.failed = Some((kind, message)),
            _ => panic!("an event that is not known"),
        }
    }
    answer
}

/// What a session says that has no others beside it.
fn alone(transformer: &Transformer, model: &Model, job: &Job) -> (Vec<u32>, String) {
    let session = transformer.start(model, &SessionOptions::new()).unwrap();
    let mut generator = Generator::new(session).unwrap();
    let options = GenerateOptions::new()
        .sampling(job.sampling)
        .max_tokens(job.max_tokens)
        .stop(job.stop.iter().cloned());
    generator.begin(&job.prompt, &options).unwrap();
    let tokens: Vec<_> = generator.map(Result::unwrap).collect();
    let ids = tokens.iter().map(|token| token.id).collect();
    (ids, tokens.into_iter().map(|token| token.text).collect())
}

#[test]
fn text_under_load_is_text_alone() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let options = SchedulerOptions::new().parallel(3).piece(4);
        let scheduler = start(&transformer, &model, &options);
        // Some come twice, so that sessions find what they have seen.
        let jobs: Vec<_> = (0..14).map(|number| job(number % 9)).collect();
        let mut events: Vec<_> =
            jobs.iter().map(|job| scheduler.submit(job.clone()).unwrap()).collect();
        // Clients that go away change nothing for the others.
        let gone: Vec<_> = (0..3).map(|it| scheduler.submit(job(20 + it)).unwrap()).collect();
        drop(gone);
        for (job, events) in jobs.iter().zip(&mut events) {
            let answer = answer(events);
            let expected = alone(&transformer, &model, job);
            assert_eq!((answer.ids, answer.text), expected);
            let (_, usage) = answer.end.unwrap();
            assert_eq!((usage.prompt, usage.generated), (job.prompt.len(), expected.0.len()));
        }
    });
}

#[test]
fn what_a_session_has_seen_is_not_computed_again() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let scheduler = start(&transformer, &model, &SchedulerOptions::new().parallel(2));
        let system: Vec<u32> = (0..60).map(|at| at * 7 % 90).collect();
        let with = |end: &[u32]| Job::new([&system[..], end].concat()).max_tokens(8);
        let run = |job: Job| answer(&mut scheduler.submit(job).unwrap());
        let first = run(with(&[1, 2]));
        assert_eq!(first.end.as_ref().unwrap().1.cached, 0);
        // The conversation goes on: all but the last token, after which nothing was computed.
        let so_far = [&system[..], &[1, 2], &first.ids].concat();
        let again = run(Job::new([&so_far[..], &[5, 6]].concat()).max_tokens(4));
        assert_eq!(again.end.unwrap().1.cached, so_far.len() - 1);
        // Another one with the same beginning: a copy of it.
        let other = with(&[9, 9, 9]);
        let answer = run(other.clone());
        assert!(answer.end.unwrap().1.cached >= system.len());
        assert_eq!((answer.ids, answer.text), alone(&transformer, &model, &other));
    });
}

/// Conversations that have no session wait as snapshots, and go on from there with the same bits.
#[test]
fn conversations_wait_without_a_session_and_go_on() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let begin =
            |number: u32| -> Vec<u32> { (0..50).map(|at| (at * 3 + number) % 90).collect() };
        let memory = SchedulerOptions::new().parallel(1).idle_bytes(16 << 20);
        let files = memory.clone().idle_folder(folder.path().to_owned());
        for options in [memory, files] {
            let scheduler = start(&transformer, &model, &options);
            let run = |prompt: &[u32]| {
                let job = Job::new(prompt).max_tokens(6);
                let answer = answer(&mut scheduler.submit(job.clone()).unwrap());
                let cached = answer.end.unwrap().1.cached;
                let all = (answer.ids, answer.text);
                assert_eq!(all, alone(&transformer, &model, &job));
                (all.0, cached)
            };
            // Four conversations in one session, one after another, and then each again.
            let mut talks: Vec<Vec<u32>> = (0..4).map(|number| begin(number * 20)).collect();
            for round in 0..3 {
                for talk in &mut talks {
                    let (ids, cached) = run(talk);
                    let expected = if round == 0 { 0 } else { talk.len() - 4 };
                    assert_eq!(cached, expected, "round {round}");
                    talk.extend(ids);
                    talk.extend([80, 81, 82]);
                }
            }
            let names: Vec<_> = std::fs::read_dir(folder.path()).unwrap().collect();
            assert_eq!(names.len(), 1, "files have no names: {names:?}");
        }
        // Room for one of them only: the others are computed again.
        let mut session = transformer.start(&model, &SessionOptions::new()).unwrap();
        session.eval(&begin(0)).unwrap();
        let mut snapshot = Vec::new();
        session.save(&mut snapshot).unwrap();
        let one = snapshot.len() as u64 * 3 / 2;
        let small = SchedulerOptions::new().parallel(1).idle_bytes(one);
        let scheduler = start(&transformer, &model, &small);
        let mut seen = Vec::new();
        for number in [0, 20, 40, 20, 0] {
            let job = Job::new(begin(number)).max_tokens(2);
            let answer = answer(&mut scheduler.submit(job.clone()).unwrap());
            assert_eq!((answer.ids, answer.text), alone(&transformer, &model, &job));
            seen.push(answer.end.unwrap().1.cached);
        }
        assert_eq!(seen[..3], [0; 3]);
        assert!(seen[3] >= 49 && seen[4] == 0, "{seen:?}");
        let nowhere =
            SchedulerOptions::new().idle_bytes(1 << 20).idle_folder(folder.path().join("nowhere"));
        let session = SessionOptions::new();
        let error = Scheduler::start(transformer, &model, &session, &nowhere).unwrap_err();
        assert!(error.to_string().contains("nowhere"), "{error}");
    });
}

#[test]
fn answers_end_by_themselves() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let scheduler =
            start(&transformer, &model, &SchedulerOptions::new().parallel(1).waiting(2));
        let long = || Job::new([1, 2, 3]).max_tokens(200);
        let mut first = scheduler.submit(long()).unwrap();
        // It runs: a token came.
        assert!(matches!(first.blocking_recv(), Some(Event::Token(_))));
        let (second, third) =
            (scheduler.submit(long()).unwrap(), scheduler.submit(long()).unwrap());
        let refused = scheduler.submit(long()).unwrap_err();
        assert!(matches!(refused, Refused::Full { waiting: 2, .. }), "{refused}");
        assert!(refused.to_string().contains("2 requests wait"), "{refused}");
        drop((first, second, third));
        // What is gone is noticed with the next token, of which there are many in this time.
        std::thread::sleep(Duration::from_millis(500));
        // The place of those that are gone is free: within a token, and long before 200.
        let mut next = scheduler.submit(Job::new([4]).max_tokens(3)).unwrap();
        assert_eq!(answer(&mut next).ids.len(), 3);
        // One whose time is over has no token.
        let late = answer(&mut scheduler.submit(long().deadline(Instant::now())).unwrap());
        assert_eq!((late.ids.len(), late.end.unwrap().0), (0, Finish::Deadline));

        for (job, kind) in [
            (Job::new([]), ErrorKind::InvalidArgument),
            (Job::new([1]).stop([""]), ErrorKind::InvalidArgument),
            (Job::new([1]).sampling(Sampling::new().top_p(2.0)), ErrorKind::InvalidArgument),
            (Job::new([9999]), ErrorKind::InvalidArgument),
            (Job::new(vec![1; 300]), ErrorKind::ContextFull),
        ] {
            let failed = answer(&mut scheduler.submit(job).unwrap()).failed.unwrap();
            assert_eq!(failed.0, kind, "{}", failed.1);
        }
        let whole = answer(&mut scheduler.submit(Job::new([7])).unwrap());
        assert!(whole.end.is_some());

        let mut running = scheduler.submit(long()).unwrap();
        running.blocking_recv().unwrap();
        scheduler.drain(Duration::ZERO);
        assert_eq!(answer(&mut running).end.unwrap().0, Finish::Cancelled);
        assert_eq!(scheduler.submit(long()).unwrap_err(), Refused::Ending);
    });
}

#[test]
fn probabilities_and_biases_are_those_of_the_logits() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let scheduler = start(&transformer, &model, &SchedulerOptions::new());
        let run = |job: Job| answer(&mut scheduler.submit(job).unwrap());
        let plain = run(Job::new([5, 6]).max_tokens(4).logprobs(97));
        let mut session = transformer.start(&model, &SessionOptions::new()).unwrap();
        let logits = session.eval(&[5, 6]).unwrap().to_vec();
        let top = &plain.logprobs[0].top;
        assert_eq!((top.len(), top[0].id), (97, plain.ids[0]));
        let sum: f64 = top.iter().map(|it| it.logprob.exp()).sum();
        assert!((sum - 1.0).abs() < 1e-9, "{sum}");
        for pair in top.windows(2) {
            assert!(pair[0].logprob >= pair[1].logprob);
            let [a, b] = [&pair[0], &pair[1]].map(|it| f64::from(logits[it.id as usize]));
            assert!((pair[0].logprob - pair[1].logprob - (a - b)).abs() < 1e-9);
        }
        let banned = run(Job::new([5, 6]).max_tokens(1).logit_bias([(plain.ids[0], -100.0)]));
        assert_eq!(banned.ids, [top[1].id]);
        let forced = run(Job::new([5, 6]).max_tokens(3).logit_bias([(42, 100.0)]));
        assert_eq!(forced.ids, [42; 3]);
    });
}

/// The guest of one answer traps: that answer fails, and no other.
#[test]
fn a_guest_that_traps_ends_its_own_answer() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let sound = start(&transformer, &model, &SchedulerOptions::new());
        let expected: Vec<_> =
            (0..6).map(|it| answer(&mut sound.submit(job(it)).unwrap()).ids).collect();
        let build =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/built/transformer-wasm32-plain.wasm");
        // Each guest traps once, somewhere within its first answers.
        let hostile = trapping(&std::fs::read(build).unwrap(), 700_000, 1);
        let hostile = Arc::new(Transformer::from_wasm(engine, &hostile).unwrap());
        let session = SessionOptions::new().ranks(Ranks::Exactly(1));
        let options = SchedulerOptions::new().parallel(2);
        let scheduler = Scheduler::start(hostile, &model, &session, &options).unwrap();
        let (mut failed, mut whole) = (0, 0);
        for round in 0..4 {
            let mut events: Vec<_> = (0..6).map(|it| scheduler.submit(job(it)).unwrap()).collect();
            for (events, expected) in events.iter_mut().zip(&expected) {
                let answer = answer(events);
                match answer.failed {
                    Some((kind, message)) => {
                        assert_eq!(kind, ErrorKind::Guest, "{message}");
                        assert!(expected.starts_with(&answer.ids));
                        failed += 1;
                    }
                    None => {
                        assert_eq!(&answer.ids, expected, "round {round}");
                        whole += 1;
                    }
                }
            }
        }
        assert!(failed > 0 && whole > 0, "{failed} failed, {whole} did not");
    });
}

#[test]
fn memory_that_was_set_aside_is_not_exceeded() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path());
        let transformer = Arc::new(transformer(engine));
        let session = SessionOptions::new();
        let options = SchedulerOptions::new().memory_bytes(1000);
        let error = Scheduler::start(transformer, &model, &session, &options).unwrap_err();
        assert!(error.to_string().contains("1000 were set aside"), "{error}");
    });
}
