//! Processes that may use little address space: guests need less of it, or say what is missing.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::sync::Arc;

use polychord::api::{Engine, Error, Limits, Value};
use polychord::model::gguf::GgmlType;
use polychord::model::{SessionOptions, Transformer};

use common::llama::{Llama, Shape};
use common::{each_engine_in_address_space, open, test_name};

/// Less than the 4 GiB that the addresses of a 32-bit memory reach.
const LIMIT: u64 = 3_000_000 << 10;

const GUEST: &str = r#"(module
    (memory (export "memory") 1 16)
    (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
    (func (export "last") (result i32) (i32.load8_u (i32.const 131071))))"#;

#[test]
fn guests_start_with_little_address_space_or_say_what_they_need() {
    each_engine_in_address_space(test_name!(), LIMIT, |engine| {
        let module = engine.compile(&wat::parse_str(GUEST).unwrap()).unwrap();
        let started = module.instantiate(&Limits::default());
        if engine.capabilities().engine == "wasmtime" {
            let mut guest = started.unwrap();
            assert_eq!(guest.call("grow", &[Value::I32(1)]).unwrap(), [Value::I32(1)]);
            assert_eq!(guest.call("last", &[]).unwrap(), [Value::I32(0)]);
            assert_eq!(guest.call("grow", &[Value::I32(15)]).unwrap(), [Value::I32(-1)]);
            return String::new();
        }
        let error = started.map(|_| ()).unwrap_err();
        let Error::OutOfMemory { asked, .. } = &error else { panic!("{error}") };
        assert!(*asked >= 4 << 30, "{error}");
        let text = error.to_string();
        for says in [&asked.to_string(), &LIMIT.to_string(), "ulimit -v unlimited"] {
            assert!(text.contains(says), "{text}");
        }
        String::new()
    });
}

#[test]
fn wasmtime_computes_the_same_logits_with_little_address_space() {
    let logits = |engine: &Arc<dyn Engine>| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape::of(GgmlType::Q4_0)).save(folder.path());
        let transformer = Transformer::new(engine).unwrap();
        let options = SessionOptions::new().context(64);
        let mut session = transformer.start(&open(&path, true), &options).unwrap();
        format!("{:?}", session.eval(&[1, 50, 3]).unwrap().as_bytes())
    };
    let body = |engine: &Arc<dyn Engine>| match engine.capabilities().engine {
        "wasmtime" => logits(engine),
        _ => String::new(),
    };
    for (name, found) in each_engine_in_address_space(test_name!(), LIMIT, body) {
        if name == "wasmtime" {
            assert!(found == logits(&polychord::open(name).unwrap()));
        }
    }
}
