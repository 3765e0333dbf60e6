//! The side of the process that computes.

use std::io::{self, stdin, stdout};
use std::os::fd::AsFd as _;

use polychord_session::{Evaluate, Session};
use serde::{Deserialize, Serialize};

use crate::channel::{Channel, Layout, TEXT, Word};
use crate::error::{Error, Result};

/// What a process says of the session that it has started.
///
/// ```
/// fn tell(started: &polychord_isolate::Started) {
///     println!("{} by {} ranks, for {}", started.placement, started.ranks, started.reason);
/// }
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Started {
    /// The engine.
    pub engine: String,
    /// The placement's name.
    pub placement: String,
    /// Why it was chosen.
    pub reason: String,
    /// Threads that compute.
    pub ranks: usize,
    /// Bytes of all its guests' memories.
    pub guest_bytes: u64,
}

/// Computes for the process that has started this one, by the [`Isolated`](crate::Isolated) of that process, until
/// it closes its end. `start` is called once; what it returns is told to the other side, as are its errors.
///
/// The standard streams of this process are those that `Isolated` gives it: nothing else is read or written
/// there.
///
/// ```no_run
/// use polychord_isolate::{Confinement, serve};
/// # fn start() -> Result<polychord_session::Session, polychord_session::Error> { unimplemented!() }
///
/// Confinement::new().readable("model.gguf").enter()?;
/// serve(2048, 49152, || start().map_err(|error| error.to_string()))?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// [`Error::Process`] if the streams are not those of an `Isolated` with this context and vocabulary, or if the
/// other side cannot be told something.
pub fn serve(
    context: u32,
    vocabulary: u32,
    start: impl FnOnce() -> std::result::Result<Session, String>,
) -> Result<()> {
    let failed = |action| move |source| Error::Process { action, source };
    let streams = || {
        let (socket, shared) =
            (stdin().as_fd().try_clone_to_owned()?, stdout().as_fd().try_clone_to_owned()?);
        Channel::of_streams(socket, shared, Layout::new(context, vocabulary))
    };
    let mut channel = streams().map_err(failed("join"))?;
    let mut session = match start() {
        Ok(session) => session,
        Err(reason) => return fail(&mut channel, &reason).map_err(failed("answer")),
    };
    tell(&mut channel, &session).map_err(failed("answer"))?;
    while let Some((word, number)) = channel.receive().map_err(failed("hear"))? {
        let done = compute(&channel, &mut session, word, number);
        let told = match done {
            Ok(position) => channel.send(Word::Done, position),
            Err(reason) => fail(&mut channel, &reason),
        };
        told.map_err(failed("answer"))?;
    }
    Ok(())
}

/// Says that there is a session.
fn tell(channel: &mut Channel, session: &Session) -> io::Result<()> {
    let started = Started {
        engine: session.engine().engine.to_string(),
        placement: session.placed().name.to_owned(),
        reason: session.placed().reason.clone(),
        ranks: session.ranks(),
        guest_bytes: session.stats().guest_bytes,
    };
    let text = serde_json::to_string(&started).map_err(io::Error::other)?;
    let len = channel.write_text(&text)?;
    channel.send(Word::Done, len)
}

/// Does one thing, and returns how many tokens there are then.
fn compute(
    channel: &Channel,
    session: &mut impl Evaluate,
    word: Word,
    number: u64,
) -> std::result::Result<u64, String> {
    match word {
        Word::Eval => {
            let mut tokens = Vec::new();
            channel.read_tokens(number, &mut tokens).map_err(|error| error.to_string())?;
            let logits = session.eval(&tokens).map_err(|error| error.to_string())?;
            channel.write_logits(logits.as_bytes()).map_err(|error| error.to_string())?;
        }
        Word::Rewind => {
            let len = u32::try_from(number).map_err(|error| error.to_string())?;
            session.rewind(len).map_err(|error| error.to_string())?;
        }
        Word::Done | Word::Failed => return Err("an answer is no question".into()),
    }
    Ok(session.tokens().len() as u64)
}

fn fail(channel: &mut Channel, reason: &str) -> io::Result<()> {
    let mut end = reason.len().min(TEXT);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    let len = channel.write_text(&reason[..end])?;
    channel.send(Word::Failed, len)
}
