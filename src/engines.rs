use std::sync::Arc;

use polychord_runtime_api::{Engine, Error, Result};

/// Names of all engines that Polychord has a backend for, the default first. Each is also the
/// name of the cargo feature that compiles it in.
pub const KNOWN_ENGINES: [&str; 3] = ["wasmer", "wasmtime", "wasmedge"];

/// Why an engine cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// Nobody has heard of it.
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Its cargo feature is off.
    NotCompiledIn {
        /// Which engine.
        name: &'static str,
    },
    /// It does not work on this machine.
    Engine(Error),
}

type Opened = Option<Result<Arc<dyn Engine>>>;

/// Opens an engine by its name, as it is by default; WasmEdge compiles ahead of time.
///
/// An engine that needs other settings is made by its own crate, which this one re-exports.
///
/// # Errors
///
/// [`OpenError`] if there is no such engine, if it is not compiled in, or if it does not work
/// on this machine.
pub fn open(name: &str) -> std::result::Result<Arc<dyn Engine>, OpenError> {
    let Some(name) = KNOWN_ENGINES.into_iter().find(|known| *known == name) else {
        return Err(OpenError::Unknown { name: name.to_owned() });
    };
    match opener(name)() {
        Some(engine) => engine.map_err(OpenError::Engine),
        None => Err(OpenError::NotCompiledIn { name }),
    }
}

/// Names of the engines that are compiled in, the default first.
#[must_use]
pub fn available() -> Vec<&'static str> {
    let compiled = [
        ("wasmer", cfg!(feature = "wasmer")),
        ("wasmtime", cfg!(feature = "wasmtime")),
        ("wasmedge", cfg!(feature = "wasmedge")),
    ];
    compiled.into_iter().filter_map(|(name, compiled)| compiled.then_some(name)).collect()
}

/// Name of the engine to use when nobody says; none if none is compiled in.
#[must_use]
pub fn default_engine() -> Option<&'static str> {
    available().first().copied()
}

fn opener(name: &str) -> fn() -> Opened {
    match name {
        "wasmer" => wasmer,
        "wasmtime" => wasmtime,
        _ => wasmedge,
    }
}

#[cfg(feature = "wasmer")]
fn wasmer() -> Opened {
    Some(polychord_backend_wasmer::WasmerEngine::new().map(|engine| Arc::new(engine) as _))
}

#[cfg(not(feature = "wasmer"))]
fn wasmer() -> Opened {
    None
}

#[cfg(feature = "wasmtime")]
fn wasmtime() -> Opened {
    Some(polychord_backend_wasmtime::WasmtimeEngine::new().map(|engine| Arc::new(engine) as _))
}

#[cfg(not(feature = "wasmtime"))]
fn wasmtime() -> Opened {
    None
}

#[cfg(feature = "wasmedge")]
fn wasmedge() -> Opened {
    use polychord_backend_wasmedge::{Mode, WasmEdgeEngine};

    Some(WasmEdgeEngine::new(Mode::Aot).map(|engine| Arc::new(engine) as _))
}

#[cfg(not(feature = "wasmedge"))]
fn wasmedge() -> Opened {
    None
}

impl std::fmt::Display for OpenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has = || match available()[..] {
            [] => "none".to_owned(),
            ref names => names.join(", "),
        };
        match self {
            Self::Unknown { name } => {
                let known = KNOWN_ENGINES.join(", ");
                write!(f, "there is no engine {name}; Polychord knows {known}")
            }
            Self::NotCompiledIn { name } => write!(
                f,
                "the engine {name} is not compiled in (this build has {}): build with --features {name}",
                has()
            ),
            Self::Engine(_) => f.write_str("the engine does not work on this machine"),
        }
    }
}

impl std::error::Error for OpenError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Engine(error) => Some(error),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_open_by_name_or_say_why_not() {
        for name in KNOWN_ENGINES {
            match open(name) {
                Ok(engine) => {
                    assert!(available().contains(&name));
                    assert_eq!(engine.capabilities().engine, name);
                }
                Err(error) => {
                    assert!(!available().contains(&name));
                    assert!(error.to_string().contains(&format!("--features {name}")), "{error}");
                }
            }
        }
        let error = open("v8").map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("v8") && error.contains("wasmer"), "{error}");
    }
}
