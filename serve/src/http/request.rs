//! What clients send, in the form of `OpenAI`'s API. Fields that are not here are ignored, as there.

use std::collections::BTreeMap;

use polychord_model::chat::Json;
use serde::Deserialize;

use super::failure::Failure;

/// `POST /v1/chat/completions`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct ChatRequest {
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) messages: Option<Vec<ChatMessage>>,
    #[serde(default)]
    pub(super) tools: Option<Vec<Json>>,
    #[serde(default)]
    pub(super) tool_choice: Option<serde_json::Value>,
    /// What templates ask about beside: `{"enable_thinking": false}`, as llama.cpp's server has it.
    #[serde(default)]
    pub(super) chat_template_kwargs: Option<BTreeMap<String, Json>>,
    #[serde(default)]
    pub(super) logprobs: Option<bool>,
    #[serde(default)]
    pub(super) top_logprobs: Option<usize>,
    #[serde(default)]
    pub(super) max_completion_tokens: Option<usize>,
}

impl ChatRequest {
    pub(super) fn tools(&self) -> &[Json] {
        self.tools.as_deref().unwrap_or_default()
    }
}

/// A turn of a conversation.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct ChatMessage {
    pub(super) role: String,
    #[serde(default)]
    pub(super) content: Option<Content>,
    #[serde(flatten)]
    pub(super) more: BTreeMap<String, Json>,
}

/// What is said: a text, or parts of one.
#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "content is a text, or a list of parts that have a type")]
pub(super) enum Content {
    Text(String),
    Parts(Vec<ContentPart>),
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct ContentPart {
    #[serde(rename = "type")]
    pub(super) kind: String,
    #[serde(default)]
    pub(super) text: Option<String>,
    /// What an assistant said in place of an answer.
    #[serde(default)]
    pub(super) refusal: Option<String>,
}

/// `POST /v1/completions`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct CompletionRequest {
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) prompt: Option<Prompts>,
    #[serde(default)]
    pub(super) echo: Option<bool>,
    #[serde(default)]
    pub(super) suffix: Option<String>,
    #[serde(default)]
    pub(super) best_of: Option<usize>,
    #[serde(default)]
    pub(super) logprobs: Option<usize>,
}

/// `POST /v1/embeddings`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct EmbeddingRequest {
    #[serde(default)]
    pub(super) model: Option<String>,
    #[serde(default)]
    pub(super) input: Option<Prompts>,
    #[serde(default)]
    pub(super) encoding_format: Option<String>,
    #[serde(default)]
    pub(super) dimensions: Option<u64>,
}

/// One prompt or several, as texts or as tokens.
#[derive(Debug, Deserialize)]
#[serde(
    untagged,
    expecting = "it is a text, a list of texts, tokens, or a list of lists of tokens"
)]
pub(super) enum Prompts {
    Text(String),
    Tokens(Vec<u32>),
    Texts(Vec<String>),
    TokenLists(Vec<Vec<u32>>),
}

impl Prompts {
    /// The tokens of each, those of texts by `text`.
    ///
    /// # Errors
    ///
    /// A failure that names the parameter, if a token is not in the vocabulary; and the failures of `text`.
    pub(super) fn encode(
        self,
        param: &'static str,
        vocabulary: u32,
        text: impl Fn(String) -> Result<Vec<u32>, Failure>,
    ) -> Result<Vec<Vec<u32>>, Failure> {
        let ids = |ids: Vec<u32>| match ids.iter().find(|id| **id >= vocabulary) {
            None => Ok(ids),
            Some(id) => {
                let message = format!("token {id} is not in the vocabulary of {vocabulary}");
                Err(Failure::param(param, message))
            }
        };
        match self {
            Self::Text(one) => Ok(vec![text(one)?]),
            Self::Tokens(one) => Ok(vec![ids(one)?]),
            Self::Texts(many) => many.into_iter().map(text).collect(),
            Self::TokenLists(many) => many.into_iter().map(ids).collect(),
        }
    }
}

/// What requests that generate have, besides their own.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct Common {
    #[serde(default)]
    pub(super) temperature: Option<f32>,
    #[serde(default)]
    pub(super) top_p: Option<f32>,
    #[serde(default)]
    pub(super) top_k: Option<u32>,
    #[serde(default)]
    pub(super) min_p: Option<f32>,
    #[serde(default)]
    pub(super) seed: Option<i64>,
    #[serde(default)]
    pub(super) stop: Option<Stop>,
    #[serde(default)]
    pub(super) max_tokens: Option<usize>,
    #[serde(default)]
    pub(super) n: Option<usize>,
    #[serde(default)]
    pub(super) logit_bias: Option<BTreeMap<String, f32>>,
    #[serde(default)]
    pub(super) frequency_penalty: Option<f32>,
    #[serde(default)]
    pub(super) presence_penalty: Option<f32>,
    #[serde(default)]
    pub(super) repeat_penalty: Option<f32>,
    #[serde(default)]
    pub(super) repeat_last_n: Option<u32>,
    #[serde(default)]
    pub(super) response_format: Option<serde_json::Value>,
    #[serde(default)]
    pub(super) grammar: Option<String>,
    #[serde(default)]
    pub(super) stream: Option<bool>,
    #[serde(default)]
    pub(super) stream_options: Option<StreamOptions>,
    #[serde(default)]
    pub(super) user: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct StreamOptions {
    #[serde(default)]
    pub(super) include_usage: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged, expecting = "stop is a text, or a list of texts")]
pub(super) enum Stop {
    One(String),
    Many(Vec<String>),
}

/// `POST /tokenize`, as llama.cpp's server has it.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct TokenizeRequest {
    #[serde(default)]
    pub(super) model: Option<String>,
    pub(super) content: String,
    #[serde(default)]
    pub(super) add_special: bool,
    #[serde(default = "yes")]
    pub(super) parse_special: bool,
}

/// `POST /detokenize`.
#[derive(Debug, Deserialize)]
#[serde(expecting = "an object")]
pub(super) struct DetokenizeRequest {
    #[serde(default)]
    pub(super) model: Option<String>,
    pub(super) tokens: Vec<u32>,
}

const fn yes() -> bool {
    true
}
