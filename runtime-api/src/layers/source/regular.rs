//! Opening files that are really files.

use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::path::Path;

use crate::{Error, Result};

/// Opens a regular file to read. What is opened is looked at, so that nothing can be put in its
/// place between a look and the opening; and a pipe that nothing writes to is not waited for.
pub(super) fn open(path: &Path) -> Result<File> {
    let refuse = |kind| {
        let found = name(kind).unwrap_or("something else");
        Error::NotAFile { path: path.to_owned(), found }
    };
    let file = without_waiting(OpenOptions::new().read(true)).open(path);
    let failed = |operation, source| Error::Io { operation, path: path.to_owned(), source };
    let file = file.map_err(|source| match std::fs::metadata(path) {
        // Sockets cannot be opened, nor can directories everywhere.
        Ok(metadata) if !metadata.is_file() && !is_refused(&source) => refuse(metadata.file_type()),
        _ => failed("open", source),
    })?;
    let metadata = file.metadata().map_err(|source| failed("look at", source))?;
    match metadata.is_file() {
        true => Ok(file),
        false => Err(refuse(metadata.file_type())),
    }
}

/// Whether the system has refused to open what may be opened by others.
fn is_refused(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
}

#[cfg(unix)]
fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    use std::os::unix::fs::OpenOptionsExt as _;
    // Reading a regular file is not changed by it.
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    options.custom_flags(flags.bits().cast_signed())
}

#[cfg(not(unix))]
fn without_waiting(options: &mut OpenOptions) -> &mut OpenOptions {
    options
}

/// What something is that is no regular file.
#[cfg(unix)]
fn name(kind: FileType) -> Option<&'static str> {
    use std::os::unix::fs::FileTypeExt as _;
    Some(match kind {
        _ if kind.is_dir() => "a directory",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ if kind.is_block_device() || kind.is_char_device() => "a device",
        _ => return None,
    })
}

#[cfg(not(unix))]
fn name(kind: FileType) -> Option<&'static str> {
    kind.is_dir().then_some("a directory")
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::io::Read as _;
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::Source;

    fn refusal(path: &Path) -> String {
        open(path).unwrap_err().to_string()
    }

    #[test]
    fn only_regular_files_are_opened_and_nothing_is_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let (pipe, socket) = (folder.path().join("pipe"), folder.path().join("socket"));
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for (path, found) in [
            (folder.path(), "a directory"),
            (&pipe, "a pipe"),
            (&link, "a pipe"),
            (&socket, "a socket"),
            (Path::new("/dev/zero"), "a device"),
            (Path::new("/dev/full"), "a device"),
        ] {
            let error = refusal(path);
            assert!(error.contains(found) && error.contains("not a regular file"), "{error}");
        }
        let absent = folder.path().join("absent");
        assert!(matches!(open(&absent), Err(Error::Io { operation: "open", .. })));
    }

    #[test]
    fn a_source_stays_the_file_that_was_opened() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("a"), folder.path().join("b"));
        std::fs::write(&path, "first").unwrap();
        std::fs::write(&other, "another").unwrap();
        let source = Source::open(&path).unwrap();
        std::fs::rename(&other, &path).unwrap();
        let mut text = String::new();
        source.reader().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), source.len()), ("first", 5));
    }
}
