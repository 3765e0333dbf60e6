//! What a comparison found: the result of each run, and whether all are the same.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// What `generate --json` says about one run, as far as it is of interest here.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Run {
    pub(super) engine: String,
    pub(super) engine_version: String,
    pub(super) execution: String,
    pub(super) load: String,
    pub(super) ids: Vec<u32>,
    pub(super) text: String,
    pub(super) logits_sha256: String,
    pub(super) tokens_per_second: Option<f64>,
    pub(super) peak_memory_bytes: Option<u64>,
    pub(super) profile: serde_json::Value,
}

/// One engine in one load mode, and what came of it.
#[derive(Debug, Serialize)]
pub(super) struct Entry {
    pub(super) engine: String,
    pub(super) requested_load: &'static str,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Run(Box<Run>),
    Error(String),
}

/// Everything that was compared.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) prompt: String,
    pub(super) model: PathBuf,
    pub(super) runs: Vec<Entry>,
    /// True if every run went well, with the same result.
    pub(super) identical: bool,
}

impl Comparison {
    /// Why the command fails: engines that failed say nothing about whether engines agree.
    pub(super) fn problem(&self) -> Option<String> {
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

    pub(super) fn failed(&self) -> usize {
        self.runs.iter().filter(|entry| entry.run().is_none()).count()
    }

    /// Whether all runs that went well had the same result.
    pub(super) fn agree(&self) -> bool {
        let mut results = self.runs.iter().filter_map(Entry::result);
        let first = results.next();
        results.all(|result| Some(result) == first)
    }
}

impl Entry {
    pub(super) fn run(&self) -> Option<&Run> {
        match &self.outcome {
            Outcome::Run(run) => Some(run),
            Outcome::Error(_) => None,
        }
    }

    /// What has to be the same for all.
    pub(super) fn result(&self) -> Option<(&[u32], &str)> {
        self.run().map(|run| (&*run.ids, &*run.logits_sha256))
    }
}

pub(super) fn are_identical(runs: &[Entry]) -> bool {
    let first = runs.first().and_then(Entry::result);
    first.is_some() && runs.iter().all(|entry| entry.result() == first)
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
