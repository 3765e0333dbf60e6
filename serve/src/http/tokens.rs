//! `POST /tokenize` and `/detokenize`, as llama.cpp's server has them.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use polychord_model::tokenizer::SpecialTokens;
use serde_json::json;

use super::app::App;
use super::failure::{Failure, json_response};
use super::read;
use super::request::{DetokenizeRequest, TokenizeRequest};

/// The tokens of a text.
pub(super) async fn tokenize(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    let request: TokenizeRequest = read::json(&app, body).await?;
    let running = app.find(request.model.as_deref())?.load_once().await?;
    let tokenizer = running.model.tokenizer()?;
    let special = if request.parse_special { SpecialTokens::Parse } else { SpecialTokens::AsText };
    let ids = match request.add_special {
        true => tokenizer.encode_prompt(&request.content, special),
        false => tokenizer.encode(&request.content, special),
    };
    let ids = ids.map_err(|error| Failure::param("content", error.to_string()))?;
    Ok(json_response(StatusCode::OK, &json!({ "tokens": ids })))
}

/// The text of tokens.
pub(super) async fn detokenize(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Response, Failure> {
    let request: DetokenizeRequest = read::json(&app, body).await?;
    let running = app.find(request.model.as_deref())?.load_once().await?;
    let text = running.model.tokenizer()?.decode(&request.tokens);
    let text = text.map_err(|error| Failure::param("tokens", error.to_string()))?;
    Ok(json_response(StatusCode::OK, &json!({ "content": text })))
}
