//! Plans of any bytes: an error, or a plan that is written and read again as it was.
//!
//! The first byte says whether the rest is JSON, or chooses what is changed in a plan that holds together: a mutation of
//! JSON seldom gets beyond its first rule.
//!
//! `cargo fuzz run plan -- -rss_limit_mb=512 -timeout=5`, from the repository's root.

#![no_main]

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use polychord_plan::Plan;
use serde_json::Value;

#[path = "../change.rs"]
mod change;

use change::change;

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, bytes)) = bytes.split_first() else { return };
    if kind & 1 == 0 {
        if let Ok(text) = std::str::from_utf8(bytes) {
            read(text);
        }
        return;
    }
    let mut plan: Value = serde_json::from_str(WHOLE).expect("it is JSON");
    let mut input = Unstructured::new(bytes);
    while !input.is_empty() && change(&mut plan, &mut input).is_ok() {}
    read(&plan.to_string());
});

/// A plan of two memories, with whatever a plan can have.
const WHOLE: &str = include_str!("plan.json");

fn read(text: &str) {
    match Plan::from_json(text) {
        Ok(plan) => {
            let again = Plan::from_json(&serde_json::to_string(&plan).expect("it is JSON"))
                .expect("its own form is read");
            assert_eq!(again, plan);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
