//! Giving up what a process may do.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, Ruleset,
    RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope, path_beneath_rules,
};
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};

use crate::calls::{allow_computing_only, refused};
use crate::error::{Error, Result};

/// What a process may still do after it has [entered](Self::enter) this: compute, and read and write what is
/// named here.
///
/// What an engine asks the machine (`/proc/self`, processors, limits of its control group) can always be read.
///
/// ```no_run
/// use polychord_isolate::Confinement;
///
/// // At the beginning of `main`, before there are threads.
/// let confinement = Confinement::new().readable("model.gguf").memory_bytes(4 << 30);
/// confinement.enter()?;
/// assert!(std::fs::read("/etc/passwd").is_err());
/// assert!(std::net::TcpListener::bind("127.0.0.1:0").is_err());
/// # Ok::<(), polychord_isolate::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct Confinement {
    readable: Vec<PathBuf>,
    writable: Vec<PathBuf>,
    memory_bytes: Option<u64>,
    ends_with_parent: bool,
}

/// How much of a [`Confinement`] this kernel holds.
///
/// ```
/// fn tell(confined: &polychord_isolate::Confined) {
///     println!("all of it: {}", confined.is_whole);
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Confined {
    /// Whether Landlock holds all that was asked for; an older kernel leaves renaming between folders, cutting
    /// files, TCP or signals to seccomp and permissions.
    pub is_whole: bool,
}

/// What engines and the standard library look at, and what tells nothing of the user.
const MACHINE: &[&str] = &[
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/sys/vm",
    "/proc/sys/kernel",
    "/sys/devices/system",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/dev/null",
    "/dev/urandom",
];

/// Descriptors that it may have open.
const DESCRIPTORS: u64 = 256;

impl Confinement {
    /// Nothing but computing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets a file be read, or all that is in a folder.
    pub fn readable(mut self, path: impl Into<PathBuf>) -> Self {
        self.readable.push(path.into());
        self
    }

    /// Lets a folder be read and written, with all that is in it. Owners, permissions and times stay as they
    /// are.
    pub fn writable(mut self, path: impl Into<PathBuf>) -> Self {
        self.writable.push(path.into());
        self
    }

    /// Limits the memory that the process may write, in bytes: pages of files that are only read do not count,
    /// and neither does address space.
    pub fn memory_bytes(mut self, most: impl Into<Option<u64>>) -> Self {
        self.memory_bytes = most.into();
        self
    }

    /// Kills the process when the thread that has started it ends, which is that of a whole program where it is
    /// the first one.
    pub fn ends_with_parent(mut self) -> Self {
        self.ends_with_parent = true;
        self
    }

    /// Gives everything else up, for good, for this process and what it starts.
    ///
    /// # Errors
    ///
    /// [`Error::Threads`] if there are other threads, [`Error::Path`] if a path is not there,
    /// [`Error::NoLandlock`] if the kernel has none, and [`Error::Refused`] if the system refuses. Some of the
    /// rights may then be gone: the process is to end.
    pub fn enter(self) -> Result<Confined> {
        for path in self.readable.iter().chain(&self.writable) {
            fs::metadata(path).map_err(|source| Error::Path { path: path.clone(), source })?;
        }
        let threads = fs::read_dir("/proc/self/task").map_err(refused)?.count();
        if threads != 1 {
            return Err(Error::Threads { count: threads });
        }
        if self.ends_with_parent {
            set_parent_process_death_signal(Some(Signal::KILL)).map_err(refused)?;
        }
        self.limit()?;
        let confined = self.restrict_files()?;
        allow_computing_only(!self.writable.is_empty())?;
        Ok(confined)
    }

    fn limit(&self) -> Result<()> {
        let set = |resource, most: u64| {
            let limit = Rlimit { current: Some(most), maximum: Some(most) };
            setrlimit(resource, limit).map_err(refused)
        };
        // What was in memory is in no file afterwards.
        set(Resource::Core, 0)?;
        set(Resource::Nofile, DESCRIPTORS)?;
        self.memory_bytes.map_or(Ok(()), |most| set(Resource::Data, most))
    }

    fn restrict_files(&self) -> Result<Confined> {
        let abi = ABI::V6;
        let read = AccessFs::ReadFile | AccessFs::ReadDir;
        let devices =
            AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::MakeSock | AccessFs::MakeFifo;
        let write: BitFlags<AccessFs> =
            AccessFs::from_all(abi) & !(devices | AccessFs::Execute | AccessFs::IoctlDev);
        let machine: Vec<_> = MACHINE.iter().map(Path::new).filter(|path| path.exists()).collect();
        let restrict = || {
            Ruleset::default()
                .set_compatibility(CompatLevel::BestEffort)
                .handle_access(AccessFs::from_all(abi))?
                .handle_access(AccessNet::from_all(abi))?
                .scope(Scope::from_all(abi))?
                .create()?
                .add_rules(path_beneath_rules(machine, read))?
                .add_rules(path_beneath_rules(&self.readable, read))?
                .add_rules(path_beneath_rules(&self.writable, write))?
                .restrict_self()
        };
        match restrict().map_err(refused)?.ruleset {
            RulesetStatus::NotEnforced => Err(Error::NoLandlock),
            status => Ok(Confined { is_whole: status == RulesetStatus::FullyEnforced }),
        }
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        Self::other(error)
    }
}
