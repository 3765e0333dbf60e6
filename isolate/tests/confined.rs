//! What a confined process can still do. Each case is a process of its own, which has one thread at first.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests")]

#[path = "confined/escape.rs"]
mod escape;

use std::env;
use std::fs;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::thread;

use polychord_isolate::{Confinement, Error};

/// A case, with the folder that it is about.
type Case = fn(&Path);

const CASES: &[(&str, Case)] = &[
    ("files", files),
    ("a_folder_that_may_be_written", folder),
    ("sockets", sockets),
    ("programs_and_signals", programs),
    ("threads_and_memory", computing),
    ("other_threads", other_threads),
    ("a_path_that_is_not_there", missing),
    ("twice", twice),
    ("an_escape", escape::escape),
    ("calls_of_another_architecture", escape::other_architecture),
];

fn main() -> ExitCode {
    if let (Ok(case), Ok(folder)) = (env::var("CONFINED_CASE"), env::var("CONFINED_FOLDER")) {
        let (_, run) = CASES.iter().find(|(name, _)| *name == case).unwrap();
        run(Path::new(&folder));
        return ExitCode::SUCCESS;
    }
    if !has_landlock() {
        println!("SKIPPED: the kernel has no Landlock");
        return ExitCode::SUCCESS;
    }
    let filter = env::args().skip(1).find(|arg| !arg.starts_with('-'));
    let mut failed = 0;
    for (name, _) in
        CASES.iter().filter(|(name, _)| filter.as_ref().is_none_or(|it| name.contains(it)))
    {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("allowed"), "allowed").unwrap();
        fs::write(folder.path().join("secret"), "secret").unwrap();
        fs::create_dir(folder.path().join("open")).unwrap();
        let status = Command::new(env::current_exe().unwrap())
            .env("CONFINED_CASE", name)
            .env("CONFINED_FOLDER", folder.path())
            .env("CONFINED_SECRET", format!("{:p}", escape::SECRET))
            .stdin(Stdio::null())
            .status()
            .unwrap();
        println!("{name}: {status}");
        failed += i32::from(!escape::is_expected(name, status));
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Asked in a process that is thrown away.
fn has_landlock() -> bool {
    let lsm = fs::read_to_string("/sys/kernel/security/lsm");
    lsm.map_or(true, |lsm| lsm.contains("landlock"))
}

fn only(path: PathBuf) {
    Confinement::new().readable(path).enter().unwrap();
}

fn files(folder: &Path) {
    let (allowed, secret) = (folder.join("allowed"), folder.join("secret"));
    let before = fs::File::open(&secret).unwrap();
    only(allowed.clone());
    assert_eq!(fs::read_to_string(&allowed).unwrap(), "allowed");
    assert!(fs::write(&allowed, "changed").is_err());
    assert!(fs::read(&secret).is_err());
    assert!(fs::read_dir(folder).is_err());
    assert!(fs::write(folder.join("new"), "new").is_err());
    assert!(fs::remove_file(&allowed).is_err());
    assert!(fs::rename(&allowed, folder.join("other")).is_err());
    assert!(fs::create_dir(folder.join("new")).is_err());
    assert!(fs::set_permissions(&allowed, fs::metadata(&allowed).unwrap().permissions()).is_err());
    assert!(fs::read("/etc/passwd").is_err());
    let parent = std::os::unix::process::parent_id();
    assert!(fs::read(format!("/proc/{parent}/environ")).is_err());
    assert!(fs::read(format!("/proc/{parent}/maps")).is_err());
    // What a link leads to counts, and a way around it does not help.
    assert!(fs::read(folder.join("open/../secret")).is_err());
    assert!(fs::read(format!("/proc/self/root/{}", secret.display())).is_err());
    // What is open stays open: a program that starts one with open files gives them away.
    assert_eq!(std::io::read_to_string(before).unwrap(), "secret");
    assert!(fs::read("/proc/self/status").is_ok());
}

fn folder(folder: &Path) {
    let open = folder.join("open");
    Confinement::new().writable(&open).enter().unwrap();
    fs::write(open.join("new"), "new").unwrap();
    fs::create_dir(open.join("deeper")).unwrap();
    fs::rename(open.join("new"), open.join("deeper/old")).unwrap();
    assert_eq!(fs::read_to_string(open.join("deeper/old")).unwrap(), "new");
    fs::remove_file(open.join("deeper/old")).unwrap();
    assert!(fs::write(folder.join("new"), "new").is_err());
    assert!(fs::read(folder.join("secret")).is_err());
    assert!(fs::hard_link(folder.join("secret"), open.join("secret")).is_err());
    std::os::unix::fs::symlink(folder.join("secret"), open.join("link")).unwrap();
    assert!(fs::read(open.join("link")).is_err());
    fs::write(open.join("program"), "#!/bin/sh\n").unwrap();
    assert!(Command::new(open.join("program")).spawn().is_err());
}

fn sockets(folder: &Path) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let local = folder.join("socket");
    let _local = UnixListener::bind(&local).unwrap();
    let (mut here, mut there) = UnixStream::pair().unwrap();
    only(folder.join("allowed"));
    assert!(TcpListener::bind("127.0.0.1:0").is_err());
    assert!(TcpStream::connect(address).is_err());
    assert!(UdpSocket::bind("127.0.0.1:0").is_err());
    assert!(UnixStream::connect(&local).is_err());
    assert!(UnixDatagram::unbound().is_err());
    assert!(UnixStream::pair().is_err());
    // The one that is there works.
    std::io::Write::write_all(&mut here, b"yes").unwrap();
    let mut heard = [0; 3];
    std::io::Read::read_exact(&mut there, &mut heard).unwrap();
    assert_eq!(&heard, b"yes");
}

fn programs(folder: &Path) {
    only(folder.join("allowed"));
    assert!(Command::new("/bin/true").spawn().is_err());
    let parent = rustix::process::Pid::from_raw(std::os::unix::process::parent_id().cast_signed());
    let signal = rustix::process::kill_process(parent.unwrap(), rustix::process::Signal::CONT);
    assert!(signal.is_err());
    let own = rustix::process::getpid();
    let limit = rustix::process::Rlimit { current: Some(10), maximum: Some(10) };
    assert!(rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).is_err());
    assert!(rustix::process::chdir("/").is_err());
    assert!(own.as_raw_nonzero().get() > 1);
}

fn computing(folder: &Path) {
    let confinement = Confinement::new().readable(folder.join("allowed"));
    confinement.memory_bytes(256 << 20).enter().unwrap();
    let sums: Vec<_> =
        (0..4_u64).map(|it| thread::spawn(move || (0..1000 * it).sum::<u64>())).collect();
    let sum: u64 = sums.into_iter().map(|it| it.join().unwrap()).sum();
    assert!(sum > 0);
    // What threads are refused, their threads are refused.
    let secret = folder.join("secret");
    assert!(thread::spawn(move || fs::read(secret)).join().unwrap().is_err());
    let mut small: Vec<u8> = Vec::new();
    small.try_reserve_exact(64 << 20).unwrap();
    let mut large: Vec<u8> = Vec::new();
    assert!(large.try_reserve_exact(1 << 30).is_err());
}

fn other_threads(folder: &Path) {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = thread::spawn(move || stopped.recv());
    let error = Confinement::new().readable(folder.join("allowed")).enter().unwrap_err();
    assert!(matches!(error, Error::Threads { count: 2 }), "{error}");
    assert!(fs::read(folder.join("secret")).is_ok());
    drop(stop);
    thread.join().unwrap().unwrap_err();
}

fn missing(folder: &Path) {
    let error = Confinement::new().readable(folder.join("nothing")).enter().unwrap_err();
    assert!(error.to_string().contains("nothing"), "{error}");
    assert!(fs::read(folder.join("secret")).is_ok());
}

fn twice(folder: &Path) {
    only(folder.join("allowed"));
    // What is given up is not had again: neither by another one, nor by seccomp's own call.
    _ = Confinement::new().readable(folder).enter();
    assert!(fs::read(folder.join("secret")).is_err());
}
