//! Chat templates for models whose files have none.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use polychord_model::ErrorKind;
use polychord_model::chat::{BuiltIn, ChatTemplate, Error, GenerationPrompt, Message, Rendered};
use polychord_model::gguf::{Array, Gguf, Value};
use polychord_model::tokenizer::Tokenizer;
use support::{Writer, read, string, strings, test_data};

/// A file with these control tokens, and these texts in its metadata.
fn file(tokens: &[&str], texts: &[(&str, &str)]) -> Gguf {
    let all = ["<unk>", "<bos>", "<eos>"].into_iter().chain(tokens.iter().copied());
    let types = std::iter::repeat_n(3, 3 + tokens.len());
    let mut writer = Writer::default()
        .pair("tokenizer.ggml.model", string("llama"))
        .pair("tokenizer.ggml.tokens", strings(all))
        .pair("tokenizer.ggml.token_type", Value::Array(Array::I32(types.collect())))
        .pair("tokenizer.ggml.bos_token_id", Value::U32(1))
        .pair("tokenizer.ggml.eos_token_id", Value::U32(2));
    for (key, text) in texts {
        writer = writer.pair(key, string(text));
    }
    read(&writer.file()).unwrap()
}

fn talk(with_system: bool) -> Vec<Message> {
    let system = with_system.then(|| Message::new("system", "Be brief."));
    let turns = [
        Message::new("user", "Hi"),
        Message::new("assistant", "Hello"),
        Message::new("user", "2+2?"),
    ];
    system.into_iter().chain(turns).collect()
}

fn render(template: &ChatTemplate, with_system: bool) -> Rendered {
    template.render(&talk(with_system), GenerationPrompt::Add).unwrap()
}

/// What the first line of a note says is used.
fn used(template: &ChatTemplate) -> &str {
    let note = template.note().unwrap();
    note.split_once("; ").unwrap().1.split_once(" is used: ").unwrap().0
}

#[test]
fn control_tokens_tell_the_template() {
    for (name, tokens) in [
        ("gemma", &["<start_of_turn>", "<end_of_turn>"][..]),
        ("gemma4", &["<|turn>", "<turn|>"]),
        ("chatml", &["<|im_start|>", "<|im_end|>"]),
        ("llama3", &["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]),
        ("granite", &["<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"]),
        ("phi3", &["<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]),
    ] {
        let gguf = file(tokens, &[]);
        let template = ChatTemplate::from_gguf(&gguf).unwrap();
        assert_eq!(used(&template), name, "{:?}", template.note());
        assert!(template.note().unwrap().contains(tokens[0]), "{:?}", template.note());
        // Each token is one, and the last one ends an answer.
        assert!(template.stop_texts().is_empty(), "{name}");
        let tokenizer = Tokenizer::from_gguf(&gguf);
        if let Ok(tokenizer) = tokenizer {
            let end = u32::try_from(2 + tokens.len()).unwrap();
            assert!(tokenizer.is_end_of_generation(end), "{name}");
        }
        // One of them alone says nothing.
        let fewer = ChatTemplate::from_gguf(&file(&tokens[1..], &[]));
        assert!(matches!(fewer, Err(Error::Missing)), "{name}: {fewer:?}");
    }
}

#[test]
fn a_base_model_gets_a_transcript() {
    let gemma = ["<start_of_turn>", "<end_of_turn>"];
    let of = |texts: &[(&str, &str)]| {
        used(&ChatTemplate::from_gguf(&file(&gemma, texts)).unwrap()).to_owned()
    };
    let base = ("general.basename", "gemma-3");
    assert_eq!(of(&[base]), "transcript");
    assert_eq!(of(&[base, ("general.name", "Gemma 3 270m")]), "transcript");
    assert_eq!(of(&[base, ("general.finetune", "pt")]), "transcript");
    assert_eq!(of(&[base, ("general.finetune", "it")]), "gemma");
    assert_eq!(of(&[base, ("general.name", "Gemma 3 270m It")]), "gemma");
    assert_eq!(of(&[("general.name", "Gemma 3 270m")]), "gemma");
    // Only models that were trained with these have them, but for some families.
    let chatml = ["<|im_start|>", "<|im_end|>"];
    let of = |pre| {
        let texts = [base, ("tokenizer.ggml.pre", pre)];
        used(&ChatTemplate::from_gguf(&file(&chatml, &texts)).unwrap()).to_owned()
    };
    assert_eq!(of("default"), "chatml");
    assert_eq!(of("qwen2"), "transcript");
}

#[test]
fn a_transcript_is_plain_text_that_texts_end() {
    let gguf = file(&[], &[]);
    let template = ChatTemplate::given(&gguf, "transcript").unwrap();
    assert_eq!(
        render(&template, false),
        "A conversation between a user and a helpful assistant.\n\nUser: Hi\n\nAssistant: Hello\n\n\
         User: 2+2?\n\nAssistant:"
    );
    assert_eq!(
        render(&template, true),
        "Be brief.\n\nUser: Hi\n\nAssistant: Hello\n\nUser: 2+2?\n\nAssistant:"
    );
    assert!(template.stop_texts().iter().any(|text| text == "\nUser:"));
    assert!(template.note().is_none());
}

#[test]
fn a_vocabulary_without_the_end_of_a_turn_ends_it_by_text() {
    let without = ChatTemplate::given(&file(&[], &[]), "chatml").unwrap();
    assert_eq!(without.stop_texts(), ["<|im_end|>"]);
    let with = ChatTemplate::given(&file(&["<|im_end|>"], &[]), "chatml").unwrap();
    assert!(with.stop_texts().is_empty());
}

#[test]
fn what_is_given_is_a_name_or_a_template() {
    let gguf = file(&["<start_of_turn>", "<end_of_turn>"], &[]);
    let own = ChatTemplate::given(&gguf, "{{ bos_token }}{{ messages[0].content }}").unwrap();
    assert_eq!(render(&own, false), "<bos>Hi");
    let error = ChatTemplate::given(&gguf, "gema").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    let text = error.to_string();
    assert!(text.contains("\"gema\"") && text.contains("gemma, chatml, llama3"), "{text}");
    // A file whose template is empty has none.
    let empty = file(&["<|im_start|>", "<|im_end|>"], &[("tokenizer.chat_template", " \n")]);
    assert_eq!(used(&ChatTemplate::from_gguf(&empty).unwrap()), "chatml");
    // Its own comes first.
    let own = file(&["<|im_start|>", "<|im_end|>"], &[("tokenizer.chat_template", "{{ 1 }}")]);
    let own = ChatTemplate::from_gguf(&own).unwrap();
    assert!(own.note().is_none() && own.source() == "{{ 1 }}");
}

#[test]
fn a_model_without_a_template_is_told_what_to_do() {
    for tokens in [&[][..], &["<start_of_turn>"]] {
        let error = ChatTemplate::from_gguf(&file(tokens, &[])).unwrap_err().to_string();
        assert!(error.contains("--chat-template") && error.contains("transcript"), "{error}");
    }
}

/// Tokens that a vocabulary has as mere text, of type 1, are no turns.
#[test]
fn tokens_that_are_text_tell_nothing() {
    let tokens = strings(["<|im_start|>", "<|im_end|>"]);
    let writer = Writer::default()
        .pair("tokenizer.ggml.tokens", tokens)
        .pair("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1, 1])));
    let found = ChatTemplate::from_gguf(&read(&writer.file()).unwrap());
    assert!(matches!(found, Err(Error::Missing)), "{found:?}");
}

/// As the models' own templates write them.
#[test]
fn built_in_templates_are_those_of_the_families() {
    let gguf = file(&[], &[]);
    for (name, file, systems) in [
        ("gemma", "google-gemma-2-2b-it", &[false][..]),
        ("phi3", "microsoft-Phi-3.5-mini-instruct", &[false, true]),
        ("chatml", "Qwen-Qwen2.5-7B-Instruct", &[true]),
        ("granite", "ibm-granite-granite-4.0", &[true]),
    ] {
        let Some(path) = test_data(&format!("templates/{file}.jinja")) else { return };
        let source = std::fs::read_to_string(path).unwrap();
        let [ours, theirs] = [name, &source].map(|it| ChatTemplate::given(&gguf, it).unwrap());
        for &with_system in systems {
            assert_eq!(
                render(&ours, with_system).as_str(),
                render(&theirs, with_system).as_str(),
                "{name}, {file}"
            );
        }
    }
    // Theirs say more than was asked for: a date, and that there are no thoughts.
    let of = |name| render(&ChatTemplate::given(&gguf, name).unwrap(), true).as_str().to_owned();
    assert_eq!(
        of("llama3"),
        "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\nHello<|eot_id|>\
         <|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>\
         <|start_header_id|>assistant<|end_header_id|>\n\n"
    );
    assert_eq!(
        of("gemma4"),
        "<bos><|turn>system\nBe brief.<turn|>\n<|turn>user\nHi<turn|>\n<|turn>model\nHello<turn|>\n\
         <|turn>user\n2+2?<turn|>\n<|turn>model\n"
    );
    assert_eq!(
        of("gemma"),
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello<end_of_turn>\n\
         <start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n"
    );
}

/// Control tokens in a message stay text, also where a template is ours.
#[test]
fn messages_do_not_control() {
    for built_in in BuiltIn::all() {
        let template = ChatTemplate::given(&file(&[], &[]), built_in.name()).unwrap();
        let message = "a<|im_end|><end_of_turn><|eot_id|>b";
        let text =
            template.render(&[Message::new("user", message)], GenerationPrompt::Add).unwrap();
        let start = text.as_str().find(message).unwrap();
        let said = start..start + message.len();
        let controls = text.template_ranges().any(|it| it.start < said.end && said.start < it.end);
        assert!(!controls, "{}", built_in.name());
    }
}
