//! Where an answer begins, what of it goes into files, and going on from these.

use std::io::Write as _;
use std::path::Path;

use polychord::model::chat::{ChatTemplate, GenerationPrompt, Message};
use polychord::model::tokenizer::SpecialTokens;
use polychord::model::{Error, Logits, Model, SaveOptions, Session, sampling_by_name, sampling_of};
use polychord::receipts::snapshot::{AnswerState, Reader, State, Turn};
use polychord::receipts::{Digest, Key, ReceiptBuilder};

use super::args::Args;
use crate::cli::Failure;
use crate::cli::snapshot::{open, refuse, replace};

/// What is continued, and how its tokens are chosen.
pub(super) struct Beginning {
    /// Everything from the first token on.
    pub(super) tokens: Vec<u32>,
    pub(super) answer: AnswerState,
    /// Turns of a conversation that are before the answer. None if it is no conversation.
    turns: Option<Vec<Turn>>,
    /// Whether the answer is a turn that had begun.
    is_same_turn: bool,
    /// Texts that end the answer beside those that the user has named.
    pub(super) stops: Vec<String>,
}

impl Beginning {
    /// Encodes the prompt, behind what a snapshot has.
    pub(super) fn new(model: &Model, args: &Args) -> Result<Self, Failure> {
        let before = args.resume.as_deref().map(|path| read_state(model, path)).transpose()?;
        let (mut tokens, answer, turns) =
            before.map_or_else(Default::default, |it| (it.tokens, it.answer, it.turns));
        let mut answer = match answer {
            Some(answer) => answer,
            None => AnswerState::new(sampling_by_name(&args.sampling()), 0, 0),
        };
        if args.resume.is_some() && !args.has_prompt() && args.prompt_ids.is_none() {
            let stops = match turns {
                Some(_) => model.chat_template()?.stop_texts().to_vec(),
                None => Vec::new(),
            };
            return Ok(Self { tokens, answer, is_same_turn: turns.is_some(), turns, stops });
        }
        let (mut after, mut stops) = (None, Vec::new());
        if args.chat {
            let no_turns =
                "the snapshot has no turns of a conversation: it was saved without --chat";
            let mut turns = match (&args.resume, turns) {
                (Some(_), None) => return Err(no_turns.to_owned().into()),
                (_, turns) => turns.unwrap_or_default(),
            };
            turns.extend(args.system.as_ref().map(|text| Turn::new("system", text)));
            turns.push(Turn::new("user", args.prompt()?));
            let template = model.chat_template()?;
            tokens = render(model, &template, args, &turns)?;
            stops = template.stop_texts().to_vec();
            if let Some(note) = template.note().filter(|_| !args.quiet) {
                crate::cli::template::tell(note)?;
            }
            after = Some(turns);
        } else {
            tokens.extend(encode(model, args)?);
        }
        // No more than a context has room for, which is found out when it is evaluated.
        answer.begin = u32::try_from(tokens.len()).unwrap_or(u32::MAX);
        Ok(Self { tokens, answer, turns: after, is_same_turn: false, stops })
    }

    /// The turns with those of the answer.
    fn turns_with(&self, text: &str) -> Option<Vec<Turn>> {
        let mut turns = self.turns.clone()?;
        match turns.last_mut().filter(|_| self.is_same_turn) {
            Some(turn) => turn.content.push_str(text),
            None => turns.push(Turn::new("assistant", text)),
        }
        Some(turns)
    }
}

/// Encodes a prompt that is no message.
fn encode(model: &Model, args: &Args) -> Result<Vec<u32>, Failure> {
    if let Some(ids) = &args.prompt_ids {
        return Ok(ids.clone());
    }
    let prompt = args.prompt()?;
    let special = if args.no_special { SpecialTokens::AsText } else { SpecialTokens::Parse };
    let tokenizer = model.tokenizer()?;
    let encoded = match args.resume {
        Some(_) => tokenizer.encode(&prompt, special),
        None => tokenizer.encode_prompt(&prompt, special),
    };
    Ok(encoded.map_err(Error::from)?)
}

fn render(
    model: &Model,
    template: &ChatTemplate,
    args: &Args,
    turns: &[Turn],
) -> Result<Vec<u32>, Failure> {
    let message = |turn: &Turn| Message::new(turn.role.clone(), turn.content.clone());
    let messages: Vec<_> = turns.iter().map(message).collect();
    let conversation = template
        .render_with(&messages, GenerationPrompt::Add, &args.variables())
        .map_err(Error::from)?;
    Ok(model.tokenizer()?.encode_chat(&conversation).map_err(Error::from)?)
}

/// Reads what is small of a snapshot. Whether it is of this model is found out when it is restored.
fn read_state(model: &Model, path: &Path) -> Result<State, Failure> {
    let mut reader = Reader::new(open(path)?).map_err(|error| refuse(path, &error))?;
    let most = model.config().context_length.saturating_add(1);
    State::read(&mut reader, most).map_err(|error| refuse(path, &error))
}

/// Writes a snapshot if one was asked for, and returns its digest.
pub(super) fn save(
    args: &Args,
    session: &Session,
    tokens: Vec<u32>,
    answer: AnswerState,
    beginning: &Beginning,
    text: &str,
) -> Result<Option<Digest>, Failure> {
    let Some(path) = &args.save else { return Ok(None) };
    let turns = beginning.turns_with(text);
    let options = SaveOptions::new().compress().tokens(tokens).answer(answer).turns(turns);
    replace(path, |file| Ok(session.save_with(file, &options)?)).map(Some)
}

/// Takes the steps for a receipt, if one was asked for.
pub(super) struct Receiver {
    builder: Option<ReceiptBuilder>,
    key: Option<Key>,
}

impl Receiver {
    pub(super) fn new(
        args: &Args,
        session: &Session,
        beginning: &Beginning,
    ) -> Result<Self, Failure> {
        if args.receipt.is_none() {
            return Ok(Self { builder: None, key: None });
        }
        let key = args.sign.as_ref().map(Key::read).transpose().map_err(Error::from)?;
        let answer = &beginning.answer;
        let sampling = sampling_of(&answer.sampling)?;
        let builder = session.receipt(&beginning.tokens, &sampling, answer.drawn)?;
        Ok(Self { builder: Some(builder), key })
    }

    pub(super) fn record(&mut self, id: u32, logits: Logits<'_>) {
        if let Some(builder) = &mut self.builder {
            builder.push(id, logits.as_bytes());
        }
    }

    /// Writes the receipt, with the digest of a snapshot that was saved.
    pub(super) fn finish(self, args: &Args, saved: Option<Digest>) -> Result<(), Failure> {
        let (Some(mut builder), Some(path)) = (self.builder, &args.receipt) else { return Ok(()) };
        if let Some(snapshot) = saved {
            builder = builder.information("snapshot", snapshot);
        }
        let mut receipt = builder.finish();
        if let Some(key) = &self.key {
            receipt = receipt.sign(key);
        }
        replace(path, |file| Ok(writeln!(file, "{}", receipt.to_json())?))
    }
}
