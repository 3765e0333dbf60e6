//! The system calls that a process which computes needs.
//!
//! Everything that is not listed is refused with `EPERM`: sockets, programs, other processes, namespaces,
//! mounts, keys, owners and times of files. Files are opened by these calls, and Landlock decides which.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch,
};

use crate::error::{Error, Result};

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Reading and writing what is open, and opening what Landlock allows.
const FILES: &[i64] = &[
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_close,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_readlinkat,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_fcntl,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_flock,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_memfd_create,
    // Of the one socket that there is: none can be made.
    libc::SYS_recvfrom,
    libc::SYS_sendto,
    libc::SYS_shutdown,
];

/// Calls that glibc makes on x86-64 alone.
#[cfg(target_arch = "x86_64")]
const OLD: &[i64] = &[
    libc::SYS_open,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_access,
    libc::SYS_readlink,
    libc::SYS_dup2,
    libc::SYS_poll,
    libc::SYS_select,
    libc::SYS_epoll_wait,
    libc::SYS_time,
    libc::SYS_getrlimit,
    libc::SYS_arch_prctl,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD: &[i64] = &[];

/// Changing names in folders that may be written.
const NAMES: &[i64] = &[
    libc::SYS_unlinkat,
    libc::SYS_mkdirat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
];

#[cfg(target_arch = "x86_64")]
const OLD_NAMES: &[i64] = &[
    libc::SYS_unlink,
    libc::SYS_mkdir,
    libc::SYS_rmdir,
    libc::SYS_rename,
    libc::SYS_link,
    libc::SYS_symlink,
];
#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[i64] = &[];

/// Memory, threads, time, signals of the process itself, and asking what the machine is.
const COMPUTING: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_mlock,
    libc::SYS_munlock,
    libc::SYS_brk,
    libc::SYS_membarrier,
    libc::SYS_futex,
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_getpriority,
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_pipe2,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getrandom,
    libc::SYS_getrusage,
    libc::SYS_uname,
    libc::SYS_sysinfo,
];

/// What `ioctl` may ask of a descriptor: whether it is a terminal, how large that is, how much there is to read,
/// and to close it with the program.
const ASKED: &[u64] =
    &[libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIOCLEX, libc::FIONBIO];

/// What `prctl` may set: the name of a thread, and that of a piece of memory.
const NAMED: &[i32] = &[libc::PR_SET_NAME, libc::PR_GET_NAME, libc::PR_SET_VMA];

/// Refuses all calls but those above from now on, for this thread and those that it starts.
pub(crate) fn allow_computing_only(writes: bool) -> Result<()> {
    // Whether `clone3` makes a thread or a process is in memory, where no filter looks: glibc takes `clone` if
    // there is no `clone3`.
    let no_clone3 = Rules::from([(libc::SYS_clone3, Vec::new())]);
    let enosys = SeccompAction::Errno(u32::try_from(libc::ENOSYS).unwrap_or_default());
    let eperm = SeccompAction::Errno(u32::try_from(libc::EPERM).unwrap_or_default());
    apply(no_clone3, SeccompAction::Allow, enosys)?;
    apply(rules(writes)?, eperm, SeccompAction::Allow)
}

fn rules(writes: bool) -> Result<Rules> {
    let names = if writes { [NAMES, OLD_NAMES].concat() } else { Vec::new() };
    let listed = [FILES, OLD, COMPUTING].concat().into_iter().chain(names);
    let mut rules: Rules = listed.map(|call| (call, Vec::new())).collect();
    // Threads, and no processes.
    let thread = u64::try_from(libc::CLONE_THREAD).unwrap_or_default();
    rules.insert(libc::SYS_clone, vec![rule(0, Len::Qword, Op::MaskedEq(thread), thread)?]);
    // Signals to this process alone.
    let own = u64::from(std::process::id());
    rules.insert(libc::SYS_tgkill, vec![rule(0, Len::Dword, Op::Eq, own)?]);
    // Limits are asked for, and not changed.
    rules.insert(libc::SYS_prlimit64, vec![rule(2, Len::Qword, Op::Eq, 0)?]);
    let any_of = |argument, values: &mut dyn Iterator<Item = u64>| {
        values.map(|value| rule(argument, Len::Dword, Op::Eq, value)).collect::<Result<Vec<_>>>()
    };
    rules.insert(libc::SYS_ioctl, any_of(1, &mut ASKED.iter().copied())?);
    let named = NAMED.iter().map(|name| u64::from(name.unsigned_abs()));
    rules.insert(libc::SYS_prctl, any_of(0, &mut { named })?);
    Ok(rules)
}

fn rule(argument: u8, len: Len, op: Op, value: u64) -> Result<SeccompRule> {
    let condition = SeccompCondition::new(argument, len, op, value);
    condition.and_then(|condition| SeccompRule::new(vec![condition])).map_err(refused)
}

fn apply(rules: Rules, otherwise: SeccompAction, matched: SeccompAction) -> Result<()> {
    let machine = TargetArch::try_from(std::env::consts::ARCH).map_err(refused)?;
    let filter = SeccompFilter::new(rules, otherwise, matched, machine).map_err(refused)?;
    let program = BpfProgram::try_from(filter).map_err(refused)?;
    seccompiler::apply_filter(&program).map_err(refused)
}

pub(crate) fn refused(error: impl std::fmt::Display) -> Error {
    Error::Refused { reason: error.to_string() }
}
