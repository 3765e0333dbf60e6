//! The chat templates of real models, against what Python's Jinja makes of them.
//!
//! The templates come with the vocabularies that `scripts/test` fetches, and are not stored here:
//! `data/chat/models.json` has digests of what `data/chat/make_model_expectations.py` got.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use polychord_model::chat::{ChatTemplate, Error, GenerationPrompt, Json, Message, Variables};
use sha2::{Digest as _, Sha256};

/// All conversations, and the texts that templates make of them.
#[derive(serde::Deserialize)]
struct Expectations {
    conversations: BTreeMap<String, Vec<Message>>,
    variables: Vec<BTreeMap<String, Json>>,
    tools: Vec<Json>,
    /// The seconds since 1970 that `strftime_now` knows.
    now: u64,
    /// By template: the digest of the template itself.
    templates: BTreeMap<String, String>,
    /// By template and conversation: the digest of all texts, with all variables, without and with
    /// tools, with and without the beginning of an answer.
    texts: BTreeMap<String, BTreeMap<String, String>>,
}

fn digest(text: &str) -> String {
    let digest = Sha256::digest(text.as_bytes());
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn templates_of_models_render_as_by_python() {
    let data = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/chat/models.json");
    let all: Expectations = serde_json::from_str(&std::fs::read_to_string(data).unwrap()).unwrap();
    assert!(all.templates.len() >= 60);
    let mut templates = BTreeMap::new();
    for (name, expected) in &all.templates {
        let Some(path) = support::test_data(&format!("templates/{name}")) else { return };
        let source = std::fs::read_to_string(path).unwrap();
        assert_eq!(&digest(&source), expected, "{name} is of another version");
        let template = ChatTemplate::new(&source, "<s>", "</s>").unwrap_or_else(|error| {
            panic!("{name}: {error}");
        });
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(all.now);
        templates.insert(name, template.with_date(now));
    }
    let mut wrong = Vec::new();
    for (name, conversations) in &all.texts {
        for (conversation, expected) in conversations {
            let texts = all.render(&templates[name], &all.conversations[conversation]);
            if digest(&texts) != *expected {
                wrong.push(format!("{name}, {conversation}:\n{texts:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

impl Expectations {
    /// All texts of a conversation, with a zero behind each, and a one for each that is refused.
    fn render(&self, template: &ChatTemplate, messages: &[Message]) -> String {
        let mut texts = String::new();
        for variables in &self.variables {
            for tools in [Vec::new(), self.tools.clone()] {
                let variables =
                    variables.iter().fold(Variables::new().tools(tools), |all, (name, it)| {
                        all.set(name, it.clone())
                    });
                for prompt in [GenerationPrompt::Add, GenerationPrompt::Omit] {
                    match template.render_with(messages, prompt, &variables) {
                        Ok(text) => texts.extend([text.as_str(), "\0"]),
                        Err(Error::Refused { .. } | Error::Render { .. }) => texts.push('\u{1}'),
                        Err(error) => texts.push_str(&error.to_string()),
                    }
                }
            }
        }
        texts
    }
}
