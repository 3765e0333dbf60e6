//! The side of the process that asks.

use std::fmt;
use std::io;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use polychord_session::{Evaluate, Logits};

use crate::channel::{Channel, Layout, Word};
use crate::error::{Error, Result};
use crate::serve::Started;

/// A session in a process of its own, which may only compute.
///
/// It [evaluates](Evaluate) as a session does, with the same bits; tokens are chosen, and text is made, in this
/// process. What the other one says is doubted: it can be late, wrong or gone, and is an error then. It ends
/// when this is dropped.
///
/// ```no_run
/// use std::process::Command;
///
/// use polychord_isolate::{Isolated, IsolatedOptions};
/// use polychord_model::Sampling;
/// use polychord_model::tokenizer::SpecialTokens;
/// use polychord_session::{Generation, Model};
///
/// let model = Model::open("model.gguf")?;
/// let (tokenizer, vocabulary) = (model.tokenizer()?, model.config().vocab);
/// let mut command = Command::new("polychord");
/// command.args(["isolated-session", "--model", "model.gguf", "--context", "512", "--memory", "8GiB"]);
/// command.arg(format!("--vocabulary={vocabulary}"));
/// let mut session = Isolated::start(&mut command, &IsolatedOptions::new(512, vocabulary))?;
/// let prompt = tokenizer.encode_prompt("Once", SpecialTokens::Parse)?;
/// for token in Generation::new(&mut session, tokenizer, &prompt, &Sampling::greedy(), 32)? {
///     print!("{}", token?.text);
/// }
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Isolated {
    child: Child,
    channel: Channel,
    started: Started,
    context: u32,
    tokens: Vec<u32>,
    logits: Vec<u8>,
    /// Why nothing can be asked any more.
    lost: Option<String>,
}

/// What is asked of the other process.
///
/// ```
/// use std::time::Duration;
///
/// use polychord_isolate::IsolatedOptions;
///
/// let options = IsolatedOptions::new(4096, 49152).answer_time(Duration::from_secs(60));
/// assert_eq!(options.context, 4096);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct IsolatedOptions {
    /// Most tokens of the sequence: the session's own context.
    pub context: u32,
    /// Tokens of the model's vocabulary: as many logits come back.
    pub vocabulary: u32,
    /// Longest time for one answer; without one, a process that computes for ever is waited for.
    pub answer_time: Option<Duration>,
}

impl IsolatedOptions {
    /// Of a session with this context and this vocabulary, with any time for an answer.
    #[must_use]
    pub const fn new(context: u32, vocabulary: u32) -> Self {
        Self { context, vocabulary, answer_time: None }
    }

    /// Sets the longest time for one answer, the start included; the process is killed then.
    #[must_use]
    pub fn answer_time(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.answer_time = most.into();
        self
    }
}

/// How long a process that is to end may take to do so before it is asked how it ended.
const ENDING: Duration = Duration::from_secs(5);

impl Isolated {
    /// Starts the process, and waits until its session is there. The command is a program that calls
    /// [`serve`](crate::serve), such as `polychord isolated-session`, whose standard input and output are set here.
    ///
    /// # Errors
    ///
    /// [`Error::Process`] if it cannot be started, [`Error::Lost`] if it ends or is late, and
    /// [`Error::Answered`] if it says why it has no session.
    pub fn start(command: &mut Command, options: &IsolatedOptions) -> Result<Self> {
        let failed = |action| move |source| Error::Process { action, source };
        let layout = Layout::new(options.context, options.vocabulary);
        let (channel, socket, shared) = Channel::pair(layout).map_err(failed("reach"))?;
        let timed = channel.stream().set_read_timeout(options.answer_time);
        timed.map_err(failed("reach"))?;
        let child = command.stdin(socket).stdout(shared).spawn().map_err(failed("start"))?;
        // The ends of the other process are open there alone, so that its end is noticed.
        command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null());
        let mut isolated = Self {
            child,
            channel,
            started: Started::default(),
            context: options.context,
            tokens: Vec::new(),
            logits: vec![0; layout.logits_len()],
            lost: None,
        };
        let len = isolated.answer()?;
        let text = isolated.channel.read_text(len).map_err(failed("hear"))?;
        isolated.started = serde_json::from_str(&text)
            .map_err(|error| isolated.lose(format!("does not say what it has started: {error}")))?;
        Ok(isolated)
    }

    /// What it said when it had started.
    #[must_use]
    pub const fn started(&self) -> &Started {
        &self.started
    }

    /// The number of the process.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    fn ask(&mut self, word: Word, number: u64) -> Result<u64> {
        if let Some(reason) = &self.lost {
            return Err(Error::Lost { reason: format!("is gone: before, it {reason}") });
        }
        if let Err(error) = self.channel.send(word, number) {
            return Err(self.gone(&error.to_string()));
        }
        self.answer()
    }

    /// Waits for an answer.
    fn answer(&mut self) -> Result<u64> {
        let begin = Instant::now();
        match self.channel.receive() {
            Ok(Some((Word::Done, number))) => Ok(number),
            Ok(Some((Word::Failed, len))) => {
                let text = self.channel.read_text(len);
                let reason = text.map_err(|source| Error::Process { action: "hear", source })?;
                Err(Error::Answered { reason })
            }
            Ok(Some((word, _))) => Err(self.lose(format!("answers by a question ({word:?})"))),
            Ok(None) => Err(self.gone("it closed its end")),
            Err(error) if is_late(&error) => {
                let took = begin.elapsed().as_secs_f64();
                Err(self.lose(format!("did not answer for {took:.1} s, and was killed")))
            }
            Err(error) => Err(self.gone(&error.to_string())),
        }
    }

    /// It said what it must not, or nothing: nothing more is asked.
    fn lose(&mut self, reason: String) -> Error {
        // One that has ended cannot be killed, and is what was wanted.
        _ = self.child.kill();
        _ = self.child.wait();
        self.lost = Some(reason.clone());
        Error::Lost { reason }
    }

    /// It has ended, or is about to.
    fn gone(&mut self, sign: &str) -> Error {
        let reason = match self.ending() {
            Some(status) => format!(
                "ended by {status} ({sign}): its guest or its engine failed; start another one"
            ),
            None => format!("does not answer ({sign})"),
        };
        self.lose(reason)
    }

    fn ending(&mut self) -> Option<ExitStatus> {
        let end = Instant::now() + ENDING;
        loop {
            match self.child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if Instant::now() < end => std::thread::sleep(Duration::from_millis(5)),
                _ => return None,
            }
        }
    }
}

fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

impl Evaluate for Isolated {
    fn context(&self) -> u32 {
        self.context
    }

    fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    fn eval(&mut self, tokens: &[u32]) -> polychord_session::Result<Logits<'_>> {
        let count = tokens.len() as u64;
        let shared = self.channel.write_tokens(tokens);
        let shared = shared.map_err(|error| Error::Answered { reason: error.to_string() });
        shared.and_then(|()| self.ask(Word::Eval, count)).map_err(elsewhere)?;
        let read = self.channel.read_logits(&mut self.logits);
        read.map_err(|source| elsewhere(Error::Process { action: "hear", source }))?;
        self.tokens.extend_from_slice(tokens);
        Ok(Logits::of_bytes(&self.logits))
    }

    fn logits(&self) -> Logits<'_> {
        Logits::of_bytes(&self.logits)
    }

    fn rewind(&mut self, len: u32) -> polychord_session::Result<u32> {
        let left = self.ask(Word::Rewind, len.into()).map_err(elsewhere)?;
        // It may forget more, and nothing else.
        let left = u32::try_from(left).ok().filter(|left| *left <= len);
        let left =
            left.ok_or_else(|| elsewhere(self.lose("has tokens that it was to forget".into())))?;
        self.tokens.truncate(left as usize);
        Ok(left)
    }
}

fn elsewhere(error: Error) -> polychord_session::Error {
    polychord_session::Error::Isolated { reason: error.to_string() }
}

impl Drop for Isolated {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

impl fmt::Debug for Isolated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Isolated")
            .field("process", &self.id())
            .field("started", &self.started)
            .field("tokens", &self.tokens.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that says what a shell writes to its socket.
    fn starts(script: &str, options: &IsolatedOptions) -> Result<Isolated> {
        let mut command = Command::new("sh");
        Isolated::start(command.args(["-c", script]), options)
    }

    fn says(script: &str) -> String {
        starts(script, &IsolatedOptions::new(8, 4)).unwrap_err().to_string()
    }

    /// A script that writes a frame to the socket.
    fn frame(word: u8, number: u8) -> String {
        format!(r"printf '\{word:03o}\0\0\0\0\0\0\0\{number:03o}\0\0\0\0\0\0\0' >&0; ")
    }

    /// That it has started: `{...}` in the shared memory behind 8 tokens and 4 logits.
    fn started() -> String {
        let text = r#"{"engine":"e","placement":"p","reason":"r","ranks":1,"guest_bytes":5}"#;
        let put = format!("printf '{text}' | dd bs=1 seek=48 conv=notrunc status=none; ");
        put + &frame(3, u8::try_from(text.len()).unwrap())
    }

    #[test]
    fn a_process_that_ends_is_an_error_that_says_how() {
        assert!(says("exit 3").contains("ended by exit status: 3"), "{}", says("exit 3"));
        assert!(says("kill -SEGV $$").contains("signal: 11 (SIGSEGV)"));
        let error =
            Isolated::start(&mut Command::new("/no/such/program"), &IsolatedOptions::new(8, 4));
        assert!(matches!(error, Err(Error::Process { action: "start", .. })));
    }

    #[test]
    fn what_it_says_is_doubted() {
        assert!(says("printf 0123456789abcdef >&0; exec sleep 9").contains("no frame begins with"));
        assert!(says(&(frame(1, 0) + "exec sleep 9")).contains("answers by a question"));
        assert!(says(&(frame(3, 0) + "exec sleep 9")).contains("does not say what it has started"));
        assert_eq!(says(&(frame(4, 0) + "exec sleep 9")), "in the process that computes: ");
    }

    #[test]
    fn one_that_is_late_is_killed() {
        let options = IsolatedOptions::new(8, 4).answer_time(Duration::from_millis(100));
        // In the place of the shell: a child of it would go on, and who reads the tests' output would wait for it.
        let error = starts("exec sleep 1000", &options).unwrap_err().to_string();
        assert!(error.contains("did not answer for 0."), "{error}");
    }

    #[test]
    fn one_that_is_gone_stays_gone() {
        let mut isolated = starts(&(started() + "exit 1"), &IsolatedOptions::new(8, 4)).unwrap();
        assert_eq!((isolated.started().ranks, isolated.started().guest_bytes), (1, 5));
        let first = isolated.eval(&[1]).unwrap_err().to_string();
        assert!(first.contains("exit status: 1"), "{first}");
        let second = isolated.rewind(0).unwrap_err().to_string();
        assert!(second.contains("is gone") && second.contains("exit status: 1"), "{second}");
        assert!(isolated.tokens().is_empty());
    }

    #[test]
    fn tokens_that_it_invents_are_not_believed() {
        let script = started() + &frame(3, 1) + &frame(3, 7) + "exec sleep 9";
        let mut isolated = starts(&script, &IsolatedOptions::new(8, 4)).unwrap();
        isolated.eval(&[1, 2]).unwrap();
        assert_eq!(isolated.logits().iter().len(), 4);
        let error = isolated.rewind(1).unwrap_err().to_string();
        assert!(error.contains("was to forget"), "{error}");
        // More than there is room for does not reach it.
        assert!(isolated.eval(&[0; 9]).unwrap_err().to_string().contains("room for 8"));
    }
}
