//! Which engines may share a process.
//!
//! Engines catch traps by signals, and signal handlers belong to the whole process. Most
//! engines pass on what is not theirs; one that does not must have the process to itself.

use std::sync::{Mutex, PoisonError};

use crate::error::{Error, Result};

/// How an engine treats the handlers of SIGSEGV, SIGBUS and SIGFPE.
///
/// ```
/// use polychord_runtime_api::spi::{SignalUse, claim_signals};
///
/// claim_signals("mine", SignalUse::Shared)?;
/// // The other engine would not pass on the signals of the first.
/// assert!(claim_signals("theirs", SignalUse::Exclusive).is_err());
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignalUse {
    /// It sets them once, and passes on the signals that are not its own.
    Shared,
    /// It replaces them and passes nothing on: the next trap of another engine would end the
    /// process.
    Exclusive,
}

/// The engines of a process, in the order in which they came.
#[derive(Debug, Default)]
struct Claims(Vec<(&'static str, SignalUse)>);

/// Lets an engine have the process's signal handlers, for good: no engine gives them back.
///
/// A backend calls this before its engine could touch them, as often as it likes.
///
/// # Errors
///
/// [`Error::SignalConflict`] if an engine that came before does not get along with this one.
pub fn claim_signals(engine: &'static str, how: SignalUse) -> Result<()> {
    static CLAIMS: Mutex<Claims> = Mutex::new(Claims(Vec::new()));
    CLAIMS.lock().unwrap_or_else(PoisonError::into_inner).claim(engine, how)
}

impl Claims {
    fn claim(&mut self, engine: &'static str, how: SignalUse) -> Result<()> {
        let in_the_way = |(other, theirs): &&(&'static str, SignalUse)| {
            *other != engine && SignalUse::Exclusive == how.max(*theirs)
        };
        if let Some((other, theirs)) = self.0.iter().find(in_the_way) {
            let exclusive = if *theirs == SignalUse::Exclusive { other } else { engine };
            return Err(Error::SignalConflict { engine, other, exclusive });
        }
        if !self.0.contains(&(engine, how)) {
            self.0.push((engine, how));
        }
        Ok(())
    }
}

impl SignalUse {
    fn max(self, other: Self) -> Self {
        if self == Self::Shared { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_that_is_alone_may_be_exclusive() {
        use SignalUse::{Exclusive, Shared};

        for (first, second, fits) in [
            (Shared, Shared, true),
            (Shared, Exclusive, false),
            (Exclusive, Shared, false),
            (Exclusive, Exclusive, false),
        ] {
            let mut claims = Claims::default();
            claims.claim("a", first).unwrap();
            claims.claim("a", first).unwrap();
            let result = claims.claim("b", second);
            assert_eq!(result.is_ok(), fits, "{first:?} {second:?}");
            if let Err(error) = result {
                let message = error.to_string();
                assert!(message.contains("b cannot") && message.contains("process"), "{message}");
            }
            // The engine that was there may go on.
            claims.claim("a", first).unwrap();
        }
    }
}
