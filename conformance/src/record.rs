//! What a run writes down for the report: one line of JSON for each thing that happened, so
//! that nothing is lost when an engine ends the process.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::spec::Counts;

/// Names the file that a run appends its record to; without it nothing is recorded.
pub const VARIABLE: &str = "POLYCHORD_CONFORMANCE_RECORD";

/// A line of the record.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// The run begins.
    Start(Start),
    /// A trial has ended.
    Trial(Trial),
    /// The counts of a part of the official tests, which is also a trial.
    Spec {
        /// Name of the suite.
        suite: String,
        /// What became of its directives.
        counts: Counts,
    },
}

/// What runs on which engine.
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
    /// All that it claims.
    pub capabilities: serde_json::Value,
    /// Names of all trials.
    pub trials: Vec<String>,
}

/// How a trial ended.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Trial {
    /// Its name, `group/name`.
    pub name: String,
    /// What is promised.
    pub promise: String,
    /// What it stood for on this engine.
    pub mode: Mode,
    /// What was wrong, if it failed.
    pub failure: Option<String>,
    /// How long it took.
    pub millis: u64,
}

/// What a trial stands for on an engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// The promise.
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

/// Where lines go; nowhere if nobody asked for them.
#[derive(Clone, Default)]
pub(crate) struct Recorder(Option<Arc<Mutex<File>>>);

impl Recorder {
    /// Opens the file that the environment names.
    pub(crate) fn from_env() -> std::io::Result<Self> {
        let Some(path) = std::env::var_os(VARIABLE) else { return Ok(Self::default()) };
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
