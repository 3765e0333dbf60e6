//! Compiled guests that are kept for the next process, on every engine that compiles.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use polychord::api::{Engine, Error, Limits, Value};
use polychord::code_cache::CodeCache;
use polychord::{EngineOptions, OpenError};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tempfile::TempDir;

use common::{each_engine, test_name};

fn open(name: &str, folder: &Path) -> Result<Arc<dyn Engine>, OpenError> {
    let options = match CodeCache::open(folder) {
        Ok(cache) => EngineOptions::new().with_cache(cache),
        Err(_) => EngineOptions::new(),
    };
    polychord::entry(name)?.open(&options)
}

fn answer(engine: &Arc<dyn Engine>, number: i32) -> Result<i32, Error> {
    let wat = format!(r#"(module (func (export "answer") (result i32) (i32.const {number})))"#);
    let module = engine.compile(&wat::parse_str(wat).unwrap())?;
    let mut guest = module.instantiate(&Limits::default())?;
    match guest.call("answer", &[])?[..] {
        [Value::I32(answer)] => Ok(answer),
        ref other => panic!("{other:?}"),
    }
}

/// Files of compiled code, the names of which are in order.
fn kept(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = entries.filter(|path| path.extension().is_some()).collect();
    files.sort();
    files
}

/// The code of `file`, under the name and with the hash of another.
fn forge(file: &Path, other: &Path) -> Vec<u8> {
    const END: usize = 32 + 16;
    let bytes = fs::read(file).unwrap();
    let (code, end) = bytes.split_at(bytes.len() - END);
    let digits = other.file_stem().unwrap().to_str().unwrap();
    let key = (0..32).map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap());
    let seal = Sha256::new().chain_update(key.collect::<Vec<_>>()).chain_update(code).finalize();
    [code, &seal, &end[32..]].concat()
}

#[test]
fn what_is_kept_is_what_runs() {
    each_engine(test_name!(), |engine| {
        let name = engine.capabilities().engine;
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("code");
        let run = |number| answer(&open(name, &folder).unwrap(), number).unwrap();
        assert_eq!(run(42), 42);
        let first = kept(&folder).pop().unwrap();
        assert_eq!(run(13), 13);
        let files = kept(&folder);
        assert_eq!(files.len(), 2);
        // That code is looked for at all can only be seen by code that does something else.
        let second = files.iter().find(|file| **file != first).unwrap();
        let good = fs::read(&first).unwrap();
        fs::write(&first, forge(second, &first)).unwrap();
        assert_eq!(run(42), 13);
        // What was not made for this module is compiled again, and so is what is damaged.
        for bytes in [fs::read(second).unwrap(), good[..good.len() - 1].to_vec(), Vec::new()] {
            fs::write(&first, bytes).unwrap();
            assert_eq!(run(42), 42);
            assert_eq!(fs::read(&first).unwrap().len(), good.len());
        }
    });
}

/// A guest that can be stopped is another module, with code of its own.
#[test]
fn guests_with_limits_are_kept_apart() {
    each_engine(test_name!(), |engine| {
        let name = engine.capabilities().engine;
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("code");
        let wat = r#"(module (func (export "spin") (loop (br 0))))"#;
        for _ in 0..2 {
            let module =
                open(name, &folder).unwrap().compile(&wat::parse_str(wat).unwrap()).unwrap();
            let limits = Limits::default().call_time(std::time::Duration::from_millis(50));
            let error = module.instantiate(&limits).unwrap().call("spin", &[]).unwrap_err();
            assert!(error.to_string().contains("time limit"), "{error}");
            assert_eq!(kept(&folder).len(), 2);
        }
    });
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_can_change_gives_no_code() {
    use std::os::unix::fs::PermissionsExt as _;

    each_engine(test_name!(), |engine| {
        let name = engine.capabilities().engine;
        let dir = TempDir::new().unwrap();
        let folder = dir.path().join("code");
        let opened = open(name, &folder).unwrap();
        assert_eq!(answer(&opened, 42).unwrap(), 42);
        assert_eq!(answer(&opened, 13).unwrap(), 13);
        let files = kept(&folder);
        for (file, other) in [(&files[0], &files[1]), (&files[1], &files[0])] {
            let forged = forge(other, file);
            fs::write(file.with_extension("forged"), forged).unwrap();
        }
        for file in &files {
            fs::rename(file.with_extension("forged"), file).unwrap();
        }
        assert_eq!(answer(&opened, 42).unwrap(), 13);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        // Refused, or compiled without it.
        match answer(&opened, 42) {
            Ok(answer) => assert_eq!(answer, 42),
            Err(error) => assert!(error.to_string().contains("chmod go-w"), "{error}"),
        }
    });
}
