//! The models: a few threads each, and what has to be so in the end.

// The files of `runtime-api` that are checked.
#[path = "../../runtime-api/src/spi/watchdog/alarms.rs"]
mod alarms;
#[path = "../../runtime-api/src/ranks/barrier.rs"]
mod barrier;
#[path = "../../runtime-api/src/interrupt.rs"]
mod interrupt;
#[path = "../../runtime-api/src/paging/reader.rs"]
mod reader;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::time::{Duration, Instant};

use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;
use polychord_plan::{LayerId, SourceRange};

use self::alarms::Alarms;
use self::barrier::Barrier;
use self::interrupt::{Interrupter, Switch};
use self::reader::Reader;
use crate::stand_in::{Error, Failure, Source};

type Model = fn();

pub(crate) const ALL: &[(&str, Model)] = &[
    ("barrier: two ranks meet twice", meet_twice),
    ("barrier: three ranks meet", three_meet),
    ("barrier: a rank fails in place of coming", fails),
    ("barrier: a rank begins anew while another comes", renews),
    ("barrier: a rank waits for what another does", waits_until),
    ("switch: a call ends while it is stopped", ends_while_stopped),
    ("switch: a guest goes while it is stopped", goes_while_stopped),
    ("watchdog: an alarm is dropped when it is due", dropped_when_due),
    ("watchdog: an earlier alarm is set while it waits", earlier_alarm),
    ("reader: layers are taken in another order than they are read", taken_in_another_order),
    (
        "reader: a layer is given up while it is read, and asked for again",
        given_up_and_asked_for_again,
    ),
    ("reader: it goes while it reads", goes_while_it_reads),
];

/// Runs a model in every order, with at most three changes of thread where none has to be. Returns how many there are.
pub(crate) fn check(model: Model) -> usize {
    static ORDERS: AtomicUsize = AtomicUsize::new(0);
    ORDERS.store(0, StdOrdering::Relaxed);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.max_branches = 10_000;
    builder.check(move || {
        ORDERS.fetch_add(1, StdOrdering::Relaxed);
        model();
    });
    ORDERS.load(StdOrdering::Relaxed)
}

/// No rank passes before all have come, twice.
fn meet_twice() {
    meet(2, 2);
}

fn three_meet() {
    meet(3, 1);
}

fn meet(ranks: u32, turns: usize) {
    let barrier = Arc::new(Barrier::spinning(ranks as usize, Duration::ZERO));
    let come = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
    let work = move |rank: u32, barrier: &Barrier, come: &loom::sync::atomic::AtomicUsize| {
        for turn in 0..turns {
            let number = barrier.turn();
            come.fetch_add(1, Ordering::Relaxed);
            assert_eq!(barrier.wait(number, rank, None), Ok(()));
            // What others wrote before they came is seen.
            assert!(come.load(Ordering::Relaxed) >= (turn + 1) * ranks as usize);
        }
    };
    let others: Vec<_> = (1..ranks)
        .map(|rank| {
            let (barrier, come) = (barrier.clone(), come.clone());
            thread::spawn(move || work(rank, &barrier, &come))
        })
        .collect();
    work(0, &barrier, &come);
    others.into_iter().for_each(|thread| thread.join().unwrap());
}

/// The one that waits is told, and does not wait for ever.
fn fails() {
    let barrier = Arc::new(Barrier::spinning(2, Duration::ZERO));
    let other = barrier.clone();
    let thread = thread::spawn(move || other.fail(Failure::new(1, "no disk")));
    let turn = barrier.turn();
    assert_eq!(barrier.wait(turn, 0, None).unwrap_err().rank, 1);
    thread.join().unwrap();
    assert_eq!(barrier.failure().unwrap().reason, "no disk");
}

/// A rank that waits while others fail and begin anew is told of it, and both meet when it comes again.
fn renews() {
    let barrier = Arc::new(Barrier::spinning(2, Duration::ZERO));
    let meet = |rank: u32, barrier: &Barrier| {
        let turn = barrier.turn();
        barrier.wait(turn, rank, None).is_ok()
    };
    let anew = Arc::new((Mutex::new(false), Condvar::new()));
    let (other, is_anew) = (barrier.clone(), anew.clone());
    let thread = thread::spawn(move || {
        if !meet(1, &other) {
            let mut is = is_anew.0.lock().unwrap();
            while !*is {
                is = is_anew.1.wait(is).unwrap();
            }
            drop(is);
            assert!(meet(1, &other));
        }
    });
    barrier.fail(Failure::new(0, "stopped"));
    while barrier.renew(|| ()).is_err() {
        thread::yield_now();
    }
    assert!(barrier.failure().is_none());
    *anew.0.lock().unwrap() = true;
    anew.1.notify_one();
    // It would wait for ever for one that was counted and then forgotten.
    assert!(meet(0, &barrier));
    thread.join().unwrap();
}

/// A change under no lock of the barrier is seen, if it is followed by a wake.
fn waits_until() {
    let barrier = Arc::new(Barrier::spinning(2, Duration::ZERO));
    let done = Arc::new(AtomicBool::new(false));
    let (other, flag) = (barrier.clone(), done.clone());
    let thread = thread::spawn(move || {
        flag.store(true, Ordering::Release);
        other.wake();
    });
    assert_eq!(barrier.wait_until(0, None, || done.load(Ordering::Acquire)), Ok(()));
    thread.join().unwrap();
}

/// A stop concerns the call that ran, and not the next one.
fn ends_while_stopped() {
    let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    // SAFETY: it is there for ever.
    let switch = std::sync::Arc::new(unsafe { Switch::new(None, NonNull::from(word)) });
    let switch = Arc::from_std(switch);
    let interrupter = Interrupter::new(switch.clone());
    let thread = thread::spawn(move || interrupter.interrupt());
    drop(switch.begin());
    let next = switch.begin();
    let stopped = word.load(Ordering::Relaxed) == 1;
    // It was stopped while nothing ran, or in the first call, or in this one, which then knows of it.
    if stopped {
        assert!(Interrupter::new(switch.clone()).is_stopping());
    }
    thread.join().unwrap();
    drop(next);
    drop(switch.begin());
    assert_eq!(word.load(Ordering::Relaxed), 0);
}

/// The word is not touched after `close`.
fn goes_while_stopped() {
    let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    // SAFETY: it is there for ever; what is checked is that nothing is written when it could be gone.
    let switch = std::sync::Arc::new(unsafe { Switch::new(None, NonNull::from(word)) });
    let switch = Arc::from_std(switch);
    let interrupter = Interrupter::new(switch.clone());
    let running = switch.begin();
    let thread = thread::spawn(move || interrupter.interrupt());
    switch.close();
    let last = word.load(Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!(word.load(Ordering::Relaxed), last);
    drop(running);
}

/// After its drop an alarm neither runs nor is running.
fn dropped_when_due() {
    let alarms: &'static Alarms = Box::leak(Box::new(Alarms::new()));
    let gone = Arc::new(AtomicBool::new(false));
    let is_gone = gone.clone();
    let action = move || assert!(!is_gone.load(Ordering::Relaxed), "it runs after its drop");
    let alarm = alarms.add(Instant::now(), action, || Ok(())).unwrap();
    // So that the thread has something to do in any case.
    let next = alarms.add(Instant::now(), || (), || Ok(())).unwrap();
    let thread = thread::spawn(move || alarms.step());
    drop(alarm);
    gone.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    drop(next);
}

/// The thread that waits for a later alarm learns of an earlier one.
fn earlier_alarm() {
    let alarms: &'static Alarms = Box::leak(Box::new(Alarms::new()));
    let late = alarms.add(Instant::now() + Duration::from_secs(3600), || (), || Ok(())).unwrap();
    let ran = Arc::new(AtomicBool::new(false));
    let (has_run, done) = (ran.clone(), ran.clone());
    let thread = thread::spawn(move || {
        while !done.load(Ordering::Acquire) {
            alarms.step();
        }
    });
    let action = move || has_run.store(true, Ordering::Release);
    let early = alarms.add(Instant::now(), action, || Ok(())).unwrap();
    // It would wait for ever if it were not woken.
    thread.join().unwrap();
    assert!(ran.load(Ordering::Acquire));
    drop((late, early));
}

/// Layers are whole, and what cannot be read is an error of that layer alone.
fn taken_in_another_order() {
    let mut reader = reader();
    assert!(
        reader.ask(&layer(1, 0), 1) && reader.ask(&layer(2, 90), 1) && reader.ask(&layer(3, 50), 1)
    );
    assert_eq!(reader.take(LayerId(3)).unwrap().unwrap()[..], BYTES[50..66]);
    assert!(matches!(reader.take(LayerId(2)), Some(Err(Error::OutOfRange))));
    let first = reader.take(LayerId(1)).unwrap().unwrap();
    assert_eq!(first[..], BYTES[..16]);
    assert_eq!(reader.pages(), 0);
    reader.recycle(first);
    assert_eq!(reader.pages(), 1);
}

/// The bytes are those that were asked for last, and no room is lost.
fn given_up_and_asked_for_again() {
    let mut reader = reader();
    assert!(reader.ask(&layer(1, 0), 1));
    assert!(reader.forget_all_but(&[]) && !reader.has(LayerId(1)));
    assert!(reader.ask(&layer(1, 30), 1));
    let again = reader.take(LayerId(1)).unwrap().unwrap();
    assert_eq!(again[..], BYTES[30..46]);
    while reader.trim_all() {}
    assert_eq!(reader.pages(), 0);
}

/// Its thread ends, however much it was asked for.
fn goes_while_it_reads() {
    let mut reader = reader();
    assert!(reader.ask(&layer(1, 0), 1));
    assert!(reader.advise(&layer(2, 0)) && reader.ask(&layer(3, 0), 1));
    drop(reader);
}

const BYTES: [u8; 100] = {
    let mut bytes = [0; 100];
    let mut at = 0;
    while at < 100 {
        bytes[at] = at as u8;
        at += 1;
    }
    bytes
};

fn reader() -> Reader {
    Reader::start(Source::from_bytes(BYTES.to_vec())).unwrap()
}

fn layer(id: u32, start: u64) -> SourceRange {
    SourceRange::new(LayerId(id), format!("layer {id}"), start, 16)
}
