//! What programs and people are told of errors: a kind, and a message that names the cause.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::error::Error as _;
use std::path::Path;

use polychord_model::{chat, sampler, tokenizer};
use polychord_runtime_api as api;
use polychord_session::{Error, ErrorKind, Model};

/// The error of opening a file of these bytes.
fn opened(bytes: &[u8]) -> Error {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    Model::open(path).unwrap_err()
}

#[test]
fn a_message_names_the_cause_once() {
    let error = opened(b"\0\0\0\0 is no model, and has more than four bytes");
    let text = error.to_string();
    assert!(text.contains("model.gguf as a GGUF model: the file is") && text.contains("00"));
    let mut chain = vec![text];
    let mut cause = error.source();
    while let Some(error) = cause {
        assert!(chain.iter().all(|text| !text.contains(&error.to_string())), "{chain:?}: {error}");
        chain.push(error.to_string());
        cause = error.source();
    }
    for (error, cause) in [
        (Error::from(chat::Error::Missing), "no tokenizer.chat_template"),
        (tokenizer::Error::UnknownId { id: 7, vocab: 5 }.into(), "token id 7"),
        (sampler::Error::Empty { count: 3 }.into(), "none of 3 logits"),
    ] {
        assert!(error.to_string().contains(cause) && error.source().is_none(), "{error}");
    }
}

#[test]
fn kinds_tell_what_a_program_can_do() {
    let trap = |kind| {
        let operation = "transformer_blocks".to_owned();
        Error::from(api::Error::Trap { engine: "wasmtime", operation, kind })
    };
    let late = trap(api::TrapKind::DeadlineExceeded(std::time::Duration::from_secs(1)));
    assert_eq!(late.engine(), Some("wasmtime"));
    assert_eq!(late.operation(), Some("transformer_blocks"));
    assert_eq!(Error::EmptyPrompt.engine(), None);
    let option = sampler::Error::Option { field: "top_p", value: 2.0, range: "above 0 to 1" };
    for (error, kind) in [
        (opened(b"nonsense"), ErrorKind::InvalidFile),
        (opened(b""), ErrorKind::InvalidFile),
        (Model::open("/absent").unwrap_err(), ErrorKind::Io),
        (Model::open(Path::new("/")).unwrap_err(), ErrorKind::InvalidFile),
        (late, ErrorKind::Stopped),
        (trap(api::TrapKind::Unreachable), ErrorKind::Guest),
        (option.into(), ErrorKind::InvalidArgument),
        (chat::Error::Missing.into(), ErrorKind::Unsupported),
        (chat::Error::Refused { reason: "no".into() }.into(), ErrorKind::InvalidArgument),
        (Error::EmptyStop, ErrorKind::InvalidArgument),
        (Error::ContextFull { asked: 1, used: 2, context: 2, limit: 2 }, ErrorKind::ContextFull),
    ] {
        assert_eq!(error.kind(), kind, "{error}");
    }
}
