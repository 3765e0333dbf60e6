//! `POST /v1/chat/completions`.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use polychord_model::chat::{GenerationPrompt, Json, Message, Variables};
use serde_json::{Value, json};

use super::app::{App, Running, Served};
use super::choice::Kind;
use super::failure::Failure;
use super::prepare::{Prepared, format};
use super::read;
use super::request::{ChatMessage, ChatRequest, Common, Content, ContentPart};
use crate::scheduler::{Constraint, Format};

/// Answers a conversation.
pub(super) async fn chat(State(app): State<Arc<App>>, body: Body) -> Result<Response, Failure> {
    let (request, common): (ChatRequest, _) = read::request(&read::body(&app, body).await?)?;
    let served = app.find(request.model.as_deref())?.clone();
    let (mut prepared, wanted) = prepare(&request, &common)?;
    let tools = !request.tools().is_empty() && !is_none(&request);
    let running = served.load_once().await?;
    running.scheduler()?;
    prepared.stop.extend(running.template.iter().flat_map(|it| it.stop_texts().iter().cloned()));
    let (prompt, constraint) = encode(served.clone(), request, wanted).await?;
    prepared.constraint = constraint;
    prepared.answer(&app, &served.name, running, Kind::Chat { tools }, vec![prompt]).await
}

/// What a parameter asks of an answer, if any does.
type Asked = Option<(&'static str, Wanted)>;

/// How it is answered, as far as that can be told without the model.
pub(super) fn prepare(
    request: &ChatRequest,
    common: &Common,
) -> Result<(Prepared, Asked), Failure> {
    check(request)?;
    let logprobs = match request.logprobs {
        Some(true) => Some(request.top_logprobs.unwrap_or(0)),
        _ if request.top_logprobs.is_some() => {
            return Err(Failure::param("top_logprobs", "top_logprobs needs logprobs: true"));
        }
        _ => None,
    };
    let max_tokens = request.max_completion_tokens.or(common.max_tokens);
    let wanted = wanted(request, common)?;
    Ok((Prepared::new(common, max_tokens, logprobs)?, wanted))
}

/// Who may say something, as `OpenAI`'s API has it.
const ROLES: [&str; 6] = ["developer", "system", "user", "assistant", "tool", "function"];

/// Refuses what templates would take for something else.
fn check(request: &ChatRequest) -> Result<(), Failure> {
    let messages = request.messages.as_ref().ok_or_else(|| Failure::missing("messages"))?;
    if messages.is_empty() {
        return Err(Failure::param("messages", "messages is empty: there is nothing to answer"));
    }
    for (index, message) in messages.iter().enumerate() {
        let wrong = |what: String| Failure::param("messages", format!("messages[{index}]: {what}"));
        if !ROLES.contains(&&*message.role) {
            let role = super::failure::crop(&message.role);
            return Err(wrong(format!("the role is {role:?}, it must be {}", ROLES.join(", "))));
        }
        // An answer may be calls alone.
        let may_be_silent = matches!(&*message.role, "assistant" | "function");
        match &message.content {
            None if !may_be_silent => return Err(wrong("content is missing".to_owned())),
            Some(Content::Parts(parts)) if parts.is_empty() => {
                return Err(wrong("content is a list without parts".to_owned()));
            }
            _ => {}
        }
    }
    if request.max_completion_tokens == Some(0) {
        let message = "max_completion_tokens is 0, it must be at least 1";
        return Err(Failure::param("max_completion_tokens", message));
    }
    for (index, tool) in request.tools().iter().enumerate() {
        if !is_function(tool) {
            let message = format!(
                "tools[{index}] is no function with a name: it must be {{\"type\": \"function\", \"function\": {{\"name\": ...}}}}"
            );
            return Err(Failure::param("tools", message));
        }
    }
    Ok(())
}

fn is_function(tool: &Json) -> bool {
    let Json::Object(tool) = tool else { return false };
    let is_named = match tool.get("function") {
        Some(Json::Object(function)) => {
            matches!(function.get("name"), Some(Json::Text(name)) if !name.is_empty())
        }
        _ => false,
    };
    is_named && matches!(tool.get("type"), Some(Json::Text(kind)) if kind == "function")
}

/// What the answer is to be held to, and the parameter that says so.
fn wanted(request: &ChatRequest, common: &Common) -> Result<Asked, Failure> {
    let choice = request.tool_choice.as_ref().filter(|it| !it.is_null());
    let named = choice.and_then(|it| it.get("function")?.get("name")?.as_str());
    let forced = match choice.map(|it| it.as_str()) {
        None | Some(Some("auto" | "none")) => None,
        Some(Some("required")) => Some(None),
        Some(None) if named.is_some() => Some(named),
        Some(_) => {
            let message = "tool_choice is auto, none, required or a function by its name";
            return Err(Failure::param("tool_choice", message));
        }
    };
    if let Some(name) = forced {
        return Ok(Some(("tool_choice", Wanted::Call(calls_schema(request.tools(), name)?))));
    }
    let format = format(common)?;
    Ok(format.map(|(param, format)| (param, Wanted::Format(format))))
}

/// What an answer is to be.
pub(super) enum Wanted {
    Format(Format),
    /// A call of a tool, of which the schema is this.
    Call(Value),
}

/// The schema of a call of one of the tools.
fn calls_schema(tools: &[Json], name: Option<&str>) -> Result<Value, Failure> {
    let one = |tool: &Json| {
        let tool = serde_json::to_value(tool).ok()?;
        let function = tool.get("function")?;
        let this = function.get("name")?.as_str()?.to_owned();
        if name.is_some_and(|name| name != this) {
            return None;
        }
        let parameters = function.get("parameters").cloned();
        let parameters = parameters.unwrap_or_else(|| json!({ "type": "object" }));
        Some(json!({
            "type": "object",
            "properties": { "name": { "const": this }, "arguments": parameters },
            "required": ["name", "arguments"],
            "additionalProperties": false,
        }))
    };
    let schemas: Vec<_> = tools.iter().filter_map(one).collect();
    if schemas.is_empty() {
        let message = "tool_choice asks for a call, and tools has no such function";
        return Err(Failure::param("tool_choice", message));
    }
    Ok(json!({ "anyOf": schemas }))
}

impl Wanted {
    /// The form in which the model writes calls.
    fn into_format(self, source: &str) -> Format {
        match self {
            Self::Format(format) => format,
            Self::Call(schema) if source.contains("<tool_call>") => Format::Lark(format!(
                "start: \"<tool_call>\\n\" call \"\\n</tool_call>\"\ncall: %json {schema}\n"
            )),
            Self::Call(schema) => Format::JsonSchema(schema),
        }
    }
}

fn is_none(request: &ChatRequest) -> bool {
    request.tool_choice.as_ref().and_then(|it| it.as_str()) == Some("none")
}

/// The tokens of a conversation, as the model's template writes it. Text of messages never becomes a
/// control token.
async fn encode(
    served: Arc<Served>,
    request: ChatRequest,
    wanted: Asked,
) -> Result<(Vec<u32>, Option<Constraint>), Failure> {
    // A template or a grammar may take a part of a second.
    let encoded = tokio::task::spawn_blocking(move || {
        let running = served.running().ok_or(crate::Error::NoModel)?;
        let constraint = match wanted {
            None => None,
            Some((param, wanted)) => {
                let template = running.template.as_ref();
                let format = wanted.into_format(template.map_or("", |it| it.source()));
                Some(running.constraint(param, &format)?)
            }
        };
        Ok((encode_now(running, request)?, constraint))
    });
    encoded.await.unwrap_or_else(|panic| {
        let message = format!("a bug: the template panicked: {panic}");
        Err(Failure::of_kind(polychord_session::ErrorKind::Internal, message))
    })
}

fn encode_now(running: &Running, request: ChatRequest) -> Result<Vec<u32>, Failure> {
    let wrong = |reason: String| Failure::param("messages", reason);
    let template = running.template.as_ref().map_err(|reason| {
        wrong(format!("the model cannot chat: {reason}; /v1/completions continues texts"))
    })?;
    let is_none = is_none(&request);
    let messages = request.messages.into_iter().flatten().map(message);
    let messages: Vec<_> = messages.collect::<Result<_, _>>()?;
    let mut variables = Variables::new();
    if let Some(tools) = request.tools.filter(|it| !is_none && !it.is_empty()) {
        variables = variables.tools(tools);
    }
    for (name, value) in request.chat_template_kwargs.into_iter().flatten() {
        variables = variables.set(name, value);
    }
    let text = template.render_with(&messages, GenerationPrompt::Add, &variables);
    let text = text.map_err(|error| wrong(error.to_string()))?;
    let tokenizer = running.model.tokenizer()?;
    tokenizer.encode_chat(&text).map_err(|error| wrong(error.to_string()))
}

/// A turn as templates take it.
pub(super) fn message(message: ChatMessage) -> Result<Message, Failure> {
    let content = match message.content {
        None => String::new(),
        Some(Content::Text(text)) => text,
        Some(Content::Parts(parts)) => {
            let mut all = String::new();
            for part in parts {
                all += &text_of(part)?;
            }
            all
        }
    };
    let is_null = |value: &Json| matches!(value, Json::Null);
    let more = message.more.into_iter().filter(|(_, value)| !is_null(value));
    Ok(more.fold(Message::new(message.role, content), |turn, (name, value)| {
        let value = if name == "tool_calls" { with_parsed_arguments(value) } else { value };
        turn.with(name, value)
    }))
}

fn text_of(part: ContentPart) -> Result<String, Failure> {
    let text = match &*part.kind {
        "text" => part.text,
        "refusal" => part.refusal,
        other => {
            let kind = super::failure::crop(other);
            let message = format!("a message has a part of type {kind:?}: only text is possible");
            return Err(Failure::param("messages", message));
        }
    };
    let kind = part.kind;
    text.ok_or_else(|| Failure::param("messages", format!("a part of type {kind:?} has no {kind}")))
}

/// The API has arguments of calls as a text of JSON; templates want what it says.
fn with_parsed_arguments(calls: Json) -> Json {
    let Json::List(calls) = calls else { return calls };
    let one = |call: Json| {
        let Json::Object(mut call) = call else { return call };
        if let Some(Json::Object(function)) = call.get("function") {
            let mut function = function.clone();
            if let Some(Json::Text(text)) = function.get("arguments")
                && let Ok(parsed) = text.parse::<Json>()
            {
                function.set("arguments", parsed);
                call.set("function", Json::Object(function));
            }
        }
        Json::Object(call)
    };
    Json::List(calls.into_iter().map(one).collect())
}
