//! 64-bit memories, which are lowered, do what those of an engine that has them do.
#![allow(clippy::unwrap_used, reason = "tests")]

use polychord_backend_wasmer::WasmerEngine;
use polychord_conformance::spec;

#[test]
fn lowered_memories_do_what_native_ones_do() {
    let outcomes = spec::check_memory64(&WasmerEngine::new().unwrap());
    assert!(outcomes.is_ok(), "{}", outcomes.unwrap_err());
}
