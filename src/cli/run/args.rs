//! The arguments of `polychord run`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytesize::ByteSize;
use polychord::api::{Engine, Limits};
use polychord::hub::ModelRef;
use polychord::wasi::Access;

use crate::cli::Failure;
use crate::cli::engine::{Author, EngineArgs};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The guest: a WebAssembly module in binary form. Its file is trusted, as programs are that one runs:
    /// it may take the compiler as long as it likes (see --untrusted)
    pub(super) guest: PathBuf,

    /// Arguments of the guest, or numbers for the function of --invoke
    #[arg(last = true, value_name = "ARGS")]
    pub(super) args: Vec<String>,

    #[command(flatten)]
    pub(super) engine: EngineArgs,

    #[command(flatten)]
    pub(super) with: GuestArgs,

    /// Bring in the layers of a model, which the guest finds by `memory64_map_layer`: a path,
    /// `hf:owner/repo/file.gguf`, or `default` for SmolLM2-135M-Instruct; all parts of one that is split. The
    /// files must not change meanwhile
    #[arg(long, value_name = "FILE")]
    pub(super) model: Option<ModelRef>,

    /// Run the guest in a process of its own, which opens no file but the guest, the model, compiled code and the
    /// directories of --dir, has no network and starts no programs: a guest that breaks out of its engine finds
    /// nothing there, and an engine that crashes is an error. Linux with Landlock
    #[cfg(target_os = "linux")]
    #[arg(long)]
    pub(super) isolate: bool,

    /// Print one JSON object at the end: output, exit code, hash of the guest's memory
    #[arg(long)]
    pub(super) json: bool,
}

impl Args {
    /// The engine for this guest.
    pub(super) fn open_engine(&self) -> Result<Arc<dyn Engine>, Failure> {
        // What cannot be looked at is an error when it is read.
        let bytes = std::fs::metadata(&self.guest).map_or(0, |file| file.len());
        self.engine.open_for(self.with.author(), bytes)
    }
}

/// What a guest is given, and how much it may use.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct GuestArgs {
    /// Open a directory for the guest, under its own path or another one; `:ro` at the end makes it read
    /// only
    #[arg(long = "dir", value_name = "HOST[::GUEST][:ro]")]
    pub(super) directories: Vec<String>,

    /// Set a variable of the guest's environment, in which there is nothing else
    #[arg(long = "env", value_name = "NAME=VALUE")]
    pub(super) variables: Vec<String>,

    /// Most bytes of each of the guest's memories, such as 8GiB; 4 GiB by default
    #[arg(long, value_name = "SIZE")]
    pub(super) memory: Option<ByteSize>,

    /// Longest time that the guest may take, such as 30s, 500ms or 2m. Ctrl-C stops the guest at any time, and a
    /// second one the whole command
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub(super) time: Option<Duration>,

    /// Call this function, and print its results
    ///
    /// Without it the guest is a command: its `_start` is called. What a compiler made as a library is a
    /// reactor: its `_initialize` is called before the function.
    #[arg(long, value_name = "EXPORT")]
    pub(super) invoke: Option<String>,

    /// Give the guest the same clock and the same random numbers in each run
    #[arg(long)]
    pub(super) reproducible: bool,

    /// Refuse a guest that could take a compiler more than some seconds or a gigabyte
    #[arg(long)]
    pub(super) untrusted: bool,
}

impl GuestArgs {
    /// The limits of a guest that Ctrl-C stops, unless nothing can.
    pub(super) fn limits(&self, interruptible: bool) -> Limits {
        let limits = Limits::default().call_time(self.time).interruptible(interruptible);
        match self.memory {
            Some(memory) => limits.memory_bytes(memory.as_u64()),
            None => limits,
        }
    }

    /// A file that somebody runs is trusted as programs are, unless they say otherwise.
    pub(super) fn author(&self) -> Author {
        if self.untrusted { Author::Unknown } else { Author::Trusted }
    }

    /// The arguments that ask for this in another run of this program.
    pub(crate) fn args(&self) -> Vec<String> {
        let each = |option: &str, values: &[String]| {
            values.iter().flat_map(|value| [option.to_owned(), value.clone()]).collect::<Vec<_>>()
        };
        let mut args = each("--dir", &self.directories);
        args.extend(each("--env", &self.variables));
        let memory = self.memory.map(|size| format!("{}B", size.as_u64()));
        let time = self.time.map(|time| format!("{}ms", time.as_millis()));
        for (option, value) in
            [("--memory", memory), ("--time", time), ("--invoke", self.invoke.clone())]
        {
            args.extend(value.into_iter().flat_map(|value| [option.to_owned(), value]));
        }
        args.extend(self.untrusted.then(|| "--untrusted".to_owned()));
        args.extend(self.reproducible.then(|| "--reproducible".to_owned()));
        args
    }

    /// With the same clock and the same random numbers in each run.
    pub(crate) fn reproducible(&self) -> Self {
        Self { reproducible: true, ..self.clone() }
    }
}

/// What `--dir` says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Directory {
    pub(super) host: PathBuf,
    pub(super) guest: String,
    pub(super) access: Access,
}

impl Directory {
    pub(super) fn parse(text: &str) -> Self {
        let (text, access) = match text.strip_suffix(":ro") {
            Some(text) => (text, Access::ReadOnly),
            None => (text, Access::ReadWrite),
        };
        let (host, guest) = text.split_once("::").unwrap_or((text, text));
        Self { host: host.into(), guest: guest.into(), access }
    }
}

/// A time: a number with `ms`, `s`, `m` or `h` behind it.
fn parse_time(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let of = |milliseconds: u64| {
        let number: u64 = number.parse().ok()?;
        Some(Duration::from_millis(number.checked_mul(milliseconds)?))
    };
    let time = match unit {
        "ms" => of(1),
        "s" => of(1_000),
        "m" => of(60_000),
        "h" => of(3_600_000),
        _ => None,
    };
    time.ok_or_else(|| "a time is a number with a unit: 500ms, 30s, 2m or 1h".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_have_a_path_in_the_guest_and_may_be_read_only() {
        let parsed = |text| {
            let Directory { host, guest, access } = Directory::parse(text);
            (host.to_str().unwrap().to_owned(), guest, access)
        };
        let own = |host: &str, guest: &str, access| (host.to_owned(), guest.to_owned(), access);
        assert_eq!(parsed("."), own(".", ".", Access::ReadWrite));
        assert_eq!(parsed("/tmp::/data"), own("/tmp", "/data", Access::ReadWrite));
        assert_eq!(parsed("/tmp::/data:ro"), own("/tmp", "/data", Access::ReadOnly));
        assert_eq!(parsed("C:\\x:ro"), own("C:\\x", "C:\\x", Access::ReadOnly));
    }

    #[test]
    fn times_have_a_unit() {
        assert_eq!(parse_time("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(parse_time("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_time("2m"), Ok(Duration::from_secs(120)));
        for text in ["", "30", "s", "1.5s", "-1s", "18446744073709551615h", "1d"] {
            assert!(parse_time(text).is_err(), "{text}");
        }
    }
}
