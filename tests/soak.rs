//! Sessions that begin and end in one process for a time: computing, paging, saving, restoring, being stopped and
//! failing. Memory, descriptors, mappings and threads stay what they are. And 64 of them on 16 threads, which have
//! the bits of each alone whatever happens to the others.
//!
//! A few rounds by default; `scripts/soak --sessions` and `--threads` ask for minutes by `POLYCHORD_SOAK_MINUTES`, and
//! for what was measured in each round, in a file for each engine, by `POLYCHORD_SOAK_SAMPLES`.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use polychord::api::{Engine, Limits, Policy};
use polychord::model::gguf::GgmlType;
use polychord::model::{Model, Placement, Ranks, Session, SessionOptions, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine, open, test_name, transformer};

/// Rounds if no time is asked for.
const ROUNDS: usize = 16;

const TRAPS: &str = r#"(module (memory (export "memory") 1) (func (export "trap") unreachable))"#;

/// What a process holds, after a round.
#[derive(Clone, Copy)]
struct Sample {
    seconds: f64,
    memory: f64,
    descriptors: f64,
    mappings: f64,
    threads: f64,
}

fn minutes() -> Option<f64> {
    std::env::var("POLYCHORD_SOAK_MINUTES").ok().map(|it| it.parse().unwrap())
}

#[test]
fn sessions_leave_nothing_behind() {
    let minutes = minutes();
    each_engine(test_name!(), |engine| {
        let name = engine.capabilities().engine;
        let path =
            std::env::var("POLYCHORD_SOAK_SAMPLES").ok().map(|path| format!("{path}.{name}"));
        let mut file = path.map(|path| File::create(path).unwrap());
        let folder = tempfile::tempdir().unwrap();
        let (bench, begin) = (Bench::new(engine, folder.path()), Instant::now());
        let mut samples = Vec::new();
        let goes_on = |rounds: usize| match minutes {
            Some(minutes) => begin.elapsed() < Duration::from_secs_f64(minutes * 60.0),
            None => rounds < ROUNDS,
        };
        while goes_on(samples.len()) {
            bench.round(samples.len());
            let sample = Sample::take(begin);
            if let Some(file) = &mut file {
                writeln!(file, "{}", sample.json()).unwrap();
            }
            samples.push(sample);
        }
        is_flat(name, &samples, minutes.is_some());
    });
}

/// Each thread has three sessions that it goes on with, and a fourth one that begins and ends in each round.
#[test]
fn many_threads_do_not_disturb_each_other() {
    let (minutes, rounds) = (minutes(), AtomicUsize::new(0));
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let (bench, begin) = (Bench::new(engine, folder.path()), Instant::now());
        let goes_on = |rounds: usize| match minutes {
            Some(minutes) => begin.elapsed() < Duration::from_secs_f64(minutes * 60.0),
            None => rounds < 2,
        };
        let work = |thread: usize| {
            let start = || bench.start(&SessionOptions::new().ranks(Ranks::Exactly(1)));
            let mut held: Vec<_> = (0..3).map(|_| start()).collect();
            let mut round = 0;
            while goes_on(round) {
                for session in &mut held {
                    session.reset();
                    assert!(answer(session) == bench.expected, "thread {thread}, round {round}");
                }
                bench.round(round + thread);
                held[round % 3] = start();
                round += 1;
            }
            rounds.fetch_add(round, Ordering::Relaxed);
        };
        std::thread::scope(|scope| {
            for thread in 0..16 {
                let work = &work;
                scope.spawn(move || work(thread));
            }
        });
        println!("{}: {rounds:?} rounds on 16 threads", engine.capabilities().engine);
    });
}

/// What all rounds have: a model, a transformer, and the answer of the first.
struct Bench {
    engine: Arc<dyn Engine>,
    transformer: Transformer,
    model: Model,
    expected: Vec<u8>,
}

impl Bench {
    fn new(engine: &Arc<dyn Engine>, folder: &Path) -> Self {
        let path = Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) }).save(folder);
        let (transformer, model) = (transformer(engine), open(&path, true));
        let mut session = transformer.start(&model, &SessionOptions::new()).unwrap();
        let expected = answer(&mut session);
        drop(session);
        Self { engine: engine.clone(), transformer, model, expected }
    }

    fn start(&self, options: &SessionOptions) -> Session {
        self.transformer.start(&self.model, options).unwrap()
    }

    fn round(&self, number: usize) {
        let mut options = SessionOptions::new();
        if number % 3 == 1 {
            options = options.ranks(Ranks::Exactly(2));
        }
        let mut session = self.start(&options);
        assert!(answer(&mut session) == self.expected, "round {number}: another answer");
        self.save_and_restore(&mut session);
        fails(&mut session);
        drop(session);
        let mut paged = self.start(
            &SessionOptions::new()
                .placement(Placement::Paged { resident_bytes: None, policy: Policy::default() }),
        );
        assert!(answer(&mut paged) == self.expected, "round {number}: another answer when paged");
        drop(paged);
        self.is_stopped();
        // A guest that traps, and files that are none.
        let module = self.engine.compile(&wat::parse_str(TRAPS).unwrap()).unwrap();
        module.instantiate(&Limits::default()).unwrap().call("trap", &[]).unwrap_err();
        assert!(self.engine.compile(b"no module").is_err());
        assert!(Model::open("/no/such/model.gguf").is_err());
        assert!(Model::open("/dev/null").is_err());
    }

    fn save_and_restore(&self, session: &mut Session) {
        let mut saved = Vec::new();
        session.save(&mut saved).unwrap();
        let next = session.eval(&[3]).unwrap().as_bytes().to_vec();
        let restored = self.transformer.restore(&self.model, &saved[..], &SessionOptions::new());
        let mut restored = restored.unwrap().session;
        assert!(restored.eval(&[3]).unwrap().as_bytes() == next, "another answer when restored");
        let half = &saved[..saved.len() / 2];
        assert!(self.transformer.restore(&self.model, half, &SessionOptions::new()).is_err());
    }

    /// With too little time, at any of its calls or not at all.
    fn is_stopped(&self) {
        if !self.engine.capabilities().time_limit {
            return;
        }
        let options = SessionOptions::new().call_time(Duration::from_micros(300));
        if let Ok(mut session) = self.transformer.start(&self.model, &options) {
            _ = session.eval(&[7; 40]).map(drop);
        }
    }
}

fn answer(session: &mut Session) -> Vec<u8> {
    let mut all = session.eval(&[1, 5, 9, 2]).unwrap().as_bytes().to_vec();
    all.extend(session.eval(&[4]).unwrap().as_bytes());
    all
}

fn fails(session: &mut Session) {
    assert!(session.eval(&[97]).is_err(), "no such token");
    assert!(session.eval(&[1; 100]).is_err(), "no room");
}

impl Sample {
    fn take(begin: Instant) -> Self {
        let status = fs::read_to_string("/proc/self/status").unwrap();
        let of = |name: &str| -> f64 {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        #[allow(clippy::cast_precision_loss, reason = "few")]
        let count = |many: usize| many as f64;
        Self {
            seconds: begin.elapsed().as_secs_f64(),
            memory: of("VmRSS:") * 1024.0,
            descriptors: count(fs::read_dir("/proc/self/fd").unwrap().count()),
            mappings: count(fs::read_to_string("/proc/self/maps").unwrap().lines().count()),
            threads: of("Threads:"),
        }
    }

    fn json(&self) -> String {
        let Self { seconds, memory, descriptors, mappings, threads } = self;
        format!(
            r#"{{"seconds": {seconds:.1}, "memory": {memory}, "descriptors": {descriptors}, "mappings": {mappings}, "threads": {threads}}}"#
        )
    }
}

/// What is compared: its name, what of a sample it is, and by which share it may grow.
type Kind = (&'static str, fn(&Sample) -> f64, f64);

/// Compares the last third with the first one, after a quarter for warming up.
fn is_flat(engine: &str, samples: &[Sample], is_long: bool) {
    let steady = &samples[samples.len() / 4..];
    let third = steady.len() / 3;
    let (first, last) = (&steady[..third], &steady[steady.len() - third..]);
    // Allocators take some time to have what they keep, so that few rounds say nothing of memory.
    let most = |long, short| if is_long { long } else { short };
    let kinds: [Kind; 4] = [
        ("memory", |it| it.memory, most(0.02, 0.25)),
        ("mappings", |it| it.mappings, most(0.02, 0.05)),
        ("descriptors", |it| it.descriptors, 0.0),
        ("threads", |it| it.threads, 0.0),
    ];
    println!("{engine}: {} rounds in {:.0} s", samples.len(), samples.last().unwrap().seconds);
    for (name, of, most) in kinds {
        #[allow(clippy::cast_precision_loss, reason = "few")]
        let mean = |part: &[Sample]| part.iter().map(of).sum::<f64>() / part.len() as f64;
        let (before, after) = (mean(first), mean(last));
        println!("{engine}: {name} {before:.1} and then {after:.1}");
        assert!(after <= before * (1.0 + most) + 0.01, "{engine}: {name} grows");
    }
}
