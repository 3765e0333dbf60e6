//! From token ids to text, one at a time.

use super::Tokenizer;
use super::error::Error;

/// Turns generated tokens into text one by one, for a tokenizer that it borrows.
///
/// A character may be spread over tokens: its bytes are kept back until it is complete, so
/// that every piece of text handed out is final.
///
/// ```no_run
/// use polychord_model::tokenizer::{Error, Tokenizer};
///
/// fn print(tokenizer: &Tokenizer, ids: &[u32]) -> Result<(), Error> {
///     let mut decoder = tokenizer.decoder();
///     for id in ids {
///         print!("{}", decoder.push(*id)?);
///     }
///     println!("{}", decoder.finish());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Decoder<'a> {
    tokenizer: &'a Tokenizer,
    pending: PendingText,
}

impl Tokenizer {
    /// Starts turning generated tokens into text one by one.
    #[must_use]
    pub fn decoder(&self) -> Decoder<'_> {
        Decoder { tokenizer: self, pending: PendingText::default() }
    }
}

impl Decoder<'_> {
    /// The text that is complete with this token; often empty. Control tokens have no text.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`] if the id is not in the vocabulary.
    pub fn push(&mut self, id: u32) -> Result<String, Error> {
        self.pending.push(self.tokenizer, id)
    }

    /// What is still kept back: a U+FFFD if the text ends inside a character.
    #[must_use]
    pub fn finish(mut self) -> String {
        self.pending.finish()
    }
}

/// The state of a [`Decoder`] without its tokenizer, for callers that own both.
///
/// ```no_run
/// use polychord_model::tokenizer::{Error, PendingText, Tokenizer};
///
/// struct Answer {
///     tokenizer: Tokenizer,
///     pending: PendingText,
/// }
///
/// impl Answer {
///     fn push(&mut self, id: u32) -> Result<String, Error> {
///         self.pending.push(&self.tokenizer, id)
///     }
/// }
/// ```
#[derive(Clone, Debug, Default)]
pub struct PendingText {
    bytes: Vec<u8>,
}

impl PendingText {
    /// The text that is complete with this token; often empty. Control tokens have no text.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`] if the id is not in the vocabulary of `tokenizer`.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> Result<String, Error> {
        tokenizer.append_piece(id, &mut self.bytes)?;
        Ok(take_complete(&mut self.bytes))
    }

    /// Takes what is still kept back: a U+FFFD if the text ends inside a character.
    #[must_use]
    pub fn finish(&mut self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.bytes)).into_owned()
    }
}

/// Takes all but an incomplete character at the end; invalid bytes become U+FFFD.
fn take_complete(pending: &mut Vec<u8>) -> String {
    let mut text = String::new();
    loop {
        match std::str::from_utf8(pending) {
            Ok(rest) => {
                text.push_str(rest);
                pending.clear();
                return text;
            }
            Err(error) => {
                let (valid, rest) = pending.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                let Some(invalid) = error.error_len() else {
                    *pending = rest.to_vec();
                    return text;
                };
                text.push(char::REPLACEMENT_CHARACTER);
                *pending = rest[invalid..].to_vec();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::take_complete;

    #[test]
    fn incomplete_characters_are_kept_back() {
        let mut pending = b"a\xf0\x9f".to_vec();
        assert_eq!(take_complete(&mut pending), "a");
        assert_eq!(pending, b"\xf0\x9f");
        pending.extend(b"\x98\x80!");
        assert_eq!(take_complete(&mut pending), "😀!");
        assert!(pending.is_empty());
    }

    #[test]
    fn invalid_bytes_are_replaced() {
        let mut pending = b"\xffa\xf0\x9fb\xc3".to_vec();
        assert_eq!(take_complete(&mut pending), "\u{fffd}a\u{fffd}b");
        assert_eq!(pending, b"\xc3");
    }
}
