//! Chat templates in the style of public ones, against what Python's Jinja made of them.

#![allow(clippy::unwrap_used, reason = "tests")]

use polychord_model::chat::{ChatTemplate, Error, GenerationPrompt, Message};

/// One line of `data/chat/expected.json`, which `data/chat/make_expectations.py` writes.
#[derive(serde::Deserialize)]
struct Case {
    template: String,
    conversation: String,
    messages: Vec<Message>,
    add_generation_prompt: bool,
    text: Option<String>,
    refused: Option<String>,
}

#[test]
fn templates_render_as_by_python() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chat");
    let cases = std::fs::read_to_string(format!("{data}/expected.json")).unwrap();
    let cases: Vec<Case> = serde_json::from_str(&cases).unwrap();
    assert!(cases.len() >= 70, "{} cases", cases.len());
    let mut wrong = Vec::new();
    for case in cases {
        let source = format!("{data}/templates/{}", case.template);
        let source = std::fs::read_to_string(source).unwrap();
        let prompt =
            if case.add_generation_prompt { GenerationPrompt::Add } else { GenerationPrompt::Omit };
        let found = ChatTemplate::new(&source, "<s>", "</s>")
            .and_then(|chat| chat.render(&case.messages, prompt));
        let same = match (&found, &case.text, &case.refused) {
            (Ok(found), Some(text), None) => *found == **text,
            (Err(Error::Refused { reason }), None, Some(expected)) => reason == expected,
            _ => false,
        };
        if !same {
            let (template, talk) = (&case.template, &case.conversation);
            let expected = case.text.or(case.refused);
            wrong.push(format!("{template}, {talk}:\n{expected:?}\n{found:?}\n"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
