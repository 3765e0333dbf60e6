//! What is done with a request before a model is asked, for the fuzz target `request` alone.

use serde_json::Value;

use super::failure::Failure;
use super::request::{
    ChatRequest, CompletionRequest, DetokenizeRequest, EmbeddingRequest, Prompts, TokenizeRequest,
};
use super::{chat, completions, read};

/// The tokens of the vocabulary that there would be.
const VOCABULARY: u32 = 1000;

/// Reads the body of a request to one of the paths that take one.
///
/// # Errors
///
/// The status and the body of the refusal.
///
/// # Panics
///
/// If no such path takes a body.
pub fn request(path: &str, body: &[u8]) -> Result<(), (u16, Value)> {
    let read = match path {
        "/v1/chat/completions" => conversation(body),
        "/v1/completions" => continuation(body),
        "/v1/embeddings" => read::fields::<EmbeddingRequest>(body)
            .and_then(|it| it.input.map_or(Ok(()), |input| prompts("input", input))),
        "/tokenize" => read::fields::<TokenizeRequest>(body).map(drop),
        "/detokenize" => read::fields::<DetokenizeRequest>(body).map(drop),
        _ => panic!("no body is read at {path}"),
    };
    read.map_err(|failure| (failure.status.as_u16(), failure.json()))
}

fn conversation(body: &[u8]) -> Result<(), Failure> {
    let (request, common): (ChatRequest, _) = read::request(body)?;
    chat::prepare(&request, &common)?;
    request.messages.into_iter().flatten().try_for_each(|it| chat::message(it).map(drop))
}

fn continuation(body: &[u8]) -> Result<(), Failure> {
    let (mut request, common): (CompletionRequest, _) = read::request(body)?;
    let prompt = request.prompt.take();
    completions::prepare(&request, &common)?;
    prompt.map_or(Ok(()), |prompt| prompts("prompt", prompt))
}

fn prompts(name: &'static str, prompts: Prompts) -> Result<(), Failure> {
    prompts.encode(name, VOCABULARY, |text| Ok(vec![0; text.len()])).map(drop)
}
