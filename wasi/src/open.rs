//! Opening files of the host without waiting for what is at their other end: a pipe that nothing writes to
//! would keep its reader, and so the host, for ever.

use wasi_common::Error;
use wasi_common::file::{FdFlags, OFlags};
use wasi_common::snapshots::preview_1::types::Errno;

/// How something is opened.
#[derive(Clone, Copy)]
pub(crate) struct How {
    pub(crate) follow: bool,
    pub(crate) create: OFlags,
    pub(crate) read: bool,
    pub(crate) write: bool,
    pub(crate) flags: FdFlags,
}

/// Something that was opened.
pub(crate) enum Opened {
    /// A file, and whether it may have to be waited for: a pipe or a device.
    File(cap_std::fs::File, bool),
    Directory(cap_std::fs::Dir),
}

/// Opens a file or a directory by a path that does not leave `directory`.
///
/// A pipe, a socket or a device opens at once or not at all: one that can only be opened together with
/// another side, which is not there, fails with `ENXIO`.
pub(crate) fn open(directory: &cap_std::fs::Dir, path: &str, how: How) -> Result<Opened, Error> {
    let How { create, flags, .. } = how;
    if flags.intersects(FdFlags::DSYNC | FdFlags::SYNC | FdFlags::RSYNC) {
        return Err(Errno::Notsup.into());
    }
    let only_directory = create.contains(OFlags::DIRECTORY);
    if only_directory && create.intersects(OFlags::CREATE | OFlags::EXCLUSIVE | OFlags::TRUNCATE) {
        return Err(Errno::Inval.into());
    }
    let file = directory.open_with(path, &options(how)).map_err(explain)?;
    let kind = file.metadata()?.file_type();
    if kind.is_dir() {
        return Ok(Opened::Directory(cap_std::fs::Dir::from_std_file(file.into_std())));
    }
    if only_directory {
        return Err(Errno::Notdir.into());
    }
    let waits = system::waits(kind);
    Ok(Opened::File(file, waits))
}

fn options(how: How) -> cap_std::fs::OpenOptions {
    use cap_fs_ext::{FollowSymlinks, OpenOptionsFollowExt as _, OpenOptionsMaybeDirExt as _};

    let How { follow, create, read, write, flags } = how;
    let makes = create.contains(OFlags::CREATE);
    let anew = makes && create.contains(OFlags::EXCLUSIVE);
    let mut options = cap_std::fs::OpenOptions::new();
    options
        .create_new(anew)
        .create(makes && !anew)
        .truncate(create.contains(OFlags::TRUNCATE))
        .write(write || makes)
        // Nothing can be opened for neither; what the guest may do is checked where it does it.
        .read(read || !write)
        .append(flags.contains(FdFlags::APPEND))
        .maybe_dir(true)
        .follow(if follow { FollowSymlinks::Yes } else { FollowSymlinks::No });
    system::do_not_wait(&mut options);
    options
}

/// What `wasi-common` has no word for would end the guest's call.
fn explain(error: std::io::Error) -> Error {
    if system::has_no_other_side(&error) { Errno::Nxio.into() } else { error.into() }
}

#[cfg(unix)]
mod system {
    use cap_std::fs::{FileType, FileTypeExt as _, OpenOptions, OpenOptionsExt as _};
    use rustix::fs::OFlags;

    pub(super) fn do_not_wait(options: &mut OpenOptions) {
        options.custom_flags(OFlags::NONBLOCK.bits().cast_signed());
    }

    pub(super) fn waits(kind: FileType) -> bool {
        kind.is_fifo() || kind.is_char_device() || kind.is_socket()
    }

    pub(super) fn has_no_other_side(error: &std::io::Error) -> bool {
        error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error())
    }
}

/// Elsewhere there are no pipes in directories.
#[cfg(not(unix))]
mod system {
    use cap_std::fs::{FileType, OpenOptions};

    pub(super) fn do_not_wait(_: &mut OpenOptions) {}

    pub(super) fn waits(_: FileType) -> bool {
        false
    }

    pub(super) fn has_no_other_side(_: &std::io::Error) -> bool {
        false
    }
}
