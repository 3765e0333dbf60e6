//! Guests compiled ahead of time, and the folder that keeps them.
//!
//! A compiled guest is native code that runs with all rights of the user, so what is loaded
//! must be exactly what was compiled, and by nobody else: the folder and its files belong to
//! the user alone, and each file ends with a hash of itself and of what it was made from.

use std::env::consts::{ARCH, DLL_EXTENSION, OS};
use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use polychord_runtime_api::{CompilerCommand, Error, Result, serve_compiler};
use sha2::{Digest, Sha256};
use wasmedge_sdk::{Compiler, Module};

use crate::engine::{MAX_PAGES64, Mode, WasmEdgeEngine, compiler_config, runtime_config};
use crate::{NAME, error, turn};

/// Compiled guests in a folder.
#[derive(Debug)]
pub(crate) struct Cache {
    folder: PathBuf,
    compiler: Option<CompilerCommand>,
    /// Compiled code is for one version of WasmEdge, and for the processor that made it.
    machine: String,
}

/// Ends each file, after the hash. A new layout needs a new number.
const MAGIC: &[u8; 16] = b"polychord-aot-1\n";
const HASH: usize = 32;

/// Serves one run of a [`CompilerCommand`]: compiles the module in a folder. `args` are the
/// last two arguments of the process.
///
/// # Errors
///
/// [`Error::Compile`] if the arguments are not those, or if WasmEdge cannot compile the
/// module. The program should write it to stderr and exit with a failure.
pub fn run_compiler(args: &[OsString]) -> Result<()> {
    let [kind, folder] = args else {
        return Err(error::compile("the compiler takes a kind and a folder"));
    };
    wasmedge_sdk::LogManager::log_off();
    let folder = Path::new(folder);
    let input = folder.join(INPUT);
    let wasm = fs::read(&input).map_err(|e| failed("read", &input, &e))?;
    serve_compiler(NAME, |_| {
        compile_here(&wasm, kind == INTERRUPTIBLE, folder).map(|()| Vec::new())
    })
}

/// What is compiled and what comes of it, in the folder of one compilation.
const INPUT: &str = "guest.wasm";
const OUTPUT: &str = "guest";

const INTERRUPTIBLE: &str = "interruptible";
const PLAIN: &str = "plain";

impl Cache {
    /// Uses a folder, or makes it; by default in the user's cache folder.
    pub(crate) fn open(folder: Option<PathBuf>, compiler: Option<CompilerCommand>) -> Result<Self> {
        let folder = folder.or_else(default_folder).ok_or_else(|| {
            error::compile("there is no folder for compiled guests: set POLYCHORD_CACHE")
        })?;
        create_private(&folder).map_err(|e| failed("make", &folder, &e))?;
        // Resolved once, so that no link on the way can be bent later.
        let folder = folder.canonicalize().map_err(|e| failed("find", &folder, &e))?;
        let cache = Self { folder, compiler, machine: machine() };
        cache.check_folder()?;
        Ok(cache)
    }

    /// A cache in a folder within this one.
    pub(crate) fn within(&self, name: &str) -> Result<Self> {
        Self::open(Some(self.folder.join(name)), self.compiler.clone())
    }

    /// Whether modules are compiled in this process.
    pub(crate) const fn compiles_here(&self) -> bool {
        self.compiler.is_none()
    }

    /// Compiles a module in this process, and keeps nothing.
    pub(crate) fn compile_for_nothing(&self, wasm: &[u8]) -> Result<()> {
        let part = tempfile::Builder::new().prefix("part-").tempdir_in(&self.folder);
        let part = part.map_err(|e| failed("write to", &self.folder, &e))?;
        compile_here(wasm, false, part.path())
    }

    /// Loads a module's compiled code, after compiling it if need be.
    pub(crate) fn load(&self, wasm: &[u8], interruptible: bool) -> Result<Module> {
        self.check_folder()?;
        let key = self.key(wasm, interruptible);
        let file = self.folder.join(format!("{}.{DLL_EXTENSION}", hex(&key)));
        if self.is_intact(&file, &key)? {
            tracing::debug!(file = %file.display(), "compiled guest found");
        } else {
            self.compile(wasm, interruptible, &file, &key)?;
        }
        let config = runtime_config(Mode::Aot, MAX_PAGES64)?;
        Module::from_file(Some(&config), &file).map_err(|e| error::compile(&e.to_string()))
    }

    /// The hash of everything that compiled code depends on.
    fn key(&self, wasm: &[u8], interruptible: bool) -> [u8; HASH] {
        let mut hash = Sha256::new();
        hash.update(MAGIC);
        hash.update(&self.machine);
        hash.update([u8::from(interruptible)]);
        hash.update(wasm);
        hash.finalize().into()
    }

    /// Whether the file is there, is the user's own, and is what was written.
    fn is_intact(&self, file: &Path, key: &[u8; HASH]) -> Result<bool> {
        let metadata = match fs::symlink_metadata(file) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            Err(error) => return Err(failed("look at", file, &error)),
        };
        check_owner(file, &metadata, metadata.is_file())?;
        let bytes = fs::read(file).map_err(|e| failed("read", file, &e))?;
        let intact = code_len(&bytes, key).is_some();
        if !intact {
            let len = bytes.len();
            tracing::warn!(file = %file.display(), len, "compiled guest is damaged; making it anew");
        }
        Ok(intact)
    }

    /// Compiles into a folder beside, and puts the file in place by a rename: others see it
    /// whole or not at all, and it does not matter which of two compilations comes last.
    fn compile(
        &self,
        wasm: &[u8],
        interruptible: bool,
        file: &Path,
        key: &[u8; HASH],
    ) -> Result<()> {
        let io = |e: &io::Error| failed("write to", &self.folder, e);
        let part = tempfile::Builder::new().prefix("part-").tempdir_in(&self.folder);
        let part = part.map_err(|e| io(&e))?;
        match &self.compiler {
            None => compile_here(wasm, interruptible, part.path())?,
            Some(compiler) => compile_there(compiler, wasm, interruptible, part.path())?,
        }
        let so = part.path().join(OUTPUT).with_extension(DLL_EXTENSION);
        let code = fs::read(&so).map_err(|e| failed("read", &so, &e))?;
        let mut whole = tempfile::NamedTempFile::new_in(part.path()).map_err(|e| io(&e))?;
        whole.write_all(&code).map_err(|e| io(&e))?;
        // Loaders read an object file by its headers and ignore what follows.
        whole.write_all(&seal(&code, key)).map_err(|e| io(&e))?;
        whole.write_all(MAGIC).map_err(|e| io(&e))?;
        whole.persist(file).map_err(|e| io(&e.error))?;
        Ok(())
    }

    /// Checks that nobody else can put files into the folder, or another folder in its place.
    fn check_folder(&self) -> Result<()> {
        let folder = &self.folder;
        let look =
            |path: &Path| fs::symlink_metadata(path).map_err(|e| failed("look at", path, &e));
        let metadata = look(folder)?;
        check_owner(folder, &metadata, metadata.is_dir())?;
        for above in folder.ancestors().skip(1) {
            check_above(above, &look(above)?)?;
        }
        Ok(())
    }
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

/// Compiles in this process, into a folder.
fn compile_here(wasm: &[u8], interruptible: bool, folder: &Path) -> Result<()> {
    let _turn = turn::wait()?;
    let config = compiler_config(interruptible)?;
    let compiler = Compiler::new(Some(&config)).map_err(|e| {
        error::compile(&format!(
            "{e}: this libwasmedge was built without its compiler; use the interpreter"
        ))
    })?;
    let made = compiler.compile_from_bytes(wasm, OUTPUT, folder);
    made.map(drop).map_err(|e| error::compile(&e.to_string()))
}

/// Compiles in another process, whose end is only an error here.
fn compile_there(
    compiler: &CompilerCommand,
    wasm: &[u8],
    interruptible: bool,
    folder: &Path,
) -> Result<()> {
    let input = folder.join(INPUT);
    fs::write(&input, wasm).map_err(|e| failed("write", &input, &e))?;
    let kind = if interruptible { INTERRUPTIBLE } else { PLAIN };
    compiler.run(NAME, &[kind.into(), folder.into()], &[]).map(drop)
}

/// Version and processor, as far as compiled code depends on them.
fn machine() -> String {
    format!("{} {ARCH} {OS}\n{}", WasmEdgeEngine::VERSION, processor())
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

fn failed(operation: &str, path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    error::compile(&format!(
        "cannot {operation} {path}: {error}. Compiled guests are kept in a folder of the user's \
         own, which POLYCHORD_CACHE can move"
    ))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(unix)]
fn create_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;

    if let Some(above) = folder.parent() {
        fs::create_dir_all(above)?;
    }
    let made = fs::DirBuilder::new().mode(0o700).create(folder);
    made.or_else(|error| if folder.is_dir() { Ok(()) } else { Err(error) })
}

#[cfg(not(unix))]
fn create_private(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Refuses a file or folder that belongs to another user, or that another can write.
#[cfg(unix)]
fn check_owner(path: &Path, metadata: &fs::Metadata, right_kind: bool) -> Result<()> {
    use std::os::unix::fs::MetadataExt;

    let (owner, me) = (metadata.uid(), rustix::process::geteuid().as_raw());
    let mode = metadata.mode() & 0o7777;
    let problem = if !right_kind {
        "is neither a plain file nor a plain folder, as it should be: delete it".into()
    } else if owner != me {
        format!("belongs to user {owner}, and not to user {me}, who runs this: delete it")
    } else if mode & 0o022 != 0 {
        format!("can be written by others (mode {mode:04o}): delete it, or run chmod go-w")
    } else {
        return Ok(());
    };
    Err(refused(path, &problem))
}

/// Refuses a folder in which others can exchange what is ours.
#[cfg(unix)]
fn check_above(path: &Path, metadata: &fs::Metadata) -> Result<()> {
    use std::os::unix::fs::MetadataExt;

    let mode = metadata.mode() & 0o7777;
    // In a sticky folder only the owner of an entry can move it.
    if mode & 0o002 == 0 || mode & 0o1000 != 0 {
        return Ok(());
    }
    Err(refused(path, &format!("can be written by everybody (mode {mode:04o}): run chmod o-w")))
}

/// Elsewhere the user's own folder is private by the system's default.
#[cfg(not(unix))]
fn check_owner(path: &Path, _: &fs::Metadata, right_kind: bool) -> Result<()> {
    if right_kind { Ok(()) } else { Err(refused(path, "is not what it should be: delete it")) }
}

#[cfg(not(unix))]
fn check_above(_: &Path, _: &fs::Metadata) -> Result<()> {
    Ok(())
}

fn refused(path: &Path, problem: &str) -> Error {
    let path = path.display();
    error::compile(&format!(
        "compiled guests are native code, so nobody else may write where they are kept, but \
         {path} {problem}; POLYCHORD_CACHE names another place"
    ))
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
        let cache = |machine: &str| Cache {
            folder: PathBuf::new(),
            compiler: None,
            machine: machine.into(),
        };
        let keys = [
            cache("a").key(b"wasm", false),
            cache("a").key(b"wasm", true),
            cache("a").key(b"wasn", false),
            cache("b").key(b"wasm", false),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key));
        }
        assert!(machine().contains(WasmEdgeEngine::VERSION));
    }
}
