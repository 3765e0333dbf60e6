//! The engines that Polychord has a backend for: one file and one line of [`ENGINES`] each.

mod entry;
mod wasmedge;
mod wasmer;
mod wasmtime;

use std::fmt;
use std::sync::Arc;

use polychord_runtime_api::Engine;

pub use entry::{Choice, EngineEntry, EngineOptions, OpenError, Variant};

/// Every engine that Polychord has a backend for, the default first.
///
/// The command line, its table of engines and the README follow this list.
pub static ENGINES: &[EngineEntry] = &[wasmer::ENTRY, wasmtime::ENTRY, wasmedge::ENTRY];

/// Opens an engine by its name, as it is by default; WasmEdge compiles ahead of time.
///
/// [`EngineEntry::open`] takes options; an engine that needs other settings is made by its own
/// crate, which this one re-exports.
///
/// ```
/// # fn main() -> Result<(), polychord::OpenError> {
/// if let Some(name) = polychord::default_engine() {
///     let engine = polychord::open(name)?;
///     println!("{name} {}", engine.capabilities().version);
/// }
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`OpenError`] if there is no such engine, if it is not compiled in, or if it does not work
/// on this machine.
pub fn open(name: &str) -> std::result::Result<Arc<dyn Engine>, OpenError> {
    entry(name)?.open(&EngineOptions::new())
}

/// Finds an engine by its name.
///
/// # Errors
///
/// [`OpenError::Unknown`] if there is none.
pub fn entry(name: &str) -> std::result::Result<&'static EngineEntry, OpenError> {
    let found = ENGINES.iter().find(|entry| entry.name == name);
    found.ok_or_else(|| OpenError::Unknown { name: name.to_owned() })
}

/// Names of the engines that are compiled in, the default first.
#[must_use]
pub fn available() -> Vec<&'static str> {
    ENGINES.iter().filter(|entry| entry.is_compiled_in()).map(|entry| entry.name).collect()
}

/// Name of the engine to use if the caller has no wish; none if none is compiled in.
#[must_use]
pub fn default_engine() -> Option<&'static str> {
    available().first().copied()
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let has = || match available()[..] {
            [] => "none".to_owned(),
            ref names => names.join(", "),
        };
        match self {
            Self::Unknown { name } => {
                let known: Vec<_> = ENGINES.iter().map(EngineEntry::name).collect();
                write!(f, "there is no engine {name}; Polychord knows {}", known.join(", "))
            }
            Self::NotCompiledIn { name } => write!(
                f,
                "the engine {name} is not compiled in (this build has {}): build with --features {name}",
                has()
            ),
            Self::Variant(error) => error.fmt(f),
            Self::NoVariants { name, variant } => {
                let variant = polychord_runtime_api::plan::Printable(variant);
                write!(f, "the engine {name} has no variants, and {variant} was asked for")
            }
            Self::Engine(_) => f.write_str("the engine does not work on this machine"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_open_by_name_or_say_why_not() {
        for entry in ENGINES {
            match open(entry.name) {
                Ok(engine) => {
                    assert!(available().contains(&entry.name));
                    assert_eq!(engine.capabilities().engine, entry.name);
                }
                Err(error) => {
                    assert!(!available().contains(&entry.name));
                    let hint = format!("--features {}", entry.name);
                    assert!(error.to_string().contains(&hint), "{error}");
                }
            }
        }
        let error = open("v8").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("v8") && error.contains("wasmer"), "{error}");
    }

    #[test]
    fn a_variant_is_one_of_those_that_the_engine_has() {
        for entry in ENGINES.iter().filter(|entry| entry.is_compiled_in()) {
            for variant in entry.choice.map_or(&[][..], |choice| choice.variants) {
                let opened = entry.open(&EngineOptions::new().with_variant(variant.name));
                assert_eq!(opened.is_ok(), variant.compiled_in, "{} {}", entry.name, variant.name);
            }
            let opened = entry.open(&EngineOptions::new().with_variant("turbo"));
            let error = opened.map(|_| ()).unwrap_err().to_string();
            let known = entry.choice.map_or("turbo", |choice| choice.variants[0].name);
            assert!(error.contains(known), "{error}");
        }
    }
}
