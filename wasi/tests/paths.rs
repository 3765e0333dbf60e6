//! Whatever paths a guest asks for, in whatever order: what is outside of its directory stays as it is, and the guest
//! sees nothing of it.
//!
//! `PROPTEST_CASES` is how many sequences of calls are tried.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::sync::Arc;

use polychord_example_wasmi::WasmiEngine;
use polychord_runtime_api::imports::Imports;
use polychord_runtime_api::{Engine, Instantiation, Limits, Module, Runtime, Value};
use polychord_wasi::{Access, MODULE, Wasi, WasiBuilder, add_to_imports};
use proptest::bool::weighted;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;

/// What the guest may call, with its parameters: `i` for i32 and `l` for i64. All have an errno as result.
const FUNCTIONS: &[(&str, &str)] = &[
    ("fd_close", "i"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
];

/// The content of the file outside, which is as long as no other is.
const SECRET: [u8; 4321] = [0xa5; 4321];
/// A file beside it, which no path names.
const WITNESS: &str = "witness";
/// The directory that the guest is given, and the end of the descriptors that it tries.
const DIRECTORY: i64 = 3;
const MOST: i64 = 9;

// Places in the guest's memory.
const RESULT: i64 = 16;
const VECTOR: i64 = 64;
const FIRST: i64 = 1024;
const SECOND: i64 = 8192;
const BUFFER: i64 = 16_384;
const LONGEST: i64 = 4096;

/// A path from a descriptor.
type Place = (i64, Vec<u8>);

#[derive(Clone, Debug)]
enum Step {
    Open { at: Place, follow: bool, how: i64, rights: i64, flags: i64 },
    OnPath { name: &'static str, at: Place },
    Stat { at: Place, follow: bool },
    Times { at: Place, follow: bool },
    Link { follow: bool, from: Place, to: Place },
    Rename { from: Place, to: Place },
    Symlink { text: Vec<u8>, at: Place },
    ReadLink(Place),
    Read(i64),
    Write(i64),
    List(i64),
    Close(i64),
}

/// Paths of parts that are there, that lead out, and that are strange.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let usual = ["a", "d", "d/a", "empty", "new"].map(|name| name.as_bytes().to_vec());
    let out = ["..", "up", "d/up", "absolute", "loop", "outside", "secret", "inside", ".", ""];
    let strange = [b"x\0y".to_vec(), b"c:\\".to_vec(), b"\xff\xfe".to_vec(), vec![b'n'; 300]];
    let out = out.map(|name| name.as_bytes().to_vec());
    let part = prop_oneof![
        2 => select(usual.to_vec()),
        4 => select(out.to_vec()),
        1 => select(strange.to_vec()),
    ];
    let path = (weighted(0.1), vec(part, 0..5), weighted(0.2));
    let path = path.prop_map(|(root, parts, end)| {
        let mut path = if root { b"/".to_vec() } else { Vec::new() };
        path.extend(parts.join(&b'/'));
        path.extend(end.then_some(b'/'));
        path
    });
    prop_oneof![6 => select(usual.to_vec()), 8 => path, 1 => vec(any::<u8>(), 0..40)]
}

fn step() -> impl Strategy<Value = Step> {
    let directory = || prop_oneof![3 => Just(DIRECTORY), 1 => DIRECTORY..MOST];
    let place = move || (directory(), path());
    let follow = any::<bool>;
    let (read, write) = (1_i64 << 1, 1_i64 << 6);
    let rights = select(vec![0, read, read, write, read | write, -1]);
    let flags = || prop_oneof![3 => Just(0), 1 => 0..32_i64];
    let names = vec!["path_create_directory", "path_remove_directory", "path_unlink_file"];
    prop_oneof![
        4 => (place(), follow(), prop_oneof![Just(0), Just(1), 0..16_i64], rights, flags()).prop_map(
            |(at, follow, how, rights, flags)| Step::Open { at, follow, how, rights, flags }
        ),
        3 => (select(names), place()).prop_map(|(name, at)| Step::OnPath { name, at }),
        1 => (place(), follow()).prop_map(|(at, follow)| Step::Stat { at, follow }),
        1 => (place(), follow()).prop_map(|(at, follow)| Step::Times { at, follow }),
        2 => (follow(), place(), place())
            .prop_map(|(follow, from, to)| Step::Link { follow, from, to }),
        2 => (place(), place()).prop_map(|(from, to)| Step::Rename { from, to }),
        2 => (path(), place()).prop_map(|(text, at)| Step::Symlink { text, at }),
        1 => place().prop_map(Step::ReadLink),
        2 => (0..MOST).prop_map(Step::Read),
        2 => (0..MOST).prop_map(Step::Write),
        1 => (DIRECTORY..MOST).prop_map(Step::List),
        1 => (0..MOST).prop_map(Step::Close),
    ]
}

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|it| it.parse().ok()).unwrap_or(1000)
}

#[test]
fn no_path_leads_out() {
    let config =
        ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases()) };
    let done = RefCell::new(BTreeSet::new());
    let run = |(steps, writes): (Vec<Step>, bool)| {
        let folder = tempfile::tempdir().unwrap();
        let (root, inside) = (folder.path(), folder.path().join("inside"));
        lay_out(root);
        let (before, within) = (tree(root, "inside"), tree(&inside, ""));
        let access = if writes { Access::ReadWrite } else { Access::ReadOnly };
        let mut guest = Guest::start(&inside, access);
        for step in &steps {
            guest.take(step);
        }
        prop_assert_eq!(tree(root, "inside"), before);
        if !writes {
            prop_assert_eq!(tree(&inside, ""), within);
        }
        done.borrow_mut().append(&mut guest.done);
        Ok(())
    };
    TestRunner::new(config).run(&(vec(step(), 1..24), any::<bool>()), run).unwrap();
    // What is always refused would show nothing.
    let all: BTreeSet<_> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    assert_eq!(done.into_inner(), all);
}

/// A directory for the guest, with links that lead out of it, beside files that it must not reach.
fn lay_out(root: &Path) {
    let (inside, outside) = (root.join("inside"), root.join("outside"));
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), SECRET).unwrap();
    fs::write(outside.join(WITNESS), SECRET).unwrap();
    fs::create_dir_all(inside.join("d")).unwrap();
    fs::create_dir(inside.join("empty")).unwrap();
    fs::write(inside.join("a"), "a").unwrap();
    fs::write(inside.join("d/a"), "b").unwrap();
    symlink("..", inside.join("up")).unwrap();
    symlink("../../outside", inside.join("d/up")).unwrap();
    symlink(outside.join("secret"), inside.join("absolute")).unwrap();
    symlink("loop", inside.join("loop")).unwrap();
}

/// All that is below a folder but for one entry: names, modes, links, times of change and contents.
fn tree(root: &Path, but: &str) -> Vec<String> {
    let mut all = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path == root.join(but) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let (mode, links) = (meta.mode(), meta.nlink());
            let time = (meta.mtime(), meta.mtime_nsec());
            all.push(format!("{path:?} {mode:o} {links} {time:?} {content:?}"));
            if meta.is_dir() {
                folders.push(path);
            }
        }
    }
    all.sort();
    all
}

struct Guest {
    runtime: Box<dyn Runtime>,
    /// The functions that had success.
    done: BTreeSet<&'static str>,
}

impl Guest {
    fn start(folder: &Path, access: Access) -> Self {
        thread_local! {
            static PROBE: Arc<dyn Module> = WasmiEngine::new().unwrap().compile(&probe()).unwrap();
        }
        let mut imports = Imports::new();
        add_to_imports::<Wasi>(&mut imports).unwrap();
        let wasi = WasiBuilder::new().directory(folder, "/data", access).build().unwrap();
        let limits = Limits::default();
        let start = Instantiation::new(&limits).imports(&imports).state(wasi);
        let runtime = PROBE.with(|module| module.instantiate_with(start)).unwrap();
        Self { runtime, done: BTreeSet::new() }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Open { at: (fd, path), follow, how, rights, flags } => {
                let len = self.put(FIRST, path);
                let args =
                    [*fd, (*follow).into(), FIRST, len, *how, *rights, *rights, *flags, RESULT];
                self.call("path_open", &args);
            }
            Step::OnPath { name, at: (fd, path) } => {
                let len = self.put(FIRST, path);
                self.call(name, &[*fd, FIRST, len]);
            }
            Step::Stat { at: (fd, path), follow } => {
                let len = self.put(FIRST, path);
                if self.call("path_filestat_get", &[*fd, (*follow).into(), FIRST, len, BUFFER]) == 0
                {
                    let size = self.get(BUFFER + 32, 8);
                    assert_ne!(size, (SECRET.len() as u64).to_le_bytes(), "{step:?}");
                }
            }
            Step::Times { at: (fd, path), follow } => {
                let len = self.put(FIRST, path);
                let args = [*fd, (*follow).into(), FIRST, len, 1, 1, 5];
                self.call("path_filestat_set_times", &args);
            }
            Step::Link { follow, from, to } => {
                let lens = [self.put(FIRST, &from.1), self.put(SECOND, &to.1)];
                let args = [from.0, (*follow).into(), FIRST, lens[0], to.0, SECOND, lens[1]];
                self.call("path_link", &args);
            }
            Step::Rename { from, to } => {
                let lens = [self.put(FIRST, &from.1), self.put(SECOND, &to.1)];
                self.call("path_rename", &[from.0, FIRST, lens[0], to.0, SECOND, lens[1]]);
            }
            Step::Symlink { text, at: (fd, path) } => {
                let lens = [self.put(FIRST, text), self.put(SECOND, path)];
                self.call("path_symlink", &[FIRST, lens[0], *fd, SECOND, lens[1]]);
            }
            Step::ReadLink((fd, path)) => {
                let len = self.put(FIRST, path);
                self.call("path_readlink", &[*fd, FIRST, len, BUFFER, LONGEST, RESULT]);
            }
            Step::Read(fd) => self.read(*fd),
            Step::Write(fd) => {
                self.buffer();
                self.call("fd_write", &[*fd, VECTOR, 1, RESULT]);
            }
            Step::List(fd) => self.list(*fd),
            Step::Close(fd) => _ = self.call("fd_close", &[*fd]),
        }
    }

    fn read(&mut self, fd: i64) {
        self.buffer();
        if self.call("fd_read", &[fd, VECTOR, 1, RESULT]) == 0 {
            assert_ne!(self.get(BUFFER, 8), SECRET[..8], "the guest reads what is outside");
        }
    }

    fn list(&mut self, fd: i64) {
        if self.call("fd_readdir", &[fd, BUFFER, LONGEST, 0, RESULT]) == 0 {
            let used = u32::from_le_bytes(self.get(RESULT, 4).try_into().unwrap());
            let listed = self.get(BUFFER, used as usize);
            let outside = listed.windows(WITNESS.len()).any(|name| name == WITNESS.as_bytes());
            assert!(!outside, "the guest lists what is outside");
        }
    }

    /// Calls a function: its errno. No call traps.
    fn call(&mut self, name: &str, args: &[i64]) -> i32 {
        let (name, params) = *FUNCTIONS.iter().find(|(function, _)| *function == name).unwrap();
        let value = |(ty, arg): (u8, &i64)| match ty {
            b'l' => Value::I64(*arg),
            _ => Value::I32(i32::try_from(*arg).unwrap()),
        };
        let args: Vec<_> = params.bytes().zip(args).map(value).collect();
        let result = self.runtime.call(name, &args);
        let result = result.unwrap_or_else(|error| panic!("{name} {args:?}: {error}"));
        let errno = result[0].as_i32().unwrap();
        if errno == 0 {
            self.done.insert(name);
        }
        errno
    }

    /// Puts bytes into the guest's memory: how many.
    fn put(&mut self, at: i64, bytes: &[u8]) -> i64 {
        let start = usize::try_from(at).unwrap();
        self.runtime.memory_mut()[start..start + bytes.len()].copy_from_slice(bytes);
        i64::try_from(bytes.len()).unwrap()
    }

    fn get(&self, at: i64, len: usize) -> Vec<u8> {
        self.runtime.memory()[usize::try_from(at).unwrap()..][..len].to_vec()
    }

    /// A list of one buffer, of 64 bytes that are zeros.
    fn buffer(&mut self) {
        let at = i32::try_from(BUFFER).unwrap();
        self.put(VECTOR, &[at.to_le_bytes(), 64_i32.to_le_bytes()].concat());
        self.put(BUFFER, &[0; 64]);
    }
}

/// A guest whose exports are the functions that it imports.
fn probe() -> Vec<u8> {
    let (mut imports, mut exports) = (String::new(), String::new());
    for (name, params) in FUNCTIONS {
        let types: Vec<_> =
            params.bytes().map(|ty| if ty == b'l' { "i64" } else { "i32" }).collect();
        let params = format!("(param {})", types.join(" "));
        let args: Vec<_> = (0..types.len()).map(|index| format!("(local.get {index})")).collect();
        imports +=
            &format!("(import \"{MODULE}\" \"{name}\" (func ${name} {params} (result i32)))");
        exports += &format!(
            "(func (export \"{name}\") {params} (result i32) (call ${name} {}))",
            args.join(" ")
        );
    }
    let text = format!("(module {imports} (memory (export \"memory\") 2 2) {exports})");
    wat::parse_str(text).unwrap()
}
