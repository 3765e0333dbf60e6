//! An import that the host does not supply.

use std::fmt;

use polychord_plan::Printable;

/// An import of a module that the host does not supply as it is declared.
///
/// ```
/// use polychord_runtime_api::Error;
///
/// fn names(error: &Error) -> Vec<&str> {
///     let Error::Imports { unmatched } = error else { return Vec::new() };
///     unmatched.iter().map(|import| import.name.as_str()).collect()
/// }
/// # assert!(names(&Error::Exit { code: 0 }).is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmatched {
    /// Module part of the import.
    pub module: String,
    /// Name part of the import.
    pub name: String,
    /// Why not, and what there is instead.
    pub reason: String,
}

impl fmt::Display for Unmatched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { module, name, reason } = self;
        write!(f, "{}.{}: {}", Printable(module), Printable(name), Printable(reason))
    }
}
