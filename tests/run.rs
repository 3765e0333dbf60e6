//! `polychord run` and `compare --guest`, as they are typed, on every engine of this build.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use polychord::model::gguf::GgmlType;
use serde_json::Value;
use tempfile::TempDir;

use common::llama::{Llama, Shape};

const PROGRAM: &str = env!("CARGO_BIN_EXE_polychord");

/// Prints its arguments and its environment, each ended by a line feed, and ends with their number.
const ECHO: &str = r#"(module
    (import "wasi_snapshot_preview1" "args_sizes_get" (func $args_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "args_get" (func $args (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_sizes_get" (func $env_sizes (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "environ_get" (func $env (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
    (memory (export "memory") 1)
    (func $print (param $bytes i32)
        (local $at i32)
        (local.set $at (i32.const 4096))
        (i32.store (i32.const 16) (i32.const 4096))
        (i32.store (i32.const 20) (local.get $bytes))
        (block $end (loop $next
            (br_if $end (i32.ge_u (local.get $at) (i32.add (i32.const 4096) (local.get $bytes))))
            (if (i32.eqz (i32.load8_u (local.get $at))) (then (i32.store8 (local.get $at) (i32.const 10))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (br $next)))
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 24))))
    (func (export "_start")
        (drop (call $env_sizes (i32.const 0) (i32.const 4)))
        (drop (call $env (i32.const 1024) (i32.const 4096)))
        (call $print (i32.load (i32.const 4)))
        (drop (call $args_sizes (i32.const 0) (i32.const 4)))
        (drop (call $args (i32.const 1024) (i32.const 4096)))
        (call $print (i32.load (i32.const 4)))
        (call $exit (i32.load (i32.const 0)))))"#;

/// A library, whose functions work only after `_initialize`.
const LIBRARY: &str = r#"(module
    (memory (export "memory") 1)
    (func (export "_initialize") (i32.store (i32.const 0) (i32.const 100)))
    (func (export "add") (param i32 i64) (result i64 i32)
        (i64.add (i64.extend_i32_u (i32.load (i32.const 0))) (local.get 1)) (local.get 0))
    (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
    (func (export "trap") unreachable)
    (func (export "forever") (loop $again (br $again))))"#;

/// Ends with 0 if a random number and the time are those of a reproducible run; prints both.
const RANDOM: &str = r#"(module
    (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
    (import "wasi_snapshot_preview1" "clock_time_get" (func $time (param i32 i64 i32) (result i32)))
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (func (export "_start")
        (drop (call $random (i32.const 64) (i32.const 16)))
        (drop (call $time (i32.const 0) (i64.const 0) (i32.const 80)))
        (i32.store (i32.const 0) (i32.const 64))
        (i32.store (i32.const 4) (i32.const 24))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8)))))"#;

/// Says that it is busy, and is.
#[cfg(unix)]
const BUSY: &str = r#"(module
    (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
    (memory (export "memory") 1)
    (data (i32.const 16) "\18\00\00\00\05\00\00\00busy\0a")
    (func (export "_start")
        (drop (call $write (i32.const 1) (i32.const 16) (i32.const 1) (i32.const 8)))
        (loop $again (br $again))))"#;

/// Adds up the bytes of the first layer of a model, where it is mapped.
const WEIGHTS: &str = r#"(module
    (import "env" "memory64_map_layer" (func $map (param i32) (result i64)))
    (memory (export "memory") 1)
    (func (export "sum") (param $layer i32) (param $bytes i32) (result i64)
        (local $at i32) (local $sum i64)
        (local.set $at (i32.wrap_i64 (call $map (local.get $layer))))
        (block $end (loop $next
            (br_if $end (i32.eqz (local.get $bytes)))
            (local.set $sum (i64.add (local.get $sum) (i64.load8_u (local.get $at))))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $bytes (i32.sub (local.get $bytes) (i32.const 1)))
            (br $next)))
        (local.get $sum)))"#;

/// A folder with guests, and commands that run in it.
struct Place {
    folder: TempDir,
}

#[derive(Debug)]
struct Done {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new(guests: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in guests {
            fs::write(folder.path().join(name), wat::parse_str(text).unwrap()).unwrap();
        }
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, args: &[&str]) -> Command {
        self.prepare(Command::new(PROGRAM), args)
    }

    fn prepare(&self, mut command: Command, args: &[&str]) -> Command {
        command.args(args).current_dir(self.folder.path());
        command.env("POLYCHORD_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/run-cache"));
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env_remove("POLYCHORD_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, engine: &str, args: &[&str]) -> Done {
        Done::of(&mut self.command(&[&["run", "--engine", engine], args].concat()))
    }
}

impl Done {
    fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    fn is(&self, code: i32, stdout: &str) {
        let got = (self.code, &*self.stdout, &*self.stderr);
        assert_eq!(got, (Some(code), stdout, ""));
    }

    /// The error of a command that must have failed: one readable paragraph with these words.
    #[track_caller]
    fn failed(&self, code: i32, words: &[&str]) {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert!(self.stderr.starts_with("error: "), "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?} in: {}", self.stderr);
        }
        for noise in ["panicked", "Error {", "Some(", "\u{1b}"] {
            assert!(!self.stderr.contains(noise), "{noise:?} in: {}", self.stderr);
        }
    }
}

#[test]
fn commands_get_arguments_and_their_exit_code_is_passed_on() {
    let place = Place::new(&[("echo.wasm", ECHO)]);
    for engine in polychord::available() {
        let done = place
            .run(engine, &["echo.wasm", "--env", "A=b=c", "--env", "X=", "--", "-x", "ä b", ""]);
        done.is(4, "A=b=c\nX=\necho.wasm\n-x\nä b\n\n");
        place.run(engine, &["echo.wasm"]).is(1, "echo.wasm\n");
    }
}

#[test]
fn functions_are_called_with_numbers_and_print_theirs() {
    let place = Place::new(&[("library.wasm", LIBRARY)]);
    for engine in polychord::available() {
        let call =
            |args: &[&str]| place.run(engine, &[&["library.wasm", "--invoke"], args].concat());
        call(&["add", "--", "-1", "0x10"]).is(0, "116\n-1\n");
        call(&["half", "--", "5"]).is(0, "2.5\n");
        call(&["add", "--", "1"]).failed(2, &["(i32, i64)", "takes 2 arguments, and 1"]);
        call(&["add", "--", "1", "one"]).failed(2, &["`one` is no i64"]);
        call(&["sub"]).failed(125, &["no exported function sub", "add"]);
        call(&["trap"]).failed(134, &[engine, "trap", "unreachable"]);
        call(&["forever", "--time", "200ms"]).failed(124, &["forever", "200"]);
        place.run(engine, &["library.wasm"]).failed(2, &["no _start", "--invoke", "add, forever"]);
    }
}

#[test]
fn what_is_no_guest_is_named() {
    let place = Place::new(&[("component.wasm", "(component)"), ("echo.wasm", ECHO)]);
    let engine = polychord::default_engine().unwrap();
    fs::write(place.path("text.wat"), format!(";; a comment\n  {ECHO}")).unwrap();
    fs::write(place.path("nothing.wasm"), "").unwrap();
    let whole = fs::read(place.path("echo.wasm")).unwrap();
    fs::write(place.path("part.wasm"), &whole[..whole.len() - 10]).unwrap();
    fs::write(
        place.path("foreign.wasm"),
        wat::parse_str(
            r#"(module (import "wasi_snapshot_preview1" "fd_wrote" (func (param i32)))
                (import "mine" "f" (func)) (func (export "_start")))"#,
        )
        .unwrap(),
    )
    .unwrap();
    for (file, words) in [
        ("text.wat", &["text format", "wat2wasm"][..]),
        ("component.wasm", &["a core module is needed"]),
        ("nothing.wasm", &["not valid"]),
        ("part.wasm", &["not valid"]),
        ("foreign.wasm", &["fd_wrote", "fd_write", "mine.f"]),
        ("absent.wasm", &["absent.wasm", "No such file"]),
        (".", &["directory"]),
    ] {
        place.run(engine, &[file]).failed(125, words);
    }
    let refused = |args: &[&str]| place.run(engine, &[&["echo.wasm"], args].concat());
    refused(&["--dir", "none::/data"]).failed(125, &["none", "/data", "No such file"]);
    refused(&["--dir", "echo.wasm::/data"]).failed(125, &["echo.wasm", "/data"]);
    refused(&["--dir", ".::/a", "--dir", ".::/a"]).failed(125, &["/a", "another directory"]);
    refused(&["--env", "A"]).failed(2, &["NAME=VALUE"]);
    refused(&["--env", "=A"]).failed(125, &["no name"]);
    refused(&["--memory", "1KiB"]).failed(125, &["65536", "1024"]);
}

#[test]
fn reproducible_runs_see_the_same_time_and_random_numbers() {
    let place = Place::new(&[("random.wasm", RANDOM)]);
    let mut seen = Vec::new();
    for engine in polychord::available() {
        for _ in 0..2 {
            let mut command =
                place.command(&["run", "--engine", engine, "random.wasm", "--reproducible"]);
            seen.push(command.output().unwrap().stdout);
        }
    }
    assert_eq!(seen[0].len(), 24);
    assert!(seen.iter().all(|output| *output == seen[0]), "{seen:?}");
    let mut command = place.command(&["run", "random.wasm"]);
    assert_ne!(command.output().unwrap().stdout, seen[0]);
}

#[test]
fn engines_are_compared_on_a_guest() {
    let place =
        Place::new(&[("echo.wasm", ECHO), ("random.wasm", RANDOM), ("library.wasm", LIBRARY)]);
    let count = polychord::available().len();
    for (args, code) in [(&["echo.wasm", "--", "one", "two"][..], 3), (&["random.wasm"], 0)] {
        let args = [&["compare", "--json", "--guest"], args].concat();
        let done = Done::of(&mut place.command(&args));
        assert_eq!((done.code, &*done.stderr), (Some(0), ""), "{}", done.stdout);
        let json: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(json["identical"], true, "{json:#}");
        let runs = json["runs"].as_array().unwrap();
        assert_eq!(runs.len(), count);
        for run in runs {
            assert_eq!(run["run"]["ending"]["exited"], code, "{json:#}");
            assert_eq!(run["run"]["memory_bytes"], 65_536);
        }
    }
    let table = Done::of(&mut place.command(&["compare", "--guest", "echo.wasm", "--", "one"]));
    assert_eq!(table.code, Some(0), "{table:?}");
    assert!(table.stdout.starts_with("echo.wasm\none\n"), "{}", table.stdout);
    assert!(table.stdout.contains(&format!("{count} runs, one result")), "{}", table.stdout);
    // A trap is a result as any other.
    let args = ["compare", "--guest", "library.wasm", "--invoke", "trap"];
    let trapped = Done::of(&mut place.command(&args));
    assert_eq!(trapped.code, Some(0), "{trapped:?}");
    let args = ["compare", "--guest", "absent.wasm"];
    Done::of(&mut place.command(&args)).failed(1, &[&format!("{count} of {count} runs failed")]);
    let args = ["compare", "a prompt", "--guest", "echo.wasm"];
    Done::of(&mut place.command(&args)).failed(2, &["--guest"]);
}

#[test]
fn guests_find_the_weights_of_a_model() {
    let place = Place::new(&[("weights.wasm", WEIGHTS)]);
    let model = Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) });
    let path = model.save(place.folder.path());
    let opened = polychord::model::Model::open(&path).unwrap();
    let file = fs::read(&path).unwrap();
    for engine in polychord::available() {
        for layer in &opened.layers()[..2] {
            let start = usize::try_from(layer.start).unwrap();
            let bytes = &file[start..start + usize::try_from(layer.bytes).unwrap()];
            let sum: u64 = bytes.iter().copied().map(u64::from).sum();
            let [id, len] = [layer.id.0.to_string(), bytes.len().to_string()];
            let args =
                ["weights.wasm", "--model", "model.gguf", "--invoke", "sum", "--", &id, &len];
            place.run(engine, &args).is(0, &format!("{sum}\n"));
        }
    }
}

/// All parts of a split model are there, whichever is named.
#[test]
fn guests_find_the_weights_of_a_model_in_parts() {
    let place = Place::new(&[("weights.wasm", WEIGHTS)]);
    let model = Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) });
    let whole = model.save(place.folder.path());
    let opened = polychord::model::Model::open(&whole).unwrap();
    let file = fs::read(&whole).unwrap();
    let parts = model.save_parts(place.folder.path(), 3);
    let split = polychord::model::Model::open(&parts[0]).unwrap();
    let last = opened.layers().last().unwrap();
    let start = usize::try_from(last.start).unwrap();
    let bytes = &file[start..start + usize::try_from(last.bytes).unwrap()];
    let sum: u64 = bytes.iter().copied().map(u64::from).sum();
    let twin = split.layers().last().unwrap();
    assert_eq!((&twin.name, twin.bytes), (&last.name, last.bytes));
    let [id, len] = [twin.id.0.to_string(), bytes.len().to_string()];
    for engine in polychord::available() {
        for part in &parts {
            let name = part.file_name().unwrap().to_str().unwrap();
            let args = ["weights.wasm", "--model", name, "--invoke", "sum", "--", &id, &len];
            place.run(engine, &args).is(0, &format!("{sum}\n"));
        }
    }
    fs::remove_file(&parts[2]).unwrap();
    let name = parts[0].file_name().unwrap().to_str().unwrap();
    let engine = polychord::default_engine().unwrap();
    place
        .run(engine, &["weights.wasm", "--model", name, "--invoke", "sum", "--", "0", "1"])
        .failed(125, &["part 3 of 3", "missing"]);
}

/// Ctrl-C stops the guest, which the program says, with a time limit and without. A second one ends the
/// program.
#[cfg(unix)]
#[test]
fn ctrl_c_stops_a_guest() {
    use std::io::BufRead as _;

    let place = Place::new(&[("busy.wasm", BUSY)]);
    for engine in polychord::available() {
        for time in [&["--time", "1h"][..], &[]] {
            let args = ["run", "--engine", engine, "busy.wasm"];
            // Where tests run in the background, shells have them ignore the signal.
            let mut program = Command::new("env");
            program.args(["--default-signal=INT", PROGRAM]);
            let mut command = place.prepare(program, &[&args[..], time].concat());
            let mut child = command.spawn().unwrap();
            let mut line = String::new();
            let mut stdout = std::io::BufReader::new(child.stdout.take().unwrap());
            stdout.read_line(&mut line).unwrap();
            assert_eq!(line, "busy\n");
            let id = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(id, rustix::process::Signal::INT).unwrap();
            let output = child.wait_with_output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(130), "{engine}: {said}");
            assert!(said.starts_with("error: ") && said.contains("_start"), "{said}");
            assert!(said.contains("interrupted"), "{said}");
        }
    }
}
