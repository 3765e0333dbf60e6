//! The outcome of a case, and a failure with its place in the suite.

use std::error::Error;
use std::fmt;
use std::panic::Location;

/// The result of a case.
///
/// ```
/// use polychord_conformance::{Engine, Failure, Outcome};
///
/// /// A case of one's own, written like those of the suite.
/// fn compiles_nothing(engine: &dyn Engine) -> Outcome {
///     match engine.compile(b"") {
///         Ok(_) => Err(Failure::new("it compiles what is no module")),
///         Err(_) => Ok(()),
///     }
/// }
/// ```
pub type Outcome = Result<(), Failure>;

/// Why a case failed, and where in the suite that was noticed.
///
/// Any error turns into a failure by `?`, so a case reads like a program that uses the API.
///
/// ```
/// use polychord_conformance::{Failure, Outcome};
///
/// fn number(text: &str) -> Outcome {
///     // Any error becomes a failure.
///     let number: u32 = text.parse()?;
///     if number == 7 { Ok(()) } else { Err(Failure::new(format!("{number} is not 7"))) }
/// }
/// assert!(number("7").is_ok());
/// assert!(number("8").unwrap_err().to_string().contains("8 is not 7"));
/// assert!(number("x").unwrap_err().to_string().contains("invalid digit"));
/// ```
pub struct Failure {
    message: String,
    place: &'static Location<'static>,
}

impl Failure {
    /// A failure that is noticed where this is called.
    #[must_use]
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), place: Location::caller() }
    }
}

impl<E: Error> From<E> for Failure {
    #[track_caller]
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(error) = source {
            let text = error.to_string();
            // Some errors name their cause themselves.
            if !message.ends_with(&text) {
                message = format!("{message}: {text}");
            }
            source = error.source();
        }
        Self::new(format!("unexpected error: {message}"))
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\nat {}", self.message, self.place)
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
