//! Other users, and the folder that keeps compiled guests.

use std::os::unix::fs::{chown, lchown};
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Stdio};

use sha2::{Digest as _, Sha256};

use super::*;

/// Another user, who need not have a name.
const STRANGER: u32 = 12_345;

/// Root can give files away, and so can test what other users could do.
fn is_root(test: &str) -> bool {
    let is_root = rustix::process::geteuid().is_root();
    if !is_root {
        eprintln!("SKIPPED {test}: only root can act as another user");
    }
    is_root
}

/// An error that names a folder, its owner or mode, and what to do.
#[track_caller]
fn refused(folder: &Path, parts: &[&str]) {
    let opened = WasmEdgeEngine::with_config(config(folder));
    let error = opened.and_then(|engine| answer(&engine)).unwrap_err();
    assert!(matches!(error, Error::Compile { .. }), "{error:?}");
    let message = error.to_string();
    for part in parts.iter().chain(&["native code", "POLYCHORD_CACHE"]) {
        assert!(message.contains(part), "no {part} in: {message}");
    }
}

pub(super) fn folders_of_others_are_refused() {
    let dir = TempDir::new().unwrap();
    let above = dir.path().join("above");
    let folder = above.join("between/aot");
    let opened = engine(&folder);
    assert_eq!(answer(&opened).unwrap(), 42);
    let path = above.to_str().unwrap();
    for (mode, how) in [
        (0o775, "chmod g-w"),
        (0o770, "chmod g-w"),
        (0o720, "chmod g-w"),
        (0o757, "chmod o-w"),
        (0o2775, "chmod g-w"),
        (0o777, "chmod go-w"),
    ] {
        chmod(&above, mode);
        refused(&folder, &[path, &format!("{mode:04o}"), how]);
        // An engine that was opened before looks again, too.
        assert!(answer(&opened).is_err());
    }
    for mode in [0o755, 0o700, 0o1777, 0o1770] {
        chmod(&above, mode);
        assert_eq!(answer(&opened).unwrap(), 42, "{mode:04o}");
        assert_eq!(answer(&engine(&folder)).unwrap(), 42, "{mode:04o}");
    }
    if !is_root("folders_of_others_above_the_cache_are_refused") {
        return;
    }
    let owner = format!("belongs to user {STRANGER}");
    for mode in [0o755, 0o700, 0o1777] {
        chown(&above, Some(STRANGER), None).unwrap();
        chmod(&above, mode);
        refused(&folder, &[path, &owner, &format!("{mode:04o}")]);
        assert!(answer(&opened).is_err());
        // Nor is anything made below it.
        refused(&above.join("new/aot"), &[path, &owner]);
        assert!(!above.join("new").exists());
    }
    chown(&above, Some(0), Some(STRANGER)).unwrap();
    chmod(&above, 0o755);
    assert_eq!(answer(&opened).unwrap(), 42);
    chown(&folder, Some(STRANGER), None).unwrap();
    refused(&folder, &[folder.to_str().unwrap(), &owner]);
}

pub(super) fn links_of_others_are_not_followed() {
    let dir = TempDir::new().unwrap();
    let real = dir.path().join("real");
    fs::create_dir(&real).unwrap();
    chmod(dir.path(), 0o1777);
    let link = dir.path().join("link");
    symlink("real", &link).unwrap();
    assert_eq!(answer(&engine(link.join("aot"))).unwrap(), 42);
    only_file(&real.join("aot"));
    // The folder behind a link is looked at, and so are those above it.
    let open = dir.path().join("open");
    fs::create_dir_all(open.join("below")).unwrap();
    chmod(&open, 0o777);
    let into = dir.path().join("into");
    symlink("open/below", &into).unwrap();
    refused(&into.join("aot"), &[open.to_str().unwrap(), "0777"]);
    let (one, two) = (dir.path().join("one"), dir.path().join("two"));
    symlink(&two, &one).unwrap();
    symlink(&one, &two).unwrap();
    assert!(WasmEdgeEngine::with_config(config(one.join("aot"))).is_err());
    if is_root("links_of_others_are_not_followed") {
        lchown(&link, Some(STRANGER), None).unwrap();
        let owner = format!("belongs to user {STRANGER}");
        refused(&link.join("aot"), &[link.to_str().unwrap(), &owner]);
    }
}

pub(super) fn impostors_are_refused() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    assert_eq!(answer(&engine(&folder)).unwrap(), 42);
    let file = only_file(&folder);
    let good = fs::read(&file).unwrap();
    let name = file.to_str().unwrap();
    // By another name it could be changed after it was checked.
    fs::hard_link(&file, dir.path().join("other name")).unwrap();
    refused(&folder, &[name, "2 names", "delete it"]);
    fs::remove_file(&file).unwrap();
    // A pipe must not be waited for.
    let made = Command::new("mkfifo").arg(&file).status().unwrap();
    assert!(made.success());
    refused(&folder, &[name, "not a plain file", "delete it"]);
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    refused(&folder, &[name, "not a plain file"]);
    fs::remove_dir(&file).unwrap();
    symlink("/nonexistent/guest", &file).unwrap();
    refused(&folder, &[name, "is a link", "delete it"]);
    fs::remove_file(&file).unwrap();
    fs::write(&file, good).unwrap();
    assert_eq!(answer(&engine(&folder)).unwrap(), 42);
    if is_root("what_only_looks_like_a_compiled_guest_is_refused") {
        chown(&file, Some(STRANGER), None).unwrap();
        refused(&folder, &[name, &format!("belongs to user {STRANGER}")]);
    }
}

/// A compiled guest that answers 13.
fn evil_code() -> Vec<u8> {
    let dir = TempDir::new().unwrap();
    let wat = r#"(module (func (export "answer") (result i32) (i32.const 13)))"#;
    engine(dir.path().join("aot")).compile(&wat::parse_str(wat).unwrap()).unwrap();
    fs::read(only_file(&dir.path().join("aot"))).unwrap()
}

/// Exchanges the file all the time while it is loaded: what is loaded is always what was checked.
/// Only the user could do that, as here, or an attacker who found a way around the permissions.
pub(super) fn the_bytes_that_were_checked_are_loaded() {
    let dir = TempDir::new().unwrap();
    let folder = dir.path().join("aot");
    let engine = engine(&folder);
    assert_eq!(answer(&engine).unwrap(), 42);
    let file = only_file(&folder);
    let (good, evil) = (fs::read(&file).unwrap(), evil_code());
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let aside = dir.path().join("aside");
            for bytes in [&evil, &good].into_iter().cycle() {
                if done.load(Ordering::Relaxed) {
                    break;
                }
                fs::write(&aside, bytes).unwrap();
                chmod(&aside, 0o600);
                fs::rename(&aside, &file).unwrap();
            }
        });
        let mut answers: Vec<i32> = (0..60).map(|_| answer(&engine).unwrap()).collect();
        done.store(true, Ordering::Relaxed);
        answers.dedup();
        assert_eq!(answers, [42]);
    });
}

/// Another user owns the folder above and exchanges the cache for a folder of their own, where a
/// file of the right name and with the right hash has other code. As root only.
pub(super) fn another_user_gets_no_code_in() {
    let test = "another_user_gets_no_code_into_the_process";
    if !is_root(test) {
        return;
    }
    let dir = TempDir::new().unwrap();
    chmod(dir.path(), 0o711);
    let above = dir.path().join("above");
    let folder = above.join("cache/aot");
    let open = engine(&folder);
    assert_eq!(answer(&open).unwrap(), 42);
    let name = only_file(&folder).file_name().unwrap().to_owned();
    let forged = above.join("forged/aot");
    fs::create_dir_all(&forged).unwrap();
    fs::write(forged.join(&name), forge(&evil_code(), name.to_str().unwrap())).unwrap();
    for path in [&above, &above.join("forged"), &forged, &forged.join(&name)] {
        chown(path, Some(STRANGER), Some(STRANGER)).unwrap();
    }
    let Some(mut attacker) = exchange(&above) else {
        return eprintln!("SKIPPED {test}: there is no python3 to act as the other user");
    };
    for _ in 0..200 {
        for answered in [
            WasmEdgeEngine::with_config(config(&folder)).and_then(|engine| answer(&engine)),
            answer(&open),
        ] {
            let error = answered.unwrap_err().to_string();
            assert!(error.contains(&format!("belongs to user {STRANGER}")), "{error}");
        }
    }
    assert!(attacker.try_wait().unwrap().is_none(), "the other user did nothing");
    attacker.kill().unwrap();
    attacker.wait().unwrap();
}

/// The file with the code of another, and the hash that belongs to its name.
fn forge(file: &[u8], name: &str) -> Vec<u8> {
    const END: usize = 32 + 16;
    let (code, end) = file.split_at(file.len() - END);
    let digits = name.strip_suffix(".code").unwrap();
    let key: Vec<_> = (0..digits.len() / 2)
        .map(|at| u8::from_str_radix(&digits[2 * at..][..2], 16).unwrap())
        .collect();
    let seal = Sha256::new().chain_update(key).chain_update(code).finalize();
    [code, &seal, &end[32..]].concat()
}

/// Starts a process of the other user that exchanges `cache` and `forged` for each other.
fn exchange(above: &Path) -> Option<Child> {
    const PROGRAM: &str = "
import ctypes, sys
libc = ctypes.CDLL(None)
while libc.renameat2(-100, b'cache', -100, b'forged', 2) == 0: pass
sys.exit('cannot exchange folders')";
    let mut command = Command::new("python3");
    command.args(["-c", PROGRAM]).current_dir(above).uid(STRANGER).gid(STRANGER);
    command.env_remove("LD_LIBRARY_PATH").stdin(Stdio::null()).spawn().ok()
}
