//! What code is kept by: a hash of everything that it depends on.

use std::env::consts::{ARCH, OS};
use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::sync::OnceLock;

use sha2::{Digest as _, Sha256};

/// The hash of everything that compiled code depends on: the module, the engine with its version and
/// settings, and the processor.
///
/// ```
/// use polychord_code_cache::Key;
///
/// let key = Key::new("engine", "1.0", b"fast", b"module");
/// assert_ne!(key, Key::new("engine", "1.1", b"fast", b"module"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key([u8; 32]);

impl Key {
    /// The key of code that an engine of this version and with these settings compiles of a module,
    /// for the processor of this machine.
    ///
    /// `wasm` is what the compiler gets, after all passes. `settings` are all that changes its code,
    /// or what can be called in it.
    #[must_use]
    pub fn new(engine: &str, version: &str, settings: &[u8], wasm: &[u8]) -> Self {
        Self::on(machine(), &[engine.as_bytes(), version.as_bytes(), settings, wasm])
    }

    fn on(machine: &str, parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in [MAGIC, machine.as_bytes()].iter().chain(parts) {
            // No two lists of parts are the same bytes.
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Its bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn file_name(&self) -> String {
        let digits: String = self.0.iter().map(|byte| format!("{byte:02x}")).collect();
        digits + SUFFIX
    }
}

/// Ends each file, and is in each key. A new layout needs a new number.
pub(crate) const MAGIC: &[u8; 16] = b"polychord-code2\n";
/// How names of kept files end.
pub(crate) const SUFFIX: &str = ".code";

/// The processor, as far as compiled code depends on it.
fn machine() -> &'static str {
    static MACHINE: OnceLock<String> = OnceLock::new();
    MACHINE.get_or_init(|| format!("{ARCH} {OS}\n{}", processor()))
}

/// What Linux says about the first processor; elsewhere the architecture has to do.
fn processor() -> String {
    const FIELDS: [&str; 8] = [
        "vendor_id",
        "cpu family",
        "model",
        "model name",
        "flags",
        "Features",
        "CPU part",
        "CPU implementer",
    ];
    let Ok(file) = File::open("/proc/cpuinfo") else { return String::new() };
    let is_relevant = |line: &String| {
        let name = line.split(':').next().unwrap_or_default().trim();
        FIELDS.contains(&name)
    };
    // The system writes it as it is read, which takes long for some hundred processors.
    let lines = BufReader::new(file).lines().map_while(Result::ok);
    let first = lines.take_while(|line| !line.is_empty()).filter(is_relevant);
    first.collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_depends_on_everything() {
        let keys = [
            Key::on("a", &[b"engine", b"1", b"", b"wasm"]),
            Key::on("b", &[b"engine", b"1", b"", b"wasm"]),
            Key::on("a", &[b"engin", b"e1", b"", b"wasm"]),
            Key::on("a", &[b"engine", b"2", b"", b"wasm"]),
            Key::on("a", &[b"engine", b"1", b"w", b"asm"]),
            Key::on("a", &[b"engine", b"1", b"", b"wasn"]),
        ];
        for (i, key) in keys.iter().enumerate() {
            assert!(!keys[..i].contains(key), "{i}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn linux_knows_the_processor() {
        let processor = processor();
        assert!(processor.lines().count() >= 2, "{processor:?}");
        assert!(processor.contains("flags") || processor.contains("Features"), "{processor:?}");
    }
}
