//! A guest that calls each function of WASI as it is told.

use polychord_runtime_api::imports::Imports;
use polychord_runtime_api::{Engine, Error, Instantiation, Limits, Runtime, Value};
use polychord_wasi::{MODULE, Wasi, WasiBuilder, add_to_imports};

use crate::Failure;
use crate::guest;

/// The functions with their parameters, `i` for i32 and `l` for i64. All have an errno as result.
const FUNCTIONS: &[(&str, &str)] = &[
    ("args_get", "ii"),
    ("args_sizes_get", "ii"),
    ("clock_res_get", "ii"),
    ("clock_time_get", "ili"),
    ("environ_get", "ii"),
    ("environ_sizes_get", "ii"),
    ("fd_advise", "illi"),
    ("fd_allocate", "ill"),
    ("fd_close", "i"),
    ("fd_datasync", "i"),
    ("fd_fdstat_get", "ii"),
    ("fd_fdstat_set_flags", "ii"),
    ("fd_fdstat_set_rights", "ill"),
    ("fd_filestat_get", "ii"),
    ("fd_filestat_set_size", "il"),
    ("fd_filestat_set_times", "illi"),
    ("fd_pread", "iiili"),
    ("fd_prestat_dir_name", "iii"),
    ("fd_prestat_get", "ii"),
    ("fd_pwrite", "iiili"),
    ("fd_read", "iiii"),
    ("fd_readdir", "iiili"),
    ("fd_renumber", "ii"),
    ("fd_seek", "ilii"),
    ("fd_sync", "i"),
    ("fd_tell", "ii"),
    ("fd_write", "iiii"),
    ("path_create_directory", "iii"),
    ("path_filestat_get", "iiiii"),
    ("path_filestat_set_times", "iiiilli"),
    ("path_link", "iiiiiii"),
    ("path_open", "iiiiillii"),
    ("path_readlink", "iiiiii"),
    ("path_remove_directory", "iii"),
    ("path_rename", "iiiiii"),
    ("path_symlink", "iiiii"),
    ("path_unlink_file", "iii"),
    ("poll_oneoff", "iiii"),
    ("proc_raise", "i"),
    ("random_get", "ii"),
    ("sched_yield", ""),
    ("sock_accept", "iii"),
    ("sock_recv", "iiiiii"),
    ("sock_send", "iiiii"),
    ("sock_shutdown", "ii"),
];

/// Numbers of errors.
pub(super) mod errno {
    pub(crate) const SUCCESS: i32 = 0;
    pub(crate) const AGAIN: i32 = 6;
    pub(crate) const BADF: i32 = 8;
    pub(crate) const INVAL: i32 = 28;
    pub(crate) const MFILE: i32 = 33;
    pub(crate) const NAMETOOLONG: i32 = 37;
    pub(crate) const NOENT: i32 = 44;
    pub(crate) const NOSPC: i32 = 51;
    pub(crate) const NOSYS: i32 = 52;
    pub(crate) const NOTSOCK: i32 = 57;
    #[cfg(target_os = "linux")]
    pub(crate) const NXIO: i32 = 60;
    pub(crate) const PERM: i32 = 63;
    pub(crate) const ROFS: i32 = 69;
}

/// A guest of one page and a half of a page more to spare, whose exports are the functions that it
/// imports.
pub(super) struct Probe {
    pub(super) guest: Box<dyn Runtime>,
}

/// Where the parts of a call lie in the guest's memory.
pub(super) const RESULT: usize = 16;
pub(super) const VECTORS: usize = 64;
pub(super) const TEXT: usize = 1024;
pub(super) const OTHER: usize = 8192;
pub(super) const BUFFER: usize = 16_384;
/// Bytes of the guest's memory.
pub(super) const SIZE: usize = 131_072;

/// The first directory that a guest is given.
pub(super) const DIRECTORY: i32 = 3;

const READ: i64 = 1 << 1;
pub(super) const WRITE: i64 = 1 << 6;
const CREATE: i32 = 1;

impl Probe {
    pub(super) fn new(engine: &dyn Engine, wasi: WasiBuilder) -> Result<Self, Failure> {
        Self::within(engine, wasi, &Limits::default())
    }

    pub(super) fn within(
        engine: &dyn Engine,
        wasi: WasiBuilder,
        limits: &Limits,
    ) -> Result<Self, Failure> {
        let mut imports = Imports::new();
        add_to_imports::<Wasi>(&mut imports)?;
        let module = guest::compile(engine, &text())?;
        let start = Instantiation::new(limits).imports(&imports).state(wasi.build()?);
        Ok(Self { guest: module.instantiate_with(start)? })
    }

    /// What a function returns.
    pub(super) fn call(&mut self, name: &str, args: &[i64]) -> Result<i32, Error> {
        let ty = FUNCTIONS.iter().find(|(function, _)| *function == name);
        let params = ty.map_or("", |(_, params)| params).bytes();
        let value = |(ty, arg): (u8, &i64)| match ty {
            b'l' => Value::I64(*arg),
            // Half of the number is meant, as everywhere in a 32-bit guest.
            #[allow(clippy::cast_possible_truncation, reason = "it is meant")]
            _ => Value::I32(*arg as i32),
        };
        let args: Vec<_> = params.zip(args).map(value).collect();
        match self.guest.call(name, &args)?[..] {
            [Value::I32(errno)] => Ok(errno),
            _ => Ok(i32::MIN),
        }
    }

    /// What the guest has written, and to which stream.
    pub(super) fn output(&self) -> [Vec<u8>; 2] {
        match self.guest.state::<Wasi>() {
            Some(wasi) => [wasi.stdout(), wasi.stderr()],
            None => [b"no state".to_vec(), Vec::new()],
        }
    }

    pub(super) fn put(&mut self, at: usize, bytes: &[u8]) {
        self.guest.memory_mut()[at..at + bytes.len()].copy_from_slice(bytes);
    }

    pub(super) fn get(&self, at: usize, len: usize) -> Vec<u8> {
        self.guest.memory()[at..at + len].to_vec()
    }

    pub(super) fn number(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.get(at, 4).try_into().unwrap_or_default())
    }

    pub(super) fn long(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.get(at, 8).try_into().unwrap_or_default())
    }

    /// Puts a list of one buffer at [`VECTORS`].
    pub(super) fn vector(&mut self, at: usize, len: usize) {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes();
        let vector = [number(at), number(len)].concat();
        self.put(VECTORS, &vector);
    }

    /// Calls a function with a path in the first directory.
    pub(super) fn on_path(&mut self, name: &str, path: &str) -> Result<i32, Error> {
        self.put(TEXT, path.as_bytes());
        self.call(name, &[DIRECTORY.into(), TEXT as i64, path.len() as i64])
    }

    /// Opens a file in the first directory: the number, or the error.
    pub(super) fn open(&mut self, path: &str, create: i32, rights: i64) -> Result<i32, Error> {
        self.put(TEXT, path.as_bytes());
        // Symbolic links are followed, within the directory.
        let (text, len, create) = (TEXT as i64, path.len() as i64, i64::from(create));
        let args = [DIRECTORY.into(), 1, text, len, create, rights, 0, 0, RESULT as i64];
        Ok(match self.call("path_open", &args)? {
            0 => self.number(RESULT).cast_signed(),
            errno => -errno,
        })
    }

    pub(super) fn open_to_read(&mut self, path: &str) -> Result<i32, Error> {
        self.open(path, 0, READ)
    }

    pub(super) fn create(&mut self, path: &str) -> Result<i32, Error> {
        self.open(path, CREATE, READ | WRITE)
    }

    /// Writes bytes to a file.
    pub(super) fn write(&mut self, fd: i32, bytes: &[u8]) -> Result<i32, Error> {
        self.put(BUFFER, bytes);
        self.vector(BUFFER, bytes.len());
        self.call("fd_write", &[fd.into(), VECTORS as i64, 1, RESULT as i64])
    }

    /// Reads at most `most` bytes of a file.
    pub(super) fn read(&mut self, fd: i32, most: usize) -> Result<Vec<u8>, Failure> {
        self.vector(BUFFER, most);
        let errno = self.call("fd_read", &[fd.into(), VECTORS as i64, 1, RESULT as i64])?;
        if errno != errno::SUCCESS {
            return Err(Failure::new(format!("fd_read of {fd} returned {errno}")));
        }
        Ok(self.get(BUFFER, self.number(RESULT) as usize))
    }
}

fn text() -> String {
    let mut imports = String::new();
    let mut exports = String::new();
    for (name, params) in FUNCTIONS {
        let types: Vec<_> =
            params.bytes().map(|ty| if ty == b'l' { "i64" } else { "i32" }).collect();
        let params = format!("(param {})", types.join(" "));
        let args: Vec<_> = (0..types.len()).map(|index| format!("(local.get {index})")).collect();
        imports +=
            &format!("(import \"{MODULE}\" \"{name}\" (func ${name} {params} (result i32)))\n");
        exports += &format!(
            "(func (export \"{name}\") {params} (result i32) (call ${name} {}))\n",
            args.join(" ")
        );
    }
    format!(
        "(module {imports}
            (import \"{MODULE}\" \"proc_exit\" (func $exit (param i32)))
            (import \"wasi\" \"thread-spawn\" (func $spawn (param i32) (result i32)))
            (memory (export \"memory\") 2 2)
            {exports}
            (func (export \"exit\") (param i32) (call $exit (local.get 0)) (unreachable))
            (func (export \"spawn\") (result i32) (call $spawn (i32.const 7)))
            (func (export \"fine\") (result i32) (i32.const 42)))"
    )
}
