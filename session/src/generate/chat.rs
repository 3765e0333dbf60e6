//! A conversation with a model.

use polychord_model::chat::{ChatTemplate, GenerationPrompt, Message, Variables};

use crate::error::Result;
use crate::generate::finish::Finish;
use crate::generate::generation::Token;
use crate::generate::generator::Generator;
use crate::generate::options::GenerateOptions;
use crate::session::Session;

/// A conversation with a model: it keeps the turns, and evaluates only what is new of them.
///
/// Each answer continues the whole conversation, as the model's chat template renders it
/// ([`Model::chat_template`](crate::Model::chat_template)). The
/// results are those of a fresh session that evaluates all of it; what the session has seen of it
/// is not evaluated again. The repeat penalty looks back over all turns.
///
/// ```no_run
/// use std::time::Duration;
///
/// use polychord_session::{CancelHandle, Chat, Error, Finish, GenerateOptions, Session};
///
/// fn talk(session: Session, cancel: &CancelHandle) -> Result<(), Error> {
///     let mut chat = Chat::new(session)?;
///     chat.system("Answer in one sentence.");
///     chat.user("My name is Ann.")?;
///     let options = GenerateOptions::new()
///         .max_tokens(200)
///         .stop(["\n\n"])
///         .deadline(Duration::from_secs(20))
///         .cancel(cancel);
///     for token in chat.answer(&options)? {
///         print!("{}", token?.text);
///     }
///     if chat.finish() == Some(Finish::Cancelled) {
///         return Ok(());
///     }
///     chat.user("What is my name?")?;
///     for token in chat.answer(&options)? {
///         print!("{}", token?.text);
///     }
///     Ok(())
/// }
/// ```
pub struct Chat {
    generator: Generator,
    template: ChatTemplate,
    variables: Variables,
    messages: Vec<Message>,
    /// Whether the last message is the answer that is being generated.
    is_answering: bool,
}

/// An answer of a [`Chat`], token by token.
///
/// What was delivered is a turn of the conversation, also if it is dropped before its end.
///
/// ```
/// use polychord_session::{Chat, Error, GenerateOptions};
///
/// fn ask(chat: &mut Chat, question: &str) -> Result<String, Error> {
///     chat.user(question)?;
///     let tokens = chat.answer(&GenerateOptions::new().max_tokens(50))?;
///     tokens.map(|token| Ok(token?.text)).collect()
/// }
/// ```
pub struct ChatAnswer<'a>(&'a mut Chat);

impl Chat {
    /// Begins a conversation with the model of a session, by its chat template.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`](crate::Error::Chat) if the model has no chat template that can be used, and
    /// [`Error::Tokenizer`](crate::Error::Tokenizer) if it has no such vocabulary.
    pub fn new(session: Session) -> Result<Self> {
        let template = session.model().chat_template()?;
        let generator = Generator::new(session)?;
        let (variables, messages) = (Variables::new(), Vec::new());
        Ok(Self { generator, template, variables, messages, is_answering: false })
    }

    /// Adds an instruction to the model. Most templates want it first, and once.
    pub fn system(&mut self, text: impl Into<String>) {
        self.add(Message::new("system", text));
    }

    /// Adds what a user says. Control tokens in it stay text.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`](crate::Error::Chat) if the template refuses the conversation, which is then
    /// as before.
    pub fn user(&mut self, text: impl Into<String>) -> Result<()> {
        self.add(Message::new("user", text));
        if let Err(error) = self.sequence() {
            self.messages.pop();
            return Err(error);
        }
        Ok(())
    }

    /// Lets the model answer: an iterator over the tokens of its turn.
    ///
    /// Nothing is evaluated before the first token is asked for. If the conversation does not fit
    /// in the context, there is none, and [`finish`](Self::finish) is [`Finish::ContextFull`]. An
    /// answer that ends before its first token is no turn, and can be asked for again.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`](crate::Error::Chat) if the template refuses the conversation, and those of
    /// [`Generator::begin`].
    pub fn answer(&mut self, options: &GenerateOptions) -> Result<ChatAnswer<'_>> {
        self.begin_answer(options)?;
        Ok(ChatAnswer(self))
    }

    /// Begins an answer as [`answer`](Self::answer) does, for callers that cannot keep an
    /// iterator: [`next_token`](Self::next_token) gives its tokens.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`answer`](Self::answer).
    pub fn begin_answer(&mut self, options: &GenerateOptions) -> Result<()> {
        let sequence = self.sequence()?;
        let mut options = options.clone();
        options.stop.extend_from_slice(self.template.stop_texts());
        self.generator.begin(&sequence, &options)?;
        self.is_answering = false;
        Ok(())
    }

    /// The next token of the answer that was begun; none if it has ended.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Session::eval`]. What was delivered before stays a turn.
    pub fn next_token(&mut self) -> Option<Result<Token>> {
        let next = self.generator.next()?;
        if let Ok(token) = &next {
            if !self.is_answering {
                self.messages.push(Message::new("assistant", ""));
                self.is_answering = true;
            }
            if let Some(turn) = self.messages.last_mut() {
                turn.content.push_str(&token.text);
            }
        }
        Some(next)
    }

    /// Why the last answer ended; none while it goes on, and after an error.
    #[must_use]
    pub fn finish(&self) -> Option<Finish> {
        self.generator.finish()
    }

    /// The turns of the conversation. The last one is the answer as far as it was delivered.
    #[must_use]
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Replaces the turns of the conversation: by those of an earlier one, or by fewer, to make
    /// room. The next answer evaluates what differs.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`](crate::Error::Chat) if the template refuses them; the conversation is then
    /// as before.
    pub fn set_messages(&mut self, messages: Vec<Message>) -> Result<()> {
        let before = std::mem::replace(&mut self.messages, messages);
        // Many templates refuse to render no message at all.
        if !self.messages.is_empty()
            && let Err(error) = self.sequence()
        {
            self.messages = before;
            return Err(error);
        }
        self.end_turn();
        Ok(())
    }

    /// Sets what the template may know beside the turns: tools that the model may call, whether it is
    /// to think. The next answer evaluates what differs.
    ///
    /// # Errors
    ///
    /// [`Error::Chat`](crate::Error::Chat) if the template refuses the conversation with them; all
    /// is then as before.
    pub fn set_variables(&mut self, variables: Variables) -> Result<()> {
        let before = std::mem::replace(&mut self.variables, variables);
        if !self.messages.is_empty()
            && let Err(error) = self.sequence()
        {
            self.variables = before;
            return Err(error);
        }
        Ok(())
    }

    /// The session.
    #[must_use]
    pub const fn session(&self) -> &Session {
        self.generator.session()
    }

    /// Gives the session back, with the sequence that it has seen.
    #[must_use]
    pub fn into_session(self) -> Session {
        self.generator.into_session()
    }

    fn add(&mut self, message: Message) {
        self.end_turn();
        self.messages.push(message);
    }

    /// Lets no more text come to the last turn.
    fn end_turn(&mut self) {
        self.generator.end();
        self.is_answering = false;
    }

    /// The tokens of the whole conversation, up to where the model is to speak.
    fn sequence(&self) -> Result<Vec<u32>> {
        let Self { template, messages, variables, .. } = self;
        let text = template.render_with(messages, GenerationPrompt::Add, variables)?;
        Ok(self.session().model().tokenizer()?.encode_chat(&text)?)
    }
}

impl Iterator for ChatAnswer<'_> {
    type Item = Result<Token>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next_token()
    }
}

impl std::fmt::Debug for Chat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chat")
            .field("messages", &self.messages)
            .field("generator", &self.generator)
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for ChatAnswer<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("ChatAnswer").field(&self.0).finish()
    }
}
