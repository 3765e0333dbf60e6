//! Errors of the cache, with what the user can do about them.

use std::io;
use std::path::Path;

use polychord_runtime_api::Error;

use crate::error;

pub(super) fn failed(operation: &str, path: &Path, error: &io::Error) -> Error {
    refusal(&format!("cannot {operation} {}: {error}", path.display()))
}

pub(super) fn refused(error: polychord_folders::Error) -> Error {
    match error {
        polychord_folders::Error::Unsafe { path, problem } => {
            let path = path.display();
            error::compile(&format!(
                "compiled guests are native code, so no other user may be able to write where \
                 they are kept, but {path} {problem}; POLYCHORD_CACHE names another place"
            ))
        }
        error @ polychord_folders::Error::Io { .. } => refusal(&error.to_string()),
    }
}

pub(super) fn refusal(problem: &str) -> Error {
    error::compile(&format!(
        "{problem}. Compiled guests are kept in a folder of the user's own, which POLYCHORD_CACHE \
         can move"
    ))
}
