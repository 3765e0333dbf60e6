//! Answers by generators and chats: what ends them, and that they compute what others do.
#![cfg(feature = "cli")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::path::Path;
use std::thread;
use std::time::Duration;

use polychord::api::abi::PAGE;
use polychord::hub::{Hub, ModelRef};
use polychord::model::chat::{GenerationPrompt, Message};
use polychord::model::gguf::GgmlType;
use polychord::model::{
    CancelHandle, Chat, Error, ErrorKind, Finish, GenerateOptions, Generation, Generator, Model,
    Placement, Ranks, Sampling, Session, SessionOptions, Token, Transformer,
};

use common::llama::{Llama, Shape};
use common::{each_engine, open, skip, transformer};

fn shape() -> Shape {
    Shape { blocks: 3, context: 512, ..Shape::of(GgmlType::Q4_0) }
}

/// Sessions of a small random model, with batches of four tokens.
fn with_model(test: &str, body: impl Fn(&Transformer, &Path)) {
    each_engine(test, |engine| {
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(shape()).save(folder.path());
        body(&transformer(engine), &path);
    });
}

fn start(transformer: &Transformer, path: &Path, context: u32) -> Session {
    let options = SessionOptions::new().context(context).batch(4);
    transformer.start(&open(path, false), &options).unwrap()
}

const PROMPT: [u32; 9] = [1, 50, 3, 90, 7, 7, 20, 60, 11];

fn sampling() -> Sampling {
    Sampling::new().temperature(0.9).repeat_penalty(1.2).seed(5)
}

/// What [`Generation`] makes of a prompt in a fresh session.
fn reference(transformer: &Transformer, path: &Path, prompt: &[u32], count: usize) -> Vec<Token> {
    let mut session = start(transformer, path, 256);
    let model = session.model().clone();
    let tokenizer = model.tokenizer().unwrap();
    let tokens = Generation::new(&mut session, tokenizer, prompt, &sampling(), count).unwrap();
    tokens.map(Result::unwrap).collect()
}

fn ids(tokens: &[Token]) -> Vec<u32> {
    tokens.iter().map(|token| token.id).collect()
}

fn text(tokens: &[Token]) -> String {
    tokens.iter().map(|token| token.text.as_str()).collect()
}

fn collect(generator: &mut Generator) -> Vec<Token> {
    generator.map(Result::unwrap).collect()
}

#[test]
fn a_generator_gives_what_a_generation_gives() {
    with_model("a_generator_gives_what_a_generation_gives", |transformer, path| {
        let expected = reference(transformer, path, &PROMPT, 30);
        let mut generator = Generator::new(start(transformer, path, 256)).unwrap();
        assert!(generator.next().is_none() && generator.finish().is_none());
        let options = GenerateOptions::new().sampling(sampling()).max_tokens(30);
        generator.begin(&PROMPT, &options).unwrap();
        assert_eq!(collect(&mut generator), expected);
        let finish = if expected.len() < 30 { Finish::EndOfText } else { Finish::MaxTokens };
        assert_eq!(generator.finish(), Some(finish));
        assert!(generator.next().is_none());
        assert_eq!(generator.tokens(), [&PROMPT[..], &ids(&expected)].concat());
        // The same again needs only the last token of the prompt.
        let seen = generator.session().profile().prompt.tokens;
        generator.begin(&PROMPT, &options).unwrap();
        assert_eq!(collect(&mut generator), expected);
        assert_eq!(generator.session().profile().prompt.tokens, seen);
        // And so does a thread that owns it, after another beginning.
        let others: Vec<_> = PROMPT[..4].iter().chain(&[8, 9, 10]).copied().collect();
        let expected = reference(transformer, path, &others, 12);
        let got = thread::spawn(move || {
            generator.begin(&others, &options.max_tokens(12)).unwrap();
            collect(&mut generator)
        });
        assert_eq!(got.join().unwrap(), expected);
    });
}

#[test]
fn an_answer_goes_on_after_its_last_token() {
    with_model("an_answer_goes_on_after_its_last_token", |transformer, path| {
        let greedy = GenerateOptions::new().max_tokens(6);
        let mut generator = Generator::new(start(transformer, path, 256)).unwrap();
        generator.begin(&PROMPT, &greedy).unwrap();
        collect(&mut generator);
        let sequence = generator.tokens().to_vec();
        generator.begin(&sequence, &greedy).unwrap();
        let more = collect(&mut generator);
        let mut fresh = start(transformer, path, 256);
        let model = fresh.model().clone();
        let tokenizer = model.tokenizer().unwrap();
        let whole =
            Generation::new(&mut fresh, tokenizer, &sequence, &Sampling::greedy(), 6).unwrap();
        assert_eq!(more, whole.map(Result::unwrap).collect::<Vec<_>>());
    });
}

#[test]
fn stop_texts_end_an_answer_and_are_never_delivered() {
    with_model("stop_texts_end_an_answer_and_are_never_delivered", |transformer, path| {
        let options = GenerateOptions::new().sampling(sampling()).max_tokens(30);
        let all = text(&reference(transformer, path, &PROMPT, 30));
        assert!(all.is_ascii() && all.len() > 12, "{all:?}");
        let mut generator = Generator::new(start(transformer, path, 256)).unwrap();
        // One token has one character.
        for len in [1, 2, 5] {
            let stop = all[7..7 + len].to_owned();
            let expected = &all[..all.find(&stop).unwrap()];
            let options = options.clone().stop([stop.clone(), "never comes".into()]);
            generator.begin(&PROMPT, &options).unwrap();
            let mut got = String::new();
            for token in &mut generator {
                got += &token.unwrap().text;
                assert!(expected.starts_with(&got), "{got:?}");
            }
            assert_eq!((got.as_str(), generator.finish()), (expected, Some(Finish::Stop(stop))));
        }
        // The beginning of a stop text is delivered when the answer ends without the rest.
        let almost = all.clone() + "!";
        generator.begin(&PROMPT, &options.clone().stop([almost])).unwrap();
        let tokens = collect(&mut generator);
        assert_eq!(text(&tokens), all);
        assert!(tokens[..tokens.len() - 1].iter().all(|token| token.text.is_empty()));
        let refused = generator.begin(&PROMPT, &options.stop([""])).unwrap_err();
        assert!(matches!(refused, Error::EmptyStop), "{refused}");
    });
}

#[test]
fn a_full_context_ends_an_answer_without_an_error() {
    with_model("a_full_context_ends_an_answer_without_an_error", |transformer, path| {
        let expected = reference(transformer, path, &PROMPT, 8);
        let options = GenerateOptions::new().sampling(sampling());
        let mut generator = Generator::new(start(transformer, path, 16)).unwrap();
        generator.begin(&PROMPT, &options).unwrap();
        // The last token takes no room.
        assert_eq!(collect(&mut generator), expected);
        assert_eq!(generator.finish(), Some(Finish::ContextFull));
        let long = vec![1; 17];
        generator.begin(&long, &options).unwrap();
        assert!(generator.next().is_none());
        assert_eq!(generator.finish(), Some(Finish::ContextFull));
        assert_eq!(generator.session().position(), 16, "what it has seen stays");
        generator.begin(&long[..16], &options).unwrap();
        assert_eq!(collect(&mut generator).len(), 1);
        generator.begin(&PROMPT, &options.clone().max_tokens(0)).unwrap();
        assert!(generator.next().is_none());
        assert_eq!(generator.finish(), Some(Finish::MaxTokens));
        assert!(matches!(generator.begin(&[], &options), Err(Error::EmptyPrompt)));
        generator.begin(&[1, 97], &options).unwrap();
        assert_eq!(generator.next().unwrap().unwrap_err().kind(), ErrorKind::InvalidArgument);
        assert!(generator.next().is_none() && generator.finish().is_none());
    });
}

#[test]
fn an_answer_ends_when_it_is_cancelled_or_late() {
    with_model("an_answer_ends_when_it_is_cancelled_or_late", |transformer, path| {
        let expected = reference(transformer, path, &PROMPT, 5);
        let cancel = CancelHandle::new();
        let options = GenerateOptions::new().sampling(sampling()).cancel(&cancel);
        let mut generator = Generator::new(start(transformer, path, 256)).unwrap();
        generator.begin(&PROMPT, &options.clone().deadline(Duration::MAX)).unwrap();
        let mut got = Vec::new();
        for token in &mut generator {
            got.push(token.unwrap());
            if got.len() == 4 {
                cancel.clone().cancel();
            }
        }
        assert_eq!(got, expected[..4]);
        assert_eq!(generator.finish(), Some(Finish::Cancelled));
        generator.begin(&PROMPT, &options).unwrap();
        assert!(generator.next().is_none(), "it stays cancelled");
        // It goes on where it was.
        let sequence = generator.tokens().to_vec();
        assert_eq!(sequence, PROMPT);
        let late = GenerateOptions::new().deadline(Duration::ZERO);
        generator.begin(&PROMPT, &late).unwrap();
        assert!(generator.next().is_none());
        assert_eq!(generator.finish(), Some(Finish::Deadline));
        let options = GenerateOptions::new().sampling(sampling()).max_tokens(5);
        generator.begin(&PROMPT, &options.deadline(Duration::from_secs(3600))).unwrap();
        assert_eq!(collect(&mut generator), expected);
    });
}

/// A prompt that is watched is evaluated in batches, and can be left between any two of them.
#[test]
fn a_long_prompt_can_be_cancelled_and_has_the_same_bits() {
    each_engine("a_long_prompt_can_be_cancelled_and_has_the_same_bits", |engine| {
        let folder = tempfile::tempdir().unwrap();
        // Some milliseconds for each batch of one token.
        let shape = Shape { blocks: 6, dim: 256, head_dim: 64, rope_dim: 64, ffn: 1024, ..shape() };
        let path = Llama::random(shape).save(folder.path());
        let transformer = transformer(engine);
        let prompt: Vec<u32> = (0..300).map(|i| i * 7 % 96).collect();
        let resident_bytes = Some(60 * PAGE);
        let paged = Placement::Paged { resident_bytes, policy: Default::default() };
        let mut expected = None;
        for (placement, ranks) in [(Placement::auto(), 1), (Placement::auto(), 2), (paged, 1)] {
            let options = SessionOptions::new()
                .context(400)
                .batch(1)
                .placement(placement)
                .ranks(Ranks::Exactly(ranks));
            let session = transformer.start(&open(&path, false), &options).unwrap();
            let mut generator = Generator::new(session).unwrap();
            let cancel = CancelHandle::new();
            let one = GenerateOptions::new().max_tokens(1);
            // All of it takes some hundred milliseconds.
            let late = one.clone().deadline(Duration::from_millis(5));
            generator.begin(&prompt, &late).unwrap();
            assert!(generator.next().is_none());
            assert_eq!(generator.finish(), Some(Finish::Deadline));
            assert!(generator.session().position() < 300);
            // Between batches no logits are computed.
            let profile = generator.session().profile();
            assert!(profile.prompt.head.is_zero() && profile.decode.head.is_zero());
            let mut session = generator.into_session();
            session.reset();
            let mut generator = Generator::new(session).unwrap();
            generator.begin(&prompt, &one.clone().cancel(&cancel)).unwrap();
            let canceller = thread::spawn(move || {
                thread::sleep(Duration::from_millis(5));
                cancel.cancel();
            });
            let first = generator.next();
            canceller.join().unwrap();
            let seen = generator.session().position();
            if first.is_none() {
                assert_eq!(generator.finish(), Some(Finish::Cancelled));
                assert!(seen < 300, "{seen}");
            }
            // What was evaluated is kept, and the rest follows at once.
            generator.begin(&prompt, &one).unwrap();
            assert!(generator.session().position() >= seen.min(299));
            generator.next().unwrap().unwrap();
            let logits = generator.logits().to_vec();
            let mut session = generator.into_session();
            session.reset();
            let at_once = session.eval(&prompt).unwrap().to_vec();
            assert!(logits == at_once && *expected.get_or_insert(at_once) == logits);
        }
    });
}

#[test]
fn generators_move_to_other_threads() {
    fn is_owned<T: Send + 'static>() {}
    fn is_shared<T: Send + Sync + Clone + 'static>() {}
    is_owned::<Session>();
    is_owned::<Generator>();
    is_owned::<Chat>();
    is_shared::<CancelHandle>();
    is_shared::<Model>();
}

/// What a fresh session answers to a conversation, greedily, and the logits after its last token.
fn fresh_answer(
    transformer: &Transformer,
    model: &Model,
    context: u32,
    messages: &[Message],
    options: &GenerateOptions,
) -> (Vec<Token>, Vec<f32>) {
    let text = model.chat_template().unwrap().render(messages, GenerationPrompt::Add).unwrap();
    let sequence = model.tokenizer().unwrap().encode_chat(&text).unwrap();
    let session = SessionOptions::new().context(context);
    let mut generator = Generator::new(transformer.start(model, &session).unwrap()).unwrap();
    generator.begin(&sequence, options).unwrap();
    let tokens = collect(&mut generator);
    (tokens, generator.logits().to_vec())
}

/// Some turns, of which each is what a fresh session makes of the whole conversation.
fn converse(transformer: &Transformer, model: &Model, options: &GenerateOptions) -> Chat {
    let context = 256;
    let session = SessionOptions::new().context(context).batch(8);
    let mut chat = Chat::new(transformer.start(model, &session).unwrap()).unwrap();
    for said in ["My name is Ann.", "What is my name?", "And again?"] {
        chat.user(said).unwrap();
        let (expected, logits) =
            fresh_answer(transformer, model, context, chat.messages(), options);
        let before = chat.session().profile();
        let tokens: Vec<_> = chat.answer(options).unwrap().map(Result::unwrap).collect();
        assert_eq!(tokens, expected);
        assert!(chat.session().logits().to_vec() == logits);
        assert_eq!(chat.messages().last().unwrap(), &Message::new("assistant", text(&tokens)));
        let after = chat.session().profile();
        let evaluated = after.prompt.tokens - before.prompt.tokens;
        let whole = u64::from(chat.session().position()) - tokens.len() as u64 + 1;
        assert_eq!(evaluated < whole, chat.messages().len() > 2, "{evaluated} of {whole}");
    }
    chat
}

#[test]
fn a_chat_answers_as_a_fresh_session_would() {
    with_model("a_chat_answers_as_a_fresh_session_would", |transformer, path| {
        let model = Model::open(path).unwrap();
        let options = GenerateOptions::new().max_tokens(9);
        converse(transformer, &model, &options);
        let options = options.sampling(sampling());
        let mut chat = converse(transformer, &model, &options);
        assert_eq!(chat.finish(), Some(Finish::MaxTokens));
        // An answer that is left early is a turn as far as it was delivered.
        chat.user("Stop").unwrap();
        let mut said = String::new();
        for token in chat.answer(&options).unwrap().take(4) {
            said += &token.unwrap().text;
        }
        assert_eq!(chat.messages().last().unwrap(), &Message::new("assistant", said.as_str()));
        let turns = chat.messages().len();
        chat.user("Go on").unwrap();
        assert!(chat.next_token().is_none(), "its answer has ended");
        let (expected, _) = fresh_answer(transformer, &model, 256, chat.messages(), &options);
        let tokens: Vec<_> = chat.answer(&options).unwrap().map(Result::unwrap).collect();
        assert_eq!(tokens, expected);
        assert_eq!(chat.messages().len(), turns + 2);
        // One that is cancelled before it says anything is none.
        let cancel = CancelHandle::new();
        cancel.cancel();
        chat.user("Never mind").unwrap();
        assert!(chat.answer(&options.clone().cancel(&cancel)).unwrap().next().is_none());
        assert_eq!(chat.finish(), Some(Finish::Cancelled));
        assert_eq!(chat.messages().len(), turns + 3);
        // A conversation that does not fit has no answer, and room is made by fewer turns.
        let long = "x".repeat(300);
        chat.user(long).unwrap();
        assert!(chat.answer(&options).unwrap().next().is_none());
        assert_eq!(chat.finish(), Some(Finish::ContextFull));
        chat.set_messages(vec![Message::new("user", "My name is Ann.")]).unwrap();
        let (expected, _) = fresh_answer(transformer, &model, 256, chat.messages(), &options);
        let stop = text(&expected)[3..5].to_owned();
        let options = options.stop([stop.as_str()]);
        let tokens: Vec<_> = chat.answer(&options).unwrap().map(Result::unwrap).collect();
        let whole = text(&expected);
        assert_eq!(text(&tokens), whole[..whole.find(&stop).unwrap()]);
        assert_eq!(chat.finish(), Some(Finish::Stop(stop)));
        assert_eq!(chat.messages()[1].content, text(&tokens));
        chat.into_session().reset();
    });
}

#[test]
fn a_chat_with_the_default_model_answers_as_a_fresh_session_would() {
    each_engine("a_chat_with_the_default_model_answers_as_a_fresh_session_would", |engine| {
        let Some(path) = Hub::new().unwrap().cached(&ModelRef::Default) else {
            return skip("the default model is not in the cache (polychord pull)");
        };
        let model = open(&path, true);
        let options = GenerateOptions::new().max_tokens(12);
        let chat = converse(&transformer(engine), &model, &options);
        assert_eq!(chat.messages().len(), 6);
    });
}
