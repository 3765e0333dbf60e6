//! Where this program is, to run it again.

use std::env;
use std::path::{Path, PathBuf};

use super::Failure;

/// The path of this program: from the system, or as it was called where the system does not say
/// (on Linux without `/proc`).
pub(crate) fn this_program() -> Result<PathBuf, Failure> {
    let error = match env::current_exe() {
        Ok(path) => return Ok(path),
        Err(error) => error,
    };
    let called = env::args_os().next().map(PathBuf::from);
    called.and_then(|name| found_as_a_shell_would(&name)).ok_or_else(|| {
        format!("this program has to run itself, and cannot find where it is: {error}").into()
    })
}

/// A name with a folder is a path, and one without is in one of the folders of `PATH`.
fn found_as_a_shell_would(name: &Path) -> Option<PathBuf> {
    if name.components().count() > 1 {
        return std::path::absolute(name).ok().filter(|path| path.is_file());
    }
    let folders = env::var_os("PATH")?;
    let mut paths = env::split_paths(&folders).map(|folder| folder.join(name));
    paths.find(|path| path.is_absolute() && path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_path_and_by_name() {
        let me = env::current_exe().unwrap();
        assert_eq!(this_program().unwrap(), me);
        assert_eq!(found_as_a_shell_would(&me), Some(me));
        assert_eq!(found_as_a_shell_would(Path::new("./no-such-program")), None);
        assert_eq!(found_as_a_shell_would(Path::new("no-such-program")), None);
        #[cfg(unix)]
        assert!(found_as_a_shell_would(Path::new("sh")).is_some());
    }
}
