//! A folder with a model, and runs of the program in it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use polychord::model::gguf::GgmlType;
use serde_json::Value;
use tempfile::TempDir;

use crate::common::llama::{Llama, Shape};

const PROGRAM: &str = env!("CARGO_BIN_EXE_polychord");

/// Longest time of a run, with all compilers of a busy machine.
const PATIENCE: Duration = Duration::from_secs(150);

/// How often a run calls what.
pub(crate) type Counts = BTreeMap<String, u64>;

/// A kind of run.
pub(crate) struct Scene {
    pub(crate) name: &'static str,
    args: &'static [&'static str],
    /// Files that it writes.
    results: &'static [&'static str],
    /// With an empty cache of compiled code.
    pub(crate) is_cold: bool,
}

const fn scene(name: &'static str, args: &'static [&'static str]) -> Scene {
    Scene { name, args, results: &[], is_cold: false }
}

pub(crate) const SCENES: &[Scene] = &[
    scene("mapped", &["generate", "--load", "map"]),
    scene("copied", &["generate", "--load", "copy"]),
    scene("paged", &["generate", "--placement", "paged"]),
    scene("sharded", &["generate", "--placement", "sharded32", "--memories", "2"]),
    scene("ranks", &["generate", "--ranks", "2"]),
    scene("isolated", &["generate", "--isolate"]),
    scene("resumed", &["generate", "--resume", "before"]),
    scene("verified", &["verify", "proof"]),
    scene("inspected", &["inspect"]),
    scene("compared", &["compare", "1 5", "--json"]),
    scene("guests-compared", &["compare", "--guest", "guest.wasm", "--dir", ".::/", "--json"]),
    scene("command", &["run", "guest.wasm", "--reproducible", "--dir", ".::/"]),
    Scene {
        results: &["state", "receipt"],
        ..scene("saved", &["generate", "--save", "state", "--receipt", "receipt"])
    },
    Scene { is_cold: true, ..scene("compiled", &["generate"]) },
];

/// How the guest ends that is told of an error.
pub(crate) const GUEST_FAILED: i32 = 3;

/// Writes words into a file, reads them back and prints them.
const GUEST: &str = r#"(module
    (import "wasi_snapshot_preview1" "path_open" (func $open
        (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_pread" (func $read (param i32 i32 i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_close" (func $close (param i32) (result i32)))
    (import "wasi_snapshot_preview1" "path_unlink_file" (func $remove (param i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (data (i32.const 100) "notewhat is kept\0a")
    (data (i32.const 0) "\68\00\00\00\0d\00\00\00")
    (data (i32.const 8) "\c8\00\00\00\0d\00\00\00")
    (func $must (param i32)
        (if (local.get 0) (then (drop (call $remove (i32.const 3) (i32.const 100) (i32.const 4))) (call $exit (i32.const 3)))))
    (func $all (param i32)
        (if (i32.ne (i32.load (i32.const 24)) (local.get 0)) (then (call $must (i32.const 1)))))
    (func (export "_start")
        (call $must (call $open (i32.const 3) (i32.const 0) (i32.const 100) (i32.const 4) (i32.const 9)
            (i64.const 70) (i64.const 0) (i32.const 0) (i32.const 16)))
        (call $must (call $write (i32.load (i32.const 16)) (i32.const 0) (i32.const 1) (i32.const 24)))
        (call $all (i32.const 13))
        (call $must (call $read (i32.load (i32.const 16)) (i32.const 8) (i32.const 1) (i64.const 0) (i32.const 24)))
        (call $all (i32.const 13))
        (call $must (call $close (i32.load (i32.const 16))))
        (call $must (call $remove (i32.const 3) (i32.const 100) (i32.const 4)))
        (call $must (call $write (i32.const 1) (i32.const 8) (i32.const 1) (i32.const 24)))))"#;

impl Scene {
    /// What does not depend on the time that it took.
    pub(crate) fn answer(&self, ended: &Ended) -> String {
        let Ok(json) = serde_json::from_str::<Value>(&ended.stdout) else {
            return ended.stdout.clone();
        };
        if json["logits_sha256"].is_string() {
            return format!("{} {}", json["ids"], json["logits_sha256"]);
        }
        let Some(runs) = json["runs"].as_array() else { return ended.stdout.clone() };
        let of = |run: &Value| {
            ["ids", "logits_sha256", "stdout", "ending"]
                .map(|name| run["run"][name].to_string())
                .join(" ")
        };
        runs.iter().map(of).collect::<Vec<_>>().join("\n")
    }
}

/// How a run ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// None if by a signal, or not at all.
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    #[allow(dead_code, reason = "shown")]
    how: String,
}

/// A folder with a model, and the library that makes calls fail.
pub(crate) struct Place {
    folder: TempDir,
    streams: TempDir,
    shim: PathBuf,
}

/// A [`Place`] for one case.
pub(crate) struct Fresh<'a> {
    place: &'a Place,
    cache: Option<TempDir>,
}

/// The cache of compiled guests, which has them already where other tests ran.
pub(crate) fn cache() -> &'static Path {
    Path::new(concat!(env!("CARGO_TARGET_TMPDIR"), "/cli-cache"))
}

pub(crate) fn save_model(folder: &Path) -> std::io::Result<PathBuf> {
    let path = folder.join("model.gguf");
    fs::write(&path, Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) }).file())?;
    Ok(path)
}

impl Place {
    pub(crate) fn new(shim: &Path) -> Self {
        let (folder, streams) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        save_model(folder.path()).unwrap();
        fs::write(folder.path().join("guest.wasm"), wat::parse_str(GUEST).unwrap()).unwrap();
        Self { folder, streams, shim: shim.to_owned() }
    }

    /// Files that runs begin with, and compiled code.
    pub(crate) fn prepare(&self, engine: &str) {
        let scene = scene("prepared", &["generate", "--save", "before", "--receipt", "proof"]);
        // The first one compiles, which takes WasmEdge minutes on a busy machine.
        for _ in 0..4 {
            let ended = self.fresh(&scene).run(&scene, engine, None);
            if ended.code == Some(0) {
                return;
            }
            assert_eq!(ended.code, None, "{ended:?}");
        }
        panic!("{engine} compiles without end");
    }

    pub(crate) fn fresh(&self, scene: &Scene) -> Fresh<'_> {
        for file in self.files().into_iter().filter(|file| !is_kept(file)) {
            fs::remove_file(self.folder.path().join(file)).unwrap();
        }
        for file in ["log", "counts"] {
            // There is none after most runs.
            _ = fs::remove_file(self.streams.path().join(file));
        }
        Fresh { place: self, cache: scene.is_cold.then(|| tempfile::tempdir().unwrap()) }
    }

    /// Runs it, and counts its calls.
    pub(crate) fn count(&self, scene: &Scene, engine: &str) -> (Ended, Counts) {
        let fresh = self.fresh(scene);
        // What the cache has not is not counted.
        _ = (!scene.is_cold).then(|| fresh.run(scene, engine, None));
        let file = self.streams.path().join("counts");
        let mut command = fresh.command(scene, engine);
        command.env("LD_PRELOAD", &self.shim).env("POLYCHORD_FAULT_COUNTS", &file);
        let ended = self.ended(command);
        let mut counts = Counts::new();
        for line in fs::read_to_string(file).unwrap_or_default().lines() {
            let (name, count) = line.split_once(' ').unwrap();
            let most = counts.entry(name.to_owned()).or_default();
            *most = count.parse::<u64>().unwrap().max(*most);
        }
        counts.retain(|_, count| *count > 0);
        (ended, counts)
    }

    fn files(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn ended(&self, mut command: Command) -> Ended {
        let path = |name: &str| self.streams.path().join(name);
        command.stdin(Stdio::null());
        command.stdout(File::create(path("stdout")).unwrap());
        command.stderr(File::create(path("stderr")).unwrap());
        let mut child = command.spawn().unwrap();
        let end = Instant::now() + PATIENCE;
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break Some(status),
                None if Instant::now() > end => break None,
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        if status.is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        let text = |name| String::from_utf8_lossy(&fs::read(path(name)).unwrap()).into_owned();
        Ended {
            code: status.and_then(|status| status.code()),
            stdout: text("stdout"),
            stderr: text("stderr"),
            how: status.map_or_else(|| "it does not end".into(), |status| status.to_string()),
        }
    }
}

/// What is there before a run.
fn is_kept(file: &str) -> bool {
    ["model.gguf", "guest.wasm", "before", "proof"].contains(&file)
}

impl Fresh<'_> {
    fn command(&self, scene: &Scene, engine: &str) -> Command {
        let mut command = Command::new(PROGRAM);
        let of_engine = if scene.args[0] == "compare" { "--engines" } else { "--engine" };
        command.args(scene.args).args([of_engine, engine]);
        match scene.args[0] {
            "generate" => {
                command.args([
                    "--model",
                    "model.gguf",
                    "--prompt-ids",
                    "1,5,9,2",
                    "-n",
                    "6",
                    "--json",
                ]);
            }
            "verify" => {
                command.args(["--model", "model.gguf"]);
            }
            "compare" if scene.args[1] != "--guest" => {
                command.args(["--model", "model.gguf", "-n", "6"]);
            }
            "inspect" => {
                command = Command::new(PROGRAM);
                command.args(["inspect", "model.gguf"]);
            }
            _ => {}
        }
        let folder = self.cache.as_ref().map_or(cache(), TempDir::path);
        command.current_dir(self.place.folder.path()).env("POLYCHORD_CACHE", folder);
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("RUST_BACKTRACE", "0");
        command.env_remove("POLYCHORD_LOG");
        command
    }

    pub(crate) fn run(&self, scene: &Scene, engine: &str, fault: Option<&str>) -> Ended {
        let mut command = self.command(scene, engine);
        if let Some(fault) = fault {
            command.env("LD_PRELOAD", &self.place.shim).env("POLYCHORD_FAULT", fault);
            command.env("POLYCHORD_FAULT_LOG", self.place.streams.path().join("log"));
        }
        self.place.ended(command)
    }

    /// What was made to fail first.
    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.place.streams.path().join("log"));
        log.unwrap_or_default().lines().take(3).collect::<Vec<_>>().join("; ")
    }

    pub(crate) fn has_results(&self, scene: &Scene) -> bool {
        scene.results.iter().all(|file| self.place.folder.path().join(file).is_file())
    }

    /// Files that no run is to leave: partial ones, and in a cache of its own.
    pub(crate) fn left_over(&self, scene: &Scene) -> Vec<String> {
        let files = self.place.files().into_iter();
        let mut left: Vec<_> = files
            .filter(|file| !is_kept(file) && !scene.results.contains(&file.as_str()))
            .collect();
        let mut folders: Vec<_> = self.cache.iter().map(|cache| cache.path().to_owned()).collect();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
                let name = entry.file_name().into_string().unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                }
                if name.starts_with(".part") || name.starts_with("part-") {
                    left.push(name);
                }
            }
        }
        left
    }
}
