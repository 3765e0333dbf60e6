//! Renders a conversation into the text that a chat model was trained on.
//!
//! The template comes with the model and is hostile until proven otherwise. It is run by an
//! interpreter of its own, for what engines for templates do not bound: how long chains of
//! operators are, how deep values lie in each other, how much memory texts and lists take, and
//! what one step costs. A template can loop and recurse, but neither reads files nor includes
//! other templates, and whatever it does is counted before it is done (`limits`).
//!
//! Every byte of the result is known to come from the template or from a message, so that
//! control tokens in a message stay text (`text`).
//!
//! A template is parsed and rendered on a thread with a stack of its own, so that the caller's may
//! be small. WebAssembly without an operating system has no threads: there, both run on the
//! caller's stack and need about 2 MiB of it, so link with at least that (`-z stack-size`).

mod access;
mod ast;
mod built_in;
mod checks;
mod data;
mod date;
mod dict_builder;
mod equality;
mod filters;
mod format;
mod given;
mod json;
mod lexer;
mod limits;
mod methods;
mod operators;
mod parser;
mod platform;
mod rendered;
mod run;
mod show;
mod strings;
mod text;
mod value;
mod variables;

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use crate::ErrorKind;
use crate::gguf::{self, Gguf, Metadata};
use ast::Block;
use date::Date;
use dict_builder::DictBuilder;
use limits::{Limits, Meter, Stop, TEMPLATE};
use platform::on_known_stack;
use run::Run;
use text::Origin;
use value::{List, Value};

pub use built_in::BuiltIn;
pub use data::{Fields, Json};
pub use rendered::Rendered;
pub use variables::Variables;

/// One turn of a conversation.
///
/// ```
/// use polychord_model::chat::Message;
///
/// let message = Message::new("user", "My name is Ann.");
/// assert_eq!((&*message.role, &*message.content), ("user", "My name is Ann."));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant` in most models.
    pub role: String,
    /// What is said.
    pub content: String,
    /// What else templates ask about: `tool_calls`, `tool_call_id`, `name`, `reasoning_content`.
    #[serde(flatten, default, skip_serializing_if = "Fields::is_empty")]
    pub more: Fields,
}

impl Message {
    /// A turn of `role`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Self { role: role.into(), content: content.into(), more: Fields::default() }
    }

    /// Adds what templates ask about beside the content, in the form of the `OpenAI` API: the
    /// `tool_calls` of an answer, the `tool_call_id` and `name` of a result, the
    /// `reasoning_content` before an answer. Text in it counts as the content does: control tokens
    /// stay text.
    ///
    /// ```
    /// use polychord_model::chat::{Json, Message};
    ///
    /// let calls: Json =
    ///     r#"[{"type": "function", "function": {"name": "clock", "arguments": {}}}]"#.parse()?;
    /// let turn = Message::new("assistant", "").with("tool_calls", calls);
    /// assert!(turn.more.get("tool_calls").is_some());
    /// # Ok::<(), serde_json::Error>(())
    /// ```
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.more.set(name, value);
        self
    }
}

/// Whether a rendered conversation ends where the model is to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GenerationPrompt {
    /// It ends with the beginning of the model's turn.
    Add,
    /// It ends with the last message.
    Omit,
}

/// A model's chat template, ready to render.
///
/// ```
/// use polychord_model::chat::{ChatTemplate, GenerationPrompt, Message};
///
/// let source = "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}\
///               {% if add_generation_prompt %}<assistant>{% endif %}";
/// let template = ChatTemplate::new(source, "<s>", "</s>")?;
/// let text = template.render(&[Message::new("user", "Hello!")], GenerationPrompt::Add)?;
/// assert_eq!(text, "<user>Hello!\n<assistant>");
/// # Ok::<(), polychord_model::chat::Error>(())
/// ```
#[derive(Debug)]
pub struct ChatTemplate {
    block: Block,
    bos: String,
    eos: String,
    date: Option<Date>,
    source: String,
    stops: Vec<String>,
    note: Option<String>,
}

/// Why a conversation cannot be rendered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A metadata value has the wrong type.
    #[error(transparent)]
    Gguf(#[from] gguf::Error),
    /// The model has no template, and nothing tells which one it was made for.
    #[error(
        "the model has no tokenizer.chat_template, and its vocabulary has no tokens that tell which one it was made \
         for (such as <|im_start|>): give it one of {}, or a file (--chat-template), or give it a plain prompt instead",
        names()
    )]
    Missing,
    /// A name that no template has.
    #[error(
        "there is no chat template {name:?}: give one of {}, or the text of a template in Jinja",
        names()
    )]
    Unknown {
        /// What was given.
        name: String,
    },
    /// A template that is too long.
    #[error(
        "the chat template (tokenizer.chat_template) has {found} bytes, more than the limit of {limit}: the file is not trustworthy"
    )]
    TooLong {
        /// Its length.
        found: usize,
        /// The longest that is accepted.
        limit: usize,
    },
    /// A template that is not valid.
    #[error("the chat template (tokenizer.chat_template) is not a valid template: {reason}")]
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
    /// The template is nested too deep, runs for too long, or takes too much memory.
    #[error(
        "the chat template does not stay within its bounds ({reason}): the file is not trustworthy"
    )]
    Unbounded {
        /// Which bound, with its number.
        reason: String,
    },
    /// The template failed.
    #[error("the chat template failed: {reason}")]
    Render {
        /// What is wrong, and in which line.
        reason: String,
    },
}

impl Error {
    /// What went wrong, for programs that act on it.
    #[must_use]
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Gguf(error) => error.kind(),
            Self::Missing => ErrorKind::Unsupported,
            Self::Refused { .. } | Self::Unknown { .. } => ErrorKind::InvalidArgument,
            _ => ErrorKind::InvalidFile,
        }
    }
}

impl ChatTemplate {
    /// The template of a model: the one that its file holds, or else a [`BuiltIn`] one whose tokens
    /// the vocabulary has; [`note`](Self::note) says so. It knows the date of the day, where there is a
    /// clock ([`Self::with_date_of_today`]).
    ///
    /// A base model, which has the tokens of its family but has not learned them, gets `transcript`:
    /// turns are plain text there, and [`stop_texts`](Self::stop_texts) end an answer.
    ///
    /// # Errors
    ///
    /// [`Error::Missing`] if there is none, otherwise those of [`Self::new`].
    pub fn from_gguf(gguf: &Gguf) -> Result<Self, Error> {
        let metadata = gguf.metadata();
        let own = metadata.str("tokenizer.chat_template")?;
        if let Some(source) = own.filter(|source| !source.trim().is_empty()) {
            return Self::of_model(metadata, source);
        }
        let (built_in, why) = BuiltIn::of_file(metadata)?.ok_or(Error::Missing)?;
        let note =
            format!("the model has no tokenizer.chat_template; {} is used: {why}", built_in.name());
        Ok(Self { note: Some(note), ..Self::of_built_in(metadata, built_in)? })
    }

    /// A template for a model in place of its own: the name of a [`BuiltIn`] one, or the text of any.
    ///
    /// ```no_run
    /// use polychord_model::chat::{ChatTemplate, Error};
    /// use polychord_model::gguf::Gguf;
    ///
    /// fn chatml(gguf: &Gguf) -> Result<ChatTemplate, Error> {
    ///     ChatTemplate::given(gguf, "chatml")
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Unknown`] for a name that none has: a text without `{`. Otherwise those of [`Self::new`].
    pub fn given(gguf: &Gguf, name_or_source: &str) -> Result<Self, Error> {
        let metadata = gguf.metadata();
        match BuiltIn::find(name_or_source) {
            Some(built_in) => Self::of_built_in(metadata, built_in),
            None if name_or_source.contains('{') => Self::of_model(metadata, name_or_source),
            None => Err(Error::Unknown { name: name_or_source.chars().take(80).collect() }),
        }
    }

    fn of_built_in(metadata: &Metadata, built_in: BuiltIn) -> Result<Self, Error> {
        let stops = built_in.stop_texts(metadata)?;
        Ok(Self { stops, ..Self::of_model(metadata, built_in.source())? })
    }

    /// A template with the texts that begin and end a sequence of this model.
    fn of_model(metadata: &Metadata, source: &str) -> Result<Self, Error> {
        let tokens = metadata.strings("tokenizer.ggml.tokens")?;
        let text = |key| -> Result<&str, Error> {
            let id = metadata.u64(key)?.and_then(|id| usize::try_from(id).ok());
            Ok(id.zip(tokens).and_then(|(id, tokens)| tokens.get(id)).unwrap_or_default())
        };
        let (bos, eos) =
            (text("tokenizer.ggml.bos_token_id")?, text("tokenizer.ggml.eos_token_id")?);
        Ok(Self::new(source, bos, eos)?.with_date_of_today())
    }

    /// A template in the Jinja dialect of Hugging Face, with the texts of the tokens that
    /// begin and end a sequence (empty if there are none).
    ///
    /// It has no `strftime_now` until a date is given, so the same conversation gives the same
    /// text every day.
    ///
    /// # Errors
    ///
    /// [`Error::TooLong`], [`Error::Syntax`], and [`Error::Unbounded`] for one that is nested
    /// too deep.
    pub fn new(source: &str, bos: &str, eos: &str) -> Result<Self, Error> {
        let (found, limit) = (source.len(), TEMPLATE);
        if found > limit {
            return Err(Error::TooLong { found, limit });
        }
        let lines = source.replace("\r\n", "\n").replace('\r', "\n");
        let lines = lines.strip_suffix('\n').unwrap_or(&lines);
        let block = on_known_stack(|| parser::parse(lines)).map_err(|stop| match stop {
            Stop::Failed { reason, line } => Error::Syntax { reason: located(reason, line) },
            other => other.into(),
        })?;
        let [source, bos, eos] = [source, bos, eos].map(str::to_owned);
        Ok(Self { block, bos, eos, date: None, source, stops: Vec::new(), note: None })
    }

    /// The text of the template.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Texts that end an answer and are no part of it, beside the tokens that do: few templates need any.
    #[must_use]
    pub fn stop_texts(&self) -> &[String] {
        &self.stops
    }

    /// Where the template comes from and why, if the model's file has none and none was given: a line for people.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Lets the template know the date (UTC), as `strftime_now`.
    #[must_use]
    pub fn with_date(mut self, now: SystemTime) -> Self {
        self.date = Some(Date::Fixed(now));
        self
    }

    /// Lets the template know the local date of the day on which it is rendered, as
    /// `strftime_now`.
    ///
    /// On WebAssembly without an operating system (`wasm32-unknown-unknown`) there is no clock:
    /// the template gets no date there, and [`Self::with_date`] gives it one.
    #[must_use]
    pub fn with_date_of_today(mut self) -> Self {
        self.date = Date::today();
        self
    }

    /// Takes the date away. Templates that can do without then write a fixed one or none.
    #[must_use]
    pub fn without_date(mut self) -> Self {
        self.date = None;
        self
    }

    /// The conversation as text, which [`Tokenizer::encode_chat`] turns into tokens.
    ///
    /// [`Tokenizer::encode_chat`]: crate::tokenizer::Tokenizer::encode_chat
    ///
    /// # Errors
    ///
    /// If the template refuses the conversation, fails, or exceeds its bounds.
    pub fn render(
        &self,
        messages: &[Message],
        generation_prompt: GenerationPrompt,
    ) -> Result<Rendered, Error> {
        self.render_with(messages, generation_prompt, &Variables::new())
    }

    /// The conversation as text, with tools and whatever else the template may know.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`render`](Self::render).
    pub fn render_with(
        &self,
        messages: &[Message],
        generation_prompt: GenerationPrompt,
        variables: &Variables,
    ) -> Result<Rendered, Error> {
        on_known_stack(|| self.run(messages, generation_prompt, variables)).map_err(Error::from)
    }

    fn run(
        &self,
        messages: &[Message],
        generation_prompt: GenerationPrompt,
        variables: &Variables,
    ) -> Result<Rendered, Stop> {
        let bytes = |message: &Message| {
            let more = message.more.iter().map(|(name, json)| name.len() + variables::bytes(json));
            more.fold(message.role.len() + message.content.len(), usize::saturating_add)
        };
        let said = messages.iter().map(bytes).fold(variables.bytes(), usize::saturating_add);
        let meter = &Meter::new(Limits::new(messages.len(), said));
        let mut run = Run::new(meter, self.date)?;
        // First, so that what is always there is what it should be.
        for (name, value) in variables.others(meter) {
            run.define(name, value?)?;
        }
        let messages = messages.iter().map(|message| message_value(meter, message));
        run.define("messages", Value::List(List::collect(meter, messages)?))?;
        let add = generation_prompt == GenerationPrompt::Add;
        run.define("add_generation_prompt", Value::Bool(add))?;
        run.define("bos_token", Value::str(meter, &self.bos)?)?;
        run.define("eos_token", Value::str(meter, &self.eos)?)?;
        run.define("tools", variables.tools_value(meter)?)?;
        run.define("documents", Value::None)?;
        run.template(&self.block).map(Rendered::new)
    }
}

/// The names of templates that come with the library.
fn names() -> String {
    let names: Vec<_> = BuiltIn::all().iter().map(BuiltIn::name).collect();
    names.join(", ")
}

fn message_value(meter: &Meter, message: &Message) -> Result<Value, Stop> {
    // Templates build control tokens of roles (`<|user|>`), so a plain word counts as theirs.
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let origin = if message.role.chars().all(plain) { Origin::Template } else { Origin::Message };
    let mut dict = DictBuilder::new(meter)?;
    dict.set(Value::str(meter, "role")?, Value::text(meter, &message.role, origin)?)?;
    let content = Value::text(meter, &message.content, Origin::Message)?;
    dict.set(Value::str(meter, "content")?, content)?;
    for (name, json) in message.more.iter() {
        let name = Value::text(meter, name, Origin::Message)?;
        dict.set(name, variables::value(meter, json)?)?;
    }
    Ok(Value::Dict(dict.finish()))
}

impl From<Stop> for Error {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Limit { what, limit } => {
                Self::Unbounded { reason: format!("more than the limit of {limit} {what}") }
            }
            Stop::Refused(reason) => Self::Refused { reason },
            Stop::Failed { reason, line } => Self::Render { reason: located(reason, line) },
        }
    }
}

fn located(reason: String, line: Option<u32>) -> String {
    match line {
        Some(line) => format!("{reason} (in line {line})"),
        None => reason,
    }
}
