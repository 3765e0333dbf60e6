//! What an answer is held to.

use polychord_model::tokenizer::Tokenizer;

/// What an answer is held to, token by token: a grammar, or anything else that knows what may follow.
///
/// ```
/// use polychord_model::tokenizer::Tokenizer;
/// use polychord_session::generate::Hold;
///
/// /// Only these tokens.
/// struct Only(Vec<u32>);
///
/// impl Hold for Only {
///     fn exclude(&mut self, logits: &mut [f32], _: &Tokenizer) -> Result<(), String> {
///         let is_other = |id: &u32| !self.0.contains(id);
///         for (_, logit) in (0..).zip(logits).filter(|(id, _)| is_other(id)) {
///             *logit = f32::NEG_INFINITY;
///         }
///         Ok(())
///     }
///
///     fn follow(&mut self, _: u32) -> Result<bool, String> {
///         Ok(false)
///     }
/// }
/// ```
pub trait Hold: Send {
    /// Gives negative infinity to all tokens that may not come next. One at least has to be left.
    ///
    /// # Errors
    ///
    /// Why that cannot be said.
    fn exclude(&mut self, logits: &mut [f32], tokenizer: &Tokenizer) -> Result<(), String>;

    /// Takes the token that was chosen, which does not end the answer by itself. Tells whether nothing
    /// can follow it.
    ///
    /// # Errors
    ///
    /// Why it cannot be followed.
    fn follow(&mut self, id: u32) -> Result<bool, String>;
}
