//! `polychord compare`: one prompt, several engines, one answer.

mod profile;
mod show;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use clap::ValueEnum;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressStyle};
use polychord::hub::{Hub, ModelRef};
use serde::{Deserialize, Serialize};

use super::engine::Choices;
use super::program::this_program;
use super::progress::TerminalBar;
use super::{Failure, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The text to continue
    #[arg(default_value = "The capital of France is")]
    prompt: String,

    /// Engines to compare, by default all that are compiled in
    #[arg(short, long, value_delimiter = ',', value_name = "ENGINE,...",
        value_parser = PossibleValuesParser::new(polychord::ENGINES.iter().map(polychord::EngineEntry::name)))]
    engines: Vec<String>,

    /// How weights come into the guest
    #[arg(long, value_enum, default_value_t)]
    load: Loads,

    /// The model: a path, `hf:owner/repo/file.gguf`, or nothing for SmolLM2-135M-Instruct
    #[arg(short, long)]
    model: Option<ModelRef>,

    /// Most tokens to generate; -1 is as many as the context has room for
    #[arg(short = 'n', long, value_name = "N", default_value = "32",
        value_parser = super::generate::parse_tokens, allow_negative_numbers = true)]
    max_tokens: usize,

    #[command(flatten)]
    choices: Choices,

    /// Print where the time of each run went, to stderr, as `generate --profile` does for one
    ///
    /// With --json it is in the object, as `profile` of each run, whether asked for or not; but only
    /// this option tells attention and feed-forward apart.
    #[arg(long)]
    profile: bool,

    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// The load modes to compare.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Loads {
    /// Each engine twice: mapping the file, and reading it
    #[default]
    Both,
    /// Map the pages of the file, copy-on-write
    Map,
    /// Read the file
    Copy,
}

/// What `generate --json` says about one run, as far as it is of interest here.
#[derive(Debug, Deserialize, Serialize)]
struct Run {
    engine: String,
    engine_version: String,
    execution: String,
    load: String,
    ids: Vec<u32>,
    text: String,
    logits_sha256: String,
    tokens_per_second: Option<f64>,
    peak_memory_bytes: Option<u64>,
    profile: serde_json::Value,
}

/// One engine in one load mode, and what came of it.
#[derive(Debug, Serialize)]
struct Entry {
    engine: String,
    requested_load: &'static str,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Run(Box<Run>),
    Error(String),
}

/// Everything that was compared.
#[derive(Debug, Serialize)]
struct Comparison {
    prompt: String,
    model: PathBuf,
    runs: Vec<Entry>,
    /// True if every run went well, with the same result.
    identical: bool,
}

impl Comparison {
    /// Why the command fails: engines that failed say nothing about whether engines agree.
    fn problem(&self) -> Option<String> {
        if self.identical {
            return None;
        }
        let (total, failed) = (self.runs.len(), self.failed());
        let others = match (total - failed, self.agree()) {
            (_, false) if failed == 0 => return Some("the engines do not agree".into()),
            (_, false) => ", and the engines of the others do not agree",
            (0, true) => "",
            (1, true) => "; the other one ran",
            (_, true) => "; the others agree",
        };
        Some(format!("{failed} of {total} runs failed{others}"))
    }

    fn failed(&self) -> usize {
        self.runs.iter().filter(|entry| entry.run().is_none()).count()
    }

    /// Whether all runs that went well had the same result.
    fn agree(&self) -> bool {
        let mut results = self.runs.iter().filter_map(Entry::result);
        let first = results.next();
        results.all(|result| Some(result) == first)
    }
}

/// Runs each engine in a process of its own, because engines fight over signal handlers, and
/// one after the other, because they would share the cores.
///
/// Fails if an engine does, or if any two differ in a bit of any logit, and says which of the two
/// it was.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let engines = engines(args)?;
    let model = args.model.clone().unwrap_or_default();
    let model = Hub::find(&model, &mut TerminalBar::new())?;
    let mut runs = Vec::new();
    for engine in engines {
        for load in args.load.names() {
            let spinner = spinner(&format!("{engine}, {load}"));
            let outcome = generate(args, &model, &engine, load)?;
            spinner.finish_and_clear();
            runs.push(Entry { engine: engine.clone(), requested_load: load, outcome });
        }
    }
    let identical = are_identical(&runs);
    let comparison = Comparison { prompt: args.prompt.clone(), model, runs, identical };
    if args.json {
        let json = terminal::json(&serde_json::to_string_pretty(&comparison)?);
        writeln!(std::io::stdout(), "{json}")?;
    } else {
        show::print(&comparison)?;
    }
    if args.profile {
        profile::print(&comparison)?;
    }
    match comparison.problem() {
        None => Ok(()),
        Some(problem) => Err(problem.into()),
    }
}

fn engines(args: &Args) -> Result<Vec<String>, Failure> {
    let available = polychord::available();
    if args.engines.is_empty() {
        return Ok(available.into_iter().map(str::to_owned).collect());
    }
    if let Some(missing) = args.engines.iter().find(|name| !available.contains(&name.as_str())) {
        // The error says how it is compiled in.
        polychord::open(missing)?;
    }
    Ok(args.engines.clone())
}

/// One run in a child process.
fn generate(args: &Args, model: &Path, engine: &str, load: &str) -> Result<Outcome, Failure> {
    let mut child = Command::new(this_program()?)
        .args(["generate", "--json", "--engine", engine, "--load", load])
        .args(args.choices.args())
        .args(["--max-tokens", &args.max_tokens.to_string()])
        .args(args.profile.then_some("--profile"))
        .arg("--model")
        .arg(model)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        // A child that does not read says why below.
        _ = stdin.write_all(args.prompt.as_bytes());
    }
    let output = child.wait_with_output()?;
    if output.status.success() {
        return Ok(Outcome::Run(Box::new(serde_json::from_slice(&output.stdout)?)));
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().trim_start_matches("error: ");
    Ok(Outcome::Error(match said {
        "" => format!("ended with {}", output.status),
        _ => said.to_owned(),
    }))
}

fn are_identical(runs: &[Entry]) -> bool {
    let first = runs.first().and_then(Entry::result);
    first.is_some() && runs.iter().all(|entry| entry.result() == first)
}

fn spinner(message: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let spinner = ProgressBar::new_spinner().with_message(format!("running {message}"));
    if let Ok(style) = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}") {
        spinner.set_style(style);
    }
    spinner.enable_steady_tick(Duration::from_millis(80));
    spinner
}

impl Entry {
    fn run(&self) -> Option<&Run> {
        match &self.outcome {
            Outcome::Run(run) => Some(run),
            Outcome::Error(_) => None,
        }
    }

    /// What has to be the same for all.
    fn result(&self) -> Option<(&[u32], &str)> {
        self.run().map(|run| (&*run.ids, &*run.logits_sha256))
    }
}

impl Loads {
    const fn names(self) -> &'static [&'static str] {
        match self {
            Self::Both => &["map", "copy"],
            Self::Map => &["map"],
            Self::Copy => &["copy"],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: &str, ids: &[u32]) -> Entry {
        let run = Run {
            engine: "wasmer".into(),
            engine_version: "1".into(),
            execution: "Cranelift".into(),
            load: "map".into(),
            ids: ids.to_vec(),
            text: String::new(),
            logits_sha256: hash.into(),
            tokens_per_second: None,
            peak_memory_bytes: None,
            profile: serde_json::Value::Null,
        };
        Entry {
            engine: "wasmer".into(),
            requested_load: "map",
            outcome: Outcome::Run(Box::new(run)),
        }
    }

    #[test]
    fn runs_are_identical_only_if_every_bit_is() {
        assert!(are_identical(&[entry("a", &[1]), entry("a", &[1])]));
        assert!(!are_identical(&[entry("a", &[1]), entry("b", &[1])]));
        assert!(!are_identical(&[entry("a", &[1]), entry("a", &[2])]));
        let failed = Entry {
            engine: "wasmtime".into(),
            requested_load: "copy",
            outcome: Outcome::Error("no memory".into()),
        };
        assert!(!are_identical(&[entry("a", &[1]), failed]));
        assert!(!are_identical(&[]));
    }

    #[test]
    fn an_engine_that_fails_does_not_disagree() {
        let problem = |hashes: &[Option<&str>]| {
            let runs: Vec<_> = hashes
                .iter()
                .map(|hash| match hash {
                    Some(hash) => entry(hash, &[1]),
                    None => Entry {
                        engine: "wasmedge".into(),
                        requested_load: "map",
                        outcome: Outcome::Error("no folder".into()),
                    },
                })
                .collect();
            let identical = are_identical(&runs);
            let (prompt, model) = (String::new(), PathBuf::new());
            Comparison { prompt, model, runs, identical }.problem().unwrap_or_default()
        };
        assert_eq!(problem(&[Some("a"), Some("a")]), "");
        assert_eq!(problem(&[Some("a"), Some("b")]), "the engines do not agree");
        assert_eq!(problem(&[Some("a"), None, Some("a")]), "1 of 3 runs failed; the others agree");
        assert_eq!(problem(&[None, Some("a")]), "1 of 2 runs failed; the other one ran");
        assert_eq!(problem(&[None, None]), "2 of 2 runs failed");
        let both = problem(&[Some("a"), None, Some("b")]);
        assert!(both.contains("1 of 3 runs failed") && both.contains("do not agree"), "{both}");
    }
}
