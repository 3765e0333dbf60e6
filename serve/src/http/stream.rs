//! Answers, token by token or at once.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use polychord_model::tokenizer::Tokenizer;
use polychord_session::Model;
use serde_json::{Value, json};
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;

use super::choice::{Choice, Delta, Kind, calls_json, logprobs_json, usage_json};
use super::failure::{Failure, json_response};
use crate::scheduler::{Event, TokenLogprobs, Usage};

/// The answers of a request, on their way.
pub(super) struct Answers {
    pub(super) about: About,
    pub(super) receivers: Vec<UnboundedReceiver<Event>>,
}

/// What all parts of a response say.
pub(super) struct About {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) name: String,
    pub(super) created: u64,
    pub(super) model: Model,
    /// Answers of each prompt.
    pub(super) choices: usize,
    /// Whether a stream ends with counts of tokens.
    pub(super) include_usage: bool,
}

/// Frames that wait for a slow client, beside what its answers have.
const FRAMES: usize = 16;

impl Answers {
    /// Waits for all answers.
    pub(super) async fn collect(self) -> Result<Response, Failure> {
        let Self { about, receivers } = self;
        let (mut usages, mut choices, mut receipts) = (Vec::new(), Vec::new(), Vec::new());
        for (index, mut events) in receivers.into_iter().enumerate() {
            let mut whole = Whole::new(about.kind);
            while !whole.push(events.recv().await)? {}
            usages.push(whole.usage);
            receipts.extend(whole.delta.receipt.map(|digest| digest.to_string()));
            choices.push(whole.json(index, &about)?);
        }
        let mut body = about.head(match about.kind {
            Kind::Chat { .. } => "chat.completion",
            Kind::Text => "text_completion",
        });
        if !receipts.is_empty() {
            body["system_fingerprint"] = receipts.join(",").into();
        }
        body["choices"] = choices.into();
        body["usage"] = usage_json(&usages, about.choices);
        Ok(json_response(StatusCode::OK, &body))
    }

    /// Sends each token as it comes, as server-sent events. A client that goes away ends them.
    pub(super) fn stream(self) -> Response {
        let (frames, receiver) = mpsc::channel::<String>(FRAMES);
        tokio::spawn(self.send(frames));
        let stream = ReceiverStream::new(receiver).map(Ok::<_, Infallible>);
        let mut response = Body::from_stream(stream).into_response();
        for (name, value) in [
            (header::CONTENT_TYPE, "text/event-stream; charset=utf-8"),
            (header::CACHE_CONTROL, "no-cache"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }

    async fn send(self, frames: mpsc::Sender<String>) {
        let Self { about, receivers } = self;
        let about = Arc::new(about);
        let mut tasks = JoinSet::new();
        for (index, events) in receivers.into_iter().enumerate() {
            let (about, frames) = (about.clone(), frames.clone());
            tasks.spawn(async move { (index, send_one(&about, index, events, &frames).await) });
        }
        let mut usages = vec![Usage::default(); tasks.len()];
        while let Some(done) = tasks.join_next().await {
            match done {
                Ok((index, Ok(usage))) => usages[index] = usage,
                Ok((_, Err(failure))) => {
                    // The status was sent long ago. The others end with their receivers.
                    _ = frames.send(frame(&failure.json())).await;
                    return;
                }
                // The client is gone, or a task panicked.
                Err(_) => return,
            }
        }
        if about.include_usage {
            let mut chunk = about.chunk();
            chunk["choices"] = json!([]);
            chunk["usage"] = usage_json(&usages, about.choices);
            _ = frames.send(frame(&chunk)).await;
        }
        _ = frames.send("data: [DONE]\n\n".to_owned()).await;
    }
}

async fn send_one(
    about: &About,
    index: usize,
    mut events: UnboundedReceiver<Event>,
    frames: &mpsc::Sender<String>,
) -> Result<Usage, Failure> {
    let mut choice = Choice::new(about.kind);
    let mut is_first = true;
    loop {
        let delta = tokio::select! {
            event = events.recv() => choice.push(event)?,
            () = frames.closed() => return Err(Failure::from(crate::scheduler::Refused::Ending)),
        };
        let is_empty = delta.text.is_empty() && delta.logprobs.is_none() && delta.end.is_none();
        if is_empty && !is_first {
            continue;
        }
        let mut chunk = about.chunk();
        chunk["choices"] = json!([about.delta_json(&delta, index, is_first)?]);
        if let Some(receipt) = delta.receipt {
            chunk["system_fingerprint"] = receipt.to_string().into();
        }
        is_first = false;
        _ = frames.send(frame(&chunk)).await;
        if let Some((_, usage)) = delta.end {
            return Ok(usage);
        }
    }
}

fn frame(value: &Value) -> String {
    format!("data: {value}\n\n")
}

impl About {
    fn head(&self, object: &str) -> Value {
        json!({
            "id": self.id,
            "object": object,
            "created": self.created,
            "model": self.name,
            "system_fingerprint": concat!("polychord-", env!("CARGO_PKG_VERSION")),
        })
    }

    fn chunk(&self) -> Value {
        let mut chunk = self.head(match self.kind {
            Kind::Chat { .. } => "chat.completion.chunk",
            Kind::Text => "text_completion",
        });
        if self.include_usage {
            chunk["usage"] = Value::Null;
        }
        chunk
    }

    fn tokenizer(&self) -> Result<&Tokenizer, Failure> {
        Ok(self.model.tokenizer()?)
    }

    fn logprobs(&self, all: &[TokenLogprobs]) -> Result<Value, Failure> {
        Ok(logprobs_json(self.kind, self.tokenizer()?, all))
    }

    fn delta_json(&self, delta: &Delta, index: usize, is_first: bool) -> Result<Value, Failure> {
        let finish = delta.end.as_ref().map(|(reason, _)| *reason);
        let mut value = json!({ "index": index, "finish_reason": finish });
        value["logprobs"] = match &delta.logprobs {
            Some(logprobs) => self.logprobs(std::slice::from_ref(logprobs))?,
            None => Value::Null,
        };
        match self.kind {
            Kind::Text => value["text"] = (*delta.text).into(),
            Kind::Chat { .. } => {
                let mut turn = json!({});
                if is_first {
                    turn["role"] = "assistant".into();
                }
                if is_first || !delta.text.is_empty() {
                    turn["content"] = (*delta.text).into();
                }
                if !delta.calls.is_empty() {
                    turn["tool_calls"] = calls_json(&delta.calls, &self.id, true);
                }
                value["delta"] = turn;
            }
        }
        Ok(value)
    }
}

/// An answer that is complete.
struct Whole {
    choice: Choice,
    delta: Delta,
    logprobs: Vec<TokenLogprobs>,
    usage: Usage,
}

impl Whole {
    fn new(kind: Kind) -> Self {
        let (choice, delta) = (Choice::new(kind), Delta::default());
        Self { choice, delta, logprobs: Vec::new(), usage: Usage::default() }
    }

    /// Whether it is complete with this event.
    fn push(&mut self, event: Option<Event>) -> Result<bool, Failure> {
        let delta = self.choice.push(event)?;
        self.delta.text += &delta.text;
        self.delta.calls.extend(delta.calls);
        self.logprobs.extend(delta.logprobs);
        self.delta.end = delta.end;
        self.delta.receipt = delta.receipt;
        Ok(match &self.delta.end {
            Some((_, usage)) => {
                self.usage = *usage;
                true
            }
            None => false,
        })
    }

    fn json(&self, index: usize, about: &About) -> Result<Value, Failure> {
        let Self { delta, logprobs, .. } = self;
        let finish = delta.end.as_ref().map(|(reason, _)| *reason);
        let mut value = json!({ "index": index, "finish_reason": finish });
        value["logprobs"] = match logprobs.is_empty() {
            true => Value::Null,
            false => about.logprobs(logprobs)?,
        };
        match about.kind {
            Kind::Text => value["text"] = (*delta.text).into(),
            Kind::Chat { .. } => {
                let mut turn = json!({ "role": "assistant", "content": delta.text });
                if !delta.calls.is_empty() {
                    turn["tool_calls"] = calls_json(&delta.calls, &about.id, false);
                    if delta.text.is_empty() {
                        turn["content"] = Value::Null;
                    }
                }
                value["message"] = turn;
            }
        }
        Ok(value)
    }
}
