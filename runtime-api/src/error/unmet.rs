//! What an engine does not offer.

use std::fmt;

/// One requirement that an engine does not meet.
///
/// ```
/// use polychord_runtime_api::{Capabilities, Error, Requirements};
///
/// let engine = Capabilities::new("mine", "1.0", "interpreter");
/// let refused = Requirements::NONE.mapping().check(&engine);
/// let Err(Error::Unmet { unmet, .. }) = refused else { panic!("it maps nothing") };
/// assert_eq!(unmet[0].to_string(), "mapping: needs yes, has no");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unmet {
    /// The field of [`Requirements`](crate::Requirements).
    pub field: &'static str,
    /// What is needed.
    pub needed: String,
    /// What there is.
    pub offered: String,
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { field, needed, offered } = self;
        write!(f, "{field}: needs {needed}, has {offered}")
    }
}
