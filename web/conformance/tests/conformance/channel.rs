//! The process that has the engine, and the turn of a thread to talk to it.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command as Process, Stdio};
use std::sync::{Condvar, Mutex, PoisonError};
use std::thread::{self, ThreadId};

use crate::message::{Answer, Command, Envelope, Pages};

/// Names the program, with its arguments, that has the engine.
pub(crate) const EXECUTOR: &str = "POLYCHORD_WEB_EXECUTOR";

/// The process that has the engine.
#[derive(Debug)]
pub(crate) struct Channel {
    pipes: Mutex<Pipes>,
    /// Which thread is in the middle of a conversation, and how deep: a function of the host may call.
    owner: Mutex<Option<(ThreadId, usize)>>,
    freed: Condvar,
}

#[derive(Debug)]
struct Pipes {
    child: Child,
    /// None when it is to end.
    to: Option<ChildStdin>,
    from: ChildStdout,
}

/// The turn of this thread.
pub(crate) struct Turn<'a>(&'a Channel);

impl Channel {
    /// Starts the program, which says what it is.
    pub(crate) fn start() -> io::Result<(Self, Answer)> {
        let line = std::env::var(EXECUTOR)
            .map_err(|_| io::Error::other(format!("{EXECUTOR} is not set")))?;
        let mut words = line.split_whitespace();
        let program =
            words.next().ok_or_else(|| io::Error::other(format!("{EXECUTOR} is empty")))?;
        let mut child = Process::new(program)
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::Error::other("it has no pipes"));
        };
        let mut pipes = Pipes { child, to: Some(to), from };
        let (hello, _, _) = pipes.receive()?;
        let (pipes, owner) = (Mutex::new(pipes), Mutex::new(None));
        Ok((Self { pipes, owner, freed: Condvar::new() }, hello))
    }

    /// Waits until no other thread is in the middle of a conversation.
    pub(crate) fn turn(&self) -> Turn<'_> {
        let me = thread::current().id();
        let mut owner = self.owner.lock().unwrap_or_else(PoisonError::into_inner);
        while owner.is_some_and(|(other, _)| other != me) {
            owner = self.freed.wait(owner).unwrap_or_else(PoisonError::into_inner);
        }
        *owner = Some((me, owner.map_or(0, |(_, depth)| depth) + 1));
        Turn(self)
    }
}

impl Turn<'_> {
    /// Says something, and waits for the answer.
    pub(crate) fn exchange(
        &self,
        command: Command,
        pages: Pages,
        bytes: &[u8],
    ) -> io::Result<(Answer, Pages, Vec<u8>)> {
        let mut pipes = self.0.pipes.lock().unwrap_or_else(PoisonError::into_inner);
        pipes.send(&Envelope { content: command, pages }, bytes)?;
        pipes.receive()
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut owner = self.0.owner.lock().unwrap_or_else(PoisonError::into_inner);
        *owner = owner.and_then(|(id, depth)| (depth > 1).then_some((id, depth - 1)));
        self.0.freed.notify_all();
    }
}

impl Pipes {
    fn send(&mut self, message: &Envelope<Command>, bytes: &[u8]) -> io::Result<()> {
        let json = serde_json::to_vec(message)?;
        let length = |bytes: usize| u32::try_from(bytes).map_err(io::Error::other);
        let mut frame = length(4 + json.len() + bytes.len())?.to_le_bytes().to_vec();
        frame.extend(length(json.len())?.to_le_bytes());
        frame.extend(json);
        frame.extend(bytes);
        let to = self.to.as_mut().ok_or_else(|| io::Error::other("it has ended"))?;
        to.write_all(&frame)?;
        to.flush()
    }

    fn receive(&mut self) -> io::Result<(Answer, Pages, Vec<u8>)> {
        let mut length = [0; 4];
        self.from.read_exact(&mut length)?;
        let mut frame = vec![0; u32::from_le_bytes(length) as usize];
        self.from.read_exact(&mut frame)?;
        let head = frame.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes) as usize);
        let cut = head.and_then(|json| Some((frame.get(4..4 + json)?, frame.get(4 + json..)?)));
        let (json, bytes) =
            cut.ok_or_else(|| io::Error::other("it sent a message that is cut off"))?;
        let Envelope { content, pages } = serde_json::from_slice(json)?;
        Ok((content, pages, bytes.to_vec()))
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        // It ends where its commands end.
        self.to = None;
        _ = self.child.wait();
    }
}
