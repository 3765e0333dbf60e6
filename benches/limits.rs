//! The cost of time limits: the default model on guests with and without one, in turn.
//!
//! `cargo bench --workspace --features wasmtime,wasmedge --bench limits` prints, for every engine that is
//! compiled in, the median times and their ratio, with the middle half of the ratios of pairs. Needs
//! the default model in the cache (`polychord pull`).
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for developers")]

use std::process::{Command, exit};
use std::time::{Duration, Instant};

use polychord::hub::{Hub, ModelRef, Silent};
use polychord::model::{Model, Session, SessionOptions, Transformer};

const ENGINE: &str = "POLYCHORD_ENGINE";
/// Tokens of a prompt, and tokens that are decoded before the sequence begins anew.
const PROMPT: u32 = 64;
const SEQUENCE: u32 = 128;
const PAIRS: [(&str, usize); 2] = [("decode", 4 * SEQUENCE as usize), ("prompt", 20)];

/// Runs each engine in a process of its own: some engines cannot share one.
fn main() {
    if let Ok(engine) = std::env::var(ENGINE) {
        return measure(&engine);
    }
    println!("| engine | | without, ms | with a limit, ms | ratio | middle half |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for engine in polychord::available() {
        let mut command = Command::new(std::env::current_exe().unwrap());
        if !command.env(ENGINE, engine).status().unwrap().success() {
            exit(1);
        }
    }
}

fn measure(engine: &str) {
    let mut without = start(engine, None);
    let mut with = start(engine, Some(Duration::from_secs(3600)));
    for (name, pairs) in PAIRS {
        let mut times = Vec::new();
        for turn in 0..pairs {
            // The order changes from pair to pair.
            let mut pair = [Duration::ZERO; 2];
            for which in [turn % 2, 1 - turn % 2] {
                let session = if which == 0 { &mut without } else { &mut with };
                pair[which] = run(session, name, u32::try_from(turn).unwrap());
            }
            times.push(pair.map(|time| time.as_secs_f64() * 1000.0));
        }
        let quartile = |list: &mut Vec<f64>, part: usize| {
            list.sort_by(f64::total_cmp);
            list[list.len() * part / 4]
        };
        let [a, b] =
            [0, 1].map(|which| quartile(&mut times.iter().map(|pair| pair[which]).collect(), 2));
        let mut ratios: Vec<_> = times.iter().map(|[a, b]| b / a).collect();
        let [low, middle, high] = [1, 2, 3].map(|part| quartile(&mut ratios, part));
        println!("| {engine} | {name} | {a:.2} | {b:.2} | {middle:.3} | {low:.3} to {high:.3} |");
    }
}

/// One step of a kind, and how long it took.
fn run(session: &mut Session, name: &str, turn: u32) -> Duration {
    let tokens: Vec<u32> = match name {
        "prompt" => (1..=PROMPT).collect(),
        _ => vec![1 + turn % 1000],
    };
    if name == "prompt" || turn.is_multiple_of(SEQUENCE) {
        session.reset();
    }
    let begin = Instant::now();
    session.eval(&tokens).unwrap();
    begin.elapsed()
}

fn start(engine: &str, limit: Option<Duration>) -> Session {
    let engine = polychord::open(engine).unwrap();
    let path = Hub::find(&ModelRef::default(), &mut Silent).unwrap();
    let mut options = SessionOptions::default();
    options.call_time = limit;
    let transformer = Transformer::new(&engine).unwrap();
    transformer.start(&Model::open(path).unwrap(), &options).unwrap()
}
