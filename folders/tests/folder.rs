//! Folders and files that other users could exchange, and those that they could not.
#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fs::{self, Permissions};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;

use polychord_folders::{Access, Error, Folder};
use tempfile::TempDir;

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

#[track_caller]
fn is_unsafe<T: std::fmt::Debug>(result: Result<T, Error>, path: &Path) {
    match result {
        Err(Error::Unsafe { path: found, .. }) => assert_eq!(found, path),
        other => panic!("{other:?}"),
    }
}

fn private() -> (TempDir, Folder) {
    let dir = TempDir::new().unwrap();
    let folder = Folder::make(&dir.path().join("folder"), Access::Private).unwrap();
    (dir, folder)
}

#[test]
fn folders_are_made_with_their_modes() {
    let dir = TempDir::new().unwrap();
    for (access, expected) in [(Access::Private, 0o700), (Access::Shared, 0o755)] {
        let path = dir.path().join(format!("{access:?}/between/folder"));
        assert_eq!(fs::canonicalize(Folder::make(&path, access).unwrap().path()).unwrap(), path);
        // The umask may take away more.
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o777;
        assert_eq!(mode(&path) & !expected, 0);
        assert_eq!(mode(path.parent().unwrap()) & 0o022, 0);
    }
}

#[test]
fn sticky_folders_may_be_shared_and_others_not() {
    let (dir, folder) = private();
    for (mode, above, shared, own) in [
        (0o1777, true, true, false),
        (0o1770, true, true, false),
        (0o777, false, false, false),
        (0o770, false, false, false),
        (0o755, true, true, true),
    ] {
        chmod(dir.path(), mode);
        assert_eq!(folder.check().is_ok(), above, "{mode:o}");
        assert_eq!(Folder::open(dir.path(), Access::Shared).is_ok(), shared, "{mode:o}");
        assert_eq!(Folder::open(dir.path(), Access::Private).is_ok(), own, "{mode:o}");
    }
}

#[test]
fn a_folder_that_was_replaced_is_noticed() {
    let (dir, folder) = private();
    folder.check().unwrap();
    fs::rename(folder.path(), dir.path().join("moved")).unwrap();
    assert!(matches!(folder.check(), Err(Error::Io { .. })));
    fs::create_dir(folder.path()).unwrap();
    chmod(folder.path(), 0o700);
    is_unsafe(folder.check(), folder.path());
    // What was opened stays what it was.
    folder.replace("file", &[b"text"], 0o600).unwrap();
    assert!(dir.path().join("moved/file").exists() && !folder.path().join("file").exists());
}

#[test]
fn paths_are_resolved_as_the_system_does() {
    let (dir, folder) = private();
    let inner = Folder::make(&folder.path().join("a/b"), Access::Private).unwrap();
    symlink("a", folder.path().join("relative")).unwrap();
    symlink(inner.path(), folder.path().join("absolute")).unwrap();
    symlink("..", folder.path().join("a/up")).unwrap();
    for way in ["a/b", "relative/b", "absolute", "a/../a/./b", "a/up/relative/b/../b", "absolute/"]
    {
        let found = Folder::open(&folder.path().join(way), Access::Private).unwrap();
        assert_eq!(found.path(), inner.path(), "{way}");
    }
    symlink("loop", folder.path().join("loop")).unwrap();
    assert!(matches!(
        Folder::open(&folder.path().join("loop"), Access::Private),
        Err(Error::Io { .. })
    ));
    assert!(Folder::open(&dir.path().join("none"), Access::Private).is_err());
}

#[test]
fn only_plain_files_of_ones_own_are_opened() {
    let (dir, folder) = private();
    let path = folder.path().join("file");
    assert!(folder.read("file").unwrap().is_none());
    folder.replace("file", &[b"te", b"xt"], 0o600).unwrap();
    assert_eq!(folder.read("file").unwrap().unwrap(), b"text");
    for mode in [0o620, 0o602, 0o666] {
        chmod(&path, mode);
        is_unsafe(folder.open_file("file"), &path);
    }
    chmod(&path, 0o644);
    fs::hard_link(&path, dir.path().join("other")).unwrap();
    is_unsafe(folder.open_file_to_write("file"), &path);
    fs::remove_file(&path).unwrap();
    symlink(dir.path().join("other"), &path).unwrap();
    is_unsafe(folder.open_file("file"), &path);
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    is_unsafe(folder.open_file("file"), &path);
}

#[test]
fn files_are_created_where_nothing_is() {
    let (dir, folder) = private();
    let victim = dir.path().join("victim");
    fs::write(&victim, "precious").unwrap();
    for target in [victim.clone(), dir.path().join("nowhere")] {
        symlink(&target, folder.path().join("file")).unwrap();
        match folder.create_file("file", 0o600) {
            Err(Error::Io { source, .. }) => assert_eq!(source.kind(), ErrorKind::AlreadyExists),
            other => panic!("{other:?}"),
        }
        let mut file = folder.create_file_anew("file", 0o600).unwrap();
        file.write_all(b"new").unwrap();
        assert_eq!(folder.read("file").unwrap().unwrap(), b"new");
        folder.remove_file("file").unwrap();
    }
    symlink(&victim, folder.path().join("file")).unwrap();
    folder.replace("file", &[b"newer"], 0o600).unwrap();
    assert_eq!(folder.read("file").unwrap().unwrap(), b"newer");
    assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    assert!(!dir.path().join("nowhere").exists());
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing is left beside");
}
