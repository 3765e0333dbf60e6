//! Signals belong to the program that embeds engines.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::time::Duration;

use polychord::api::Limits;

const GUEST: &str = r#"(module (func (export "loop") (loop $next (br $next))))"#;

/// No handler is set for signals that are an embedder's, such as SIGUSR1.
#[test]
fn signals_of_the_embedder_stay_its_own() {
    const SIGUSR1: u32 = 10;
    const SIGUSR2: u32 = 12;
    common::each_engine(common::test_name!(), |engine| {
        let module = engine.compile(&wat::parse_str(GUEST).unwrap()).unwrap();
        let limits = Limits::default().call_time(Duration::from_millis(5));
        module.instantiate(&limits).unwrap().call("loop", &[]).unwrap_err();
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        let caught = u64::from_str_radix(caught.trim(), 16).unwrap();
        for signal in [SIGUSR1, SIGUSR2] {
            assert_eq!(caught & 1 << (signal - 1), 0, "signal {signal} has a handler");
        }
    });
}
