//! What the tests of the whole share.
#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses some of it")]

use std::io::Write;
use std::process::Command;

use polychord::api::Engine;

const ENGINE: &str = "POLYCHORD_TEST_ENGINE";

/// Runs the body of a test with every engine that is compiled in, each in a process of its own:
/// they do not all get along in one. `test` is the name of the test that calls this.
///
/// With `POLYCHORD_TEST_ENGINE` set, runs with that engine only, in this process.
#[track_caller]
pub(crate) fn each_engine(test: &str, body: impl Fn(&dyn Engine)) {
    if let Ok(name) = std::env::var(ENGINE) {
        return body(&*polychord::open(&name).unwrap());
    }
    for name in polychord::available() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture", "--include-ignored"])
            .env(ENGINE, name)
            .status()
            .unwrap();
        assert!(status.success(), "{name}: {status}");
    }
}

/// Says why a test did not test anything, past the capturing of output: that must be seen.
pub(crate) fn skip(reason: &str) {
    let _ = writeln!(std::io::stderr(), "SKIPPED: {reason}");
}
