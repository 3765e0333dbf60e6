//! `polychord chat`: a conversation in the terminal.

mod args;
mod command;
mod history;
mod interrupt;
mod lines;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use polychord::model::chat::{Message, Variables};
use polychord::model::{
    Chat, Finish, GenerateOptions, Model, SaveOptions, Session, SessionOptions, Transformer,
};
use polychord::receipts::snapshot::Turn;

use super::load::open;
use super::{Failure, snapshot, template, terminal};
pub(crate) use args::Args;
use command::{Command, HELP};
use interrupt::Interrupts;
use lines::{Line, Lines};

/// Talks until the user has had enough.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let mut talk = Talk::start(args)?;
    let mut lines = Lines::new(!args.no_history)?;
    if lines.is_terminal() {
        writeln!(std::io::stderr(), "/help says what there is; Ctrl-D ends the conversation.")?;
    }
    loop {
        let line = match lines.next()? {
            Line::Text(line) => line,
            Line::Interrupted => continue,
            Line::End => return Ok(()),
        };
        let done = match Command::parse(&line) {
            None => continue,
            Some(Command::Quit) => return Ok(()),
            Some(command) => talk.obey(command),
        };
        // The conversation goes on after what went wrong.
        if let Err(failure) = done {
            if !lines.is_terminal() {
                return Err(failure);
            }
            writeln!(std::io::stderr(), "{}", terminal::lines(&failure.message()))?;
        }
    }
}

/// A conversation, and what it takes to begin another.
struct Talk {
    transformer: Arc<Transformer>,
    model: Model,
    session: SessionOptions,
    generate: GenerateOptions,
    interrupts: Interrupts,
    variables: Variables,
    chat: Chat,
    system: Option<String>,
    last: Option<Answered>,
}

/// How the last answer went.
struct Answered {
    tokens: usize,
    first: f64,
    seconds: f64,
}

impl Talk {
    fn start(args: &Args) -> Result<Self, Failure> {
        let generate = args.generate();
        generate.sampling.validate().map_err(Failure::usage)?;
        let session = args.session.options()?;
        let engine = args.engine.open()?;
        let path = args.find.find(&args.model.clone().unwrap_or_default())?;
        let model = args.template.apply(open(&path, args.session.load)?)?;
        if let Some(note) = model.chat_template()?.note() {
            template::tell(note)?;
        }
        let transformer = Arc::new(Transformer::with_flavor(&engine, args.session.guest)?);
        let variables = args.variables();
        let chat = chat(transformer.start(&model, &session)?, &variables)?;
        let interrupts = Interrupts::new()?;
        let mut talk = Self {
            transformer,
            model,
            session,
            generate,
            interrupts,
            variables,
            chat,
            system: args.system.clone(),
            last: None,
        };
        talk.begin()?;
        Ok(talk)
    }

    /// Begins the conversation anew, with the instruction that it has.
    fn begin(&mut self) -> Result<(), Failure> {
        self.chat.set_messages(Vec::new())?;
        if let Some(system) = &self.system {
            self.chat.system(system.clone());
        }
        Ok(())
    }

    fn obey(&mut self, command: Command<'_>) -> Result<(), Failure> {
        match command {
            Command::Say(text) => {
                self.chat.user(text)?;
                self.answer()
            }
            Command::System(text) => {
                self.system = (!text.is_empty()).then(|| text.to_owned());
                self.begin()
            }
            Command::Reset => self.begin(),
            Command::Again => self.answer_again(),
            Command::Save(path) => self.save(Path::new(path)),
            Command::Load(path) => self.load(Path::new(path)),
            Command::Stats => self.stats(),
            Command::Help => Ok(write!(std::io::stderr(), "{HELP}")?),
            Command::Unknown(name) => {
                Err(format!("there is no {name}; /help says what there is").into())
            }
            Command::Quit => Ok(()),
        }
    }

    fn answer(&mut self) -> Result<(), Failure> {
        let before = self.chat.messages().len();
        let cancel = self.interrupts.begin();
        let start = Instant::now();
        let mut out = std::io::stdout();
        let (mut tokens, mut first) = (0, None);
        let mut failed = None;
        for token in self.chat.answer(&self.generate.clone().cancel(&cancel))? {
            match token {
                Ok(token) => {
                    tokens += 1;
                    first.get_or_insert_with(|| start.elapsed().as_secs_f64());
                    write!(out, "{}", terminal::generated(&token.text))?;
                    out.flush()?;
                }
                Err(error) => failed = Some(error),
            }
        }
        self.interrupts.end();
        writeln!(out)?;
        let seconds = start.elapsed().as_secs_f64();
        self.last = first.map(|first| Answered { tokens, first, seconds });
        if let Some(error) = failed {
            return Err(error.into());
        }
        match self.chat.finish() {
            Some(Finish::ContextFull) => {
                let context = self.chat.session().context();
                let reason = format!(
                    "the context of {context} tokens is full: /reset begins anew, --context makes it longer"
                );
                Err(reason.into())
            }
            // What was asked is no turn without an answer.
            Some(Finish::Cancelled) if self.chat.messages().len() == before => {
                let mut messages = self.chat.messages().to_vec();
                messages.pop();
                Ok(self.chat.set_messages(messages)?)
            }
            _ => Ok(()),
        }
    }

    /// Answers the last question in another way.
    fn answer_again(&mut self) -> Result<(), Failure> {
        let mut messages = self.chat.messages().to_vec();
        if messages.last().is_some_and(|it| it.role == "assistant") {
            messages.pop();
        }
        if messages.last().is_none_or(|it| it.role != "user") {
            return Err("there is nothing yet to answer again".into());
        }
        self.chat.set_messages(messages)?;
        // With the same seed it would be the same.
        let sampling = self.generate.sampling;
        self.generate.sampling = sampling.seed(sampling.seed.wrapping_add(1));
        self.answer()
    }

    /// Writes the conversation with its keys and values. The file is complete or not there.
    fn save(&self, path: &Path) -> Result<(), Failure> {
        let turn = |it: &Message| Turn::new(it.role.clone(), it.content.clone());
        let turns: Vec<_> = self.chat.messages().iter().map(turn).collect();
        let options = SaveOptions::new().compress().turns(turns);
        snapshot::replace(path, |file| Ok(self.chat.session().save_with(file, &options)?))?;
        let tokens = self.chat.session().position();
        writeln!(std::io::stderr(), "saved {tokens} tokens to {}", path.display())?;
        Ok(())
    }

    /// Goes on with a conversation that was saved, on this engine or another.
    fn load(&mut self, path: &Path) -> Result<(), Failure> {
        let restored = snapshot::restore(&self.transformer, &self.model, path, &self.session)?;
        let Some(turns) = restored.turns else {
            return Err("it is no conversation: it has no turns. polychord generate --resume goes on with it".into());
        };
        let messages: Vec<_> =
            turns.into_iter().map(|turn| Message::new(turn.role, turn.content)).collect();
        let mut chat = chat(restored.session, &self.variables)?;
        chat.set_messages(messages)?;
        self.system =
            chat.messages().first().filter(|it| it.role == "system").map(|it| it.content.clone());
        self.chat = chat;
        self.last = None;
        let (turns, tokens) = (self.chat.messages().len(), self.chat.session().position());
        writeln!(std::io::stderr(), "{turns} turns, {tokens} tokens")?;
        Ok(())
    }

    fn stats(&self) -> Result<(), Failure> {
        let session: &Session = self.chat.session();
        let mut err = std::io::stderr();
        writeln!(
            err,
            "{} of {} tokens, {} turns, {}, {} ranks",
            session.position(),
            session.context(),
            self.chat.messages().len(),
            session.placed().name,
            session.ranks(),
        )?;
        if let Some(Answered { tokens, first, seconds }) = &self.last {
            #[allow(clippy::cast_precision_loss, reason = "for people")]
            let speed = tokens.saturating_sub(1) as f64 / (seconds - first).max(1e-6);
            writeln!(
                err,
                "last answer: {tokens} tokens, the first after {first:.2} s, then {speed:.1} tokens/s"
            )?;
        }
        Ok(())
    }
}

/// A conversation of no turn yet, whose template knows what the user has chosen.
fn chat(session: Session, variables: &Variables) -> Result<Chat, Failure> {
    let mut chat = Chat::new(session)?;
    chat.set_variables(variables.clone())?;
    Ok(chat)
}
