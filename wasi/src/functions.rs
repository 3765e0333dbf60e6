//! The functions of preview 1 and the one of wasi-threads, as imports.
//!
//! Each is a line of a table: its parameters, what is checked before wasi-common sees them, and what
//! happens when it has succeeded.

use polychord_runtime_api::Result;
use polychord_runtime_api::imports::{Caller, HostError, Imports};
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::snapshots::preview_1::wasi_snapshot_preview1 as preview_1;
use wiggle::GuestMemory;

use crate::answer::{finish, number};
use crate::context::{HasWasi, Wasi};
use crate::error::Error;
use crate::guard::{self, Checked};
use crate::stop;

/// Module of the functions of preview 1.
pub const MODULE: &str = "wasi_snapshot_preview1";

const SUCCESS: i32 = Errno::Success as i32;

/// Adds the functions of WASI preview 1 to imports. Guests that are instantiated with these need a state
/// of the type `T`, which has a [`Wasi`] in it, or is one.
///
/// # Errors
///
/// An error if one of the functions is there already.
pub fn add_to_imports<T: HasWasi>(imports: &mut Imports) -> Result<()> {
    files::<T>(imports)?;
    paths::<T>(imports)?;
    others::<T>(imports)?;
    refused::<T>(imports)
}

/// Defines functions that wasi-common answers:
/// `name(parameter: type, ...), check, after;`, where `check` is asked before, and `after` told when
/// the function has succeeded.
macro_rules! functions {
    ($imports:ident, $state:ty; $(
        $name:ident($($arg:ident: $ty:ty),*) $(, check $check:expr)? $(, after $after:expr)?;
    )*) => {$(
        $imports.function(
            MODULE,
            stringify!($name),
            |caller: &mut Caller<'_>, ($($arg,)*): ($($ty,)*)| -> Result<i32, HostError> {
                let (memory, wasi) = parts::<$state>(stringify!($name), caller)?;
                check!(wasi ($($arg: $ty),*) $($check)?);
                let mut memory = GuestMemory::Unshared(memory);
                let call = preview_1::$name(&mut wasi.context, &mut memory, $($arg),*);
                let answer = number(stringify!($name), finish(stringify!($name), call))?;
                // Those that wait; after others the guest itself looks.
                if matches!(stringify!($name), "poll_oneoff" | "fd_read") {
                    wasi.stop.check(stringify!($name))?;
                }
                after!(answer wasi ($($arg: $ty),*) $($after)?);
                Ok(answer)
            },
        )?;
    )*};
}

macro_rules! check {
    ($wasi:ident ($($arg:ident: $ty:ty),*)) => {};
    ($wasi:ident ($($arg:ident: $ty:ty),*) $check:expr) => {
        let check: fn(&Wasi, $($ty),*) -> Checked = $check;
        if let Err(errno) = check($wasi, $($arg),*) {
            return Ok(errno as i32);
        }
    };
}

macro_rules! after {
    ($answer:ident $wasi:ident ($($arg:ident: $ty:ty),*)) => {};
    ($answer:ident $wasi:ident ($($arg:ident: $ty:ty),*) $after:expr) => {
        if $answer == SUCCESS {
            let after: fn(&mut Wasi, $($ty),*) = $after;
            after($wasi, $($arg),*);
        }
    };
}

/// What works on open files.
fn files<T: HasWasi>(imports: &mut Imports) -> Result<()> {
    functions! { imports, T;
        fd_advise(fd: i32, offset: i64, len: i64, advice: i32);
        fd_allocate(fd: i32, offset: i64, len: i64);
        fd_close(fd: i32), after |wasi, _| wasi.open -= 1;
        fd_datasync(fd: i32);
        fd_fdstat_get(fd: i32, out: i32);
        fd_fdstat_set_flags(fd: i32, flags: i32);
        fd_fdstat_set_rights(fd: i32, base: i64, inheriting: i64);
        fd_filestat_get(fd: i32, out: i32);
        fd_filestat_set_size(fd: i32, size: i64);
        fd_filestat_set_times(fd: i32, accessed: i64, modified: i64, which: i32);
        fd_pread(fd: i32, buffers: i32, count: i32, offset: i64, out: i32),
            check |_, _, _, count, _, _| guard::buffers(count);
        fd_prestat_get(fd: i32, out: i32);
        fd_prestat_dir_name(fd: i32, path: i32, len: i32);
        fd_pwrite(fd: i32, buffers: i32, count: i32, offset: i64, out: i32),
            check |_, _, _, count, _, _| guard::buffers(count);
        fd_read(fd: i32, buffers: i32, count: i32, out: i32),
            check |_, _, _, count, _| guard::buffers(count);
        fd_readdir(fd: i32, buffer: i32, len: i32, cookie: i64, out: i32);
        fd_renumber(from: i32, to: i32), after |wasi, from, to| wasi.open -= u32::from(from != to);
        fd_seek(fd: i32, offset: i64, whence: i32, out: i32);
        fd_sync(fd: i32);
        fd_tell(fd: i32, out: i32);
        fd_write(fd: i32, buffers: i32, count: i32, out: i32),
            check |_, _, _, count, _| guard::buffers(count);
    }
    Ok(())
}

/// What works on paths in open directories.
fn paths<T: HasWasi>(imports: &mut Imports) -> Result<()> {
    functions! { imports, T;
        path_create_directory(fd: i32, path: i32, len: i32),
            check |_, _, _, len| guard::path(len);
        path_filestat_get(fd: i32, flags: i32, path: i32, len: i32, out: i32),
            check |_, _, _, _, len, _| guard::path(len);
        path_filestat_set_times(
            fd: i32, flags: i32, path: i32, len: i32, accessed: i64, modified: i64, which: i32
        ), check |_, _, _, _, len, _, _, _| guard::path(len);
        path_link(
            fd: i32, flags: i32, path: i32, len: i32, other: i32, new: i32, new_len: i32
        ), check |_, _, _, _, len, _, _, new_len| guard::paths(len, new_len);
        path_open(
            fd: i32, lookup: i32, path: i32, len: i32, create: i32, base: i64, inheriting: i64,
            flags: i32, out: i32
        ), check |wasi, _, _, _, len, _, _, _, _, _| {
            guard::path(len)?;
            wasi.may_open()
        }, after |wasi, _, _, _, _, _, _, _, _, _| wasi.open += 1;
        path_readlink(fd: i32, path: i32, len: i32, buffer: i32, buffer_len: i32, out: i32),
            check |_, _, _, len, _, _, _| guard::path(len);
        path_remove_directory(fd: i32, path: i32, len: i32),
            check |_, _, _, len| guard::path(len);
        path_rename(fd: i32, path: i32, len: i32, other: i32, new: i32, new_len: i32),
            check |_, _, _, len, _, _, new_len| guard::paths(len, new_len);
        path_symlink(to: i32, to_len: i32, fd: i32, path: i32, len: i32),
            check |_, _, to_len, _, _, len| guard::paths(to_len, len);
        path_unlink_file(fd: i32, path: i32, len: i32),
            check |_, _, _, len| guard::path(len);
    }
    Ok(())
}

/// Arguments, environment, clocks, random numbers, waiting, and the end.
fn others<T: HasWasi>(imports: &mut Imports) -> Result<()> {
    functions! { imports, T;
        args_get(pointers: i32, buffer: i32);
        args_sizes_get(count: i32, bytes: i32);
        clock_res_get(clock: i32, out: i32);
        clock_time_get(clock: i32, precision: i64, out: i32);
        environ_get(pointers: i32, buffer: i32);
        environ_sizes_get(count: i32, bytes: i32);
        poll_oneoff(subscriptions: i32, events: i32, count: i32, out: i32),
            check |_, _, _, count, _| guard::subscriptions(count);
        random_get(buffer: i32, len: i32);
        sched_yield();
    }
    imports.function(
        MODULE,
        "proc_exit",
        |_: &mut Caller<'_>, (code,): (i32,)| -> Result<(), HostError> {
            Err(HostError::exit(code))
        },
    )?;
    Ok(())
}

/// What there is not: sockets, signals and threads.
fn refused<T: HasWasi>(imports: &mut Imports) -> Result<()> {
    imports.function(
        MODULE,
        "sock_accept",
        |caller: &mut Caller<'_>, (fd, _, _): (i32, i32, i32)| no_socket::<T>(caller, fd),
    )?;
    imports.function(
        MODULE,
        "sock_recv",
        |caller: &mut Caller<'_>, (fd, ..): (i32, i32, i32, i32, i32, i32)| {
            no_socket::<T>(caller, fd)
        },
    )?;
    imports.function(
        MODULE,
        "sock_send",
        |caller: &mut Caller<'_>, (fd, ..): (i32, i32, i32, i32, i32)| no_socket::<T>(caller, fd),
    )?;
    imports.function(MODULE, "sock_shutdown", |caller: &mut Caller<'_>, (fd, _): (i32, i32)| {
        no_socket::<T>(caller, fd)
    })?;
    imports
        .function(MODULE, "proc_raise", |_: &mut Caller<'_>, (_,): (i32,)| Errno::Nosys as i32)?;
    // The only error that wasi-threads has: no thread could be made now.
    imports.function("wasi", "thread-spawn", |_: &mut Caller<'_>, (_,): (i32,)| {
        -(Errno::Again as i32)
    })?;
    Ok(())
}

fn no_socket<T: HasWasi>(caller: &mut Caller<'_>, fd: i32) -> Result<i32, HostError> {
    let (_, wasi) = parts::<T>("sock", caller)?;
    Ok(wasi.no_socket(fd) as i32)
}

/// The guest's memory and its context.
fn parts<'c, T: HasWasi>(
    function: &'static str,
    caller: &'c mut Caller<'_>,
) -> Result<(&'c mut [u8], &'c mut Wasi), HostError> {
    let interrupter = stop::of(caller);
    match caller.memory_and_state::<T>() {
        Some((memory, state)) => {
            let wasi = state.wasi();
            wasi.stop.learn(interrupter);
            Ok((memory, wasi))
        }
        None => {
            let state = std::any::type_name::<T>();
            let reason = format!("it has no state of the type {state}: see Instantiation::state");
            Err(HostError::new(Error::Guest { function, reason }))
        }
    }
}
