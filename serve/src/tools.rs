//! Calls of tools in what a model says.
//!
//! Models write them in the ways that they were trained to, of which these are known:
//!
//! - `<tool_call>{"name": .., "arguments": {..}}</tool_call>`, once or several times: Qwen, Hermes,
//!   SmolLM 3;
//! - `[TOOL_CALLS] [{"name": .., "arguments": {..}}]`: Mistral, whose marker is a control token and so
//!   no text;
//! - `{"name": .., "parameters": {..}}` as the whole answer: Llama 3.

use polychord_session::generate::{Pushed, StopTexts};
use serde_json::Value;

/// A call of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ToolCall {
    pub(crate) name: String,
    /// JSON.
    pub(crate) arguments: String,
}

/// Parts an answer into what is said and what is called.
#[derive(Debug)]
pub(crate) struct ToolText {
    markers: StopTexts,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Nothing but white space so far, or what may become a marker.
    Blank(String),
    /// Text is said.
    Says,
    /// It may be a call: after a marker, or from the first character on.
    Calls { marker: &'static str, text: String },
}

const LIST_MARKER: &str = "[TOOL_CALLS]";
const MARKERS: [&str; 2] = ["<tool_call>", LIST_MARKER];

impl ToolText {
    pub(crate) fn new() -> Self {
        let markers = StopTexts::new(&MARKERS.map(str::to_owned));
        Self { markers, state: State::Blank(String::new()) }
    }

    /// Takes a piece of an answer; gives what is surely said.
    pub(crate) fn push(&mut self, piece: &str) -> String {
        match &mut self.state {
            State::Calls { text, .. } => {
                text.push_str(piece);
                String::new()
            }
            State::Blank(blank) => {
                blank.push_str(piece);
                let text = std::mem::take(blank);
                let start = text.trim_start();
                // An array begins as a marker does.
                let is_open = start.is_empty() || LIST_MARKER.starts_with(start);
                if is_open && start != LIST_MARKER {
                    self.state = State::Blank(text);
                    String::new()
                } else if start.starts_with(['{', '[']) && !start.starts_with(LIST_MARKER) {
                    self.state = State::Calls { marker: "", text };
                    String::new()
                } else {
                    self.state = State::Says;
                    self.look(&text)
                }
            }
            State::Says => self.look(piece),
        }
    }

    /// The rest of what is said, and the calls. What looked like a call and is none is said.
    pub(crate) fn finish(self) -> (String, Vec<ToolCall>) {
        let Self { mut markers, state } = self;
        match state {
            State::Blank(text) => (text, Vec::new()),
            State::Says => (markers.take_held(), Vec::new()),
            State::Calls { marker, text } => match calls(&text) {
                Some(calls) => (String::new(), calls),
                None => (format!("{marker}{text}"), Vec::new()),
            },
        }
    }

    fn look(&mut self, text: &str) -> String {
        match self.markers.push(text) {
            Pushed::Clear(clear) => clear,
            Pushed::Stopped { before, stop } => {
                let marker = MARKERS.into_iter().find(|it| *it == stop).unwrap_or_default();
                // What follows the marker in this piece.
                let after = text.split_once(marker).map_or_else(
                    // The marker began in an earlier piece.
                    || rest_after(text, marker),
                    |(_, after)| after.to_owned(),
                );
                self.state = State::Calls { marker, text: after };
                before
            }
        }
    }
}

/// What follows the end of a marker that began before `text`.
fn rest_after(text: &str, marker: &str) -> String {
    let ends = (1..marker.len()).rev().filter(|at| marker.is_char_boundary(*at));
    let end = ends.into_iter().map(|at| &marker[at..]).find(|end| text.starts_with(*end));
    text[end.map_or(0, str::len)..].to_owned()
}

/// All calls of a text; none if there is anything else in it.
fn calls(text: &str) -> Option<Vec<ToolCall>> {
    let mut all = Vec::new();
    for part in text.split("<tool_call>").flat_map(|it| it.split("</tool_call>")) {
        // A model may be cut off by its limit after the call.
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        let values = serde_json::Deserializer::from_str(part).into_iter::<Value>();
        for value in values {
            match value.ok()? {
                Value::Array(items) => {
                    all.extend(items.into_iter().map(call).collect::<Option<Vec<_>>>()?);
                }
                value => all.push(call(value)?),
            }
        }
    }
    (!all.is_empty()).then_some(all)
}

fn call(value: Value) -> Option<ToolCall> {
    let Value::Object(mut fields) = value else { return None };
    // Some write what the API writes.
    if let Some(Value::Object(function)) = fields.remove("function") {
        fields = function;
    }
    let Value::String(name) = fields.remove("name")? else { return None };
    let arguments = fields.remove("arguments").or_else(|| fields.remove("parameters"));
    let arguments = match arguments {
        Some(Value::String(text)) => text,
        Some(value @ Value::Object(_)) => value.to_string(),
        None => "{}".to_owned(),
        Some(_) => return None,
    };
    Some(ToolCall { name, arguments })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parted(text: &str, size: usize) -> (String, Vec<ToolCall>) {
        let mut tools = ToolText::new();
        let characters: Vec<_> = text.chars().collect();
        let mut said = String::new();
        for piece in characters.chunks(size) {
            said += &tools.push(&piece.iter().collect::<String>());
        }
        let (rest, calls) = tools.finish();
        (said + &rest, calls)
    }

    fn clock(arguments: &str) -> ToolCall {
        ToolCall { name: "clock".to_owned(), arguments: arguments.to_owned() }
    }

    #[test]
    fn calls_are_found_however_the_text_is_cut() {
        let one = r#"{"name": "clock", "arguments": {"zone":"UTC"}}"#;
        for (text, said, calls) in [
            (format!("<tool_call>\n{one}\n</tool_call>"), "", vec![clock(r#"{"zone":"UTC"}"#)]),
            (
                format!("I look.\n<tool_call>{one}</tool_call>\n<tool_call>{one}</tool_call>"),
                "I look.\n",
                vec![clock(r#"{"zone":"UTC"}"#); 2],
            ),
            (format!("[TOOL_CALLS] [{one}]"), "", vec![clock(r#"{"zone":"UTC"}"#)]),
            (format!("[{one}, {one}]"), "", vec![clock(r#"{"zone":"UTC"}"#); 2]),
            (r#"{"name": "clock", "parameters": {}}"#.to_owned(), "", vec![clock("{}")]),
            (r#"{"name": "clock"}"#.to_owned(), "", vec![clock("{}")]),
            ("2 < 3 and <tool_ is no call".to_owned(), "2 < 3 and <tool_ is no call", vec![]),
            (r#"{"answer": 3}"#.to_owned(), r#"{"answer": 3}"#, vec![]),
            ("[1, 2".to_owned(), "[1, 2", vec![]),
            ("<tool_call>nonsense".to_owned(), "<tool_call>nonsense", vec![]),
            (String::new(), "", vec![]),
        ] {
            for size in [1, 2, 3, 7, 1000] {
                assert_eq!(
                    parted(&text, size),
                    (said.to_owned(), calls.clone()),
                    "{text} by {size}"
                );
            }
        }
    }
}
