//! Limits of memory and time: a guest that never ends is stopped, one that wants too much is refused.
//!
//! Sessions have the same: `SessionOptions::memory_bytes` and `call_time`, and
//! `GenerateOptions::deadline` for an answer as a whole.
//!
//! cargo run --release --example limits
#![allow(clippy::print_stdout, reason = "an example")]

use std::time::Duration;

use polychord::api::{Error, Limits, TrapKind, Value};

const GUEST: &str = r#"(module
    (memory (export "memory") 2)
    (func (export "spin") (loop $again (br $again)))
    (func (export "grow") (param $pages i32) (result i32) (memory.grow (local.get $pages))))"#;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine = polychord::open("wasmer")?;
    let module = engine.compile(&wat::parse_str(GUEST)?)?;
    let limits = Limits::default().memory_bytes(1 << 20).call_time(Duration::from_millis(50));
    let mut guest = module.instantiate(&limits)?;

    match guest.call("spin", &[]) {
        Err(Error::Trap { kind: TrapKind::DeadlineExceeded(limit), .. }) => {
            println!("stopped after its {limit:?}");
        }
        other => return Err(format!("it was not stopped: {other:?}").into()),
    }
    // It can be called again. Of its 16 pages of 64 KiB it has two, and gets no more than 14.
    assert_eq!(guest.call("grow", &[Value::I32(14)])?, [Value::I32(2)]);
    assert_eq!(guest.call("grow", &[Value::I32(1)])?, [Value::I32(-1)]);
    println!("has {} bytes, and gets no more", guest.stats().guest_bytes);

    match module.instantiate(&Limits::default().memory_bytes(64 << 10)) {
        Err(error) => println!("{error}"),
        Ok(_) => return Err("a guest that starts with more than it may have was started".into()),
    }
    Ok(())
}
