//! What a run writes down for the report: one line of JSON for each thing that happened, so
//! that nothing is lost when an engine ends the process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use polychord_runtime_api::Capabilities;
use serde::{Deserialize, Serialize};

use crate::spec::Counts;

/// Names the folder where a run appends its record to its engine's file; without it nothing is
/// recorded.
pub const VARIABLE: &str = "POLYCHORD_CONFORMANCE_RECORD";

/// A line of the record. Exhaustive: a reader of records has to read each kind.
///
/// ```
/// use polychord_conformance::record::Line;
///
/// // Each line of a record is one of them.
/// let line: Line = serde_json::from_str(r#"{"end": {"millis": 1200}}"#).unwrap();
/// assert!(matches!(line, Line::End { millis: 1200 }));
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The run begins.
    Start(Start),
    /// A trial has ended.
    Trial(Trial),
    /// The run has ended: without this line it did not run to the end.
    End {
        /// How long it took.
        millis: u64,
    },
    /// The counts of a part of the official tests, which is also a trial.
    Spec {
        /// Name of the suite.
        suite: String,
        /// The outcomes of its directives.
        counts: Counts,
    },
    /// The counts of the random modules, which are also a trial.
    Differential(Differential),
}

/// What runs on which engine.
///
/// ```
/// use polychord_conformance::record::Start;
///
/// fn title(start: &Start) -> String {
///     let Start { engine, version, execution, .. } = start;
///     format!("{engine} {version} ({execution}), {} trials", start.trials.len())
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Start {
    /// Version of the suite.
    pub suite: String,
    /// Name of the engine.
    pub engine: String,
    /// Its version.
    pub version: String,
    /// How it runs guests.
    pub execution: String,
    /// Its capabilities.
    pub capabilities: serde_json::Value,
    /// Names of the trials that are about to run.
    pub trials: Vec<String>,
}

/// How a trial ended.
///
/// ```
/// use polychord_conformance::record::{Mode, Trial};
///
/// fn is_a_surprise(trial: &Trial) -> bool {
///     trial.failure.is_some() && !matches!(trial.mode, Mode::ExpectedFailure { .. })
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Its name, `group/name`.
    pub name: String,
    /// What is promised.
    pub promise: String,
    /// What it checked on this engine.
    pub mode: Mode,
    /// What was wrong, if it failed.
    pub failure: Option<String>,
    /// How long it took.
    pub millis: u64,
}

/// Random modules that were compared with another engine.
///
/// ```
/// use polychord_conformance::record::Differential;
///
/// fn show(run: &Differential) -> String {
///     format!("{} of {} modules compared with {}", run.modules, run.cases, run.reference)
/// }
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Differential {
    /// The other engine.
    pub reference: String,
    /// What the modules were made from.
    pub seed: u64,
    /// How many were to be compared.
    pub cases: u32,
    /// How many were modules, and were compared.
    pub modules: u32,
    /// Calls that returned.
    pub returned: u32,
    /// Calls and starts that trapped.
    pub trapped: u32,
}

/// What a trial checks on an engine.
///
/// ```
/// use polychord_conformance::record::Mode;
///
/// let mode: Mode = serde_json::from_str(r#"{"refused": "memory64"}"#).unwrap();
/// assert_eq!(mode, Mode::Refused("memory64".into()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The promise itself.
    Plain,
    /// The refusal of what the engine does not claim: which fields these are.
    Refused(String),
    /// A failure that is known.
    ExpectedFailure {
        /// Why it fails.
        reason: String,
        /// Where that is reported.
        link: String,
    },
}

/// Where lines go; nowhere if they were not asked for.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Option<Arc<Mutex<File>>>);

impl Recorder {
    /// Opens the engine's file in the folder that the environment names.
    pub(crate) fn from_env(of: &Capabilities) -> std::io::Result<Self> {
        let Some(folder) = std::env::var_os(VARIABLE) else { return Ok(Self::default()) };
        std::fs::create_dir_all(&folder)?;
        let path = Path::new(&folder).join(file_name(of.engine, of.execution));
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Some(Arc::new(Mutex::new(file)))))
    }

    /// Writes a line in one go. A report that lacks a line says so itself.
    pub(crate) fn write(&self, line: &Line) {
        let Some(file) = &self.0 else { return };
        if let Ok(mut json) = serde_json::to_vec(line) {
            json.push(b'\n');
            _ = file.lock().unwrap_or_else(PoisonError::into_inner).write_all(&json);
        }
    }
}

/// The file of an engine, named by the engine and by how it runs guests.
fn file_name(engine: &str, execution: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' };
    let execution: String = execution.chars().map(plain).collect();
    format!("{engine}-{execution}.jsonl")
}
