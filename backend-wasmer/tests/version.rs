//! The version that the backend names is the one that it is built with.

use std::path::Path;

use polychord_backend_wasmer::WasmerEngine;

#[test]
fn the_version_is_that_of_the_lock_file() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../Cargo.lock");
    let lock = std::fs::read_to_string(path).unwrap();
    let entry = format!("name = \"wasmer\"\nversion = \"{}\"\n", WasmerEngine::VERSION);
    assert!(lock.contains(&entry), "Cargo.lock has another version than {entry}");
}
