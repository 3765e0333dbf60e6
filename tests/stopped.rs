//! A session whose guests were stopped goes on as if nothing had happened.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;
#[path = "common/traps.rs"]
mod traps;

use std::path::Path;
use std::time::Duration;

use polychord::api::abi::PAGE;
use polychord::api::{self, Engine, Policy};
use polychord::model::gguf::GgmlType;
use polychord::model::{Error, ErrorKind, Placement, Ranks, Session, SessionOptions, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine, engines_agree, open, test_name, transformer};
use traps::trapping;

/// Frequencies that are divided when they are first needed, and rows for all kernels of a type.
fn shape() -> Shape {
    Shape { rope_freqs: true, blocks: 4, context: 64, ..Shape::of(GgmlType::Q4_0) }
}

fn options(placement: Placement, ranks: u32) -> SessionOptions {
    let mut options = SessionOptions::default();
    options.placement = placement;
    options.batch = 4;
    options.ranks = Ranks::Exactly(ranks);
    options
}

/// A build of the guest.
fn build(memory: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("guest/built");
    std::fs::read(folder.join(format!("transformer-{memory}-plain.wasm"))).unwrap()
}

/// The placements of a build of the guest.
fn placements(engine: &dyn Engine) -> Vec<(&'static str, Vec<Placement>)> {
    let resident_bytes = Some(3 * PAGE);
    let mut all = vec![
        (
            "wasm32",
            vec![
                Placement::resident32(),
                Placement::sharded32(2),
                Placement::Paged { resident_bytes, policy: Policy::Lru },
            ],
        ),
        ("multi32", vec![Placement::multi32()]),
    ];
    let wide = common::wide(engine.capabilities().memory64);
    all.extend(wide.map(|placement| ("wasm64", vec![placement])));
    all
}

const PROMPT: [u32; 9] = [1, 50, 3, 96, 7, 7, 20, 60, 11];
const NEXT: [u32; 3] = [5, 90, 33];

/// Evaluates until it succeeds, and counts how often it did not.
fn insist(session: &mut Session, tokens: &[u32], stops: &mut usize) -> Vec<u8> {
    let before = session.position();
    for _ in 0..100_000 {
        match session.eval(tokens) {
            Ok(logits) => return logits.as_bytes().to_vec(),
            Err(Error::Runtime(api::Error::Trap { kind: api::TrapKind::Unreachable, .. })) => {
                *stops += 1;
            }
            Err(error) => panic!("after {stops} stops: {error}"),
        }
        assert_eq!(session.position(), before, "it is as long as before");
    }
    panic!("it does not get through");
}

/// Prompt and single tokens, with a reset on the way.
fn turns(mut eval: impl FnMut(&mut Session, &[u32]) -> Vec<u8>, session: &mut Session) -> Vec<u8> {
    let mut all = eval(session, &PROMPT);
    for token in NEXT {
        all.extend(eval(session, &[token]));
    }
    session.reset();
    all.extend(eval(session, &PROMPT[3..]));
    all
}

fn undisturbed(session: &mut Session) -> Vec<u8> {
    turns(|session, tokens| session.eval(tokens).unwrap().as_bytes().to_vec(), session)
}

#[test]
fn a_session_goes_on_after_a_stop_at_any_store() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let mut counts = String::new();
        let sound = transformer(engine);
        let alone = options(Placement::resident32(), 1);
        let expected = undisturbed(&mut sound.start(&open(&path, false), &alone).unwrap());
        for (memory, placements) in placements(&**engine) {
            // Each is another module, which takes WasmEdge's compiler twenty seconds.
            let all: &[i64] = if memory == "wasm32" { &[1, 1_777] } else { &[1_777] };
            for &first in all {
                let guest = trapping(&build(memory), first, 8);
                let hostile = Transformer::from_wasm(engine, &guest).unwrap();
                for ranks in [1, 2] {
                    for placement in placements.clone() {
                        let options = options(placement.clone(), ranks);
                        let model = open(&path, first == 1);
                        let mut session = hostile.start(&model, &options).unwrap();
                        let mut stops = 0;
                        let eval = |session: &mut Session, tokens: &[u32]| {
                            insist(session, tokens, &mut stops)
                        };
                        let got = turns(eval, &mut session);
                        let what = format!("{memory} {placement:?} from {first}, {ranks} ranks");
                        assert!(got == expected, "{what}");
                        assert!(stops > 20, "{what}: only {stops}");
                        // Which rank traps first is a race.
                        if ranks == 1 && memory != "wasm64" {
                            counts += &format!("{what}: {stops}\n");
                        }
                    }
                }
            }
        }
        counts
    });
}

/// A stop leaves the guest's own stack as deep as it was then; thousands would fill it.
#[test]
fn thousands_of_stops_cost_nothing_that_adds_up() {
    engines_agree(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        let model = open(&path, false);
        let alone = options(Placement::resident32(), 1);
        let expected = undisturbed(&mut transformer(engine).start(&model, &alone).unwrap());
        let hostile = trapping(&build("wasm32"), 500, 1_000);
        let hostile = Transformer::from_wasm(engine, &hostile).unwrap();
        let mut session = hostile.start(&model, &alone).unwrap();
        let (memory, mut stops) = (session.stats().guest_bytes, 0);
        let eval = |session: &mut Session, tokens: &[u32]| insist(session, tokens, &mut stops);
        assert!(turns(eval, &mut session) == expected);
        assert_eq!(session.stats().guest_bytes, memory);
        assert!(stops > 2_000, "only {stops}");
        stops.to_string()
    });
}

/// Engines stop guests in their own ways, one of them between any two instructions. How far a guest
/// comes is a race; that nothing depends on it is not.
#[test]
fn a_session_goes_on_after_its_time_was_over() {
    each_engine(test_name!(), |engine| {
        let folder = tempfile::tempdir().unwrap();
        let wide = Shape { blocks: 6, dim: 256, ffn: 512, heads: 8, head_dim: 32, ..shape() };
        let path = Llama::random(Shape { rope_dim: 32, ..wide }).save(folder.path());
        let transformer = transformer(engine);
        let start = |ranks, call_time| {
            let mut options = options(Placement::sharded32(2), ranks);
            options.call_time = call_time;
            transformer.start(&open(&path, true), &options)
        };
        let expected = undisturbed(&mut start(1, None).unwrap());
        for ranks in [1, 2] {
            let (mut stops, mut through) = (0, 0);
            for step in 1..60 {
                let call_time = Duration::from_micros(20 * step * step);
                // Its start may take too long, too.
                let Ok(mut session) = start(ranks, Some(call_time)) else { continue };
                let mut eval = |session: &mut Session, tokens: &[u32]| {
                    let before = session.position();
                    for _ in 0..30 {
                        match session.eval(tokens) {
                            Ok(logits) => return logits.as_bytes().to_vec(),
                            Err(error) => {
                                let late = error.kind() == ErrorKind::Stopped;
                                assert!(late, "after {stops} stops: {error}");
                            }
                        }
                        assert_eq!(session.position(), before);
                        stops += 1;
                    }
                    Vec::new()
                };
                let mut all = eval(&mut session, &PROMPT);
                if all.is_empty() {
                    continue;
                }
                for token in NEXT {
                    all.extend(eval(&mut session, &[token]));
                }
                session.reset();
                all.extend(eval(&mut session, &PROMPT[3..]));
                if all.len() == expected.len() {
                    assert!(all == expected, "{call_time:?}, {ranks} ranks");
                    through += 1;
                }
            }
            println!("{ranks} ranks: {stops} stops, {through} sessions got through");
        }
    });
}
