//! From logits to tokens, and from tokens to text.

use polychord_model::sampler;
use polychord_model::sampler::Sampling;
use polychord_model::tokenizer::PendingText;
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Error, Result};
use crate::model::Model;

/// Chooses tokens from logits.
#[wasm_bindgen]
#[derive(Debug)]
pub struct Sampler(sampler::Sampler);

#[wasm_bindgen]
impl Sampler {
    /// With options as JSON: those of the crate `polychord-model`.
    ///
    /// # Errors
    ///
    /// If one is unknown or out of its range.
    #[wasm_bindgen(constructor)]
    pub fn new(options: &str) -> std::result::Result<Sampler, JsError> {
        Ok(Self::from_json(options)?)
    }

    /// The next token, after the tokens in `recent`.
    ///
    /// # Errors
    ///
    /// If a logit is no number.
    pub fn sample(&mut self, logits: &[f32], recent: &[u32]) -> std::result::Result<u32, JsError> {
        Ok(self.0.sample(logits.iter().copied(), recent).map_err(Error::from)?)
    }
}

impl Sampler {
    pub(crate) fn from_json(options: &str) -> Result<Self> {
        let options: Sampling = serde_json::from_str(options)
            .map_err(|reason| Error::Json { what: "options of sampling", reason })?;
        Ok(Self(sampler::Sampler::new(&options)?))
    }
}

/// The text of an answer that is on its way.
#[wasm_bindgen]
#[derive(Debug, Default)]
pub struct Text(PendingText);

#[wasm_bindgen]
impl Text {
    /// No text so far.
    #[wasm_bindgen(constructor)]
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The text that is complete with this token.
    ///
    /// # Errors
    ///
    /// If the vocabulary has no such token.
    pub fn push(&mut self, model: &Model, id: u32) -> std::result::Result<String, JsError> {
        Ok(self.0.push(model.tokenizer()?, id).map_err(Error::from)?)
    }

    /// What is still kept back.
    pub fn finish(&mut self) -> String {
        self.0.finish()
    }
}
