//! Parts of messages.

use super::unmatched::Unmatched;
use super::unmet::Unmet;

/// What raises a limit.
pub(super) fn setter(what: &str) -> &str {
    match what {
        "memories" | "tables" => what,
        _ => "table_elements",
    }
}

pub(super) fn memories(names: &[String]) -> String {
    match names {
        [] => "none: export it, as linkers do by default (--export-memory)".into(),
        _ => format!("{}: rename one of them", names.join(", ")),
    }
}

pub(super) fn in_function(function: Option<u32>) -> String {
    function.map(|index| format!(" in function {index}")).unwrap_or_default()
}

pub(super) fn join(unmet: &[Unmet]) -> String {
    let all: Vec<_> = unmet.iter().map(ToString::to_string).collect();
    all.join("; ")
}

pub(super) fn unmatched_imports(all: &[Unmatched]) -> String {
    let shown: Vec<_> = all.iter().take(SHOWN).map(ToString::to_string).collect();
    match all.len().saturating_sub(SHOWN) {
        0 => shown.join("; "),
        more => format!("{}; and {more} more", shown.join("; ")),
    }
}

pub(super) fn list(names: &[String]) -> String {
    if names.is_empty() {
        return "none".into();
    }
    // A stranger's module may have any number of them.
    let shown = names.iter().take(SHOWN).map(String::as_str).collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// Most names in a message.
const SHOWN: usize = 32;
