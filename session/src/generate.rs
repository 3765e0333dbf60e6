//! Text from a session: conversations, continuations, and when they end.
//!
//! - [`Chat`] keeps the turns of a conversation, [`Generator`] continues any text; both own their
//!   session. [`Generation`] continues the text of a session that it borrows.
//! - [`GenerateOptions`] says how long an answer may be, and what ends it; [`Finish`] what did.

mod answer;
mod budget;
mod cancel;
mod chat;
mod finish;
mod generation;
mod generator;
mod hold;
mod options;
mod stop_texts;

pub use self::budget::{Budget, Progress};
pub use self::cancel::CancelHandle;
pub use self::chat::{Chat, ChatAnswer};
pub use self::finish::Finish;
pub use self::generation::{Generation, Token};
pub use self::generator::Generator;
pub use self::hold::Hold;
pub use self::options::GenerateOptions;
pub use self::stop_texts::{Pushed, StopTexts};
