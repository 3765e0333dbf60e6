//! Files and directories.

use std::fs;
use std::path::Path;

use polychord_runtime_api::Engine;
use polychord_wasi::{Access, WasiBuilder};

use super::probe::{BUFFER, DIRECTORY, OTHER, Probe, RESULT, TEXT, errno};
#[cfg(target_os = "linux")]
use super::probe::{VECTORS, WRITE};
use crate::check::{equal, holds};
use crate::{Failure, Outcome};

/// Files are created, written, read, listed, renamed and removed.
pub(super) fn files(engine: &dyn Engine) -> Outcome {
    let folder = tempfile::tempdir()?;
    let mut probe = start(engine, folder.path(), Access::ReadWrite)?;
    prestat(&mut probe)?;
    equal("a file that is not there", probe.open_to_read("a")?, -errno::NOENT)?;
    let fd = probe.create("a")?;
    holds(fd > DIRECTORY, || format!("a new file is {fd}"))?;
    equal("fd_write", probe.write(fd, b"hello world")?, errno::SUCCESS)?;
    let seek = probe.call("fd_seek", &[fd.into(), -5, 2, RESULT as i64])?;
    equal("fd_seek", (seek, probe.long(RESULT)), (errno::SUCCESS, 6))?;
    equal("fd_read", probe.read(fd, 100)?, b"world".to_vec())?;
    equal("fd_tell", probe.call("fd_tell", &[fd.into(), RESULT as i64])?, errno::SUCCESS)?;
    equal("fd_tell", probe.long(RESULT), 11)?;
    equal("size", probe.call("fd_filestat_set_size", &[fd.into(), 5])?, errno::SUCCESS)?;
    let stat = probe.call("fd_filestat_get", &[fd.into(), OTHER as i64])?;
    equal("fd_filestat_get", (stat, probe.long(OTHER + 32)), (errno::SUCCESS, 5))?;
    equal("fd_close", probe.call("fd_close", &[fd.into()])?, errno::SUCCESS)?;
    equal("fd_close again", probe.call("fd_close", &[fd.into()])?, errno::BADF)?;
    equal("the file", fs::read(folder.path().join("a"))?, b"hello".to_vec())?;
    equal("a folder", probe.on_path("path_create_directory", "d")?, errno::SUCCESS)?;
    equal("rename", rename(&mut probe, "a", "d/b")?, errno::SUCCESS)?;
    equal("the file there", fs::read(folder.path().join("d/b"))?, b"hello".to_vec())?;
    equal("what there is", list(&mut probe, "d")?, [".", "..", "b"].map(str::to_owned).to_vec())?;
    equal("a folder with files", probe.on_path("path_remove_directory", "d")?, 55)?;
    equal("remove", probe.on_path("path_unlink_file", "d/b")?, errno::SUCCESS)?;
    equal("remove the folder", probe.on_path("path_remove_directory", "d")?, errno::SUCCESS)?;
    equal("what is left", fs::read_dir(folder.path())?.count(), 0)
}

/// The directory says by which path the guest knows it.
fn prestat(probe: &mut Probe) -> Outcome {
    let errno = probe.call("fd_prestat_get", &[DIRECTORY.into(), RESULT as i64])?;
    equal("fd_prestat_get", (errno, probe.number(RESULT + 4)), (errno::SUCCESS, 5))?;
    let errno = probe.call("fd_prestat_dir_name", &[DIRECTORY.into(), TEXT as i64, 5])?;
    equal("fd_prestat_dir_name", (errno, probe.get(TEXT, 5)), (errno::SUCCESS, b"/data".to_vec()))?;
    let none = probe.call("fd_prestat_get", &[i64::from(DIRECTORY) + 1, RESULT as i64])?;
    equal("a second directory", none, errno::BADF)
}

/// Nothing changes in a directory that is read only.
pub(super) fn read_only(engine: &dyn Engine) -> Outcome {
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("a"), "text")?;
    fs::create_dir(folder.path().join("d"))?;
    let modified =
        || -> Result<_, Failure> { Ok(fs::metadata(folder.path().join("a"))?.modified()?) };
    let before = modified()?;
    let mut probe = start(engine, folder.path(), Access::ReadOnly)?;
    let fd = probe.open_to_read("a")?;
    equal("reading", probe.read(fd, 100)?, b"text".to_vec())?;
    for (what, create, rights) in [
        ("writing", 0, 1 << 6),
        ("creating", 1, 2),
        ("creating anew", 1 | 4, 2),
        ("emptying", 8, 2),
    ] {
        equal(what, probe.open("a", create, rights)?, -errno::ROFS)?;
    }
    equal("a new file", probe.create("b")?, -errno::ROFS)?;
    for (name, path) in
        [("path_create_directory", "e"), ("path_remove_directory", "d"), ("path_unlink_file", "a")]
    {
        equal(name, probe.on_path(name, path)?, errno::ROFS)?;
    }
    equal("path_rename", rename(&mut probe, "a", "b")?, errno::ROFS)?;
    equal("path_link", link(&mut probe, "a", "b")?, errno::ROFS)?;
    equal("path_symlink", symlink(&mut probe, "a", "b")?, errno::ROFS)?;
    equal(
        "fd_filestat_set_size",
        probe.call("fd_filestat_set_size", &[fd.into(), 1])?,
        errno::ROFS,
    )?;
    let times = probe.call("fd_filestat_set_times", &[fd.into(), 1, 1, 5])?;
    equal("fd_filestat_set_times", times, errno::ROFS)?;
    probe.put(TEXT, b"a");
    let args = [DIRECTORY.into(), 1, TEXT as i64, 1, 1, 1, 5];
    equal("path_filestat_set_times", probe.call("path_filestat_set_times", &args)?, errno::ROFS)?;
    // What is below a directory has its rights.
    let below = probe.open("d", 2, 0)?;
    probe.put(TEXT, b"new");
    let args = [below.into(), 1, TEXT as i64, 3, 1, 1 << 6, 0, 0, RESULT as i64];
    equal("a file below", probe.call("path_open", &args)?, errno::ROFS)?;
    equal("the file", fs::read(folder.path().join("a"))?, b"text".to_vec())?;
    equal("its time", modified()?, before)?;
    equal("what there is", fs::read_dir(folder.path())?.count(), 2)
}

/// Pipes, sockets and devices open at once or not at all, and waiting for one ends.
#[cfg(target_os = "linux")]
pub(super) fn pipes(engine: &dyn Engine) -> Outcome {
    use std::io::Write as _;
    use std::time::Duration;

    use polychord_runtime_api::{Error, Limits, TrapKind};
    use rustix::fs::{CWD, FileType, Mode, mknodat};

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pipe");
    mknodat(CWD, &path, FileType::Fifo, Mode::RWXU, 0)?;
    let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket"))?;
    let limits = Limits::default().call_time(Duration::from_secs(1));
    let with = |host: &Path| WasiBuilder::new().directory(host, "/data", Access::ReadWrite);
    let mut probe = Probe::within(engine, with(folder.path()), &limits)?;
    equal("a socket", probe.open_to_read("socket")?, -errno::NXIO)?;
    equal("a pipe without a reader", probe.open("pipe", 0, WRITE)?, -errno::NXIO)?;
    // Without a writer.
    let fd = probe.open_to_read("pipe")?;
    holds(fd > DIRECTORY, || format!("a pipe is {fd}"))?;
    let flags = |probe: &mut Probe| -> Result<u8, Failure> {
        let errno = probe.call("fd_fdstat_get", &[fd.into(), OTHER as i64])?;
        equal("fd_fdstat_get", errno, errno::SUCCESS)?;
        Ok(probe.get(OTHER + 2, 1)[0])
    };
    equal("flags", flags(&mut probe)?, 0)?;
    probe.vector(BUFFER, 100);
    match probe.call("fd_read", &[fd.into(), VECTORS as i64, 1, RESULT as i64]) {
        Err(Error::Trap { kind: TrapKind::DeadlineExceeded(_), .. }) => {}
        other => return Err(Failure::new(format!("reading without a writer: {other:?}"))),
    }
    let mut writer = fs::OpenOptions::new().write(true).open(&path)?;
    writer.write_all(b"hello")?;
    equal("what was written", probe.read(fd, 100)?, b"hello".to_vec())?;
    // A guest that does not want to wait is told so.
    equal("not waiting", probe.call("fd_fdstat_set_flags", &[fd.into(), 4])?, errno::SUCCESS)?;
    equal("flags", flags(&mut probe)?, 4)?;
    let read = probe.call("fd_read", &[fd.into(), VECTORS as i64, 1, RESULT as i64])?;
    equal("reading nothing", read, errno::AGAIN)?;
    equal("waiting", probe.call("fd_fdstat_set_flags", &[fd.into(), 0])?, errno::SUCCESS)?;
    let later = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        writer.write_all(b"later")
    });
    equal("what is written later", probe.read(fd, 100)?, b"later".to_vec())?;
    later.join().map_err(|_| Failure::new("the writer panicked"))??;
    equal("the end", probe.read(fd, 100)?, Vec::new())?;
    let mut probe = Probe::within(engine, with(Path::new("/dev")), &limits)?;
    let fd = probe.open_to_read("zero")?;
    equal("a device", probe.read(fd, 4)?, vec![0; 4])
}

/// Elsewhere there are no pipes in directories.
#[cfg(not(target_os = "linux"))]
pub(super) fn pipes(_: &dyn Engine) -> Outcome {
    Ok(())
}

/// No path leads out of a directory: not through `..`, the root or a symbolic link.
pub(super) fn escapes(engine: &dyn Engine) -> Outcome {
    let outer = tempfile::tempdir()?;
    let inner = outer.path().join("inner");
    fs::create_dir(&inner)?;
    fs::create_dir(inner.join("d"))?;
    fs::write(outer.path().join("secret"), "secret")?;
    fs::write(inner.join("plain"), "plain")?;
    let mut probe = start(engine, &inner, Access::ReadWrite)?;
    let absolute = outer.path().join("secret").to_string_lossy().into_owned();
    let mut paths =
        vec!["../secret", "d/../../secret", "./../secret", "/", &*absolute, "/etc/passwd", ".."];
    // The guest may make a link that leads out; following it is what is refused. One to an absolute
    // path is refused at once.
    equal("a link", symlink(&mut probe, "../secret", "link")?, errno::SUCCESS)?;
    equal("a link to a folder", symlink(&mut probe, "..", "up")?, errno::SUCCESS)?;
    equal("an absolute link", symlink(&mut probe, &absolute, "absolute")?, errno::PERM)?;
    paths.extend(["link", "up/secret", "d/../up/secret"]);
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&absolute, inner.join("made"))?;
        paths.push("made");
    }
    for path in paths {
        let what = |function: &str| format!("{function} of {path}");
        equal(&what("path_open"), probe.open_to_read(path)?, -errno::PERM)?;
        equal(&what("path_open to write"), probe.create(path)?, -errno::PERM)?;
        let stat = path_stat(&mut probe, path)?;
        equal(&what("path_filestat_get"), stat, errno::PERM)?;
    }
    for path in ["../new", "up/new", "/new"] {
        let what = |function: &str| format!("{function} of {path}");
        let made = probe.on_path("path_create_directory", path)?;
        equal(&what("path_create_directory"), made, errno::PERM)?;
        equal(&what("path_rename to"), rename(&mut probe, "plain", path)?, errno::PERM)?;
        equal(&what("path_link to"), link(&mut probe, "plain", path)?, errno::PERM)?;
    }
    for path in ["../secret", "up/secret"] {
        let removed = probe.on_path("path_unlink_file", path)?;
        equal(&format!("path_unlink_file of {path}"), removed, errno::PERM)?;
        equal(&format!("path_rename of {path}"), rename(&mut probe, path, "mine")?, errno::PERM)?;
        equal(&format!("path_link of {path}"), link(&mut probe, path, "mine")?, errno::PERM)?;
    }
    // Within the directory `..` is a path as any other.
    let fd = probe.open_to_read("d/../plain")?;
    equal("a path that comes back", probe.read(fd, 100)?, b"plain".to_vec())?;
    equal("the secret", fs::read(outer.path().join("secret"))?, b"secret".to_vec())?;
    equal("what there is outside", fs::read_dir(outer.path())?.count(), 2)
}

fn start(engine: &dyn Engine, folder: &Path, access: Access) -> Result<Probe, Failure> {
    Probe::new(engine, WasiBuilder::new().directory(folder, "/data", access))
}

fn path_stat(probe: &mut Probe, path: &str) -> Result<i32, Failure> {
    probe.put(TEXT, path.as_bytes());
    let args = [DIRECTORY.into(), 1, TEXT as i64, path.len() as i64, OTHER as i64];
    Ok(probe.call("path_filestat_get", &args)?)
}

fn rename(probe: &mut Probe, from: &str, to: &str) -> Result<i32, Failure> {
    probe.put(TEXT, from.as_bytes());
    probe.put(OTHER, to.as_bytes());
    let (from, to) = (from.len() as i64, to.len() as i64);
    let directory = i64::from(DIRECTORY);
    let args = [directory, TEXT as i64, from, directory, OTHER as i64, to];
    Ok(probe.call("path_rename", &args)?)
}

fn link(probe: &mut Probe, from: &str, to: &str) -> Result<i32, Failure> {
    probe.put(TEXT, from.as_bytes());
    probe.put(OTHER, to.as_bytes());
    let (from, to) = (from.len() as i64, to.len() as i64);
    let directory = i64::from(DIRECTORY);
    let args = [directory, 0, TEXT as i64, from, directory, OTHER as i64, to];
    Ok(probe.call("path_link", &args)?)
}

fn symlink(probe: &mut Probe, to: &str, path: &str) -> Result<i32, Failure> {
    probe.put(TEXT, to.as_bytes());
    probe.put(OTHER, path.as_bytes());
    let (to, path) = (to.len() as i64, path.len() as i64);
    let args = [TEXT as i64, to, DIRECTORY.into(), OTHER as i64, path];
    Ok(probe.call("path_symlink", &args)?)
}

/// Names in a directory, in order.
fn list(probe: &mut Probe, path: &str) -> Result<Vec<String>, Failure> {
    let fd = probe.open(path, 2, 0)?;
    let args = [fd.into(), BUFFER as i64, 1000, 0, RESULT as i64];
    equal("fd_readdir", probe.call("fd_readdir", &args)?, errno::SUCCESS)?;
    let mut names = Vec::new();
    let (mut at, end) = (BUFFER, BUFFER + probe.number(RESULT) as usize);
    while at + 24 <= end {
        let len = probe.number(at + 16) as usize;
        names.push(String::from_utf8_lossy(&probe.get(at + 24, len)).into_owned());
        at += 24 + len;
    }
    names.sort();
    Ok(names)
}
