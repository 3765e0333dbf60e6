//! Text to token ids and back, as llama.cpp does it, from the vocabulary in a GGUF file.
//!
//! Supported are byte-level BPE (`tokenizer.ggml.model` = `gpt2`), BPE over plain text (`gemma4`),
//! SentencePiece BPE (`llama`) and WordPiece (`bert`).
//!
//! Opening a vocabulary makes one table of its tokens and checks its merges; all else is made when
//! it is first needed, or looked up in the metadata, which are shared. Tables hold places of texts,
//! and no text: a vocabulary of 256 k tokens opens in less than 100 ms.

mod bpe;
mod bytes;
mod classes;
mod decoder;
mod end;
mod error;
mod index;
mod joiner;
mod models;
mod patterns;
mod special;
mod split;
mod spm;
mod vocab;
mod wordpiece;

use crate::chat::Rendered;
use crate::gguf::Gguf;
use bpe::Bpe;
use special::{Span, Specials};
use spm::Spm;
use vocab::{Spelling, Vocab};
use wordpiece::WordPiece;

pub use decoder::{Decoder, PendingText};
pub use error::Error;
pub use special::SpecialTokens;

/// The vocabulary of a model, and how it cuts text into tokens.
///
/// ```no_run
/// use polychord_model::gguf::Gguf;
/// use polychord_model::tokenizer::{SpecialTokens, Tokenizer};
///
/// fn count(gguf: &Gguf, text: &str) -> Result<usize, polychord_model::tokenizer::Error> {
///     let tokenizer = Tokenizer::from_gguf(gguf)?;
///     Ok(tokenizer.encode_prompt(text, SpecialTokens::AsText)?.len())
/// }
/// ```
#[derive(Debug)]
pub struct Tokenizer {
    vocab: Vocab,
    specials: Specials,
    algorithm: Algorithm,
    /// In order.
    end_of_generation: Vec<u32>,
}

#[derive(Debug)]
enum Algorithm {
    Bpe(Bpe),
    Spm(Spm),
    WordPiece(WordPiece),
}

impl Tokenizer {
    /// Builds the tokenizer that the file's metadata describe.
    ///
    /// # Errors
    ///
    /// If metadata are missing, of the wrong type or contradictory, or name a tokenizer or
    /// pre-tokenizer that is not supported.
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        let metadata = gguf.metadata();
        let key = "tokenizer.ggml.model";
        let (spelling, default_bos) = match metadata.str(key)?.ok_or(Error::Missing { key })? {
            models::BPE => (Spelling::Bpe, None),
            models::SPM => (Spelling::Spm, Some(true)),
            models::GEMMA4 => (Spelling::Raw, None),
            models::WORDPIECE => (Spelling::WordPiece, Some(true)),
            found => return Err(Error::Model { found: found.to_owned() }),
        };
        let pre = split::PreTokenizer::from_metadata(metadata, spelling)?;
        let add_bos = default_bos.unwrap_or(pre.adds_bos());
        let mut vocab = Vocab::from_metadata(metadata, spelling, add_bos)?;
        let end_of_generation = end::mark(&mut vocab, metadata)?;
        // Of names that are not UTF-8 nothing is known.
        let name = metadata.str("general.name").ok().flatten().unwrap_or_default();
        let specials = Specials::new(&vocab, name)?;
        let algorithm = match spelling {
            Spelling::Bpe | Spelling::Raw => Algorithm::Bpe(Bpe::new(&vocab, metadata, pre)?),
            Spelling::Spm => Algorithm::Spm(Spm::new(&vocab, metadata)?),
            Spelling::WordPiece => Algorithm::WordPiece(WordPiece::new(&vocab, metadata)?),
        };
        Ok(Self { vocab, specials, algorithm, end_of_generation })
    }

    /// Ids of `text`, without a beginning-of-sequence token.
    ///
    /// With [`SpecialTokens::Parse`] the texts of control tokens (such as `<|im_end|>`) become
    /// those tokens, as in llama.cpp; never use that for the words of people who are not to
    /// control the model. The model's *user-defined* tokens are always recognized: they are
    /// ordinary text that should not be cut.
    ///
    /// Bytes that a byte-level vocabulary lacks are left out, as in llama.cpp.
    ///
    /// # Errors
    ///
    /// [`Error::Encode`] if the tokenizer fails on the text.
    pub fn encode(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, Error> {
        Ok(self.encode_parts(self.specials.split(&self.vocab, text, special)?))
    }

    /// Ids of a text that is to be continued: those of [`Self::encode`] after the
    /// beginning-of-sequence token, if the model wants one (`tokenizer.ggml.add_bos_token`).
    ///
    /// Where the text itself begins with the beginning-of-sequence token, as many chat
    /// templates do, it is not added again. No token ends the sequence, since something is to
    /// follow; see [`Self::encode_document`].
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::encode`].
    pub fn encode_prompt(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, Error> {
        Ok(self.begun(self.encode(text, special)?))
    }

    /// Ids of a text that is finished, as for embeddings: those of [`Self::encode_prompt`], and
    /// the end-of-sequence token, if the model wants one (`tokenizer.ggml.add_eos_token`).
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::encode`].
    pub fn encode_document(&self, text: &str, special: SpecialTokens) -> Result<Vec<u32>, Error> {
        let mut ids = self.encode_prompt(text, special)?;
        if let Some(eos) = self.vocab.eos.filter(|_| self.vocab.add_eos)
            && ids.last() != Some(&eos)
        {
            ids.push(eos);
        }
        Ok(ids)
    }

    /// Ids of a conversation that is to be continued, as [`Self::encode_prompt`] begins it.
    ///
    /// Control tokens are recognized in what the template wrote, never in what came from a
    /// message: there they stay text, and so do user-defined tokens that look like markup.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Self::encode`].
    pub fn encode_chat(&self, conversation: &Rendered) -> Result<Vec<u32>, Error> {
        let (text, trusted) = (conversation.as_str(), conversation.template_ranges());
        let parts = self.specials.split_trusted(&self.vocab, text, trusted)?;
        Ok(self.begun(self.encode_parts(parts)))
    }

    fn encode_parts(&self, parts: Vec<Span<'_>>) -> Vec<u32> {
        let mut ids = Vec::new();
        let mut after_special = true;
        for part in parts {
            match (part, &self.algorithm) {
                (Span::Token(id), _) => ids.push(id),
                (Span::Text(text), Algorithm::Bpe(bpe)) => bpe.encode(&self.vocab, text, &mut ids),
                (Span::Text(text), Algorithm::Spm(spm)) => {
                    spm.encode(&self.vocab, text, after_special, &mut ids)
                }
                (Span::Text(text), Algorithm::WordPiece(pieces)) => {
                    pieces.encode(&self.vocab, text, &mut ids)
                }
            }
            after_special = matches!(part, Span::Token(_));
        }
        ids
    }

    /// Puts the beginning-of-sequence token in front, if it is wanted and not there.
    fn begun(&self, mut ids: Vec<u32>) -> Vec<u32> {
        if let Some(bos) = self.vocab.bos.filter(|_| self.vocab.add_bos)
            && ids.first() != Some(&bos)
        {
            ids.insert(0, bos);
        }
        ids
    }

    /// Text of `ids`, without control tokens; invalid UTF-8 becomes U+FFFD.
    ///
    /// Where the model puts a space before text when encoding, one leading space is taken off.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`] if an id is not in the vocabulary.
    pub fn decode(&self, ids: &[u32]) -> Result<String, Error> {
        let mut bytes = Vec::new();
        for &id in ids {
            self.append_piece(id, &mut bytes)?;
        }
        let prefixed = match &self.algorithm {
            Algorithm::Spm(spm) => spm.adds_space_prefix(),
            Algorithm::WordPiece(_) => true,
            Algorithm::Bpe(_) => false,
        };
        let bytes = bytes.strip_prefix(b" ").filter(|_| prefixed).unwrap_or(&bytes);
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Whether a model that chooses this token wants to stop.
    #[must_use]
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.end_of_generation.binary_search(&id).is_ok()
    }

    /// Number of tokens; ids are below this.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.vocab.size()
    }

    /// Beginning of a sequence.
    #[must_use]
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// End of a sequence.
    #[must_use]
    pub fn eos(&self) -> Option<u32> {
        self.vocab.eos
    }

    /// Text of one token as the vocabulary spells it (`Ġthe`, `▁the`, `<|im_end|>`), for
    /// listings.
    #[must_use]
    pub fn token_text(&self, id: u32) -> Option<&str> {
        self.vocab.text(id)
    }

    /// The bytes that a token stands for in a text, which may be a part of a character; none for
    /// control tokens.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownId`] if the id is not in the vocabulary.
    pub fn piece(&self, id: u32) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.append_piece(id, &mut bytes)?;
        Ok(bytes)
    }

    /// Appends what `id` stands for; control tokens stand for nothing.
    fn append_piece(&self, id: u32, to: &mut Vec<u8>) -> Result<(), Error> {
        let vocab = self.vocab_size();
        self.vocab.append_piece(id, to).ok_or(Error::UnknownId { id, vocab })
    }
}
