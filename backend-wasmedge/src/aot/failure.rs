//! Errors of the cache, with what the user can do about them.

use std::io;
use std::path::Path;

use polychord_code_cache::{Error, FolderError};

use crate::error;

pub(super) fn failed(
    operation: &str,
    path: &Path,
    error: &io::Error,
) -> polychord_runtime_api::Error {
    refusal(&format!("cannot {operation} {}: {error}", path.display()))
}

/// The cache's folder cannot be opened.
pub(super) fn not_opened(error: Error, folder: &Path) -> polychord_runtime_api::Error {
    match error {
        Error::Folder(error @ FolderError::Io { .. }) => {
            refusal(&format!("there is no way to {}: {error}", folder.display()))
        }
        error => refused(error),
    }
}

/// There is no folder for caches.
pub(super) fn no_folder() -> polychord_runtime_api::Error {
    error::compile(
        "there is no folder for compiled guests: set POLYCHORD_CACHE, or use the interpreter, \
         which needs none",
    )
}

pub(super) fn refused(error: Error) -> polychord_runtime_api::Error {
    match error {
        Error::Folder(FolderError::Unsafe { path, problem }) => {
            let path = path.display();
            error::compile(&format!(
                "compiled guests are native code, so no other user may be able to write where \
                 they are kept, but {path} {problem}; POLYCHORD_CACHE names another place"
            ))
        }
        error => refusal(&error.to_string()),
    }
}

pub(super) fn refusal(problem: &str) -> polychord_runtime_api::Error {
    error::compile(&format!(
        "{problem}. Compiled guests are kept in a folder of the user's own, which POLYCHORD_CACHE \
         can move"
    ))
}
