//! The header of a model, and what it is for.

use std::cell::OnceCell;
use std::time::{Duration, UNIX_EPOCH};

use polychord_model::chat::{self, ChatTemplate, GenerationPrompt, Message, Variables};
use polychord_model::config::Config;
use polychord_model::gguf::Gguf;
use polychord_model::layout::{Cut, Layout};
use polychord_model::tokenizer::{SpecialTokens, Tokenizer};
use polychord_plan::Plan;
use serde_json::json;
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Error, Result};
use crate::header::{Header, whole};

/// A model: what the headers of its files say.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Model {
    gguf: Gguf,
    pub(crate) config: Config,
    /// By part, and by kind.
    layouts: [Layout; 2],
    /// Made when first needed.
    tokenizer: OnceCell<Tokenizer>,
}

#[wasm_bindgen]
impl Model {
    /// The model in a file, or in several that are its parts, in order.
    ///
    /// # Errors
    ///
    /// If a part is missing or of another model, or it is a network that no guest computes.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::needless_pass_by_value, reason = "JavaScript gives them away")]
    pub fn new(parts: Vec<Header>) -> std::result::Result<Self, JsError> {
        Ok(Self::from_gguf(Header::joined(parts).map_err(Error::from)?)?)
    }

    /// What the file is, as JSON.
    #[must_use]
    pub fn info(&self) -> String {
        let metadata = self.gguf.metadata();
        let text = |key| metadata.str(key).ok().flatten().map(str::to_owned);
        let Config { blocks, dim, vocab, context_length, .. } = self.config;
        let weights: u64 = self.layouts[0].layers.iter().map(|layer| layer.bytes).sum();
        json!({
            "name": text("general.name"),
            "architecture": text("general.architecture"),
            "blocks": blocks,
            "dim": dim,
            "vocab": vocab,
            "contextLength": context_length,
            "heads": self.config.heads,
            "fileBytes": self.gguf.file_len(),
            "headerBytes": self.gguf.data_offset(),
            "weightBytes": weights,
            "vocabulary": text("tokenizer.ggml.model").is_some(),
            "chat": self.template().is_ok(),
        })
        .to_string()
    }

    /// The tokens of a text that is to be continued. With `special`, control tokens in it are read.
    ///
    /// # Errors
    ///
    /// If the file has no vocabulary that is known.
    pub fn encode(&self, text: &str, special: bool) -> std::result::Result<Vec<u32>, JsError> {
        let special = if special { SpecialTokens::Parse } else { SpecialTokens::AsText };
        Ok(self.tokenizer()?.encode_prompt(text, special)?)
    }

    /// The tokens of a conversation that the model is to continue: `messages` is a JSON array of
    /// objects with `role` and `content`. `now` is the date for templates that ask for one, in
    /// milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// If the file has no template, or that refuses the conversation.
    #[wasm_bindgen(js_name = encodeChat)]
    pub fn encode_chat(
        &self,
        messages: &str,
        now: Option<f64>,
    ) -> std::result::Result<Vec<u32>, JsError> {
        Ok(self.chat(messages, now)?)
    }

    /// Whether a token ends an answer.
    #[wasm_bindgen(js_name = isEnd)]
    #[must_use]
    pub fn is_end(&self, id: u32) -> bool {
        self.tokenizer().is_ok_and(|it| it.is_end_of_generation(id))
    }
}

impl Model {
    fn from_gguf(gguf: Gguf) -> Result<Self> {
        let (config, tensors) = Config::from_gguf(&gguf)?;
        if config.is_encoder() {
            return Err(Error::Encoder);
        }
        let layouts = [Cut::ByPart, Cut::ByKind].map(|cut| Layout::new(&tensors, cut));
        drop(tensors);
        Ok(Self { gguf, config, layouts, tokenizer: OnceCell::new() })
    }

    pub(crate) const fn gguf(&self) -> &Gguf {
        &self.gguf
    }

    pub(crate) fn layout(&self, cut: Cut) -> &Layout {
        match cut {
            // Experts come in with their block here.
            Cut::ByPart | Cut::ByExpert => &self.layouts[0],
            Cut::ByKind => &self.layouts[1],
        }
    }

    /// The layout that a plan was made from.
    pub(crate) fn layout_of(&self, plan: &Plan) -> Result<&Layout> {
        let [by_part, by_kind] = &self.layouts;
        if plan.check_model(&by_kind.layers).is_ok() {
            return Ok(by_kind);
        }
        plan.check_model(&by_part.layers)?;
        Ok(by_part)
    }

    pub(crate) fn tokenizer(&self) -> Result<&Tokenizer> {
        if let Some(tokenizer) = self.tokenizer.get() {
            return Ok(tokenizer);
        }
        let tokenizer = Tokenizer::from_gguf(&self.gguf)?;
        Ok(self.tokenizer.get_or_init(|| tokenizer))
    }

    /// The model's template, if tokens alone end its answers: pages look for no texts in them.
    fn template(&self) -> Result<ChatTemplate> {
        let template = ChatTemplate::from_gguf(&self.gguf)?;
        if !template.stop_texts().is_empty() {
            return Err(chat::Error::Missing.into());
        }
        Ok(template)
    }

    fn chat(&self, messages: &str, now: Option<f64>) -> Result<Vec<u32>> {
        let messages: Vec<Message> = serde_json::from_str(messages)
            .map_err(|reason| Error::Json { what: "messages", reason })?;
        let mut template = self.template()?;
        if let Some(now) = now {
            template = template.with_date(UNIX_EPOCH + Duration::from_millis(whole(now)));
        }
        let variables = Variables::new();
        let rendered = template.render_with(&messages, GenerationPrompt::Add, &variables)?;
        Ok(self.tokenizer()?.encode_chat(&rendered)?)
    }
}
