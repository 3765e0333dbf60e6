//! `POST /v1/embeddings`.

use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use polychord_model::tokenizer::{SpecialTokens, Tokenizer};
use serde::Serialize;

use super::app::App;
use super::failure::{Failure, json_response};
use super::read;
use super::request::{EmbeddingRequest, Prompts};

/// Most texts of a request, as `OpenAI` has it.
const MOST_TEXTS: usize = 2048;

/// How numbers are written.
#[derive(Clone, Copy)]
enum Encoding {
    Float,
    Base64,
}

/// A vector of each text.
pub(super) async fn embeddings(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Response, Failure> {
    let request: EmbeddingRequest = read::json(&app, body).await?;
    let served = app.find(request.model.as_deref())?.clone();
    let input = request.input.ok_or_else(|| Failure::missing("input"))?;
    let encoding = encoding(request.encoding_format.as_deref())?;
    if request.dimensions.is_some() {
        let message = "dimensions is not possible: vectors are as long as the model makes them";
        return Err(Failure::param("dimensions", message));
    }
    let running = served.load_once().await?;
    let Some(embedder) = &running.embedder else {
        let message = format!(
            "the model {} has no pooling, so it gives no embeddings: use a model for embeddings",
            served.name
        );
        return Err(Failure::param("model", message));
    };
    let texts = texts(running.model.tokenizer()?, input, embedder.context())?;
    let tokens: usize = texts.iter().map(Vec::len).sum();
    let deadline = Instant::now().checked_add(app.options.answer_time);
    let answer = embedder.submit(texts, deadline)?.await;
    let vectors = answer
        .map_err(|_| Failure::from(crate::scheduler::Refused::Ending))?
        .map_err(|failed| Failure::of_kind(failed.kind, failed.message))?;
    let entry =
        |(index, vector)| Entry { object: "embedding", index, embedding: encoding.write(vector) };
    let data = vectors.into_iter().enumerate().map(entry).collect();
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    let answer = Answer { object: "list", data, model: &served.name, usage };
    Ok(json_response(StatusCode::OK, &answer))
}

/// What a client gets. Not by way of a `Value`, which would write each number with the digits of an `f64`.
#[derive(Serialize)]
struct Answer<'a> {
    object: &'static str,
    data: Vec<Entry>,
    model: &'a str,
    usage: Usage,
}

#[derive(Serialize)]
struct Entry {
    object: &'static str,
    index: usize,
    embedding: Vector,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Vector {
    Numbers(Vec<f32>),
    Base64(String),
}

#[derive(Serialize)]
struct Usage {
    prompt_tokens: usize,
    total_tokens: usize,
}

fn encoding(name: Option<&str>) -> Result<Encoding, Failure> {
    match name {
        None | Some("float") => Ok(Encoding::Float),
        Some("base64") => Ok(Encoding::Base64),
        Some(_) => Err(Failure::param("encoding_format", "encoding_format is float or base64")),
    }
}

impl Encoding {
    fn write(self, vector: Vec<f32>) -> Vector {
        match self {
            Self::Float => Vector::Numbers(vector),
            Self::Base64 => {
                let bytes = vector.iter().flat_map(|number| number.to_le_bytes());
                Vector::Base64(STANDARD.encode(bytes.collect::<Vec<_>>()))
            }
        }
    }
}

/// The tokens of each text, with those that the model puts around it. Texts have no control tokens.
fn texts(tokenizer: &Tokenizer, input: Prompts, context: u32) -> Result<Vec<Vec<u32>>, Failure> {
    let wrong = |message: String| Failure::param("input", message);
    let text = |text: String| {
        if text.is_empty() {
            return Err(wrong("a text of input is empty".to_owned()));
        }
        tokenizer
            .encode_document(&text, SpecialTokens::AsText)
            .map_err(|error| wrong(error.to_string()))
    };
    let texts = input.encode("input", tokenizer.vocab_size(), text)?;
    if texts.is_empty() || texts.len() > MOST_TEXTS {
        return Err(wrong(format!(
            "input has {} texts, it must be 1 to {MOST_TEXTS}",
            texts.len()
        )));
    }
    if let Some((index, long)) =
        texts.iter().enumerate().find(|(_, it)| it.len() > context as usize)
    {
        let tokens = long.len();
        return Err(wrong(format!(
            "text {index} of input has {tokens} tokens, and the context of this server {context}: shorten it"
        )));
    }
    if texts.iter().any(Vec::is_empty) {
        return Err(wrong("a text of input has no token".to_owned()));
    }
    Ok(texts)
}
