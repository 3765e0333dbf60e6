//! Guests compiled ahead of time, and the folder that keeps them.
//!
//! A compiled guest is native code that runs with all rights of the user, so what is loaded
//! must be exactly what this user compiled: the folder and its files belong to
//! the user alone, and each file ends with a hash of itself and of its source.
//! That hash has no key: it finds damage, and the permissions keep other users away. A file is
//! opened once, and the bytes that were checked are the bytes that are loaded (`image.rs`).

mod compiler;
mod failure;
mod image;

use std::env::consts::{ARCH, DLL_EXTENSION, OS};
use std::fs;
use std::path::PathBuf;

use polychord_folders::{Access, Folder};
use polychord_runtime_api::Result;
use polychord_runtime_api::spi::CompilerCommand;
use sha2::{Digest, Sha256};
use wasmedge_sdk::Module;

use crate::{VERSION, error};
pub use compiler::run_compiler;
use compiler::{OUTPUT, compile_here, compile_there};
use failure::{failed, refusal, refused};

/// Compiled guests in a folder.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: Folder,
    compiler: Option<CompilerCommand>,
    /// Compiled code is for one version of WasmEdge, and for the processor that made it.
    machine: String,
}

/// Ends each file, after the hash. A new layout needs a new number.
const MAGIC: &[u8; 16] = b"polychord-aot-1\n";
const HASH: usize = 32;

impl Cache {
    /// Uses a folder, or makes it; by default in the user's cache folder.
    pub(crate) fn open(folder: Option<PathBuf>, compiler: Option<CompilerCommand>) -> Result<Self> {
        let folder = folder.or_else(default_folder).ok_or_else(|| {
            error::compile(
                "there is no folder for compiled guests: set POLYCHORD_CACHE, or use the \
                 interpreter, which needs none",
            )
        })?;
        let folder = Folder::make(&folder, Access::Private).map_err(|error| match error {
            polychord_folders::Error::Io { .. } => {
                refusal(&format!("there is no way to {}: {error}", folder.display()))
            }
            error => refused(error),
        })?;
        Ok(Self { folder, compiler, machine: machine() })
    }

    /// A cache in a folder within this one.
    pub(crate) fn within(&self, name: &str) -> Result<Self> {
        Self::open(Some(self.folder.path().join(name)), self.compiler.clone())
    }

    /// Whether modules are compiled in this process.
    pub(crate) const fn compiles_here(&self) -> bool {
        self.compiler.is_none()
    }

    /// Compiles a module in this process, and discards the result.
    pub(crate) fn compile_and_discard(&self, wasm: &[u8]) -> Result<()> {
        compile_here(wasm, self.private_folder()?.path())
    }

    /// Loads a module's compiled code, after compiling it if need be.
    pub(crate) fn load(&self, wasm: &[u8]) -> Result<Module> {
        self.folder.check().map_err(refused)?;
        let key = key(&self.machine, wasm);
        let name = format!("{}.{DLL_EXTENSION}", hex(&key));
        let code = match self.find(&name, &key)? {
            Some(code) => code,
            None => {
                let code = self.compile(wasm)?;
                // Loaders read an object file by its headers and ignore what follows.
                let parts: [&[u8]; 3] = [&code, &seal(&code, &key), MAGIC];
                self.folder.replace(&name, &parts, 0o600).map_err(refused)?;
                code
            }
        };
        image::load(&code, || self.private_folder())
    }

    /// The code in a file, if the file is there, is the user's own, and is what was written.
    fn find(&self, name: &str, key: &[u8; HASH]) -> Result<Option<Vec<u8>>> {
        let Some(mut bytes) = self.folder.read(name).map_err(refused)? else { return Ok(None) };
        let file = self.folder.path().join(name);
        let Some(code) = code_len(&bytes, key) else {
            let len = bytes.len();
            tracing::warn!(file = %file.display(), len, "compiled guest is damaged; compiling it again");
            return Ok(None);
        };
        tracing::debug!(file = %file.display(), "compiled guest found");
        bytes.truncate(code);
        Ok(Some(bytes))
    }

    /// Compiles into a folder of its own, whose path the compiler wants.
    fn compile(&self, wasm: &[u8]) -> Result<Vec<u8>> {
        let part = self.private_folder()?;
        match &self.compiler {
            None => compile_here(wasm, part.path())?,
            Some(compiler) => compile_there(compiler, wasm, part.path())?,
        }
        let so = part.path().join(OUTPUT).with_extension(DLL_EXTENSION);
        fs::read(&so).map_err(|e| failed("read", &so, &e))
    }

    /// A new folder in this one, with mode 0700, that is removed when it is dropped. No other
    /// user can replace anything on its path, which leads through folders that were checked.
    fn private_folder(&self) -> Result<tempfile::TempDir> {
        let part = tempfile::Builder::new().prefix("part-").tempdir_in(self.folder.path());
        part.map_err(|e| failed("write to", self.folder.path(), &e))
    }
}

/// The hash of everything that compiled code depends on.
fn key(machine: &str, wasm: &[u8]) -> [u8; HASH] {
    let mut hash = Sha256::new();
    hash.update(MAGIC);
    hash.update(machine);
    hash.update(wasm);
    hash.finalize().into()
}

/// The length of the code in a file, if the file is intact and was made for this key.
fn code_len(bytes: &[u8], key: &[u8; HASH]) -> Option<usize> {
    let (rest, magic) = bytes.split_last_chunk::<{ MAGIC.len() }>()?;
    let (code, hash) = rest.split_last_chunk::<HASH>()?;
    (magic == MAGIC && *hash == seal(code, key)).then_some(code.len())
}

/// The hash at the end of a file.
fn seal(code: &[u8], key: &[u8; HASH]) -> [u8; HASH] {
    Sha256::new().chain_update(key).chain_update(code).finalize().into()
}

/// Version and processor, as far as compiled code depends on them.
fn machine() -> String {
    format!("{} {ARCH} {OS}\n{}", VERSION, processor())
}

/// What Linux says about the first processor; elsewhere the architecture has to do.
fn processor() -> String {
    const FIELDS: [&str; 8] = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "flags",
        "Features",
        "CPU part",
        "CPU implementer",
    ];
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let first = text.split("\n\n").next().unwrap_or_default();
    let is_relevant = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default().trim();
        FIELDS.contains(&name)
    };
    first.lines().filter(is_relevant).collect::<Vec<_>>().join("\n")
}

fn default_folder() -> Option<PathBuf> {
    let set = std::env::var_os("POLYCHORD_CACHE").filter(|value| !value.is_empty());
    let cache = set.map(PathBuf::from).or_else(|| Some(dirs::cache_dir()?.join("polychord")))?;
    Some(cache.join("aot"))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_intact_only_as_a_whole_and_for_its_key() {
        let (key, other) = ([1; HASH], [2; HASH]);
        let code = b"code".to_vec();
        let file = [code.clone(), seal(&code, &key).to_vec(), MAGIC.to_vec()].concat();
        assert_eq!(code_len(&file, &key), Some(4));
        assert_eq!(code_len(&file, &other), None);
        for len in 0..file.len() {
            assert_eq!(code_len(&file[..len], &key), None, "cut to {len}");
            let mut changed = file.clone();
            changed[len] ^= 1;
            assert_eq!(code_len(&changed, &key), None, "changed at {len}");
        }
    }

    #[test]
    fn the_key_depends_on_everything() {
        let keys = [key("a", b"wasm"), key("a", b"wasn"), key("b", b"wasm")];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key));
        }
        assert!(machine().contains(VERSION));
    }
}
