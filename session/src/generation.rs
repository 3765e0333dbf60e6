//! Text being generated, token by token.

use polychord_model::sampler::{Sampler, Sampling};
use polychord_model::tokenizer::{Decoder, Tokenizer};

use crate::error::Result;
use crate::session::{Logits, Session};

/// Text being generated, token by token.
///
/// An iterator over [`Token`]s; it ends after a token that ends the model's answer, or after
/// the number of tokens asked for.
pub struct Generation<'a> {
    session: &'a mut Session,
    tokenizer: &'a Tokenizer,
    decoder: Option<Decoder<'a>>,
    sampler: Sampler,
    /// Prompt and answer, for the repeat penalty.
    tokens: Vec<u32>,
    /// How many of `tokens` the session has seen.
    seen: usize,
    remaining: usize,
}

/// One generated token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// Its id in the vocabulary.
    pub id: u32,
    /// The text that is complete with it; may be empty.
    pub text: String,
    /// True if it ends the model's answer.
    pub is_end: bool,
}

impl<'a> Generation<'a> {
    /// Continues a prompt by at most `max_tokens` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Sampler`](crate::Error::Sampler) if the options are out of range. The prompt
    /// is checked when the first token is asked for.
    pub fn new(
        session: &'a mut Session,
        tokenizer: &'a Tokenizer,
        prompt: &[u32],
        sampling: &Sampling,
        max_tokens: usize,
    ) -> Result<Self> {
        // There is no room for more in the session.
        let room = prompt.len().saturating_add(max_tokens).min(session.context() as usize + 1);
        let mut tokens = Vec::with_capacity(room.max(prompt.len()));
        tokens.extend_from_slice(prompt);
        Ok(Self {
            session,
            tokenizer,
            decoder: Some(tokenizer.decoder()),
            sampler: Sampler::new(sampling)?,
            tokens,
            seen: 0,
            remaining: max_tokens,
        })
    }

    /// The logits that the last token was chosen from.
    #[must_use]
    pub fn logits(&self) -> Logits<'_> {
        self.session.logits()
    }

    fn step(&mut self) -> Result<Token> {
        let logits = self.session.eval(&self.tokens[self.seen..])?;
        self.seen = self.tokens.len();
        let id = self.sampler.sample(logits.iter(), &self.tokens)?;
        self.tokens.push(id);
        self.remaining -= 1;
        let is_end = self.tokenizer.is_end_of_generation(id);
        let text = self.text_of(id, is_end)?;
        if is_end {
            self.remaining = 0;
        }
        Ok(Token { id, text, is_end })
    }

    /// The text of a token, and with the last one also what was kept back.
    fn text_of(&mut self, id: u32, is_end: bool) -> Result<String> {
        let mut text = String::new();
        if let Some(decoder) = self.decoder.as_mut().filter(|_| !is_end) {
            text = decoder.push(id)?;
        }
        if is_end || self.remaining == 0 {
            text.extend(self.decoder.take().map(Decoder::finish));
        }
        Ok(text)
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.remaining == 0 {
            return None;
        }
        let step = self.step();
        if step.is_err() {
            self.remaining = 0;
        }
        Some(step)
    }
}

impl std::fmt::Debug for Generation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Generation")
            .field("session", &self.session)
            .field("remaining", &self.remaining)
            .finish_non_exhaustive()
    }
}
