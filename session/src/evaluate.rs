//! What text is generated from, wherever it computes.

use std::fmt;

use crate::error::Result;
use crate::logits::Logits;

/// A sequence of tokens, and the logits behind it: a [`Session`](crate::Session), or one that computes elsewhere.
///
/// [`Generation`](crate::Generation) makes text of any of them.
///
/// ```no_run
/// use polychord_session::{Error, Evaluate};
///
/// fn best(session: &mut dyn Evaluate, tokens: &[u32]) -> Result<Option<usize>, Error> {
///     session.rewind(0)?;
///     let logits = session.eval(tokens)?;
///     let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(&b.1));
///     Ok(best.map(|(token, _)| token))
/// }
/// ```
pub trait Evaluate: fmt::Debug + Send {
    /// Most tokens of the sequence.
    fn context(&self) -> u32;

    /// The sequence.
    fn tokens(&self) -> &[u32];

    /// Appends tokens and computes what follows the last of them, as [`Session::eval`](crate::Session::eval) does.
    ///
    /// # Errors
    ///
    /// The errors of [`Session::eval`](crate::Session::eval), and what can go wrong on the way to where it computes.
    fn eval(&mut self, tokens: &[u32]) -> Result<Logits<'_>>;

    /// The logits that the last [`eval`](Self::eval) computed.
    fn logits(&self) -> Logits<'_>;

    /// Forgets all but the first `len` tokens, or more, and tells how many are left, as
    /// [`Session::rewind`](crate::Session::rewind) does.
    ///
    /// # Errors
    ///
    /// The errors of [`Session::rewind`](crate::Session::rewind), and what can go wrong on the way to where it computes.
    fn rewind(&mut self, len: u32) -> Result<u32>;
}

/// Forgets what does not begin as `sequence` does; tells how many of its tokens are left.
pub(crate) fn rewind_to(session: &mut dyn Evaluate, sequence: &[u32]) -> Result<u32> {
    let same = session.tokens().iter().zip(sequence).take_while(|(a, b)| a == b).count();
    // No more than the context.
    session.rewind(u32::try_from(same).unwrap_or(u32::MAX))
}
