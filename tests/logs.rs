//! What a guest can put into the log of a program: some events, and then none for a while.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::io::{self, Write};
use std::sync::Mutex;

use polychord::api::{LayerId, LayerSpec, Limits, MemorySpec, Source, Value};
use tracing_subscriber::filter::LevelFilter;

use common::{each_engine, test_name};

/// Has a layer brought in and gives it back, and asks for one that there is not, again and again.
const GUEST: &str = r#"(module
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (import "env" "memory64_release" (func $release (param i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "shout") (param $times i32)
        (loop $again
            (drop (call $map (i32.const 0)))
            (drop (call $release (i32.const 0)))
            (drop (call $map (i32.const 9)))
            (br_if $again (local.tee $times (i32.sub (local.get $times) (i32.const 1)))))))"#;

static LOG: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Log;

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOG.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_guest_that_causes_events_in_a_loop_fills_no_log() {
    each_engine(test_name!(), |engine| {
        tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(|| Log)
            .init();
        let module = engine.compile(&wat::parse_str(GUEST).unwrap()).unwrap();
        let mut guest = module.instantiate(&Limits::default()).unwrap();
        let memory = guest.create_memory64(&MemorySpec::guest(1 << 16)).unwrap();
        let source = Source::from_bytes(vec![7; 1 << 16]);
        let layer =
            LayerSpec::new(LayerId(0), memory, &source).name("all").offset(0).part(0, 1 << 16);
        guest.register_layer(layer).unwrap();
        let lines = || LOG.lock().unwrap().iter().filter(|byte| **byte == b'\n').count();
        guest.call("shout", &[Value::I32(2)]).unwrap();
        let some = lines();
        assert!(some >= 3, "{some} lines");
        guest.call("shout", &[Value::I32(5_000)]).unwrap();
        // A second window of time may have begun.
        let (all, text) = (lines(), String::from_utf8_lossy(&LOG.lock().unwrap()).into_owned());
        assert!(all < 100, "{all} lines: {}", &text[..text.len().min(4000)]);
        assert!(text.contains("refused") && text.contains("left_out"));
        assert!(guest.stats().errors >= 5_000);
    });
}
