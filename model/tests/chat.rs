//! Chat templates as models ship them, and hostile ones.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::time::{Duration, SystemTime};

use polychord_model::chat::{ChatTemplate, Error, GenerationPrompt, Message, Rendered};
use polychord_model::gguf::Value;
use polychord_model::tokenizer::Tokenizer;
use support::{Writer, read, string, strings, test_data};

fn talk() -> Vec<Message> {
    vec![
        Message::new("user", "Hi <b>"),
        Message::new("assistant", "Hello"),
        Message::new("user", "2+2?"),
    ]
}

fn render(source: &str) -> Result<Rendered, Error> {
    ChatTemplate::new(source, "<s>", "</s>")?.render(&talk(), GenerationPrompt::Add)
}

#[test]
fn smollm2_template_is_rendered_and_encoded() {
    let Some(path) = test_data("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let gguf = support::open(path);
    let chat = ChatTemplate::from_gguf(&gguf).unwrap();
    let text = chat.render(&[Message::new("user", "Hi")], GenerationPrompt::Add).unwrap();
    let expected = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n\
                    <|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n";
    assert_eq!(text, expected);
    let ids = Tokenizer::from_gguf(&gguf).unwrap().encode_chat(&text).unwrap();
    assert_eq!(ids.iter().filter(|&&id| id == 1).count(), 3);
    assert_eq!(ids.iter().filter(|&&id| id == 2).count(), 2);
}

#[test]
fn python_idioms_work() {
    let source = "{{- bos_token }}\n\
        {%- for message in messages %}\n    {%- if message['role'] == 'user' %}\n\
        [INST] {{ message.content.strip().upper() }} [/INST]\n    {%- else %}\n\
        {{ ' ' + message['content'] + eos_token }}\n    {%- endif %}\n\
        {%- if loop.last %}{% break %}{% endif %}\n{%- endfor %}\n{%- if tools is none and add_generation_prompt %}!{% endif %}";
    assert_eq!(render(source).unwrap(), "<s>[INST] HI <B> [/INST] Hello</s>[INST] 2+2? [/INST]!");
    assert_eq!(
        render("{{ messages[0] | tojson }}").unwrap(),
        r#"{"role": "user", "content": "Hi <b>"}"#
    );
    assert_eq!(render("{{ ['é', 1] | tojson(indent=2) }}").unwrap(), "[\n  \"é\",\n  1\n]");
    assert_eq!(render("{% set ns = namespace(n=0) %}{% for m in messages[1:] %}{% set ns.n = ns.n + 1 %}{% endfor %}{{ ns.n }}").unwrap(), "2");
}

#[test]
fn the_date_is_known_only_when_given() {
    let source = "{% if strftime_now is defined %}{{ strftime_now('%d %b %Y') }}{% else %}26 Jul 2024{% endif %}";
    let chat = ChatTemplate::new(source, "", "").unwrap();
    assert_eq!(chat.render(&[], GenerationPrompt::Omit).unwrap(), "26 Jul 2024");
    let chat = chat.with_date(SystemTime::UNIX_EPOCH + Duration::from_secs(86_400));
    assert_eq!(chat.render(&[], GenerationPrompt::Omit).unwrap(), "02 Jan 1970");
    let chat = ChatTemplate::new("{{ strftime_now('%') }}", "", "")
        .unwrap()
        .with_date(SystemTime::UNIX_EPOCH);
    assert!(matches!(chat.render(&[], GenerationPrompt::Omit), Err(Error::Render { .. })));
}

#[test]
fn refusals_and_mistakes_are_told_apart() {
    let refused = render("{{ raise_exception('Roles must alternate') }}").unwrap_err();
    assert!(
        matches!(&refused, Error::Refused { reason } if reason == "Roles must alternate"),
        "{refused:?}"
    );
    assert!(matches!(render("{% for %}"), Err(Error::Syntax { .. })));
    for source in
        ["{{ nothing.here.there }}", "{% include 'x' %}", "{{ no_such_function() }}", "{{ 1 / 0 }}"]
    {
        assert!(
            matches!(render(source), Err(Error::Render { .. })),
            "{source}: {:?}",
            render(source)
        );
    }
}

#[test]
fn hostile_templates_end() {
    let source = "{% for a in range(10000) %}{% for b in range(10000) %}{% endfor %}{% endfor %}";
    assert!(matches!(render(source), Err(Error::Unbounded { .. })));
    let source = format!("{{% for a in range(10000) %}}{}{{% endfor %}}", "x".repeat(1000));
    assert!(
        matches!(render(&source), Err(Error::Unbounded { .. })),
        "{:?}",
        render(&source).map(|s| s.as_str().len())
    );
    assert!(render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}").is_err());
    assert!(render(&("{{ ".to_owned() + &"(".repeat(100_000))).is_err());
    assert!(render(&"{% if 1 %}".repeat(20_000)).is_err());
    assert!(matches!(render(&"x".repeat(300 << 10)), Err(Error::TooLong { .. })));
    assert!(render("{{ 'aaaaaaaaaa' * 1000000000 }}").is_err());
}

#[test]
fn metadata_are_checked() {
    let gguf = |writer: Writer| read(&writer.file()).unwrap();
    assert!(matches!(ChatTemplate::from_gguf(&gguf(Writer::default())), Err(Error::Missing)));
    let key = "tokenizer.chat_template";
    assert!(matches!(
        ChatTemplate::from_gguf(&gguf(Writer::default().pair(key, Value::U8(1)))),
        Err(Error::Gguf(_))
    ));
    let writer = Writer::default()
        .pair(key, string("{{ bos_token }}{{ eos_token }}"))
        .pair("tokenizer.ggml.tokens", strings(["<s>", "</s>"]))
        .pair("tokenizer.ggml.bos_token_id", Value::U32(0))
        .pair("tokenizer.ggml.eos_token_id", Value::U32(99));
    assert_eq!(
        ChatTemplate::from_gguf(&gguf(writer))
            .unwrap()
            .render(&[], GenerationPrompt::Omit)
            .unwrap(),
        "<s>"
    );
}
