//! Users without a home: a container's number without a name, `HOME=/`, a system without `/proc`.
#![cfg(all(feature = "cli", unix))]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use polychord::model::gguf::GgmlType;
use serde_json::Value;
use tempfile::TempDir;

use common::llama::{Llama, Shape};
use common::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_polychord");

/// A user who has no name and no home.
const NAMELESS: &str = "54321";

struct Place {
    folder: TempDir,
}

struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        use std::os::unix::fs::PermissionsExt as _;

        let folder = tempfile::tempdir().unwrap();
        let model = Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) });
        model.save(folder.path());
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(folder.path(), open).unwrap();
        Self { folder }
    }

    fn model(&self) -> PathBuf {
        self.folder.path().join("model.gguf")
    }

    /// A command without any variable that leads to a folder.
    fn command(&self, program: &[&str], args: &[&str]) -> Command {
        let mut command = Command::new(program[0]);
        command.args(&program[1..]).args(args).current_dir(self.folder.path()).env_clear();
        for kept in ["LD_LIBRARY_PATH", "PATH"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("HF_HUB_OFFLINE", "1");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs the program as users who have no folder for a cache.
    fn homeless(&self, args: &[&str]) -> Vec<(&'static str, Done)> {
        let mut ways = Vec::new();
        // It is there everywhere, and is no folder.
        let mut command = self.command(&[PROGRAM], args);
        command.env("HOME", "/dev/null");
        ways.push(("HOME=/dev/null", Done::of(command)));
        if let Some(nameless) = self.nameless() {
            ways.push(("no HOME", Done::of(self.command(&nameless, args))));
            let mut command = self.command(&nameless, args);
            command.env("HOME", "/");
            ways.push(("HOME=/", Done::of(command)));
        }
        ways
    }

    /// How the program is run by a user without a name: by root only, and as one who may read all
    /// files where that is possible, since the program and its libraries may lie in root's home.
    fn nameless(&self) -> Option<Vec<&'static str>> {
        let user = ["setpriv", "--reuid", NAMELESS, "--regid", NAMELESS, "--clear-groups"];
        let reader = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"];
        let ways = [[&user[..], &reader, &[PROGRAM]].concat(), [&user[..], &[PROGRAM]].concat()];
        let works = |way: &Vec<&str>| {
            let status = self.command(way, &["--version"]).stderr(Stdio::null()).status();
            status.is_ok_and(|status| status.success())
        };
        let found = ways.into_iter().find(works);
        if found.is_none() {
            skip("users without a name: that takes root, and a program that they may run");
        }
        found
    }
}

impl Done {
    fn of(mut command: Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let code = output.status.code();
        Self { code, stdout: text(output.stdout), stderr: text(output.stderr) }
    }
}

#[test]
fn a_model_by_path_needs_no_cache() {
    let place = Place::new();
    let model = place.model();
    let model = model.to_str().unwrap();
    let mut first = None;
    for args in [
        &["generate", "a", "-n", "2", "-q", "--model", model][..],
        &["plan", model],
        &["inspect", model],
        &["pull", model],
    ] {
        for (way, done) in place.homeless(args) {
            assert_eq!(done.code, Some(0), "{way}, {args:?}: {}", done.stderr);
            if args[0] == "generate" {
                assert_eq!(first.get_or_insert_with(|| done.stdout.clone()), &done.stdout, "{way}");
            }
        }
    }
}

#[test]
fn a_model_that_has_to_be_fetched_says_what_to_set() {
    let place = Place::new();
    for (way, done) in place.homeless(&["pull", "hf:owner/repo/model.gguf"]) {
        assert_eq!(done.code, Some(1), "{way}: {}", done.stdout);
        assert!(done.stderr.contains("POLYCHORD_CACHE"), "{way}: {}", done.stderr);
    }
}

#[test]
fn engines_show_why_one_of_them_cannot_be_opened() {
    let place = Place::new();
    let has_wasmedge = polychord::available().contains(&"wasmedge");
    for (way, done) in place.homeless(&["engines"]) {
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{way}");
        for name in polychord::available() {
            assert!(done.stdout.contains(name), "{way}: no {name} in {}", done.stdout);
        }
        assert_eq!(
            done.stdout.contains("cannot be opened"),
            has_wasmedge,
            "{way}: {}",
            done.stdout
        );
        let widest = done.stdout.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest < 200, "{way}: {widest} columns in {}", done.stdout);
    }
    for (way, done) in place.homeless(&["engines", "--json"]) {
        let json: Value = serde_json::from_str(&done.stdout).unwrap();
        let failed: Vec<_> =
            json.as_array().unwrap().iter().filter(|one| one["error"].is_string()).collect();
        assert_eq!(failed.len(), usize::from(has_wasmedge), "{way}: {json}");
        for one in failed {
            assert_eq!(one["engine"], "wasmedge", "{way}");
            assert!(one["error"].as_str().unwrap().contains("POLYCHORD_CACHE"), "{way}: {one}");
        }
    }
}

#[test]
fn an_engine_without_a_cache_does_not_disagree() {
    let place = Place::new();
    let model = place.model();
    let args = ["compare", "a", "-n", "2", "--load", "copy", "--model", model.to_str().unwrap()];
    let total = polychord::available().len();
    for (way, done) in place.homeless(&args) {
        let said = format!("{}{}", done.stdout, done.stderr);
        assert!(!said.contains("do not agree"), "{way}: {said}");
        if polychord::available().contains(&"wasmedge") {
            assert_eq!(done.code, Some(1), "{way}: {said}");
            assert!(done.stderr.contains(&format!("1 of {total} runs failed")), "{way}: {said}");
            assert!(done.stdout.contains("wasmedge (copy): "), "{way}: {said}");
        } else {
            assert_eq!(done.code, Some(0), "{way}: {said}");
        }
    }
}

/// Root may hide `/proc` from a process of its own.
#[cfg(target_os = "linux")]
#[test]
fn without_proc_everything_runs() {
    let place = Place::new();
    let cache = place.folder.path().join("cache");
    let model = place.model();
    let model = model.to_str().unwrap();
    let hidden = |args: &[&str]| {
        let mut command = Command::new("unshare");
        let script = "umount -l /proc && ! [ -e /proc/self ] && exec \"$@\"";
        command.args(["--mount", "sh", "-c", script, "sh", PROGRAM]).args(args);
        command.env("POLYCHORD_CACHE", &cache).env_remove("LD_PRELOAD");
        Done::of(command)
    };
    if hidden(&["--version"]).code != Some(0) {
        return skip("a system without /proc: it takes root, and unshare");
    }
    for args in [
        &["engines"][..],
        &["inspect", model],
        &["plan", model],
        &["pull", model],
        &["compare", "a", "-n", "2", "--model", model],
    ] {
        let done = hidden(args);
        assert_eq!(done.code, Some(0), "{args:?}: {}{}", done.stdout, done.stderr);
        assert!(!done.stdout.contains("cannot be opened"), "{}", done.stdout);
    }
    assert!(
        Path::new(&cache).join("aot").exists() || !polychord::available().contains(&"wasmedge")
    );
}
