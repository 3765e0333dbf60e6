//! What a conversation has beside its messages: tools, and what templates ask about.

use super::data::{Fields, Json};
use super::dict_builder::DictBuilder;
use super::limits::{Meter, Result, Stop};
use super::text::Origin;
use super::value::{List, Value};

/// What a template may know beside the messages: the tools that the model may call, whether it is
/// to think, and whatever else it asks about by name.
///
/// ```
/// use polychord_model::chat::{ChatTemplate, GenerationPrompt, Message, Variables};
///
/// let source = "{% for tool in tools or [] %}{{ tool.function.name }} {% endfor %}\
///               {% if enable_thinking %}<think>{% endif %}";
/// let template = ChatTemplate::new(source, "", "")?;
/// let tool = r#"{"type": "function", "function": {"name": "clock"}}"#.parse()?;
/// let variables = Variables::new().tools([tool]).thinking(true);
/// let messages = [Message::new("user", "What time is it?")];
/// let text = template.render_with(&messages, GenerationPrompt::Add, &variables)?;
/// assert_eq!(text, "clock <think>");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Variables {
    tools: Vec<Json>,
    others: Fields,
}

impl Variables {
    /// No tools, and nothing else.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The tools that the model may call, in the form of the `OpenAI` API:
    /// `{"type": "function", "function": {"name": ..., "description": ..., "parameters": ...}}`.
    /// What they say is text, and control tokens in it stay text.
    #[must_use]
    pub fn tools(mut self, tools: impl IntoIterator<Item = Json>) -> Self {
        self.tools = tools.into_iter().collect();
        self
    }

    /// Whether the model is to think before it answers, by the names that templates have for that:
    /// `enable_thinking` and `thinking`. Without it the template decides.
    #[must_use]
    pub fn thinking(self, thinking: bool) -> Self {
        self.set("enable_thinking", thinking).set("thinking", thinking)
    }

    /// Sets a variable that the template asks about, such as `reasoning_effort`. Those that are
    /// always there (`messages`, `bos_token` and so on) are not changed by it.
    #[must_use]
    pub fn set(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.others.set(name, value);
        self
    }

    /// Bytes of text in all of it.
    pub(super) fn bytes(&self) -> usize {
        let others =
            self.others.iter().map(|(name, value)| name.len().saturating_add(bytes(value)));
        self.tools.iter().map(bytes).chain(others).fold(0, usize::saturating_add)
    }

    /// The tools, if there are any.
    pub(super) fn tools_value(&self, meter: &Meter) -> Result<Value> {
        if self.tools.is_empty() {
            return Ok(Value::None);
        }
        let tools = self.tools.iter().map(|tool| value(meter, tool));
        Ok(Value::List(List::collect(meter, tools)?))
    }

    /// All others by name.
    pub(super) fn others<'a>(
        &'a self,
        meter: &'a Meter,
    ) -> impl Iterator<Item = (&'a str, Result<Value>)> {
        self.others.iter().map(|(name, json)| (name, value(meter, json)))
    }
}

/// About how many bytes a value has as text.
pub(super) fn bytes(json: &Json) -> usize {
    // Not by recursion: a program may have made it as deep as it likes.
    let (mut rest, mut sum) = (vec![json], 0_usize);
    while let Some(json) = rest.pop() {
        sum = sum.saturating_add(8);
        match json {
            Json::Text(text) => sum = sum.saturating_add(text.len()),
            Json::List(items) => rest.extend(items),
            Json::Object(fields) => {
                sum = fields.iter().fold(sum, |sum, (name, _)| sum.saturating_add(name.len()));
                rest.extend(fields.iter().map(|(_, value)| value));
            }
            Json::Null | Json::Bool(_) | Json::Number(_) => {}
        }
    }
    sum
}

/// A value as the template sees it. Its texts count as those of a message.
pub(super) fn value(meter: &Meter, json: &Json) -> Result<Value> {
    let _level = meter.enter()?;
    meter.steps(1)?;
    Ok(match json {
        Json::Null => Value::None,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::Float(number),
            (None, None) => return Err(Stop::failed(format!("the number {number} is too large"))),
        },
        Json::Text(text) => Value::text(meter, text, Origin::Message)?,
        Json::List(items) => {
            let items = items.iter().map(|item| value(meter, item));
            Value::List(List::collect(meter, items)?)
        }
        Json::Object(fields) => {
            let mut dict = DictBuilder::new(meter)?;
            for (key, field) in fields.iter() {
                dict.set(Value::text(meter, key, Origin::Message)?, value(meter, field)?)?;
            }
            Value::Dict(dict.finish())
        }
    })
}
