//! Loads compiled code from bytes, though WasmEdge loads it by the path of a file only.

use std::fs;

use polychord_runtime_api::Result;
use wasmedge_sdk::Module;

use super::failure::failed;
use super::private::Private;
use crate::config::{MAX_PAGES64, Mode, runtime_config};
use crate::error;

/// Loads these bytes, and nothing that has come into the place of a file meanwhile: from memory
/// that is sealed against writing. Where the system has none (or no `/proc`, which gives it a
/// path), from a file in a new folder that `private_folder` makes for the user alone.
pub(super) fn load(
    code: &[u8],
    private_folder: impl FnOnce() -> Result<Private>,
) -> Result<Module> {
    match memory::load(code) {
        Ok(module) => return Ok(module),
        Err(reason) => tracing::debug!("compiled code is not loaded from memory: {reason}"),
    }
    let folder = private_folder()?;
    let file = folder.path().join("guest").with_extension(std::env::consts::DLL_EXTENSION);
    fs::write(&file, code).map_err(|e| failed("write", &file, &e))?;
    // The system keeps the file for as long as it is mapped.
    from_file(&file).map_err(|reason| error::compile(&reason))
}

fn from_file(file: &std::path::Path) -> Result<Module, String> {
    let config = runtime_config(Mode::Aot, MAX_PAGES64).map_err(|e| e.to_string())?;
    Module::from_file(Some(&config), file).map_err(|e| e.to_string())
}

#[cfg(target_os = "linux")]
mod memory {
    use std::fs::File;
    use std::io::{self, Write as _};
    use std::os::unix::fs::MetadataExt as _;
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::fs::{MemfdFlags, SealFlags};
    use rustix::io::Errno;
    use wasmedge_sdk::Module;

    pub(super) fn load(code: &[u8]) -> Result<Module, String> {
        let file = sealed(code).map_err(|e| e.to_string())?;
        let path = path_of(&file).map_err(|e| format!("/proc: {e}"))?;
        // The loader has mapped it then; nothing opens the path again.
        crate::aot::image::from_file(&path)
    }

    /// A file without a name, whose bytes cannot change any more.
    fn sealed(code: &[u8]) -> io::Result<File> {
        let create = |more| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | more;
            rustix::fs::memfd_create("polychord-guest", flags)
        };
        // Linux before 6.3 does not know the flag, and some later systems insist on it. Mapping
        // code does not need permission to execute the file.
        let fd = match create(MemfdFlags::NOEXEC_SEAL) {
            Err(Errno::INVAL) => create(MemfdFlags::empty())?,
            made => made?,
        };
        let mut file = File::from(fd);
        file.write_all(code)?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        rustix::fs::fcntl_add_seals(&file, seals)?;
        Ok(file)
    }

    /// A path of the file that no other one has had. The loader of the system takes a library that
    /// is loaded already if it was loaded by the same path, and numbers of files come again: so
    /// each path is spelled in another way, which means the same.
    fn path_of(file: &File) -> io::Result<PathBuf> {
        use std::os::fd::AsRawFd as _;

        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let bits = (0..u64::BITS - number.leading_zeros()).map(|bit| number >> bit & 1);
        let spelling: String = bits.map(|bit| if bit == 0 { "./" } else { ".//" }).collect();
        let path = PathBuf::from(format!("/proc/self/fd/{spelling}{}", file.as_raw_fd()));
        // Opened as by the loader, which does not look whether that was refused (docs/wasmedge.md).
        let (own, there) = (file.metadata()?, File::open(&path)?.metadata()?);
        if (own.dev(), own.ino()) == (there.dev(), there.ino()) {
            return Ok(path);
        }
        Err(io::Error::other("shows other files than those of this process"))
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn sealed_bytes_cannot_change() {
            let file = sealed(b"code").unwrap();
            assert!((&file).write_all(b"more").is_err());
            assert!(file.set_len(0).is_err() && file.set_len(9).is_err());
            assert_eq!(std::fs::read(path_of(&file).unwrap()).unwrap(), b"code");
            assert!(
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(path_of(&file).unwrap())
                    .map_or(true, |mut again| again.write_all(b"evil").is_err())
            );
        }

        #[test]
        fn paths_do_not_come_again() {
            let file = sealed(b"code").unwrap();
            let paths: Vec<_> =
                (0..200).map(|_| path_of(&file).unwrap().into_os_string()).collect();
            for (i, path) in paths.iter().enumerate() {
                assert!(!paths[..i].contains(path), "{path:?}");
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod memory {
    use wasmedge_sdk::Module;

    pub(super) fn load(_: &[u8]) -> Result<Module, &'static str> {
        Err("only Linux has such memory")
    }
}
