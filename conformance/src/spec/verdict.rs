//! Verdicts on the directives of the official tests.

/// The outcome of a directive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The engine did as the specification says.
    Passed,
    /// It did something else.
    Failed(String),
    /// What it asks for was refused, as it should be.
    Refused(String),
    /// The API cannot express it.
    NotExpressible(String),
}

impl Verdict {
    /// A letter for it.
    pub(super) const fn letter(&self) -> char {
        match self {
            Self::Passed => 'p',
            Self::Failed(_) => 'f',
            Self::Refused(_) => 'r',
            Self::NotExpressible(_) => 'n',
        }
    }
}
