//! Bodies of requests to the server: refused in `OpenAI`'s form, or understood, and never a panic.
//!
//! The first byte says where the request goes, and whether the rest is the body, or chooses what is changed in one
//! that is answered.
//!
//! `scripts/fuzz request`, from the repository's root.

#![no_main]

use std::sync::LazyLock;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use polychord_serve::fuzzing;
use serde_json::Value;

#[path = "../change.rs"]
mod change;

use change::change;

fuzz_target!(|bytes: &[u8]| {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let (path, body) = &REQUESTS[usize::from(choice >> 1) % REQUESTS.len()];
    if choice & 1 == 0 {
        check(path, bytes);
        return;
    }
    let mut body = body.clone();
    let mut input = Unstructured::new(bytes);
    while !input.is_empty() && change(&mut body, &mut input).is_ok() {}
    check(path, body.to_string().as_bytes());
});

/// Requests that are answered, each with its path.
static REQUESTS: LazyLock<Vec<(String, Value)>> =
    LazyLock::new(|| serde_json::from_str(include_str!("requests.json")).expect("they are JSON"));

fn check(path: &str, body: &[u8]) {
    let Err((status, answer)) = fuzzing::request(path, body) else { return };
    assert_eq!(status, 400, "{path}: {answer}");
    let error = &answer["error"];
    assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()), "{path}: {answer}");
    assert_eq!(error["type"], "invalid_request_error", "{path}: {answer}");
    assert!(error["param"].is_string() || error["param"].is_null(), "{path}: {answer}");
}
