//! The way from the root to a folder, one name at a time.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use rustix::process::geteuid;

use crate::{Access, Error, Result, failed};

/// Whether folders that are missing are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Made {
    IfMissing,
    Never,
}

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Opens the folder at `path` and returns it with its path without links. Checks every folder on
/// the way after it is opened, and every link before it is followed: so none of them is in a place
/// where another user can exchange it later.
pub(crate) fn walk(path: &Path, access: Access, made: Made) -> Result<(OwnedFd, PathBuf)> {
    let path = std::path::absolute(path).map_err(failed("find", path))?;
    let mut names = Vec::new();
    push(&mut names, &path);
    let mut at = Step::root()?;
    let mut links = 0;
    while let Some(name) = names.pop() {
        let next = at.path.join(&name);
        if name == ".." {
            at = at.open(&name, at.path.parent().unwrap_or(&at.path).to_owned(), Role::Above)?;
            continue;
        }
        let last = names.is_empty();
        let role = if last { Role::Last(access) } else { Role::Above };
        let Some(stat) = at.look(&name)? else {
            if made == Made::Never {
                return Err(failed("open", &next)(io::ErrorKind::NotFound.into()));
            }
            at.make(&name, role)?;
            at = at.open(&name, next, role)?;
            continue;
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
            at = at.open(&name, next, role)?;
            continue;
        }
        links += 1;
        if links > MAX_LINKS {
            return Err(failed("follow", &next)(Errno::LOOP.into()));
        }
        check_owner(&next, &stat, "the link")?;
        let target = at.read_link(&name)?;
        if target.is_absolute() {
            at = Step::root()?;
        }
        push(&mut names, &target);
    }
    Ok((at.fd, at.path))
}

/// Puts the names of a path on top of a stack, the first one uppermost.
fn push(names: &mut Vec<OsString>, path: &Path) {
    let names_of = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::Prefix(_) | Component::RootDir | Component::CurDir => None,
    });
    let start = names.len();
    names.extend(names_of);
    names[start..].reverse();
}

/// The checks that a folder has to pass.
#[derive(Clone, Copy)]
enum Role {
    Above,
    Last(Access),
}

/// A folder on the way.
struct Step {
    fd: OwnedFd,
    path: PathBuf,
}

impl Step {
    fn root() -> Result<Self> {
        let path = PathBuf::from("/");
        let opened = rustix::fs::open("/", flags(), Mode::empty());
        let fd = opened.map_err(|e| failed("open", &path)(e.into()))?;
        let step = Self { fd, path };
        step.check(Role::Above)?;
        Ok(step)
    }

    /// The entry of this name in the folder, if there is one.
    fn look(&self, name: &OsStr) -> Result<Option<Stat>> {
        match rustix::fs::statat(&self.fd, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(stat)),
            Err(Errno::NOENT) => Ok(None),
            Err(errno) => Err(failed("look at", &self.path.join(name))(errno.into())),
        }
    }

    fn make(&self, name: &OsStr, role: Role) -> Result<()> {
        let mode = match role {
            Role::Last(Access::Private) => 0o700,
            Role::Last(Access::Shared) | Role::Above => 0o755,
        };
        match rustix::fs::mkdirat(&self.fd, name, Mode::from_raw_mode(mode)) {
            Ok(()) | Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(failed("create", &self.path.join(name))(errno.into())),
        }
    }

    fn open(&self, name: &OsStr, path: PathBuf, role: Role) -> Result<Self> {
        let opened = rustix::fs::openat(&self.fd, name, flags(), Mode::empty());
        let fd = opened.map_err(|e| match e {
            // Something other than a folder has the name, so none can be made.
            Errno::NOTDIR => failed("create", &path)(e.into()),
            _ => failed("open", &path)(e.into()),
        })?;
        let step = Self { fd, path };
        step.check(role)?;
        Ok(step)
    }

    fn read_link(&self, name: &OsStr) -> Result<PathBuf> {
        let target = rustix::fs::readlinkat(&self.fd, name, Vec::new());
        let target = target.map_err(|e| failed("follow", &self.path.join(name))(e.into()))?;
        Ok(OsString::from_vec(target.into_bytes()).into())
    }

    fn check(&self, role: Role) -> Result<()> {
        let path = &self.path;
        let stat = rustix::fs::fstat(&self.fd).map_err(|e| failed("look at", path)(e.into()))?;
        let me = geteuid().as_raw();
        if matches!(role, Role::Last(Access::Private)) && stat.st_uid != me {
            let owner = stat.st_uid;
            let problem =
                format!("belongs to user {owner}, and not to user {me}, who runs this: delete it");
            return Err(Error::Unsafe { path: path.clone(), problem });
        }
        check_owner(path, &stat, "the folder")?;
        let mode = stat.st_mode & 0o7777;
        // In a sticky folder only the owner of an entry, or of the folder, can move it.
        let is_sticky = mode & 0o1000 != 0 && !matches!(role, Role::Last(Access::Private));
        if mode & 0o022 == 0 || is_sticky {
            return Ok(());
        }
        let (who, letter) = match mode & 0o022 {
            0o020 => ("its group", "g"),
            0o002 => ("everybody", "o"),
            _ => ("others", "go"),
        };
        let who = if matches!(role, Role::Above) { who } else { "others" };
        let problem = format!("can be written by {who} (mode {mode:04o}): run chmod {letter}-w");
        let sticky = match role {
            Role::Last(Access::Shared) => ", or chmod +t if it has to be shared",
            _ => "",
        };
        Err(Error::Unsafe { path: path.clone(), problem: problem + sticky })
    }
}

/// Folders that may be searched need not be readable.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The owner of a folder can exchange everything in it, and the owner of a link the link.
fn check_owner(path: &Path, stat: &Stat, what: &str) -> Result<()> {
    let (owner, me) = (stat.st_uid, geteuid().as_raw());
    if owner == me || owner == 0 {
        return Ok(());
    }
    let mode = stat.st_mode & 0o7777;
    let problem = format!(
        "belongs to user {owner} (mode {mode:04o}), who could replace what is reached by {what}, \
         and neither to root nor to user {me}, who runs this: choose another place, or run chown"
    );
    Err(Error::Unsafe { path: path.to_owned(), problem })
}
