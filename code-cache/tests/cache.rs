//! What is kept, what is refused, and what makes room.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use polychord_code_cache::{CodeCache, Key};
use tempfile::TempDir;

fn key(module: &str) -> Key {
    Key::new("test", "1", b"", module.as_bytes())
}

fn cache(dir: &TempDir) -> CodeCache {
    CodeCache::open(dir.path().join("code")).unwrap()
}

fn files(cache: &CodeCache) -> Vec<PathBuf> {
    let entries = fs::read_dir(cache.path()).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn age(file: &Path, seconds: u64) {
    let file = fs::File::options().write(true).open(file).unwrap();
    file.set_modified(SystemTime::now() - Duration::from_secs(seconds)).unwrap();
}

#[test]
fn code_is_found_by_its_key_alone() {
    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    cache.keep(&key("a"), b"code of a").unwrap();
    assert_eq!(cache.find(&key("a")).unwrap().unwrap(), b"code of a");
    assert_eq!(cache.find(&key("b")).unwrap(), None);
    // Another process of the same user finds it, too.
    let again = CodeCache::open(cache.path()).unwrap();
    assert_eq!(again.find(&key("a")).unwrap().unwrap(), b"code of a");
    assert_eq!(again.within("more").unwrap().find(&key("a")).unwrap(), None);
}

#[test]
fn damaged_code_is_compiled_again() {
    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    cache.keep(&key("a"), b"code of a").unwrap();
    let file = files(&cache).pop().unwrap();
    let mut bytes = fs::read(&file).unwrap();
    bytes[0] ^= 1;
    fs::write(&file, bytes).unwrap();
    assert_eq!(cache.find(&key("a")).unwrap(), None);
    let load = |code: &[u8]| Ok::<_, String>(code.to_vec());
    assert_eq!(cache.load(&key("a"), || Ok(b"new".to_vec()), load).unwrap(), b"new");
    assert_eq!(cache.find(&key("a")).unwrap().unwrap(), b"new");
}

#[test]
fn code_is_compiled_once() {
    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    let mut compiled = 0;
    for _ in 0..3 {
        let compile = || {
            compiled += 1;
            Ok::<_, String>(b"code".to_vec())
        };
        assert_eq!(cache.load(&key("a"), compile, |code| Ok(code.len())).unwrap(), 4);
    }
    assert_eq!(compiled, 1);
    // The compiler's errors are the caller's.
    let refused = cache.load(&key("b"), || Err("no".to_owned()), |_| Ok(()));
    assert_eq!(refused.unwrap_err(), "no");
}

#[test]
fn code_that_an_engine_refuses_is_replaced() {
    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    cache.keep(&key("a"), b"old").unwrap();
    let load = |code: &[u8]| if code == b"old" { Err("old".to_owned()) } else { Ok(code.len()) };
    assert_eq!(cache.load(&key("a"), || Ok(b"newer".to_vec()), load).unwrap(), 5);
    assert_eq!(cache.find(&key("a")).unwrap().unwrap(), b"newer");
}

#[cfg(unix)]
#[test]
fn a_folder_that_others_can_change_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;

    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    cache.keep(&key("a"), b"code").unwrap();
    let chmod = |mode| {
        fs::set_permissions(cache.path(), fs::Permissions::from_mode(mode)).unwrap();
    };
    chmod(0o777);
    assert!(cache.find(&key("a")).is_err());
    assert!(cache.keep(&key("a"), b"code").is_err());
    assert!(CodeCache::open(cache.path()).is_err());
    // Who does not need it compiles.
    let load = |code: &[u8]| Ok::<_, String>(code.to_vec());
    assert_eq!(cache.load(&key("a"), || Ok(b"other".to_vec()), load).unwrap(), b"other");
    chmod(0o700);
    assert_eq!(cache.find(&key("a")).unwrap().unwrap(), b"code");
    let file = files(&cache).pop().unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let error = cache.find(&key("a")).unwrap_err().to_string();
    assert!(error.contains("0666"), "{error}");
}

#[test]
fn what_was_not_used_for_the_longest_time_makes_room() {
    let dir = TempDir::new().unwrap();
    // Each file has 48 bytes more than its code.
    let cache = cache(&dir).max_bytes(3 * 148);
    let code = [7; 100];
    for (module, seconds) in [("a", 300), ("b", 200), ("c", 100)] {
        let before = files(&cache);
        cache.keep(&key(module), &code).unwrap();
        let new = files(&cache).into_iter().find(|file| !before.contains(file)).unwrap();
        age(&new, seconds);
    }
    // Used again, so that `b` is the oldest.
    assert!(cache.find(&key("a")).unwrap().is_some());
    cache.keep(&key("d"), &code).unwrap();
    let is_there = |module| cache.find(&key(module)).unwrap().is_some();
    assert_eq!(["a", "b", "c", "d"].map(is_there), [true, false, true, true]);
    // What is larger than all is not kept, and costs nothing else.
    cache.keep(&key("e"), &[0; 1000]).unwrap();
    assert_eq!(["a", "b", "c", "d", "e"].map(is_there), [true, false, true, true, false]);
}

#[test]
fn what_a_killed_process_left_is_removed() {
    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    let [old, new, other] = [".part-1-2-3", ".part-4-5-6", "notes"].map(|it| cache.path().join(it));
    for file in [&old, &new, &other] {
        fs::write(file, b"half of it").unwrap();
    }
    age(&old, 7200);
    age(&other, 7200);
    cache.keep(&key("a"), b"code").unwrap();
    assert_eq!([old, new, other].map(|file| file.exists()), [false, true, true]);
}

/// A writer holds a lock on its file until it ends.
#[test]
#[cfg(unix)]
fn what_no_process_writes_any_more_is_removed_soon() {
    let dir = TempDir::new().unwrap();
    let cache = cache(&dir);
    let [left, written] = [".part-1-2-3", ".part-4-5-6"].map(|it| cache.path().join(it));
    for file in [&left, &written] {
        fs::write(file, b"half of it").unwrap();
        age(file, 60);
    }
    let writer = fs::File::open(&written).unwrap();
    writer.lock().unwrap();
    cache.keep(&key("a"), b"code").unwrap();
    assert_eq!([&left, &written].map(|file| file.exists()), [false, true]);
    drop(writer);
    cache.keep(&key("b"), b"code").unwrap();
    assert!(!written.exists());
}
