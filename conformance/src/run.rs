//! What the trials of one run share: the engine, what is expected of it, and the record.

use std::sync::Arc;
use std::time::Instant;

use libtest_mimic::Failed;
use polychord_runtime_api::Engine;

use crate::Expectations;
use crate::record::{self, Line, Mode, Recorder};

/// What the trials of one run share.
#[derive(Clone)]
pub(crate) struct Run {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) expectations: Expectations,
    pub(crate) recorder: Recorder,
}

impl Run {
    /// Runs a trial and writes down how it ended.
    pub(crate) fn recorded(
        &self,
        name: &str,
        promise: &str,
        mode: Mode,
        run: impl FnOnce() -> Result<(), String>,
    ) -> Result<(), Failed> {
        let start = Instant::now();
        let outcome = run();
        self.recorder.write(&Line::Trial(record::Trial {
            name: name.to_owned(),
            promise: promise.to_owned(),
            mode,
            failure: outcome.clone().err(),
            millis: millis(start),
        }));
        outcome.map_err(Failed::from)
    }
}

/// Milliseconds since a moment.
pub(crate) fn millis(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_millis()).unwrap_or(u64::MAX)
}
