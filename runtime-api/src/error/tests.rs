//! Tests of messages.

use polychord_plan::is_hidden;

use super::*;

#[test]
fn errors_have_no_hidden_characters() {
    let text = || "a\x1b[2J\u{9b}\n\u{202e}".to_owned();
    let path = || std::path::PathBuf::from(text());
    let io = || std::io::Error::other("");
    for error in [
        Error::InvalidModule { offset: 0, reason: text() },
        Error::Compile { engine: "e", reason: text() },
        Error::Import { module: text(), name: text(), reason: text() },
        Error::Imports {
            unmatched: vec![Unmatched { module: text(), name: text(), reason: text() }],
        },
        Error::Host { engine: "e", module: text(), name: text(), source: text().into() },
        Error::MissingGlobal { global: text(), available: vec![text()] },
        Error::GlobalType { global: text(), expected: text(), given: text() },
        Error::Instantiate { engine: "e", reason: text() },
        Error::Call { engine: "e", operation: text(), reason: text() },
        Error::Trap { engine: "e", operation: text(), kind: TrapKind::Other },
        Error::MissingExport { export: text(), available: vec![text()] },
        Error::Signature { export: text(), expected: text(), given: text() },
        Error::TooLarge { what: text(), asked: 0, limit: 0, limited_by: text() },
        Error::OutOfMemory { engine: "e", what: "w", asked: 0, reason: text() },
        Error::RegionNotFound { memory: 0, region: text(), available: text() },
        Error::InvalidMemory { reason: text() },
        Error::RankStopped { rank: 0, ranks: 1, reason: text(), limit: None },
        Error::InvalidLayer {
            layer: 0,
            name: text(),
            problem: LayerProblem::Overlap,
            reason: text(),
        },
        Error::InvalidPlan { reason: text() },
        Error::Truncated { path: path(), now: 0, offset: 0, len: 0 },
        Error::NotAFile { path: path(), found: "a pipe" },
        Error::Io { operation: "open", path: path(), source: io() },
    ] {
        let message = error.to_string();
        assert!(!message.contains(is_hidden), "{message:?}");
        assert!(message.contains(r"a\u{1b}[2J\u{9b}\n\u{202e}"), "{message}");
    }
}
