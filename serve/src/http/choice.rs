//! One answer of a request, as it comes.

use polychord_model::tokenizer::Tokenizer;
use polychord_receipts::Digest;
use polychord_session::Finish;
use serde_json::{Value, json};

use super::failure::Failure;
use crate::scheduler::{Event, Logprob, TokenLogprobs, Usage};
use crate::tools::{ToolCall, ToolText};

/// What is asked for: how answers look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A turn of a conversation, in which tools may be called.
    Chat { tools: bool },
    /// A continuation of a text.
    Text,
}

impl Kind {
    /// What ids of such answers begin with.
    pub(super) const fn id_prefix(self) -> &'static str {
        match self {
            Self::Chat { .. } => "chatcmpl",
            Self::Text => "cmpl",
        }
    }
}

/// One answer, as it comes.
pub(super) struct Choice {
    tools: Option<ToolText>,
}

/// What an event adds to an answer.
#[derive(Debug, Default)]
pub(super) struct Delta {
    pub(super) text: String,
    pub(super) logprobs: Option<TokenLogprobs>,
    pub(super) calls: Vec<ToolCall>,
    /// With the last one.
    pub(super) end: Option<(&'static str, Usage)>,
    /// The digest of the receipt, then.
    pub(super) receipt: Option<Digest>,
}

impl Choice {
    pub(super) fn new(kind: Kind) -> Self {
        let tools = (kind == Kind::Chat { tools: true }).then(ToolText::new);
        Self { tools }
    }

    /// Takes an event; none is an answer whose scheduler is gone.
    pub(super) fn push(&mut self, event: Option<Event>) -> Result<Delta, Failure> {
        let mut delta = Delta::default();
        match event {
            Some(Event::Token(token)) => {
                delta.text = match &mut self.tools {
                    Some(tools) => tools.push(&token.text),
                    None => token.text,
                };
                delta.logprobs = token.logprobs;
            }
            Some(Event::End { finish, usage, receipt }) => {
                delta.receipt = receipt;
                if let Some(tools) = self.tools.take() {
                    (delta.text, delta.calls) = tools.finish();
                }
                let reason = match finish {
                    _ if !delta.calls.is_empty() => "tool_calls",
                    Finish::EndOfText | Finish::Stop(_) => "stop",
                    Finish::Deadline if usage.generated == 0 => {
                        let message =
                            "it waited for longer than an answer may take: try again later";
                        return Err(Failure::of_kind(
                            polychord_session::ErrorKind::Stopped,
                            message,
                        ));
                    }
                    Finish::Cancelled => {
                        return Err(Failure::from(crate::scheduler::Refused::Ending));
                    }
                    _ => "length",
                };
                delta.end = Some((reason, usage));
            }
            Some(Event::Failed { kind, message }) => return Err(Failure::of_kind(kind, message)),
            None => {
                let message = "the answer was given up: the server is ending, or has a bug";
                return Err(Failure::new(axum::http::StatusCode::INTERNAL_SERVER_ERROR, message));
            }
        }
        Ok(delta)
    }
}

/// Calls of tools as the API has them.
pub(super) fn calls_json(calls: &[ToolCall], id: &str, is_delta: bool) -> Value {
    let one = |(index, call): (usize, &ToolCall)| {
        let ToolCall { name, arguments } = call;
        let mut value = json!({
            "id": format!("call-{}-{index}", id.trim_start_matches("chatcmpl-")),
            "type": "function",
            "function": { "name": name, "arguments": arguments },
        });
        if is_delta {
            value["index"] = index.into();
        }
        value
    };
    calls.iter().enumerate().map(one).collect()
}

/// Probabilities of the tokens of an answer, as the API has them.
pub(super) fn logprobs_json(kind: Kind, tokenizer: &Tokenizer, all: &[TokenLogprobs]) -> Value {
    let text = |it: &Logprob| match it.bytes.is_empty() {
        // A control token.
        true => tokenizer.token_text(it.id).unwrap_or_default().to_owned(),
        false => String::from_utf8_lossy(&it.bytes).into_owned(),
    };
    match kind {
        Kind::Chat { .. } => {
            let one = |it: &Logprob| json!({ "token": text(it), "logprob": it.logprob, "bytes": it.bytes });
            let token = |it: &TokenLogprobs| {
                let mut value = one(&it.chosen);
                value["top_logprobs"] = it.top.iter().map(one).collect();
                value
            };
            json!({ "content": all.iter().map(token).collect::<Vec<_>>(), "refusal": null })
        }
        Kind::Text => {
            let top = |it: &TokenLogprobs| {
                let pairs = it.top.iter().map(|it| (text(it), Value::from(it.logprob)));
                Value::Object(pairs.collect())
            };
            json!({
                "tokens": all.iter().map(|it| text(&it.chosen)).collect::<Vec<_>>(),
                "token_logprobs": all.iter().map(|it| it.chosen.logprob).collect::<Vec<_>>(),
                "top_logprobs": all.iter().map(top).collect::<Vec<_>>(),
            })
        }
    }
}

/// Counts of tokens as the API has them: each prompt counts once, however many answers it has.
pub(super) fn usage_json(usages: &[Usage], choices: usize) -> Value {
    let prompt: usize = usages.iter().step_by(choices).map(|usage| usage.prompt).sum();
    let cached: usize = usages.iter().step_by(choices).map(|usage| usage.cached).sum();
    let generated: usize = usages.iter().map(|usage| usage.generated).sum();
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": generated,
        "total_tokens": prompt + generated,
        "prompt_tokens_details": { "cached_tokens": cached },
    })
}
