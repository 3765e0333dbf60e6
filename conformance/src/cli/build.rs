//! Builds the backends' test programs with cargo.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::engines::Target;

/// The programs of each backend, the suite first, or why there are none.
pub(super) fn programs(targets: &[Target]) -> Vec<(String, Result<Vec<PathBuf>, String>)> {
    let wasmedge = targets.iter().any(|target| target.is_wasmedge());
    let mut built = cargo(wasmedge);
    if wasmedge && built.is_err() && !targets.iter().all(|target| target.is_wasmedge()) {
        // Without its library the others can still be built.
        built = cargo(false);
    }
    let find = |target: &Target| match &built {
        Ok(messages) => find(target, messages).ok_or_else(|| {
            let help = if target.is_wasmedge() { " (docs/wasmedge.md)" } else { "" };
            format!("its test programs could not be built{help}")
        }),
        Err(reason) => Err(reason.clone()),
    };
    targets.iter().map(|target| (target.name.to_owned(), find(target))).collect()
}

/// What cargo says about all tests of the workspace: with another selection of them it would
/// compile again what these have in common.
fn cargo(wasmedge: bool) -> Result<String, String> {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    if wasmedge {
        cargo.args(["--workspace", "--features", "wasmtime,wasmedge"]);
    } else {
        cargo.args(["--features", "wasmtime"]);
    }
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo ended with {}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The executables of a backend's tests.
fn find(target: &Target, messages: &str) -> Option<Vec<PathBuf>> {
    let tests = std::iter::once(target.suite).chain(target.differential);
    tests.map(|test| executable(target.folder, test, messages)).collect()
}

/// The executable that cargo's messages name for a test.
fn executable(folder: &str, test: &str, messages: &str) -> Option<PathBuf> {
    let manifest = format!("{folder}/Cargo.toml");
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let here = message["manifest_path"].as_str()?.replace('\\', "/").ends_with(&manifest);
        let named = message["target"]["name"] == test;
        message["executable"].as_str().filter(|_| here && named).map(PathBuf::from)
    })
}
