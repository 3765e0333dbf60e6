//! What came of running a guest.

use polychord::api::{Engine, Runtime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::ending::Ending;

/// What came of running a guest, as `--json` prints it.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) engine: String,
    pub(crate) engine_version: String,
    pub(crate) execution: String,
    pub(crate) ending: Ending,
    /// Of the function that was called by name.
    pub(crate) results: Option<Vec<String>>,
    /// As text, with replacements where it is none.
    pub(crate) stdout: String,
    pub(crate) stdout_sha256: String,
    pub(crate) stderr: String,
    pub(crate) stderr_sha256: String,
    /// Of all linear memories of the guest, one after another.
    pub(crate) memory_bytes: u64,
    pub(crate) memory_sha256: String,
    /// From the first call of the guest to its end.
    pub(crate) seconds: f64,
}

/// The linear memories of a guest at its end.
#[derive(Default)]
pub(super) struct Memories {
    bytes: u64,
    sha256: Option<String>,
}

impl Memories {
    pub(super) fn of(guest: &dyn Runtime) -> Self {
        let mut hash = Sha256::new();
        let mut bytes = 0;
        for index in 0..guest.host().module().memories().len() {
            let memory = guest.linear_memory(index);
            bytes += memory.len() as u64;
            hash.update(memory);
        }
        Self { bytes, sha256: Some(hex(&hash.finalize())) }
    }
}

impl Outcome {
    pub(super) fn new(engine: &dyn Engine, ending: Ending) -> Self {
        let about = engine.capabilities();
        let none = || sha256(&[]);
        Self {
            engine: about.engine.to_owned(),
            engine_version: about.version.to_string(),
            execution: about.execution.to_string(),
            ending,
            results: None,
            stdout: String::new(),
            stdout_sha256: none(),
            stderr: String::new(),
            stderr_sha256: none(),
            memory_bytes: 0,
            memory_sha256: none(),
            seconds: 0.0,
        }
    }

    pub(super) fn with_output(mut self, stdout: &[u8], stderr: &[u8]) -> Self {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (self.stdout, self.stdout_sha256) = (text(stdout), sha256(stdout));
        (self.stderr, self.stderr_sha256) = (text(stderr), sha256(stderr));
        self
    }

    pub(super) fn with_memories(mut self, memories: Memories) -> Self {
        self.memory_bytes = memories.bytes;
        if let Some(hash) = memories.sha256 {
            self.memory_sha256 = hash;
        }
        self
    }
}

fn sha256(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
