//! `POST /v1/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use polychord_model::tokenizer::SpecialTokens;

use super::app::{App, Running};
use super::choice::Kind;
use super::failure::Failure;
use super::prepare::{Prepared, format};
use super::read;
use super::request::{Common, CompletionRequest, Prompts};
use crate::scheduler::Format;

/// Most prompts of a request.
const MOST_PROMPTS: usize = 64;

/// Continues texts.
pub(super) async fn completions(
    State(app): State<Arc<App>>,
    body: Body,
) -> Result<Response, Failure> {
    let (mut request, common): (CompletionRequest, _) =
        read::request(&read::body(&app, body).await?)?;
    let served = app.find(request.model.as_deref())?.clone();
    let prompt = request.prompt.take().ok_or_else(|| Failure::missing("prompt"))?;
    let (mut prepared, format) = prepare(&request, &common)?;
    let running = served.load_once().await?;
    running.scheduler()?;
    if let Some((param, format)) = format {
        prepared.constraint = Some(running.constraint(param, &format)?);
    }
    let prompts = encode(running, prompt)?;
    prepared.answer(&app, &served.name, running, Kind::Text, prompts).await
}

/// What a parameter asks of an answer, if any does.
type Asked = Option<(&'static str, Format)>;

/// How it is continued, as far as that can be told without the model.
pub(super) fn prepare(
    request: &CompletionRequest,
    common: &Common,
) -> Result<(Prepared, Asked), Failure> {
    if request.echo == Some(true) {
        return Err(Failure::param("echo", "echo is not possible"));
    }
    if request.suffix.as_deref().is_some_and(|it| !it.is_empty()) {
        return Err(Failure::param(
            "suffix",
            "suffix is not possible: texts are continued at their end",
        ));
    }
    if request.best_of.is_some_and(|it| it > common.n.unwrap_or(1)) {
        return Err(Failure::param("best_of", "best_of cannot be more than n"));
    }
    let format = format(common)?;
    // As OpenAI's: 16 tokens where nothing is said.
    let max_tokens = Some(common.max_tokens.unwrap_or(16));
    Ok((Prepared::new(common, max_tokens, request.logprobs)?, format))
}

fn encode(running: &Running, prompts: Prompts) -> Result<Vec<Vec<u32>>, Failure> {
    let model = &running.model;
    let tokenizer = model.tokenizer()?;
    let text = |text: String| {
        let ids = tokenizer.encode_prompt(&text, SpecialTokens::Parse);
        ids.map_err(|error| Failure::param("prompt", error.to_string()))
    };
    let prompts = prompts.encode("prompt", tokenizer.vocab_size(), text)?;
    if prompts.is_empty() || prompts.len() > MOST_PROMPTS {
        let message =
            format!("there are {} prompts, it must be 1 to {MOST_PROMPTS}", prompts.len());
        return Err(Failure::param("prompt", message));
    }
    Ok(prompts)
}
