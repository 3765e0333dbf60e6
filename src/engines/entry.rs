//! What an engine of the list is, how it is opened, and why it cannot be.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use polychord_code_cache::CodeCache;
use polychord_runtime_api::plan::UnknownName;
use polychord_runtime_api::spi::CompilerCommand;
use polychord_runtime_api::{Engine, Error, Result};

/// An engine that Polychord has a backend for.
///
/// ```
/// for entry in polychord::ENGINES {
///     println!("{}: {}", entry.name(), if entry.is_compiled_in() { "here" } else { "not here" });
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct EngineEntry {
    pub(super) name: &'static str,
    pub(super) choice: Option<Choice>,
    pub(super) always_isolates: bool,
    pub(super) backend: Option<Backend>,
}

/// What an engine leaves to choose.
///
/// ```
/// for entry in polychord::ENGINES {
///     if let Some(choice) = entry.choice() {
///         println!("{} --{}: {}", entry.name(), choice.name, choice.summary);
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Choice {
    /// Name of the option on the command line, without dashes.
    pub name: &'static str,
    /// What is chosen, in one line.
    pub summary: &'static str,
    /// What there is to choose from, the default first.
    pub variants: &'static [Variant],
    /// What `polychord run` chooses for guests of more than 8 MiB, if the default would take minutes.
    pub for_large: Option<&'static str>,
}

/// One way in which an engine runs or compiles guests.
///
/// ```
/// let choice = polychord::entry("wasmedge")?.choice().expect("it has modes");
/// let names: Vec<_> = choice.variants.iter().map(|variant| variant.name).collect();
/// assert_eq!(names, ["aot", "interpreter"]);
/// # Ok::<(), polychord::OpenError>(())
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Variant {
    /// Its name.
    pub name: &'static str,
    /// What it means, in one line.
    pub summary: &'static str,
    /// Whether this build has it.
    pub compiled_in: bool,
}

/// How to open an engine.
///
/// ```
/// use polychord::EngineOptions;
///
/// let interpreted = EngineOptions::new().with_variant("interpreter");
/// match polychord::entry("wasmedge")?.open(&interpreted) {
///     Ok(engine) => assert_eq!(engine.capabilities().engine, "wasmedge"),
///     Err(error) => println!("{error}"),
/// }
/// # Ok::<(), polychord::OpenError>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct EngineOptions {
    variant: Option<String>,
    compiler: Option<CompilerCommand>,
    isolate: bool,
    cache: Option<CodeCache>,
}

/// What a backend does for its entry.
#[derive(Clone, Copy)]
pub(super) struct Backend {
    pub(super) open: fn(Opening<'_>) -> Opened,
    pub(super) compile: fn(&[OsString]) -> Result<()>,
}

/// How a backend is to open its engine.
#[allow(dead_code, reason = "not all engines are in each build")]
pub(super) struct Opening<'a> {
    pub(super) variant: Option<&'a str>,
    /// The program that compiles; none if this process is to.
    pub(super) compiler: Option<&'a CompilerCommand>,
    /// Where compiled code is kept, if it is.
    pub(super) cache: Option<&'a CodeCache>,
}

pub(super) type Opened = std::result::Result<Arc<dyn Engine>, OpenError>;

/// Why an engine cannot be opened.
#[derive(Debug)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no engine of this name.
    Unknown {
        /// What was asked for.
        name: String,
    },
    /// Its cargo feature is off.
    NotCompiledIn {
        /// Which engine.
        name: &'static str,
    },
    /// It has no such variant.
    Variant(UnknownName),
    /// It leaves nothing to choose.
    NoVariants {
        /// Which engine.
        name: &'static str,
        /// What was asked for.
        variant: String,
    },
    /// It does not work on this machine.
    Engine(Error),
}

impl EngineEntry {
    /// Name of the engine, and of the cargo feature that compiles it in.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// What the engine leaves to choose, if it does.
    #[must_use]
    pub const fn choice(&self) -> Option<Choice> {
        self.choice
    }

    /// Whether the engine's compiler may end the process that it runs in, so that it is always
    /// given a process of its own if there is a [`CompilerCommand`].
    #[must_use]
    pub const fn always_isolates(&self) -> bool {
        self.always_isolates
    }

    /// Whether this build has the engine.
    #[must_use]
    pub const fn is_compiled_in(&self) -> bool {
        self.backend.is_some()
    }

    /// Opens the engine.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if it is not compiled in, has no such variant, or does not work on this
    /// machine.
    pub fn open(&self, options: &EngineOptions) -> std::result::Result<Arc<dyn Engine>, OpenError> {
        let EngineOptions { variant, compiler, isolate, cache } = options;
        let backend = self.backend()?;
        if let (None, Some(variant)) = (self.choice, variant) {
            return Err(OpenError::NoVariants { name: self.name, variant: variant.clone() });
        }
        let compiler = compiler.as_ref().filter(|_| *isolate || self.always_isolates);
        (backend.open)(Opening { variant: variant.as_deref(), compiler, cache: cache.as_ref() })
    }

    /// Serves a [`CompilerCommand`] of this engine: to be called by the program that it starts,
    /// with the arguments that follow those of the command.
    ///
    /// # Errors
    ///
    /// [`OpenError`] if the engine is not compiled in, or if it refuses the module.
    pub fn run_compiler(&self, args: &[OsString]) -> std::result::Result<(), OpenError> {
        (self.backend()?.compile)(args).map_err(OpenError::Engine)
    }

    fn backend(&self) -> std::result::Result<Backend, OpenError> {
        self.backend.ok_or(OpenError::NotCompiledIn { name: self.name })
    }
}

impl EngineOptions {
    /// The engine as it is by default.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One of the [`variants`](Choice::variants) that the engine leaves to choose.
    #[must_use]
    pub fn with_variant(mut self, name: impl Into<String>) -> Self {
        self.variant = Some(name.into());
        self
    }

    /// A program that compiles guests in a process of its own, if
    /// [`isolate_compiler`](Self::isolate_compiler) asks for that; WasmEdge always uses it.
    #[must_use]
    pub fn with_compiler(mut self, compiler: CompilerCommand) -> Self {
        self.compiler = Some(compiler);
        self
    }

    /// Keeps compiled guests, so that a later process need not compile them again. WasmEdge keeps them
    /// in any case: in the folder of this cache, or else in the default one.
    #[must_use]
    pub fn with_cache(mut self, cache: CodeCache) -> Self {
        self.cache = Some(cache);
        self
    }

    /// Compiles guests in a process of its own, with limits of memory and time.
    #[must_use]
    pub const fn isolate_compiler(mut self) -> Self {
        self.isolate = true;
        self
    }
}

impl From<Error> for OpenError {
    fn from(error: Error) -> Self {
        Self::Engine(error)
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

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Backend")
    }
}
