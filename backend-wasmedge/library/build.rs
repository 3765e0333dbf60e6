//! Looks for libwasmedge before anything that needs it is built, and says how to get it.
//!
//! wasmedge-sys looks in the same places, but late in the build, and its message does not
//! say what would help.
#![allow(clippy::print_stdout, reason = "cargo reads it")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const VERSION: &str = "0.17.1";

fn main() -> ExitCode {
    println!("cargo::rerun-if-changed=build.rs");
    if env::var_os("CARGO_FEATURE_STANDALONE").is_some() {
        return ExitCode::SUCCESS;
    }
    match find() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            for line in [problem.as_str(), "Any of these helps (docs/wasmedge.md says more):"]
                .into_iter()
                .chain(HELP)
            {
                println!("cargo::error={line}");
            }
            ExitCode::FAILURE
        }
    }
}

const HELP: [&str; 4] = [
    "  eval \"$(scripts/setup-wasmedge)\"                        on x86-64 Debian, without root",
    "  cargo ... --features wasmedge-standalone                downloads the library (polychord-backend-wasmedge: standalone)",
    "  export WASMEDGE_DIR=DIR                                 DIR/include and DIR/lib hold WasmEdge 0.17.1",
    "  export WASMEDGE_INCLUDE_DIR=... WASMEDGE_LIB_DIR=...    each named by itself",
];

/// Checks that the first folder with the header of WasmEdge has the right version.
fn find() -> Result<(), String> {
    let folders = include_folders();
    let header = |folder: &PathBuf| folder.join("wasmedge/wasmedge.h").exists();
    let Some(found) = folders.iter().find(|folder| header(folder)) else {
        let names: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
        return Err(format!("libwasmedge {VERSION} was not found; looked in {}", names.join(", ")));
    };
    let version = read_version(found).unwrap_or_else(|| "an unknown version".into());
    if version == VERSION {
        return Ok(());
    }
    Err(format!("libwasmedge {VERSION} is needed, but {} has {version}", found.display()))
}

/// Where wasmedge-sys looks for headers, in its order.
fn include_folders() -> Vec<PathBuf> {
    let from = |name: &str, below: &str| {
        println!("cargo::rerun-if-env-changed={name}");
        env::var_os(name).map(|value| Path::new(&value).join(below))
    };
    let both = from("WASMEDGE_LIB_DIR", "").is_some();
    [
        from("WASMEDGE_INCLUDE_DIR", "").filter(|_| both),
        from("WASMEDGE_DIR", "include"),
        from("WASMEDGE_BUILD_DIR", "include/api"),
        from("HOME", ".wasmedge/include"),
        Some("/usr/local/include".into()),
        from("HOME", ".local/include"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn read_version(folder: &Path) -> Option<String> {
    let text = fs::read_to_string(folder.join("wasmedge/version.h")).ok()?;
    let line = text.lines().find(|line| line.contains("WASMEDGE_VERSION \""))?;
    Some(line.split('"').nth(1)?.to_owned())
}
