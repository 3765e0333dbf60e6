//! What a guest would try that has broken out of its engine and runs any code in a confined process.
#![allow(unsafe_code, reason = "system calls as such code would make them")]

use std::env;
use std::ffi::{CString, c_long};
use std::io;
use std::os::unix::process::{ExitStatusExt as _, parent_id};
use std::path::Path;
use std::process::ExitStatus;

use polychord_isolate::Confinement;

/// In the memory of the process that has started the confined one.
pub(crate) static SECRET: &[u8; 16] = b"what no one sees";

/// A system call with up to six arguments.
fn call(number: c_long, arguments: &[usize]) -> io::Result<c_long> {
    let at = |index: usize| arguments.get(index).copied().unwrap_or(0);
    // SAFETY: those that could harm memory of this process are refused, which is what is tested; pointers lead to
    // values of the caller that live longer.
    let result = unsafe { libc::syscall(number, at(0), at(1), at(2), at(3), at(4), at(5)) };
    if result == -1 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Reads what the parent keeps, at the address that it has told.
fn read_parent(parent: usize) -> io::Result<[u8; 16]> {
    let address = env::var("CONFINED_SECRET").unwrap();
    let address = usize::from_str_radix(address.trim_start_matches("0x"), 16).unwrap();
    let mut found = [0_u8; 16];
    let local = libc::iovec { iov_base: found.as_mut_ptr().cast(), iov_len: found.len() };
    let remote = [address, found.len()];
    let (local, remote) = (&raw const local as usize, &raw const remote as usize);
    call(libc::SYS_process_vm_readv, &[parent, local, 1, remote, 1, 0])?;
    Ok(found)
}

/// Every way out is tried by the kernel's own calls, and refused.
pub(crate) fn escape(folder: &Path) {
    let parent = parent_id() as usize;
    // Root, at least, could before: so it is the confinement that refuses.
    if let Ok(found) = read_parent(parent) {
        assert_eq!(&found, SECRET);
    }
    let allowed = folder.join("allowed");
    Confinement::new().readable(&allowed).enter().unwrap();
    let refused = |what: &str, result: io::Result<c_long>| match result {
        Ok(value) => panic!("{what} was done: {value}"),
        Err(error) => {
            let expected = [libc::EPERM, libc::EACCES, libc::ENOSYS];
            assert!(
                error.raw_os_error().is_some_and(|it| expected.contains(&it)),
                "{what}: {error}"
            );
        }
    };
    refused("reading the parent's memory", read_parent(parent).map(|_| 0));

    let here = usize::MAX - 99; // AT_FDCWD
    let (read, write, create) = (0, 1, 0o101);
    let new = folder.join("new");
    for (path, flags) in [
        ("/etc/passwd".to_owned(), read),
        (format!("/proc/{parent}/mem"), 2),
        (format!("/proc/{parent}/environ"), read),
        ("/proc/self/root/etc/passwd".to_owned(), read),
        (allowed.display().to_string(), write),
        (new.display().to_string(), create),
        ("/tmp/polychord-escaped".to_owned(), create),
    ] {
        let name = CString::new(path.as_str()).unwrap();
        refused(&path, call(libc::SYS_openat, &[here, name.as_ptr() as usize, flags, 0o600]));
    }

    let (kill, own) = (9, std::process::id() as usize);
    let program = c"/bin/sh";
    let shell = program.as_ptr() as usize;
    let calls: &[(&str, c_long, &[usize])] = &[
        ("tracing the parent", libc::SYS_ptrace, &[16, parent]),
        ("seizing the parent", libc::SYS_ptrace, &[0x4206, parent]),
        ("being traced", libc::SYS_ptrace, &[0]),
        ("writing into the parent", libc::SYS_process_vm_writev, &[parent, 0, 0, 0, 0, 0]),
        ("killing the parent", libc::SYS_kill, &[parent, kill]),
        ("killing all", libc::SYS_kill, &[usize::MAX, kill]),
        ("killing a thread of the parent", libc::SYS_tgkill, &[parent, parent, kill]),
        ("killing a thread", libc::SYS_tkill, &[parent, kill]),
        ("queueing a signal", libc::SYS_rt_sigqueueinfo, &[parent, kill, 0]),
        ("a handle of the parent", libc::SYS_pidfd_open, &[parent]),
        ("a file of the parent", libc::SYS_pidfd_getfd, &[0, 0]),
        ("the parent's limits", libc::SYS_prlimit64, &[parent, 7, &raw const own as usize, 0]),
        ("comparing with the parent", libc::SYS_kcmp, &[own, parent, 0, 0, 0]),
        ("a socket", libc::SYS_socket, &[2, 1, 0]),
        ("a local socket", libc::SYS_socket, &[1, 1, 0]),
        ("a pair of sockets", libc::SYS_socketpair, &[1, 1, 0, 0]),
        ("connecting", libc::SYS_connect, &[0, 0, 0]),
        ("listening", libc::SYS_listen, &[0, 1]),
        ("sending a file's descriptor", libc::SYS_sendmsg, &[0, 0, 0]),
        ("receiving one", libc::SYS_recvmsg, &[0, 0, 0]),
        ("a program", libc::SYS_execve, &[shell, 0, 0]),
        ("a program by its file", libc::SYS_execveat, &[here, shell, 0, 0, 0]),
        ("a process", libc::SYS_clone, &[17, 0, 0, 0, 0]),
        ("a process, newer", libc::SYS_clone3, &[0, 0]),
        ("namespaces", libc::SYS_unshare, &[0x1000_0000]),
        ("entering one", libc::SYS_setns, &[0, 0]),
        ("another root", libc::SYS_chroot, &[shell]),
        ("another folder", libc::SYS_chdir, &[shell]),
        ("mounting", libc::SYS_mount, &[0, shell, 0, 0, 0]),
        ("rings", libc::SYS_io_uring_setup, &[8, 0]),
        ("programs in the kernel", libc::SYS_bpf, &[0, 0, 0]),
        ("counters", libc::SYS_perf_event_open, &[0, 0, 0, 0, 0]),
        ("faults of pages", libc::SYS_userfaultfd, &[0]),
        ("keys", libc::SYS_keyctl, &[0, 0, 0]),
        ("modules of the kernel", libc::SYS_init_module, &[0, 0, shell]),
        ("shared memory", libc::SYS_shmget, &[0, 4096, 0o1600]),
        ("queues", libc::SYS_mq_open, &[shell, 0o100, 0o600, 0]),
        ("a file by its handle", libc::SYS_open_by_handle_at, &[here, 0, 0]),
        ("another user", libc::SYS_setuid, &[0]),
        ("rights", libc::SYS_capset, &[0, 0]),
        ("the personality", libc::SYS_personality, &[0x0400_0000]),
        ("being dumped", libc::SYS_prctl, &[4, 1]),
        ("typing into a terminal", libc::SYS_ioctl, &[0, 0x5412, shell]),
        ("a filter of its own", libc::SYS_seccomp, &[1, 0, 0]),
        ("the clock", libc::SYS_clock_settime, &[0, 0]),
        ("restarting", libc::SYS_reboot, &[0]),
        ("the host's name", libc::SYS_sethostname, &[shell, 3]),
        ("the owner of a file", libc::SYS_fchown, &[0, 0, 0]),
        ("its permissions", libc::SYS_fchmod, &[0, 0o777]),
    ];
    for (what, number, arguments) in calls {
        refused(what, call(*number, arguments));
    }
    #[cfg(target_arch = "x86_64")]
    for (what, number, arguments) in [
        ("a process, older", libc::SYS_fork, &[][..]),
        ("one that shares", libc::SYS_vfork, &[]),
        // Numbers of the 32-bit calls with 64-bit registers: opening, and starting a program.
        ("opening as x32 does", 0x4000_0002, &[shell, 0]),
        ("a program as x32 does", 0x4000_0208, &[shell, 0, 0]),
    ] {
        refused(what, call(number, arguments));
    }
    // Limits cannot be raised, and what is given up by all threads stays so.
    let unlimited = [u64::MAX; 2];
    refused("raising a limit", call(libc::SYS_setrlimit, &[2, &raw const unlimited as usize]));
    let other = std::thread::spawn(move || read_parent(parent).is_err());
    assert!(other.join().unwrap());
    assert_eq!(parent_id() as usize, parent, "the parent lives");
}

/// The kernel has another table of calls for 32-bit programs, which any program can use: the process ends.
pub(crate) fn other_architecture(folder: &Path) {
    Confinement::new().readable(folder.join("allowed")).enter().unwrap();
    #[cfg(target_arch = "x86_64")]
    // SAFETY: getpid by its 32-bit number changes nothing but the register that is named.
    unsafe {
        std::arch::asm!("int 0x80", inlateout("rax") 20_u64 => _, out("r8") _, out("r9") _, out("r10") _, out("r11") _);
    }
}

/// Whether a case ended as it has to.
pub(crate) fn is_expected(case: &str, status: ExitStatus) -> bool {
    let is_killed = case == "calls_of_another_architecture" && cfg!(target_arch = "x86_64");
    if is_killed { status.signal() == Some(libc::SIGSYS) } else { status.success() }
}
