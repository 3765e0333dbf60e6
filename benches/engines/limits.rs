//! What time limits cost: the default model on guests with and without one.
//!
//! Needs the default model in the cache (`polychord pull`). An item is a token.

use std::time::Duration;

use divan::Bencher;
use divan::counter::ItemsCount;
use polychord::hub::{Hub, ModelRef, TerminalBar};
use polychord::model::{Model, Session, SessionOptions, Transformer};

const PROMPT: u32 = 64;

/// Whether calls have a limit, which is never reached.
const LIMITS: [Option<Duration>; 2] = [None, Some(Duration::from_secs(3600))];

#[divan::bench(args = LIMITS, sample_count = 30, sample_size = 8)]
fn decode(bencher: Bencher<'_, '_>, limit: Option<Duration>) {
    let mut session = start(limit);
    let mut count = 0;
    bencher.counter(ItemsCount::new(1_usize)).bench_local(|| {
        count += 1;
        if count % 128 == 0 {
            session.reset();
        }
        session.eval(&[count % 1000]).unwrap();
    });
}

#[divan::bench(args = LIMITS, sample_count = 15, sample_size = 1)]
fn prompt(bencher: Bencher<'_, '_>, limit: Option<Duration>) {
    let mut session = start(limit);
    let tokens: Vec<u32> = (1..=PROMPT).collect();
    bencher.counter(ItemsCount::new(PROMPT as usize)).bench_local(|| {
        session.reset();
        session.eval(&tokens).unwrap();
    });
}

fn start(limit: Option<Duration>) -> Session {
    let path = Hub::find(&ModelRef::default(), &mut TerminalBar::new()).unwrap();
    let mut options = SessionOptions::default();
    options.call_time = limit;
    let transformer = Transformer::new(&crate::engine()).unwrap();
    transformer.start(&Model::open(path).unwrap(), &options).unwrap()
}
