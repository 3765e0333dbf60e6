//! The models: a few threads each, and what has to be so in the end.

use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering as StdOrdering};
use std::time::{Duration, Instant};

use loom::sync::Arc;
use loom::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use loom::thread;

use crate::interrupt::{Interrupter, Switch};
use crate::ranks::barrier::Barrier;
use crate::ranks::transport::Failure;
use crate::spi::alarms::Alarms;

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

/// Nobody passes before all have come, twice.
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

/// One begins anew when it can, and one comes. Then both are counted in the same turn, or the one that came early
/// was told so: no turn has one rank too many.
fn renews() {
    let barrier = Arc::new(Barrier::spinning(2, Duration::ZERO));
    barrier.fail(Failure::new(0, "stopped"));
    let other = barrier.clone();
    let thread = thread::spawn(move || {
        let turn = other.turn();
        other.wait(turn, 1, None).is_ok()
    });
    let renewed = barrier.renew(|| ()).is_ok();
    let turn = barrier.turn();
    // The other one waits, was told, or will come: this one ends the waiting.
    if !renewed || barrier.failure().is_some() {
        assert!(barrier.wait(turn, 0, None).is_err());
        assert!(!thread.join().unwrap());
        return;
    }
    let other = barrier.clone();
    let ender = thread::spawn(move || other.fail(Failure::new(0, "over")));
    let came = barrier.wait(turn, 0, None).is_ok();
    ender.join().unwrap();
    let other_came = thread.join().unwrap();
    // If one passed, then because two were there; the other may have slept until the failure that came after.
    assert!(!other_came || came || barrier.failure().is_some());
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
    let word = Arc::new(AtomicU32::new(0));
    let kept = word.clone();
    let word: &'static AtomicU32 = Box::leak(Box::new(AtomicU32::new(0)));
    // SAFETY: it is there for ever; what is checked is that nothing is written when it could be gone.
    let switch = std::sync::Arc::new(unsafe { Switch::new(None, NonNull::from(word)) });
    let switch = Arc::from_std(switch);
    let interrupter = Interrupter::new(switch.clone());
    let running = switch.begin();
    let thread = thread::spawn(move || interrupter.interrupt());
    drop(running);
    switch.close();
    let last = word.load(Ordering::Relaxed);
    thread.join().unwrap();
    assert_eq!(word.load(Ordering::Relaxed), last);
    drop(kept);
}

/// After its drop an alarm neither runs nor is running.
fn dropped_when_due() {
    let alarms: &'static Alarms = Box::leak(Box::new(Alarms::new()));
    let (gone, ran) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (is_gone, has_run) = (gone.clone(), ran.clone());
    let action = move || {
        assert!(!is_gone.load(Ordering::Relaxed), "it runs after its drop");
        has_run.store(true, Ordering::Relaxed);
    };
    let alarm = alarms.add(Instant::now(), action, || Ok(())).unwrap();
    let thread = thread::spawn(move || alarms.step_once());
    drop(alarm);
    gone.store(true, Ordering::Relaxed);
    thread.join().unwrap();
    _ = ran;
}

/// The thread that waits for a later alarm learns of an earlier one.
fn earlier_alarm() {
    let alarms: &'static Alarms = Box::leak(Box::new(Alarms::new()));
    let late = alarms.add(Instant::now() + Duration::from_secs(3600), || (), || Ok(())).unwrap();
    let thread = thread::spawn(move || {
        // Waits for the late one, or finds the early one.
        alarms.step_once();
        alarms.step_once();
    });
    let ran = Arc::new(AtomicBool::new(false));
    let has_run = ran.clone();
    let early = alarms.add(Instant::now(), move || has_run.store(true, Ordering::Relaxed), || Ok(())).unwrap();
    thread.join().unwrap();
    drop((late, early));
    assert!(ran.load(Ordering::Relaxed));
}
