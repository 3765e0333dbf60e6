//! File systems without locks, as some of the network have none: a fetch goes on, and says so.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::skip;

/// In place of the system's: an error for every lock.
const FLOCK: &str = "#include <errno.h>\n#include <stdlib.h>\n\
    int flock(int fd, int how) { errno = atoi(getenv(\"TEST_FLOCK_ERRNO\")); return -1; }\n";

/// ENOLCK, ENOSYS, EOPNOTSUPP, EINVAL, EIO, and ENOTSUPP of some servers of NFS, which has no name.
const ERRORS: [&str; 6] = ["37", "38", "95", "22", "5", "524"];

#[test]
fn a_file_system_without_locks_does_not_stop_a_fetch() {
    let dir = tempfile::tempdir().unwrap();
    let Some(library) = library(dir.path()) else {
        return skip("locks that fail: there is no C compiler");
    };
    let wheels = dir.path().join("bin");
    fs::create_dir(&wheels).unwrap();
    for errno in ERRORS {
        let cache = dir.path().join(errno);
        let mut command = Command::new(env!("CARGO_BIN_EXE_polychord"));
        // No pip on the path, and no server: what matters is that it comes so far.
        command.args(["pull", "hf:owner/repo/model.gguf"]).env("PATH", &wheels);
        command.env("POLYCHORD_CACHE", &cache).env("HF_ENDPOINT", "http://127.0.0.1:9");
        command.env("LD_PRELOAD", &library).env("TEST_FLOCK_ERRNO", errno);
        let Output { stderr, .. } = command.output().unwrap();
        let said = String::from_utf8(stderr).unwrap();
        assert!(said.contains("no source could provide"), "{errno}: {said}");
        let warning = said.lines().next().unwrap();
        for part in ["warning: cannot lock", "going on without", &format!("os error {errno}")] {
            assert!(warning.contains(part), "{errno}: no {part} in {said}");
        }
    }
}

fn library(dir: &Path) -> Option<PathBuf> {
    let (source, library) = (dir.join("flock.c"), dir.join("flock.so"));
    fs::write(&source, FLOCK).unwrap();
    let mut command = Command::new("cc");
    command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
    command.status().ok().filter(|status| status.success()).map(|_| library)
}
