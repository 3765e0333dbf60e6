//! Renders a conversation into the text that a chat model was trained on.
//!
//! The template comes with the model and is hostile until proven otherwise: it can loop and
//! recurse, but neither reads files nor includes other templates, and the steps it takes,
//! its length, and the length of what it writes are bounded.
//! Memory for values in between is not: the engine puts no limit on strings that a template
//! doubles again and again.

mod python;

use std::io;
use std::time::SystemTime;

use minijinja::value::Serde;
use minijinja::{Environment, ErrorKind, context};
use serde::{Deserialize, Serialize};

use crate::gguf::{self, Gguf};

/// Longest template, in bytes; the longest known ones have about 20 KiB.
const MAX_TEMPLATE: usize = 256 << 10;
/// Steps of the template's own, and for each message.
const FUEL: (u64, u64) = (1_000_000, 10_000);
/// How deep macros may call each other.
const MAX_DEPTH: usize = 64;
/// What a template may write beside the messages, in bytes for the whole and for each.
const OUTPUT: (usize, usize) = (1 << 20, 16 << 10);

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most models.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into() }
    }
}

/// A model's chat template, ready to render.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    bos: String,
    eos: String,
}

/// Why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metadata value has the wrong type.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// The model has no template.
    #[error(
        "the model has no tokenizer.chat_template, so it is probably not made for chat: give it a plain prompt instead"
    )]
    Missing,
    /// A template that is too long.
    #[error(
        "tokenizer.chat_template has {found} bytes, more than the limit of {limit}: the file is not trustworthy"
    )]
    TooLong {
        /// Its length.
        found: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// A template that is not valid.
    #[error("tokenizer.chat_template is not a valid template: {reason}")]
    Syntax {
        /// What is wrong, and in which line.
        reason: String,
    },
    /// The template itself refused the conversation.
    #[error("the chat template refuses this conversation: {reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// The template ran for too long or wrote too much.
    #[error(
        "the chat template does not end within its bounds ({reason}): the file is not trustworthy"
    )]
    Unbounded {
        /// Which bound.
        reason: String,
    },
    /// The template failed.
    #[error("the chat template failed: {reason}")]
    Render {
        /// What is wrong, and in which line.
        reason: String,
    },
}

impl ChatTemplate {
    /// The template that the file holds.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is none, otherwise as [`Self::new`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        let metadata = gguf.metadata();
        let source = metadata.str("tokenizer.chat_template")?.ok_or(Error::Missing)?;
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let text = |key| -> Result<&str, Error> {
            let id = metadata.u64(key)?.and_then(|id| usize::try_from(id).ok());
            Ok(id.zip(tokens).and_then(|(id, tokens)| tokens.get(id)).unwrap_or_default())
        };
        let (bos, eos) =
            (text("tokenizer.ggml.bos_token_id")?, text("tokenizer.ggml.eos_token_id")?);
        Self::new(source, bos, eos)
    }

    /// A template in the Jinja dialect of Hugging Face, with the texts of the tokens that
    /// begin and end a sequence (empty if there are none).
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`] and [`Error::Syntax`].
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let (found, limit) = (source.len(), MAX_TEMPLATE);
        if found > limit {
            return Err(Error::TooLong { found, limit });
        }
        let syntax = |error: minijinja::Error| Error::Syntax { reason: error.to_string() };
        let mut environment = python::environment().map_err(syntax)?;
        environment.set_recursion_limit(MAX_DEPTH);
        environment.add_template_owned("chat", source.to_owned()).map_err(syntax)?;
        Ok(Self { environment, bos: bos.to_owned(), eos: eos.to_owned() })
    }

    /// Lets the template know the date (UTC), as `strftime_now`.
    ///
    /// Without it, templates that can do without write a fixed date or none, and the same
    /// conversation gives the same text every day.
    #[must_use]
    pub fn with_date(mut self, now: SystemTime) -> Self {
        python::set_date(&mut self.environment, now);
        self
    }

    /// Text of the conversation; with `add_generation_prompt` it ends where the model is to
    /// speak.
    ///
    /// Encode it with special tokens. A template cannot tell its own control tokens from the
    /// same characters in a message, so whoever writes a message can write them, too.
    ///
    /// # Errors
    ///
    /// If the template refuses the conversation, fails, or exceeds its bounds.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
    ) -> Result<String, Error> {
        let mut environment = self.environment.clone();
        let count = messages.len();
        environment.set_fuel(Some(FUEL.0.saturating_add(FUEL.1.saturating_mul(count as u64))));
        let template = environment.get_template("chat").map_err(render_error)?;
        let said: usize = messages.iter().map(|m| m.role.len() + m.content.len()).sum();
        let limit = OUTPUT
            .1
            .saturating_mul(count)
            .saturating_add(OUTPUT.0)
            .saturating_add(said.saturating_mul(2));
        let mut output = Bounded { bytes: Vec::new(), limit };
        let values = context! {
            messages => Serde(messages),
            add_generation_prompt,
            bos_token => &self.bos,
            eos_token => &self.eos,
            tools => (),
            documents => (),
        };
        template.render_captured_to(values, &mut output).map_err(render_error)?;
        Ok(String::from_utf8_lossy(&output.bytes).into_owned())
    }
}

fn render_error(error: minijinja::Error) -> Error {
    if let Some(reason) = python::refusal(&error) {
        return Error::Refused { reason };
    }
    match error.kind() {
        ErrorKind::OutOfFuel => Error::Unbounded { reason: "too many steps".to_owned() },
        ErrorKind::WriteFailure => Error::Unbounded { reason: "too long an output".to_owned() },
        _ => Error::Render { reason: error.to_string() },
    }
}

/// Collects what is written, up to a limit.
struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > self.limit - self.bytes.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
