//! Builds the backends' test programs with cargo.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::engines::Target;

/// The program of each backend, or why there is none.
pub(super) fn programs(targets: &[Target]) -> Vec<(String, Result<PathBuf, String>)> {
    let wasmedge = targets.iter().any(|target| target.is_wasmedge());
    let mut built = cargo(targets, wasmedge);
    if wasmedge && built.is_err() {
        // Without its library the others can still be built.
        let others: Vec<_> =
            targets.iter().copied().filter(|target| !target.is_wasmedge()).collect();
        built = cargo(&others, false);
    }
    let find = |target: &Target| match &built {
        Ok(built) => built.get(&(target.folder, target.test)).cloned().ok_or_else(|| {
            let help = if target.is_wasmedge() { " (docs/wasmedge.md)" } else { "" };
            format!("its test program could not be built{help}")
        }),
        Err(reason) => Err(reason.clone()),
    };
    targets.iter().map(|target| (target.name.to_owned(), find(target))).collect()
}

type Built = HashMap<(&'static str, &'static str), PathBuf>;

/// One build for all, with the features of the workspace's own tests, so that what these have
/// compiled is used again.
fn cargo(targets: &[Target], wasmedge: bool) -> Result<Built, String> {
    if targets.is_empty() {
        return Ok(Built::new());
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["test", "--no-run", "--message-format=json-render-diagnostics", "--workspace"]);
    if wasmedge {
        cargo.args(["--features", "wasmtime,wasmedge"]);
    } else {
        cargo.args(["--features", "wasmtime", "--exclude", "polychord-backend-wasmedge"]);
    }
    for target in targets {
        cargo.args(["--test", target.test]);
    }
    let output = cargo.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| format!("cargo could not be started: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo ended with {}", output.status));
    }
    let lines = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(targets.iter().filter_map(|target| Some((key(target), find(target, &lines)?))).collect())
}

const fn key(target: &Target) -> (&'static str, &'static str) {
    (target.folder, target.test)
}

/// The executable that cargo's messages name for a test.
fn find(target: &Target, messages: &str) -> Option<PathBuf> {
    let manifest = format!("{}/Cargo.toml", target.folder);
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let here = message["manifest_path"].as_str()?.replace('\\', "/").ends_with(&manifest);
        let named = message["target"]["name"] == target.test;
        message["executable"].as_str().filter(|_| here && named).map(PathBuf::from)
    })
}
