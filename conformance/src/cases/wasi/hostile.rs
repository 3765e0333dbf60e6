//! Guests that pass what they should not.

use polychord_runtime_api::{Engine, Error};
use polychord_wasi::{Access, Output, WasiBuilder};

use super::probe::{BUFFER, DIRECTORY, Probe, RESULT, SIZE, TEXT, VECTORS, errno};
use crate::check::{equal, holds};
use crate::{Failure, Outcome};

/// Pointers and lengths out of the guest's memory end its call, and nothing else.
pub(super) fn pointers(engine: &dyn Engine) -> Outcome {
    let folder = tempfile::tempdir()?;
    let wasi = WasiBuilder::new()
        .args(["a", "b"])
        .env("C", "d")
        .directory(folder.path(), "/data", Access::ReadWrite)
        .stdout(Output::Captured);
    let mut probe = Probe::new(engine, wasi)?;
    let directory = i64::from(DIRECTORY);
    let (text, result, vectors) = (TEXT as i64, RESULT as i64, VECTORS as i64);
    for bad in [SIZE as i64 - 1, SIZE as i64, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff] {
        for (name, args) in [
            ("args_get", &[bad, BUFFER as i64][..]),
            ("args_get", &[vectors, bad]),
            ("args_sizes_get", &[bad, result]),
            ("environ_get", &[bad, bad]),
            ("environ_sizes_get", &[result, bad]),
            ("clock_time_get", &[0, 0, bad]),
            ("fd_fdstat_get", &[0, bad]),
            ("fd_filestat_get", &[directory, bad]),
            ("fd_prestat_get", &[directory, bad]),
            ("fd_prestat_dir_name", &[directory, bad, 5]),
            ("fd_read", &[0, bad, 1, result]),
            ("fd_write", &[1, bad, 1, result]),
            ("fd_write", &[1, bad, 1000, result]),
            ("fd_pread", &[0, bad, 1, 0, result]),
            ("fd_readdir", &[directory, bad, 100, 0, result]),
            ("path_open", &[directory, 0, bad, 100, 0, 2, 0, 0, result]),
            ("path_create_directory", &[directory, bad, 100]),
            ("path_rename", &[directory, text, 1, directory, bad, 100]),
            ("path_symlink", &[bad, 100, directory, text, 1]),
            ("poll_oneoff", &[bad, BUFFER as i64, 1, result]),
            ("poll_oneoff", &[text, BUFFER as i64, 4096, result]),
            ("random_get", &[bad, 0x7fff_ffff]),
            ("random_get", &[bad, 2]),
        ] {
            ended(&mut probe, name, args)?;
        }
        // Lists in memory, of buffers that are not.
        let bad = u32::try_from(bad).unwrap_or_default();
        for (at, len) in [(bad, 100), (16, bad), (bad, 0xffff_ffff), (0xffff_fff0, 0x20)] {
            if u64::from(at) + u64::from(len) <= SIZE as u64 {
                continue;
            }
            probe.vector(at as usize, len as usize);
            ended(&mut probe, "fd_write", &[1, vectors, 1, result])?;
        }
    }
    equal("what was written", probe.output(), [Vec::new(), Vec::new()])?;
    // Text that is none.
    probe.put(TEXT, b"\xff\xfe");
    let errno = probe.call("path_create_directory", &[directory, text, 2])?;
    equal("a path that is no text", errno, 25)?;
    equal("the guest after all that", probe.write(1, b"fine")?, errno::SUCCESS)?;
    equal("its output", probe.output()[0].clone(), b"fine".to_vec())
}

/// The call ends with an error of the host or a number of an error, never otherwise.
fn ended(probe: &mut Probe, name: &str, args: &[i64]) -> Outcome {
    match probe.call(name, args) {
        Err(Error::Host { name: function, .. }) => equal("which function", &*function, name),
        Ok(errno) => {
            holds((1..77).contains(&errno), || format!("{name} of {args:x?} returned {errno}"))
        }
        Err(error) => Err(Failure::new(format!("{name} of {args:x?} ended with {error:?}"))),
    }
}

/// Too many files, buffers, bytes of a path or things to wait for are refused.
pub(super) fn limits(engine: &dyn Engine) -> Outcome {
    let folder = tempfile::tempdir()?;
    std::fs::write(folder.path().join("a"), "text")?;
    let wasi = WasiBuilder::new().directory(folder.path(), "/data", Access::ReadWrite);
    let mut probe = Probe::new(engine, wasi.open_files(6))?;
    // Four are open: the streams and the directory.
    for turn in 0..3 {
        let [first, second] = [probe.open_to_read("a")?, probe.open_to_read("a")?];
        holds(first > 0 && second > 0, || format!("turn {turn}: {first} and {second}"))?;
        equal("one too many", probe.open_to_read("a")?, -errno::MFILE)?;
        let renumbered = probe.call("fd_renumber", &[second.into(), first.into()])?;
        equal("fd_renumber", renumbered, errno::SUCCESS)?;
        let third = probe.open_to_read("a")?;
        holds(third > 0, || format!("turn {turn}: {third}"))?;
        for fd in [first, third] {
            equal("fd_close", probe.call("fd_close", &[fd.into()])?, errno::SUCCESS)?;
        }
    }
    for count in [4097, 0x1000_0000, 0xffff_ffff] {
        let (vectors, text, result) = (VECTORS as i64, TEXT as i64, RESULT as i64);
        for (name, args, expected) in [
            ("fd_read", &[0, vectors, count, result][..], errno::INVAL),
            ("fd_write", &[1, vectors, count, result], errno::INVAL),
            ("fd_pread", &[0, vectors, count, 0, result], errno::INVAL),
            ("poll_oneoff", &[text, BUFFER as i64, count, result], errno::INVAL),
            ("path_unlink_file", &[DIRECTORY.into(), text, count], errno::NAMETOOLONG),
            ("path_open", &[3, 0, text, count, 0, 2, 0, 0, result], errno::NAMETOOLONG),
        ] {
            equal(&format!("{name} of {count}"), probe.call(name, args)?, expected)?;
        }
    }
    Ok(())
}
