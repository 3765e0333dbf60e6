//! Arguments, time, and the end.

use std::time::{Duration, Instant};

use polychord_runtime_api::imports::Imports;
use polychord_runtime_api::{Engine, Error, Instantiation, Limits, TrapKind, Value};
use polychord_wasi::{Clock, Random, Wasi, WasiBuilder, add_to_imports};

use super::probe::{BUFFER, OTHER, Probe, RESULT, TEXT, VECTORS, errno};
use crate::check::{equal, holds};
use crate::{Failure, Outcome, guest};

/// A guest gets its arguments and its environment byte for byte, and nothing of the host's.
pub(super) fn arguments(engine: &dyn Engine) -> Outcome {
    let wasi = WasiBuilder::new().args(["prog", "", "ä b"]).env("HOME", "/").env("X", "");
    let mut probe = Probe::new(engine, wasi)?;
    for (sizes, get, expected) in [
        ("args_sizes_get", "args_get", &["prog", "", "ä b"][..]),
        ("environ_sizes_get", "environ_get", &["HOME=/", "X="]),
    ] {
        let bytes: Vec<u8> =
            expected.iter().flat_map(|text| [text.as_bytes(), b"\0"].concat()).collect();
        equal(sizes, probe.call(sizes, &[RESULT as i64, RESULT as i64 + 4])?, errno::SUCCESS)?;
        equal(sizes, probe.number(RESULT) as usize, expected.len())?;
        equal(sizes, probe.number(RESULT + 4) as usize, bytes.len())?;
        equal(get, probe.call(get, &[VECTORS as i64, BUFFER as i64])?, errno::SUCCESS)?;
        equal(get, probe.get(BUFFER, bytes.len()), bytes)?;
        let mut at = BUFFER;
        for (index, text) in expected.iter().enumerate() {
            equal("a pointer", probe.number(VECTORS + 4 * index) as usize, at)?;
            at += text.len() + 1;
        }
    }
    Ok(())
}

/// `proc_exit` ends the program with its code, is no trap, and leaves the guest usable.
pub(super) fn exit(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::new(engine, WasiBuilder::new())?;
    for code in [0, 1, 125, 126, 255, 256, -1, i32::MIN] {
        match probe.guest.call("exit", &[Value::I32(code)]) {
            Err(Error::Exit { code: got }) => equal("exit code", got, code)?,
            other => return Err(Failure::new(format!("proc_exit({code}) ended with {other:?}"))),
        }
        equal("the guest after it", probe.guest.call("fine", &[])?, vec![Value::I32(42)])?;
    }
    // In a start function there is no guest yet.
    let module = guest::compile(
        engine,
        r#"(module (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
            (memory (export "memory") 1) (func $start (call $exit (i32.const 7))) (start $start))"#,
    )?;
    let mut imports = Imports::new();
    add_to_imports::<Wasi>(&mut imports)?;
    let wasi = WasiBuilder::new().build()?;
    let start = Instantiation::new(&Limits::default()).imports(&imports).state(wasi);
    match module.instantiate_with(start) {
        Err(Error::Exit { code: 7 }) => Ok(()),
        other => Err(Failure::new(format!("a start function ended with {:?}", other.err()))),
    }
}

/// A fixed clock and a seed make a run reproducible, and waiting takes no time.
pub(super) fn time(engine: &dyn Engine) -> Outcome {
    let run = || -> Result<(Vec<u64>, Vec<u8>), Failure> {
        let clock = Clock::Fixed(Duration::from_secs(1_000_000_000));
        let wasi = WasiBuilder::new().clock(clock).random(Random::Seed(7));
        let mut probe = Probe::new(engine, wasi)?;
        let mut times = Vec::new();
        for clock in [0, 1, 0, 1] {
            let errno = probe.call("clock_time_get", &[clock, 0, RESULT as i64])?;
            equal("clock_time_get", errno, errno::SUCCESS)?;
            times.push(probe.long(RESULT));
            equal("wait", wait(&mut probe, 3_600_000_000_000)?, errno::SUCCESS)?;
        }
        equal("random_get", probe.call("random_get", &[BUFFER as i64, 100])?, errno::SUCCESS)?;
        Ok((times, probe.get(BUFFER, 100)))
    };
    let begin = Instant::now();
    let (times, random) = run()?;
    equal("a second run", run()?, (times.clone(), random.clone()))?;
    holds(begin.elapsed() < Duration::from_secs(3000), || "waiting takes its time".into())?;
    // Each look takes a microsecond, the first one of the monotonic clock when it is made.
    let second = 1_000_000_000_u64;
    let at = |hours: u64, looks: u64| hours * 3600 * second + looks * 1000;
    let expected =
        [1_000_000_000 * second + at(0, 2), at(1, 2), 1_000_000_000 * second + at(2, 4), at(3, 4)];
    equal("times", times, expected.to_vec())?;
    let first = [25, 69, 74, 39];
    equal("random numbers", &random[..4], &first)?;
    Ok(())
}

/// Waits by `poll_oneoff` for some nanoseconds.
fn wait(probe: &mut Probe, nanoseconds: u64) -> Result<i32, Error> {
    let mut subscription = [0; 48];
    subscription[..8].copy_from_slice(&77_u64.to_le_bytes());
    subscription[16..20].copy_from_slice(&1_u32.to_le_bytes());
    subscription[24..32].copy_from_slice(&nanoseconds.to_le_bytes());
    probe.put(TEXT, &subscription);
    let errno = probe.call("poll_oneoff", &[TEXT as i64, OTHER as i64, 1, RESULT as i64])?;
    let happened = (probe.number(RESULT), probe.long(OTHER));
    Ok(if errno == 0 && happened != (1, 77) { i32::MAX } else { errno })
}

/// A guest that waits is stopped by its time limit.
pub(super) fn waiting(engine: &dyn Engine) -> Outcome {
    let limit = Duration::from_millis(100);
    let limits = Limits::default().call_time(limit);
    let mut probe = Probe::within(engine, WasiBuilder::new(), &limits)?;
    let begin = Instant::now();
    let waited = wait(&mut probe, u64::MAX);
    let is_stopped = matches!(waited, Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }));
    holds(is_stopped, || format!("waiting ended with {waited:?}"))?;
    holds(begin.elapsed() < Duration::from_secs(60), || "it went on waiting".into())
}

/// Sockets, threads and signals are answered with the errors of the specification.
pub(super) fn refused(engine: &dyn Engine) -> Outcome {
    let mut probe = Probe::new(engine, WasiBuilder::new())?;
    for (fd, expected) in [(0, errno::NOTSOCK), (1, errno::NOTSOCK), (77, errno::BADF)] {
        for (name, args) in [
            ("sock_accept", &[fd, 0, RESULT as i64][..]),
            ("sock_recv", &[fd, VECTORS as i64, 1, 0, RESULT as i64, RESULT as i64 + 8]),
            ("sock_send", &[fd, VECTORS as i64, 1, 0, RESULT as i64]),
            ("sock_shutdown", &[fd, 3]),
        ] {
            equal(&format!("{name} of {fd}"), probe.call(name, args)?, expected)?;
        }
    }
    equal("proc_raise", probe.call("proc_raise", &[6])?, errno::NOSYS)?;
    equal("thread-spawn", probe.guest.call("spawn", &[])?, vec![Value::I32(-errno::AGAIN)])
}
