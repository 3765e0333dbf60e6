//! What a guest may do in a directory.

/// What a guest may do in a directory that it was given, and in everything below it.
///
/// ```
/// use polychord_wasi::Access;
///
/// assert_ne!(Access::ReadOnly, Access::ReadWrite);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Access {
    /// Lists directories and reads files. Whatever would change something fails with `EROFS`.
    ReadOnly,
    /// Creates, changes, renames and removes as well.
    ReadWrite,
}

impl Access {
    pub(crate) fn may_write(self) -> bool {
        self == Self::ReadWrite
    }
}
