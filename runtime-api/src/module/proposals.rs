//! Names what a module is, or uses, that Polychord does not accept.

use wasmparser::{Parser, WasmFeatures};

use super::bounds::{self, accepted_features};
use crate::Error;
use crate::module_limits::ModuleLimits;

/// A proposal that is not accepted.
struct Proposal {
    name: &'static str,
    features: WasmFeatures,
    /// How to do without.
    advice: &'static str,
}

const PROPOSALS: [Proposal; 11] = [
    Proposal {
        name: "exceptions",
        features: WasmFeatures::EXCEPTIONS.union(WasmFeatures::LEGACY_EXCEPTIONS),
        advice: "compile C++ with -fno-exceptions, Rust with panic=abort",
    },
    Proposal {
        name: "tail calls",
        features: WasmFeatures::TAIL_CALL,
        advice: "compile with -mno-tail-call or -C target-feature=-tail-call",
    },
    Proposal {
        name: "garbage collection",
        features: WasmFeatures::GC,
        advice: "use a toolchain whose objects live in linear memory, as C, Rust and Go have it",
    },
    Proposal {
        name: "function references",
        features: WasmFeatures::FUNCTION_REFERENCES,
        advice: "call by table and call_indirect",
    },
    Proposal {
        name: "threads",
        features: WasmFeatures::THREADS.union(WasmFeatures::SHARED_EVERYTHING_THREADS),
        advice: "compile without -pthread and -matomics (-C target-feature=-atomics); the host runs \
                 several guests on threads instead",
    },
    Proposal {
        name: "externref and other garbage-collected references",
        features: WasmFeatures::GC_TYPES,
        advice: "pass numbers that the guest keeps in a table of its own",
    },
    Proposal {
        name: "wide arithmetic",
        features: WasmFeatures::WIDE_ARITHMETIC,
        advice: "compile with -mno-wide-arithmetic or -C target-feature=-wide-arithmetic",
    },
    Proposal {
        name: "custom page sizes",
        features: WasmFeatures::CUSTOM_PAGE_SIZES,
        advice: "link with pages of 64 KiB, the default",
    },
    Proposal {
        name: "stack switching",
        features: WasmFeatures::STACK_SWITCHING,
        advice: "compile without it",
    },
    Proposal {
        name: "memory control",
        features: WasmFeatures::MEMORY_CONTROL,
        advice: "compile without it",
    },
    Proposal {
        name: "custom descriptors",
        features: WasmFeatures::CUSTOM_DESCRIPTORS,
        advice: "compile without it",
    },
];

/// Says more about bytes that are no module that Polychord accepts, if they are one with more
/// features, or something else that is known.
pub(super) fn explain(error: Error, wasm: &[u8], limits: &ModuleLimits) -> Error {
    let Error::InvalidModule { offset, reason } = error else { return error };
    if Parser::is_component(wasm) {
        let reason = "this is a component, and a core module is needed: build for a target without \
                      components (wasm32-unknown-unknown, wasm32-wasip1 or wasm64), or take the \
                      core module out (wasm-tools component unbundle)";
        return Error::InvalidModule { offset: 0, reason: reason.into() };
    }
    let used = used(wasm, limits);
    if used.is_empty() {
        return Error::InvalidModule { offset, reason };
    }
    let names: Vec<_> = used.iter().map(|proposal| proposal.name).collect();
    let advice: Vec<_> = used.iter().map(|proposal| proposal.advice).collect();
    let (names, advice) = (names.join(" and "), advice.join("; "));
    let reason = format!(
        "{reason}. The module uses {names}, which Polychord does not accept because not every engine \
         has it or runs could differ: {advice}"
    );
    Error::InvalidModule { offset, reason }
}

/// The proposals without which a module is not valid, if it is valid with all of them.
fn used(wasm: &[u8], limits: &ModuleLimits) -> Vec<&'static Proposal> {
    let all = PROPOSALS.iter().fold(accepted_features(), |all, proposal| all | proposal.features);
    let is_valid = |features| bounds::validate(wasm, features, limits).is_ok();
    if !is_valid(all) {
        return Vec::new();
    }
    PROPOSALS.iter().filter(|proposal| !is_valid(all.difference(proposal.features))).collect()
}

#[cfg(test)]
mod tests {
    use crate::ModuleInfo;

    fn refusal(wat: &str) -> String {
        let wasm = wat::parse_str(wat).unwrap();
        ModuleInfo::parse(&wasm, &crate::idle::capabilities()).unwrap_err().to_string()
    }

    #[test]
    fn a_proposal_is_named_and_what_to_do_without_it() {
        for (wat, names) in [
            ("(module (tag) (func (throw 0)))", &["uses exceptions,", "-fno-exceptions"][..]),
            ("(module (func $f (return_call $f)))", &["uses tail calls,", "tail-call"]),
            ("(module (type (struct (field i32))))", &["uses garbage collection"]),
            ("(module (memory 1 1 shared))", &["uses threads,", "-pthread"]),
            (
                "(module (memory 1 1 shared) (func $f (return_call $f)))",
                &["tail calls and threads"],
            ),
        ] {
            let error = refusal(wat);
            for name in names {
                assert!(error.contains(name), "{wat}: {error}");
            }
        }
        let component = refusal("(component)");
        assert!(component.contains("a core module is needed"), "{component}");
        let nothing = ModuleInfo::parse(b"\0asm\x01\0\0\0\x01", &crate::idle::capabilities());
        assert!(!nothing.unwrap_err().to_string().contains("uses"));
    }
}
