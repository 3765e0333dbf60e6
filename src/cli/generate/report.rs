//! How a generation went, as text or as JSON.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use polychord::api::{Capabilities, PagerStats, Stats};
use polychord::model::{Finish, LoadReport, Logits, Placed, Profile, TouchReport};
use sha2::{Digest, Sha256};

use super::args::Args;
use crate::cli::load::{Chosen, Load};
use crate::cli::terminal::Plain;
use crate::cli::{Failure, size, terminal};

/// Keeps the logits of each step: in a hash, in a file, or not at all.
pub(crate) struct Recorder {
    hash: Option<Sha256>,
    file: Option<(PathBuf, BufWriter<File>)>,
}

impl Recorder {
    pub(crate) fn new(args: &Args) -> Result<Self, Failure> {
        let create = |path: &PathBuf| match File::create(path) {
            Ok(file) => Ok((path.clone(), BufWriter::new(file))),
            Err(error) => Err(cannot_write(path, &error)),
        };
        let file = args.logits.as_ref().map(create).transpose()?;
        Ok(Self { hash: args.json.then(Sha256::new), file })
    }

    pub(crate) fn record(&mut self, logits: Logits<'_>) -> Result<(), Failure> {
        if let Some(hash) = &mut self.hash {
            hash.update(logits.as_bytes());
        }
        if let Some((path, file)) = &mut self.file {
            file.write_all(logits.as_bytes()).map_err(|error| cannot_write(path, &error))?;
        }
        Ok(())
    }

    /// The hash in hexadecimal digits, if it was asked for.
    pub(crate) fn finish(self) -> Result<Option<String>, Failure> {
        if let Some((path, mut file)) = self.file {
            file.flush().map_err(|error| cannot_write(&path, &error))?;
        }
        let hex = |hash: Sha256| hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(self.hash.map(hex))
    }
}

fn cannot_write(path: &Path, error: &std::io::Error) -> String {
    format!("cannot write {}: {error}", path.display())
}

/// How a generation went.
pub(crate) struct Report<'a> {
    pub(crate) engine: &'a Capabilities,
    pub(crate) model: PathBuf,
    pub(crate) requested: Chosen,
    pub(crate) load: LoadReport,
    pub(crate) placed: &'a Placed,
    pub(crate) paging: Option<PagerStats>,
    pub(crate) stats: Stats,
    pub(crate) cache_bytes: u64,
    pub(crate) profile: Profile,
    pub(crate) touched: TouchReport,
    pub(crate) context: u32,
    pub(crate) ranks: usize,
    /// What each process has exchanged, if there are several.
    pub(crate) traffic: Vec<serde_json::Value>,
    pub(crate) prompt: Vec<u32>,
    /// How many of them were in the file of `--prompt-cache`.
    pub(crate) cached: usize,
    pub(crate) ids: Vec<u32>,
    pub(crate) text: String,
    pub(crate) finish: Option<Finish>,
    pub(crate) logits_sha256: Option<String>,
    pub(crate) opened: Duration,
    pub(crate) tokenized: Duration,
    pub(crate) compiled: Duration,
    pub(crate) ready: Duration,
    pub(crate) first: Duration,
    pub(crate) generated: Duration,
}

impl Report<'_> {
    /// Prints the report as a JSON object, with where the time went.
    pub(crate) fn print_json(&self, profile: serde_json::Value) -> Result<(), Failure> {
        let object = serde_json::json!({
            "engine": self.engine.engine,
            "engine_version": self.engine.version,
            "execution": self.engine.execution,
            "model": self.model,
            "placement": self.placed.name,
            "placement_reason": self.placed.reason,
            "memories": self.placed.plan.memories.len(),
            "load": self.load_mode(),
            "load_reason": self.requested.reason,
            "context": self.context,
            "ranks": self.ranks,
            "traffic": self.traffic,
            "prompt_ids": self.prompt,
            "cached_tokens": self.cached,
            "ids": self.ids,
            "text": self.text,
            "finish": self.finish_name(),
            "logits_sha256": self.logits_sha256,
            "timings_ms": {
                "open": ms(self.opened),
                "tokenize": ms(self.tokenized),
                "compile": ms(self.compiled),
                "load_layers": ms(self.load.took),
                "ready": ms(self.ready),
                "first_token": ms(self.first),
                "generate": ms(self.generated),
            },
            "prompt_tokens_per_second": self.prompt_speed(),
            "tokens_per_second": self.speed(),
            "peak_memory_bytes": peak_memory(),
            "stats": self.stats,
            "cache_bytes": self.cache_bytes,
            "paging": self.paging,
            "profile": profile,
            "touch_ahead": touched_object(&self.touched),
        });
        terminal::print_json(&object)?;
        Ok(())
    }

    /// Prints the report as lines of text to stderr.
    pub(crate) fn print_summary(&self) -> Result<(), Failure> {
        let Capabilities { engine, version, execution, .. } = self.engine;
        let ranks =
            if self.ranks > 1 { format!(" by {} ranks", self.ranks) } else { String::new() };
        let speed = self.speed().map_or("-".into(), |speed| format!("{speed:.1} tokens/s{ranks}"));
        let memory = peak_memory().map_or("unknown".into(), size::bytes);
        let lines = [
            ("engine", format!("{engine} {version} ({execution})")),
            ("placement", format!("{}: {}", self.placed.name, self.placed.reason)),
            ("load mode", self.load_line()),
            ("tokens", format!("{} prompt + {} generated", self.prompt.len(), self.ids.len())),
            (
                "first token",
                format!("{:.0} ms after {:.0} ms to start", ms(self.first), ms(self.ready)),
            ),
            ("speed", speed),
            ("memory", format!("{memory} at most, guest {}", size::bytes(self.stats.guest_bytes))),
            (
                "layer loads",
                format!(
                    "{} ({} mapped), {} in {:.2} ms",
                    self.stats.loads,
                    self.stats.maps,
                    size::bytes(self.stats.bytes_loaded),
                    ms(Duration::from_nanos(self.stats.load_nanos))
                ),
            ),
            ("paging", self.paging_line()),
        ];
        let mut stderr = Plain::new(std::io::stderr());
        writeln!(stderr)?;
        for (name, value) in lines {
            writeln!(stderr, "{name:>12}  {value}")?;
        }
        Ok(())
    }

    const fn finish_name(&self) -> &'static str {
        match self.finish {
            Some(Finish::EndOfText) => "end",
            Some(Finish::Stop(_)) => "stop",
            _ => "length",
        }
    }

    const fn load_mode(&self) -> &'static str {
        match (self.stats.maps, self.stats.loads - self.stats.maps) {
            (_, 0) => "map",
            (0, _) => "copy",
            _ => "mixed",
        }
    }

    fn load_line(&self) -> String {
        let mode = self.load_mode();
        let Stats { loads, maps, .. } = self.stats;
        if self.requested.load == Load::Map && maps < loads {
            let copied = loads - maps;
            return format!("{mode}: {copied} of {loads} layers could not be mapped here");
        }
        format!("{mode}: {}", self.requested.reason)
    }

    /// How often layers were found in their window, or had to be loaded.
    fn paging_line(&self) -> String {
        let Some(paging) = self.paging else { return "none: all layers stay".into() };
        let PagerStats { hits, misses, evictions, wait_nanos, .. } = paging;
        let waited = ms(Duration::from_nanos(wait_nanos));
        format!("{hits} hits, {misses} misses, {evictions} evictions, waited {waited:.1} ms")
    }

    /// Tokens per second of the prompt.
    fn prompt_speed(&self) -> Option<f64> {
        rate(self.prompt.len(), self.first)
    }

    /// Tokens per second after the first.
    fn speed(&self) -> Option<f64> {
        rate(self.ids.len().saturating_sub(1), self.generated.saturating_sub(self.first))
    }
}

/// Whether weights were touched ahead of their use, and why.
pub(crate) fn touched_object(touched: &TouchReport) -> serde_json::Value {
    serde_json::json!({
        "bytes": touched.bytes,
        "reason": touched.reason,
        "token_ms_without": touched.without.map(ms),
        "token_ms_with": touched.with.map(ms),
    })
}

/// That as a line of text.
pub(crate) fn touched_line(touched: &TouchReport) -> String {
    let bytes = match touched.bytes {
        0 => "no weights are touched ahead".to_owned(),
        bytes => format!("weights are touched ahead, {} at a time", size::bytes(bytes.into())),
    };
    let times = touched.without.zip(touched.with).map_or_else(String::new, |(without, with)| {
        format!(" ({:.2} ms a token without, {:.2} with)", ms(without), ms(with))
    });
    format!("{bytes}: {}{times}", touched.reason)
}

fn rate(count: usize, time: Duration) -> Option<f64> {
    let count = u32::try_from(count).ok().filter(|count| *count > 0)?;
    Some(f64::from(count) / time.as_secs_f64())
}

/// A time in ms.
pub(crate) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Most resident memory of this process so far, in bytes, where the system tells.
pub(crate) fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
