//! Requests of any form: an answer, or a refusal in `OpenAI`'s form, and the server goes on.

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};

use super::http::{Running, an_engine, small};
use polychord::serve::ServerOptions;
use serde_json::{Map, Value, json};

/// Where bodies go, and one that is answered.
fn sound() -> Vec<(&'static str, Value)> {
    vec![
        (
            "/v1/chat/completions",
            json!({
                "model": "it", "max_tokens": 3, "n": 1, "temperature": 0.5, "top_p": 0.9, "top_k": 5, "min_p": 0.1,
                "seed": 7, "stop": ["a"], "stream": false, "logprobs": true, "top_logprobs": 2, "user": "u",
                "messages": [
                    { "role": "system", "content": "1" },
                    { "role": "user", "content": [{ "type": "text", "text": "2" }] },
                    { "role": "assistant", "content": null, "tool_calls": [
                        { "id": "c", "type": "function", "function": { "name": "f", "arguments": "{}" } },
                    ] },
                    { "role": "tool", "tool_call_id": "c", "content": "3" },
                ],
                "tools": [{ "type": "function", "function": { "name": "f", "parameters": { "type": "object" } } }],
                "tool_choice": "auto", "logit_bias": { "5": 1.0 }, "response_format": { "type": "text" },
            }),
        ),
        (
            "/v1/completions",
            json!({
                "model": "it", "prompt": [[1, 2], [3]], "max_tokens": 3, "echo": false, "logprobs": 1, "best_of": 1,
                "frequency_penalty": 0.1, "presence_penalty": 0.1, "repeat_penalty": 1.1, "repeat_last_n": 4,
                "stream": true, "stream_options": { "include_usage": true }, "suffix": null,
                "response_format": { "type": "json_schema", "json_schema": { "name": "s", "schema": { "type": "object" } } },
            }),
        ),
        (
            "/v1/embeddings",
            json!({ "model": "it", "input": ["1"], "encoding_format": "float", "dimensions": 3 }),
        ),
        ("/tokenize", json!({ "content": "1", "add_special": true, "parse_special": false })),
        ("/detokenize", json!({ "tokens": [1, 2] })),
    ]
}

/// Numbers at the ends of types, texts of other types, and what is deep.
fn odd() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        prop_oneof![
            Just(0),
            Just(1),
            Just(-1),
            Just(2),
            Just(255),
            Just(i64::MAX),
            Just(i64::MIN),
            Just(1 << 31),
            Just(1 << 32),
        ]
        .prop_map(Value::from),
        Just(json!(u64::MAX)),
        prop_oneof![Just(0.5), Just(-0.5), Just(1e308), Just(1e-320), Just(3.5e38)]
            .prop_map(Value::from),
        prop_oneof![
            Just(""),
            Just("it"),
            Just("\u{0}"),
            Just("auto"),
            Just("required"),
            Just("none"),
            Just("json_object")
        ]
        .prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 24, 6, |inner| {
        let keys = prop_oneof![
            Just("type"),
            Just("text"),
            Just("role"),
            Just("content"),
            Just("name"),
            Just("5")
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((keys.prop_map(str::to_owned), inner), 0..6)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// The place in a value that a number chooses, at any depth.
fn place(value: &mut Value, mut choice: usize) -> &mut Value {
    let inner = match value {
        Value::Object(map) => map.len(),
        Value::Array(list) => list.len(),
        _ => 0,
    };
    if inner == 0 {
        return value;
    }
    let at = choice % (inner + 1);
    choice /= inner + 1;
    if at == inner {
        return value;
    }
    let next = match value {
        Value::Object(map) => map.values_mut().nth(at),
        Value::Array(list) => list.get_mut(at),
        _ => None,
    };
    place(next.unwrap(), choice)
}

/// A body, and what is changed in its text.
fn body(mut value: Value, changes: &[(usize, Value)], cut: Option<usize>) -> Vec<u8> {
    for (choice, with) in changes {
        *place(&mut value, *choice) = with.clone();
    }
    let mut bytes = value.to_string().into_bytes();
    if let Some(cut) = cut {
        let at = cut % (bytes.len() + 1);
        if cut.is_multiple_of(3) {
            bytes.truncate(at);
        } else if let Some(byte) = bytes.get_mut(at) {
            *byte = cut.to_le_bytes()[1];
        }
    }
    bytes
}

#[test]
fn a_request_of_any_form_is_answered_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(&an_engine(), small(folder.path()), ServerOptions::new());
    for (path, value) in sound().into_iter().filter(|(path, _)| !path.ends_with("embeddings")) {
        let (status, answer) = server.send("POST", path, "", value.to_string().as_bytes());
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let changes = prop::collection::vec((any::<usize>(), odd()), 1..4);
    let input = (0..sound().len(), changes, prop::option::weighted(0.1, any::<usize>()));
    let config = Config { failure_persistence: None, ..Config::default() };
    let outcome = TestRunner::new(config).run(&input, |(which, changes, cut)| {
        let (path, value) = sound().swap_remove(which);
        let bytes = body(value, &changes, cut);
        let (status, answer) = server.send("POST", path, "", &bytes);
        let shown = || format!("{path} {}: {status} {answer}", String::from_utf8_lossy(&bytes));
        if status == 200 {
            prop_assert!(!answer.contains("\"error\""), "{}", shown());
            return Ok(());
        }
        prop_assert!([400, 404].contains(&status), "{}", shown());
        let answer: Value =
            serde_json::from_str(&answer).map_err(|_| TestCaseError::fail(shown()))?;
        let error = &answer["error"];
        prop_assert!(error["message"].as_str().is_some_and(|it| !it.is_empty()), "{}", shown());
        prop_assert!(error["type"].is_string(), "{}", shown());
        Ok(())
    });
    outcome.unwrap();
    assert_eq!(server.ask("GET", "/health", "", "").0, 200);
}
