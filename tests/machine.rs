//! Machines that have little or give nothing, and files that are none: the right answer, or an error that says
//! what is missing.
#![cfg(all(feature = "cli", target_os = "linux"))]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use polychord::model::gguf::GgmlType;
use rustix::fs::{CWD, FileType, Mode, mknodat};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use common::llama::{Llama, Shape};
use common::skip;

const PROGRAM: &str = env!("CARGO_BIN_EXE_polychord");

/// Longest time of a run on a busy machine, compilers included.
const PATIENCE: Duration = Duration::from_secs(150);

/// What is generated everywhere here.
const PROMPT: [&str; 5] = ["--prompt-ids", "1,5,9,2", "-n", "6", "--json"];

struct Place {
    folder: TempDir,
}

#[derive(Debug)]
struct Done {
    /// None by a signal.
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Llama::random(Shape { context: 64, ..Shape::of(GgmlType::Q8_0) }).save(folder.path());
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A program before this one (`sh -c ...`), and its arguments.
    fn command(&self, before: &[&str], args: &[&str]) -> Command {
        let all = [before, &[PROGRAM], args].concat();
        let mut command = Command::new(all[0]);
        command.args(&all[1..]).current_dir(self.folder.path());
        command.env("POLYCHORD_CACHE", concat!(env!("CARGO_TARGET_TMPDIR"), "/cli-cache"));
        command.env("HF_ENDPOINT", "http://127.0.0.1:9").env("RUST_BACKTRACE", "0");
        command.env_remove("POLYCHORD_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn run(&self, before: &[&str], args: &[&str]) -> Done {
        Done::of(self.command(before, args).spawn().unwrap())
    }

    /// Runs what generates with the model of this place.
    fn generate(&self, before: &[&str], args: &[&str]) -> Done {
        self.run(before, &[&["generate", "--model", "model.gguf"], &PROMPT[..], args].concat())
    }
}

impl Done {
    /// Waits, but not for ever.
    #[track_caller]
    fn of(mut child: Child) -> Self {
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > PATIENCE {
                child.kill().unwrap();
                panic!("it does not end");
            }
            thread::sleep(Duration::from_millis(2));
        }
        let output = child.wait_with_output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Self {
            code: output.status.code(),
            stdout: text(output.stdout),
            stderr: text(output.stderr),
        }
    }

    #[track_caller]
    fn answer(&self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        let json: Value = serde_json::from_str(&self.stdout).unwrap();
        format!("{} {}", json["ids"], json["logits_sha256"])
    }

    /// One paragraph that has these words.
    #[track_caller]
    fn error(&self, words: &[&str]) {
        assert!(matches!(self.code, Some(1 | 125)), "{self:?}");
        // Engines give up in their own code, which Rust tells, too.
        let is_engines = self.stderr.contains("which is a defect of");
        let last = self.stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("error: "), "{self:?}");
        assert!(is_engines || self.stderr.lines().count() == 1, "{self:?}");
        for word in words {
            assert!(self.stderr.contains(word), "no {word:?}: {self:?}");
        }
    }

    /// The right answer, or an error that has one of these words.
    #[track_caller]
    fn answer_or_error(&self, expected: &str, words: &[&str]) -> bool {
        if self.code == Some(0) {
            assert_eq!(self.answer(), expected, "{self:?}");
            return true;
        }
        self.error(&[]);
        assert!(words.iter().any(|word| self.stderr.contains(word)), "{self:?}");
        false
    }
}

/// Runs a script in a mount namespace of its own, then the program.
fn mounted(script: &str) -> Vec<String> {
    let script = format!("{script} && exec \"$@\"");
    ["unshare", "--mount", "--propagation", "private", "sh", "-c", &script, "sh"]
        .map(str::to_owned)
        .to_vec()
}

fn borrowed(words: &[String]) -> Vec<&str> {
    words.iter().map(String::as_str).collect()
}

fn may_mount() -> bool {
    let tried = Command::new("unshare").args(["--mount", "true"]).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

#[test]
fn few_descriptors() {
    let place = Place::new();
    for engine in polychord::available() {
        let expected = place.generate(&[], &["--engine", engine]).answer();
        let mut worked = Vec::new();
        for most in [4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 32] {
            let limit = format!("ulimit -n {most} && exec \"$@\"");
            let done = place.generate(&["sh", "-c", &limit, "sh"], &["--engine", engine]);
            worked.push((
                most,
                done.answer_or_error(&expected, &["Too many open files", "os error 24", "memfd"]),
            ));
        }
        assert!(worked.last().unwrap().1, "{engine}: {worked:?}");
    }
}

/// A user who may have no more threads.
#[test]
fn few_threads() {
    let place = Place::new();
    let user = ["setpriv", "--reuid", "54321", "--regid", "54321", "--clear-groups"];
    let reader = ["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"];
    let who = [&user[..], &reader].concat();
    if place.run(&who, &["--version"]).code != Some(0) {
        return skip("a limit of threads: it takes root, and setpriv");
    }
    for engine in polychord::available() {
        let expected = place.generate(&[], &["--engine", engine]).answer();
        for ranks in ["1", "2"] {
            let limited = [&["bash", "-c", "ulimit -u 1 && exec \"$@\"", "sh"][..], &who].concat();
            let done = place.generate(&limited, &["--engine", engine, "--ranks", ranks]);
            // WasmEdge needs a cache, and takes none of another user.
            let words = ["thread", "Resource temporarily unavailable", "belongs to user 0"];
            done.answer_or_error(&expected, &words);
        }
    }
}

/// Processes that may use little address space say so, or compute the same.
#[test]
fn little_address_space() {
    let place = Place::new();
    for engine in polychord::available() {
        let expected = place.generate(&[], &["--engine", engine]).answer();
        for mebibytes in [200, 300, 500, 1_000, 2_000, 4_000, 6_000, 16_000] {
            let limit = format!("ulimit -v {} && exec \"$@\"", mebibytes << 10);
            let done = place.generate(&["sh", "-c", &limit, "sh"], &["--engine", engine]);
            if mebibytes == 200 && done.code == Some(127) {
                // The loader of the system does not find room for the program itself.
                continue;
            }
            done.answer_or_error(&expected, &["allocate", "address space", "memory", "ulimit"]);
        }
    }
}

/// A control group with little memory: the kernel may end a process, and no answer is another one.
#[test]
fn little_memory_in_a_control_group() {
    let Some(group) = Group::new() else {
        return skip(
            "control groups cannot be made here: it takes root, and a memory controller that may be written",
        );
    };
    let place = Place::new();
    for engine in polychord::available() {
        let expected = place.generate(&[], &["--engine", engine]).answer();
        let mut worked = Vec::new();
        for mebibytes in [16, 32, 64, 128, 256] {
            group.limit(mebibytes << 20);
            let join = format!("echo $$ > {} && exec \"$@\"", group.processes().display());
            let done = place.generate(&["sh", "-c", &join, "sh"], &["--engine", engine]);
            // Ended by the kernel, without a word.
            let is_killed = done.code.is_none() && done.stderr.is_empty();
            let works = !is_killed
                && done.answer_or_error(&expected, &["allocate", "memory", "killed", "signal"]);
            worked.push((mebibytes, works));
        }
        println!("{engine}: {worked:?}");
        assert!(
            worked.iter().all(|(mebibytes, works)| *works || *mebibytes < 64),
            "{engine}: {worked:?}"
        );
        assert_eq!(place.generate(&[], &["--engine", engine]).answer(), expected);
    }
}

/// A group of the memory controller, of either version.
struct Group {
    folder: PathBuf,
    limit: &'static str,
}

impl Group {
    fn new() -> Option<Self> {
        for (root, limit) in
            [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")]
        {
            let folder = Path::new(root).join(format!("polychord-test-{}", std::process::id()));
            if fs::create_dir(&folder).is_ok() {
                let group = Self { folder, limit };
                if fs::write(group.folder.join(limit), "268435456").is_ok() {
                    return Some(group);
                }
            }
        }
        None
    }

    fn limit(&self, bytes: u64) {
        fs::write(self.folder.join(self.limit), bytes.to_string()).unwrap();
    }

    fn processes(&self) -> PathBuf {
        self.folder.join("cgroup.procs")
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Processes leave it a moment after they have ended.
        for _ in 0..100 {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A disk that is full, or read only: what is written says so, and what only reads works.
#[test]
fn disks_that_take_nothing() {
    if !may_mount() {
        return skip("disks that are full or read only: it takes root, and unshare");
    }
    let place = Place::new();
    fs::create_dir(place.path("disk")).unwrap();
    let disk = place.path("disk").display().to_string();
    let full = mounted(&format!(
        "mount -t tmpfs -o size=16k none {disk} && dd if=/dev/zero of={disk}/all bs=4k 2>/dev/null; true"
    ));
    let read_only = mounted(&format!("mount -t tmpfs -o ro none {disk}"));
    for (mount, reason) in [(&full, "No space left"), (&read_only, "Read-only file system")] {
        let mount = borrowed(mount);
        let expected = place.generate(&[], &[]).answer();
        for args in [["--save", "disk/state"], ["--receipt", "disk/receipt"]] {
            place.generate(&mount, &args).error(&["disk/", reason]);
        }
        // Compiled code is kept nowhere, then.
        for engine in polychord::available() {
            let mut command = place.command(
                &mount,
                &[&["generate", "--model", "model.gguf"], &PROMPT[..], &["--engine", engine]]
                    .concat(),
            );
            command.env("POLYCHORD_CACHE", &disk);
            let done = Done::of(command.spawn().unwrap());
            let is_answered = done.answer_or_error(&expected, &[reason]);
            // It loads compiled code from files alone.
            assert!(is_answered || engine == "wasmedge", "{done:?}");
        }
    }
}

/// Calls of the system are interrupted all the time, and the process is stopped and goes on.
#[test]
fn a_storm_of_signals() {
    let place = Place::new();
    for engine in polychord::available() {
        for way in
            [&["--ranks", "2"][..], &["--load", "copy", "--ranks", "1"], &["--save", "state"]]
        {
            let args = [&["--engine", engine], way].concat();
            let expected = place.generate(&[], &args).answer();
            let all = [&["generate", "--model", "model.gguf"], &PROMPT[..], &args].concat();
            // Those that end a process are ignored, as a program may have them for its children.
            let ignoring = ["sh", "-c", "trap '' USR1 USR2 ALRM HUP && exec \"$@\"", "sh"];
            let mut child = place.command(&ignoring, &all).spawn().unwrap();
            // The shell ignores them from here on.
            thread::sleep(Duration::from_millis(30));
            let process = Pid::from_child(&child);
            let mut sent = 0;
            while child.try_wait().unwrap().is_none() && sent < 200_000 {
                for signal in [
                    Signal::WINCH,
                    Signal::CHILD,
                    Signal::URG,
                    Signal::STOP,
                    Signal::CONT,
                    Signal::USR1,
                    Signal::ALARM,
                ] {
                    // It may have ended.
                    _ = kill_process(process, signal);
                    sent += 1;
                }
                thread::sleep(Duration::from_micros(500));
            }
            assert!(sent > 0);
            assert_eq!(Done::of(child).answer(), expected, "{args:?}");
        }
    }
}

/// What is no file is not waited for, and not read without end.
#[test]
fn models_that_are_no_files() {
    let place = Place::new();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, place.path("pipe"), FileType::Fifo, mode, 0).unwrap();
    std::os::unix::fs::symlink("loop", place.path("loop")).unwrap();
    for (path, word) in [
        ("pipe", "pipe"),
        ("/dev/zero", "/dev/zero"),
        ("/dev/null", "/dev/null"),
        (".", "directory"),
        ("loop", "loop"),
    ] {
        for command in [
            &["generate", "a", "--model", path][..],
            &["inspect", path],
            &["plan", path],
            &["run", path],
            &["verify", path, "--model", path],
        ] {
            if command[0] == "verify" && path == "pipe" {
                // A receipt may come by a pipe.
                continue;
            }
            place.run(&[], command).error(&[word]);
        }
    }
    for path in ["/dev/zero", "/dev/null", "."] {
        place.generate(&[], &["--resume", path]).error(&[path]);
        place.generate(&[], &["--plan", path]).error(&[path]);
    }
}

/// A file system that takes its time, or fails.
#[test]
fn a_slow_file_system() {
    let place = Place::new();
    fs::create_dir(place.path("slow")).unwrap();
    let served = |seconds: &str, fail_after: Option<&str>, args: &[&str]| -> Option<Done> {
        let script = "python3 \"$1\" slow model.gguf \"$2\" $3 & server=$!; read -r _ < ready; shift 3; \"$@\"; code=$?; kill $server; exit $code";
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/fuse.py");
        // One that reads from a pipe waits until the file system is there.
        let script = script.replace("& server", "> ready & server");
        let setup = format!("rm -f ready; mkfifo ready; {script}");
        let before = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "bash",
            "-c",
            &setup,
            "sh",
            source,
            seconds,
            fail_after.unwrap_or(""),
        ];
        let done = place.run(&before, args);
        (!done.stderr.contains("cannot mount") && !done.stderr.contains("unshare")).then_some(done)
    };
    for engine in polychord::available() {
        let expected = place.generate(&[], &["--engine", engine]).answer();
        for load in ["map", "copy"] {
            let all = [
                &["generate", "--model", "slow/model.gguf"],
                &PROMPT[..],
                &["--engine", engine, "--load", load],
            ]
            .concat();
            let Some(done) = served("0.02", None, &all) else {
                return skip("a slow file system: it takes root, FUSE and Python");
            };
            assert_eq!(done.answer(), expected, "{engine}, {load}");
            // From the first read on, or in the middle of weights.
            for reads in ["0", "1", "2", "3"] {
                let done = served("0", Some(reads), &all).unwrap();
                done.answer_or_error(&expected, &["slow/model.gguf"]);
            }
        }
    }
}
