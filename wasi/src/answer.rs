//! From what wasi-common answers to what a guest gets.

use std::io;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use polychord_runtime_api::imports::HostError;
use wasi_common::snapshots::preview_1::types::Errno;
use wiggle::anyhow;

use crate::error::Error;

/// Runs a call to its end. Nothing in it waits but by blocking, so that it ends when it is polled once.
pub(crate) fn finish<R>(
    function: &'static str,
    call: impl Future<Output = anyhow::Result<R>>,
) -> anyhow::Result<R> {
    match pin!(call).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(result) => result,
        Poll::Pending => Err(anyhow::anyhow!("{function} did not end")),
    }
}

/// The number that the guest gets, or the end of its call.
///
/// wasi-common has two kinds of errors without a number: pointers out of the guest's memory, for which the
/// specification wants a trap, and errors of the operating system that it has no number for.
pub(crate) fn number(
    function: &'static str,
    result: anyhow::Result<i32>,
) -> Result<i32, HostError> {
    let error = match result {
        Ok(number) => return Ok(number),
        Err(error) => error,
    };
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return Ok(of_host(error) as i32);
    }
    if let Some(error) = error.downcast_ref::<wiggle::GuestError>() {
        return match of_guest(error) {
            Some(errno) => Ok(errno as i32),
            None => Err(HostError::new(Error::Pointer { function, reason: error.to_string() })),
        };
    }
    Err(HostError::new(Error::Guest { function, reason: format!("{error:#}") }))
}

fn of_host(error: &io::Error) -> Errno {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem => Errno::Rofs,
        io::ErrorKind::CrossesDevices => Errno::Xdev,
        io::ErrorKind::ExecutableFileBusy => Errno::Txtbsy,
        io::ErrorKind::Deadlock => Errno::Deadlk,
        io::ErrorKind::Unsupported => Errno::Notsup,
        io::ErrorKind::UnexpectedEof | io::ErrorKind::WriteZero => Errno::Io,
        #[cfg(unix)]
        _ => match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
            Some(rustix::io::Errno::NXIO) => Errno::Nxio,
            Some(rustix::io::Errno::NODEV) => Errno::Nodev,
            Some(rustix::io::Errno::NOTTY) => Errno::Notty,
            Some(rustix::io::Errno::NOSYS) => Errno::Nosys,
            _ => Errno::Io,
        },
        #[cfg(not(unix))]
        _ => Errno::Io,
    }
}

/// None for pointers.
fn of_guest(error: &wiggle::GuestError) -> Option<Errno> {
    use wiggle::GuestError as G;

    Some(match error {
        G::InvalidFlagValue(_) | G::InvalidEnumValue(_) => Errno::Inval,
        G::InvalidUtf8(_) => Errno::Ilseq,
        G::TryFromIntError(_) => Errno::Overflow,
        G::SliceLengthsDiffer => Errno::Fault,
        G::InFunc { err, .. } => return of_guest(err),
        G::PtrOverflow | G::PtrOutOfBounds(_) | G::PtrNotAligned(..) => return None,
    })
}
