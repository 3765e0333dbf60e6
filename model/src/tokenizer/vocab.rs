//! The vocabulary of a file: texts, types and roles of its tokens.

use super::index::Index;
use super::{Error, bytes};
use crate::gguf::{Metadata, StringArray};

const MAX_TOKENS: usize = 1 << 20;
/// Longest text of one token, in bytes.
const MAX_TOKEN: usize = 4096;

/// How token texts stand for bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spelling {
    /// Each byte is written as one character (GPT-2's table).
    Bpe,
    /// Plain text with `▁` for a space; `<0x00>` for single bytes. Neighbors join by scores.
    Spm,
    /// Spelled like [`Self::Spm`], but neighbors join by merges, as in byte-level vocabularies.
    Raw,
    /// Plain text with `▁` where a word begins.
    WordPiece,
}

/// `tokenizer.ggml.token_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenType {
    Undefined,
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
}

/// Texts and types of all tokens, and which have a role.
#[derive(Debug)]
pub(super) struct Vocab {
    spelling: Spelling,
    texts: StringArray,
    ids: Index,
    types: Vec<TokenType>,
    size: u32,
    pub(super) bos: Option<u32>,
    pub(super) eos: Option<u32>,
    pub(super) unknown: Option<u32>,
    pub(super) add_bos: bool,
    pub(super) add_eos: bool,
}

impl Vocab {
    pub(super) fn from_metadata(
        metadata: &Metadata,
        spelling: Spelling,
        add_bos: bool,
    ) -> Result<Self, Error> {
        let key = "tokenizer.ggml.tokens";
        let texts = metadata.strings(key)?.ok_or(Error::Missing { key })?.clone();
        check_limits(&texts)?;
        let size = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        let ids = Index::new(&texts);
        if let Some((first, second)) = ids.duplicate() {
            let text = texts.get(first as usize).unwrap_or_default().to_owned();
            return Err(Error::DuplicateToken { first, second, text });
        }
        let types = types(metadata, &texts, spelling)?;
        // llama.cpp's defaults; byte-level vocabularies have none.
        let default = |id: u32| Some(id).filter(|&id| spelling == Spelling::Spm && id < size);
        if spelling == Spelling::WordPiece {
            return Self::of_words(metadata, texts, ids, types);
        }
        let flag = |key, default| Ok::<_, Error>(metadata.bool(key)?.unwrap_or(default));
        let (bos_key, eos_key) = ("tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token");
        let (mut add_bos, add_eos) = (flag(bos_key, add_bos)?, flag(eos_key, false)?);
        if spelling == Spelling::Raw && !add_bos {
            // Gemma 4 does not work without, whatever early files say.
            tracing::warn!(key = bos_key, "the key is false: the token is added all the same");
            add_bos = true;
        }
        let special = |name: &str, is_added, id| {
            let find = if is_added { required_id } else { special_id };
            Ok::<_, Error>(find(metadata, name, size)?.or(default(id)))
        };
        let vocab = Self {
            spelling,
            texts,
            ids,
            types,
            size,
            bos: special("bos", add_bos, 1)?,
            eos: special("eos", add_eos, 2)?,
            unknown: special("unknown", false, 0)?,
            add_bos,
            add_eos,
        };
        if vocab.add_bos && vocab.bos.is_none() {
            return Err(Error::NothingToAdd { key: bos_key });
        }
        if vocab.add_eos && vocab.eos.is_none() {
            return Err(Error::NothingToAdd { key: eos_key });
        }
        Ok(vocab)
    }

    /// Of a model whose texts are between two tokens, whatever its file says.
    fn of_words(
        metadata: &Metadata,
        texts: StringArray,
        ids: Index,
        types: Vec<TokenType>,
    ) -> Result<Self, Error> {
        let size = u32::try_from(texts.len()).unwrap_or(u32::MAX);
        // BERT's own numbers.
        let special = |name: &str, id: u32| {
            let found = required_id(metadata, name, size)?.or(Some(id).filter(|&id| id < size));
            Ok::<_, Error>(found)
        };
        // Early converters spelled it so.
        let separator = match special("seperator", u32::MAX)? {
            None => special("separator", 102)?,
            found => found,
        };
        let vocab = Self {
            spelling: Spelling::WordPiece,
            size,
            bos: special("bos", 101)?,
            eos: separator,
            unknown: special("unknown", 100)?,
            add_bos: true,
            add_eos: true,
            texts,
            ids,
            types,
        };
        match (vocab.bos, vocab.eos) {
            (None, _) => Err(Error::NothingToAdd { key: "tokenizer.ggml.bos_token_id" }),
            (_, None) => Err(Error::NothingToAdd { key: "tokenizer.ggml.seperator_token_id" }),
            _ => Ok(vocab),
        }
    }

    pub(super) fn spelling(&self) -> Spelling {
        self.spelling
    }

    /// The token of exactly this text.
    pub(super) fn find(&self, text: &str) -> Option<u32> {
        self.ids.find(text)
    }

    pub(super) fn size(&self) -> u32 {
        self.size
    }

    pub(super) fn text(&self, id: u32) -> Option<&str> {
        self.texts.get(usize::try_from(id).ok()?)
    }

    pub(super) fn token_type(&self, id: u32) -> Option<TokenType> {
        self.types.get(usize::try_from(id).ok()?).copied()
    }

    pub(super) fn set_type(&mut self, id: u32, to: TokenType) {
        if let Some(token_type) = usize::try_from(id).ok().and_then(|id| self.types.get_mut(id)) {
            *token_type = to;
        }
    }

    /// The ids of all tokens, with their types.
    pub(super) fn types(&self) -> impl Iterator<Item = (u32, TokenType)> {
        (0..).zip(self.types.iter().copied())
    }

    /// Appends what the token stands for; `None` if there is no such token.
    pub(super) fn append_piece(&self, id: u32, to: &mut Vec<u8>) -> Option<()> {
        let text = self.text(id)?;
        match (self.token_type(id)?, self.spelling) {
            (TokenType::UserDefined, _) => to.extend(text.bytes()),
            (TokenType::Normal, Spelling::Bpe) => text.chars().for_each(|c| bytes::append(c, to)),
            (TokenType::Normal, Spelling::Spm | Spelling::Raw | Spelling::WordPiece) => {
                to.extend(text.replace('▁', " ").bytes())
            }
            (TokenType::Byte, _) => to.extend(bytes::parse_hex(text)),
            (
                TokenType::Undefined | TokenType::Unknown | TokenType::Control | TokenType::Unused,
                _,
            ) => {}
        }
        Some(())
    }
}

fn check_limits(texts: &StringArray) -> Result<(), Error> {
    if texts.is_empty() {
        return Err(Error::Missing { key: "tokenizer.ggml.tokens" });
    }
    if texts.len() > MAX_TOKENS {
        return Err(Error::Limit { what: "tokens", count: texts.len(), limit: MAX_TOKENS });
    }
    match texts.iter().map(str::len).max() {
        Some(count) if count > MAX_TOKEN => {
            Err(Error::Limit { what: "bytes in one token", count, limit: MAX_TOKEN })
        }
        _ => Ok(()),
    }
}

fn types(
    metadata: &Metadata,
    texts: &StringArray,
    spelling: Spelling,
) -> Result<Vec<TokenType>, Error> {
    let key = "tokenizer.ggml.token_type";
    let Some(numbers) = metadata.i32s(key)? else {
        return Ok(vec![TokenType::Normal; texts.len()]);
    };
    if numbers.len() != texts.len() {
        return Err(Error::Length { key, found: numbers.len(), tokens: texts.len() });
    }
    let text = |id: u32| texts.get(id as usize).unwrap_or_default();
    (0..).zip(numbers).map(|(id, &number)| token_type(id, number, text, spelling)).collect()
}

fn token_type<'a>(
    id: u32,
    number: i32,
    text: impl Fn(u32) -> &'a str,
    spelling: Spelling,
) -> Result<TokenType, Error> {
    match number {
        0 => Ok(TokenType::Undefined),
        1 => Ok(TokenType::Normal),
        2 => Ok(TokenType::Unknown),
        3 => Ok(TokenType::Control),
        4 => Ok(TokenType::UserDefined),
        5 => Ok(TokenType::Unused),
        // Byte-level vocabularies spell bytes by GPT-2's table, so this form is not theirs.
        6 if spelling != Spelling::Bpe && bytes::parse_hex(text(id)).is_none() => {
            Err(Error::ByteToken { id, text: text(id).to_owned() })
        }
        6 => Ok(TokenType::Byte),
        other => Err(Error::TokenType { id, kind: other }),
    }
}

/// The id under `tokenizer.ggml.{name}_token_id`, if the key is there and names a token.
///
/// Some converters write ids of another vocabulary. A token that does not exist cannot come up, so
/// that such a key changes nothing, and llama.cpp ignores it, too.
pub(super) fn special_id(
    metadata: &Metadata,
    name: &str,
    tokens: u32,
) -> Result<Option<u32>, Error> {
    match required_id(metadata, name, tokens) {
        Err(Error::SpecialId { key, id, .. }) => {
            tracing::warn!(key, id, tokens, "there is no such token: the key is ignored");
            Ok(None)
        }
        other => other,
    }
}

/// The id under `tokenizer.ggml.{name}_token_id`, if the key is there.
fn required_id(metadata: &Metadata, name: &str, tokens: u32) -> Result<Option<u32>, Error> {
    let key = format!("tokenizer.ggml.{name}_token_id");
    let Some(id) = metadata.u64(&key)? else { return Ok(None) };
    match u32::try_from(id) {
        Ok(id) if id < tokens => Ok(Some(id)),
        _ => Err(Error::SpecialId { key, id, tokens }),
    }
}
