//! How WasmEdge is configured: by the embedder, and by this crate for loading and compiling.

use std::path::PathBuf;

use polychord_runtime_api::Result;
use polychord_runtime_api::plan::named;
use polychord_runtime_api::spi::CompilerCommand;
use wasmedge_sdk::config::{
    CommonConfigOptions, CompilerConfigOptions, ConfigBuilder, RuntimeConfigOptions,
};
use wasmedge_sdk::{CompilerOptimizationLevel, CompilerOutputFormat, RunMode};

use crate::error;

/// How WasmEdge runs guests.
///
/// ```
/// use polychord_backend_wasmedge::Mode;
///
/// assert_eq!("interpreter".parse(), Ok(Mode::Interpreter));
/// assert_eq!(Mode::default().to_string(), "aot");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Compiled ahead of time by LLVM, into a cache; 32-bit memories only.
    #[default]
    Aot,
    /// Interpreted, about a hundred times slower; with 64-bit memories.
    Interpreter,
}

/// Settings of a [`WasmEdgeEngine`](crate::WasmEdgeEngine).
///
/// ```no_run
/// use polychord_backend_wasmedge::{Config, Mode, WasmEdgeEngine};
///
/// let engine = WasmEdgeEngine::with_config(Config::new(Mode::Aot).cache("/var/cache/guests"))?;
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Config {
    /// How guests run.
    pub mode: Mode,
    /// Folder for compiled guests; by default `aot` in `$POLYCHORD_CACHE`, or in
    /// `polychord` in the user's cache folder. It must not be writable by other users.
    pub cache: Option<PathBuf>,
    /// The program that compiles, so that a crash of LLVM does not end this process; by
    /// default this process compiles.
    pub compiler: Option<CompilerCommand>,
}

impl Config {
    /// The default settings, in a mode.
    #[must_use]
    pub fn new(mode: Mode) -> Self {
        Self { mode, ..Self::default() }
    }

    /// Sets the folder for compiled guests.
    #[must_use]
    pub fn cache(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cache = Some(folder.into());
        self
    }

    /// Sets the program that compiles, or none to compile in this process.
    #[must_use]
    pub fn compiler(mut self, command: impl Into<Option<CompilerCommand>>) -> Self {
        self.compiler = command.into();
        self
    }
}

/// Largest memory that WasmEdge's allocator has room for, in pages: 8 GiB.
pub(crate) const MAX_PAGES64: u32 = 1 << 17;

named!(Mode, "mode of WasmEdge", {
    Aot = "aot": "Compiled ahead of time, and kept in the cache",
    Interpreter = "interpreter": "Interpreted: about a hundred times slower",
});

/// The features that guests may use; everything else is off.
fn options(mode: Mode) -> CommonConfigOptions {
    CommonConfigOptions::new()
        .run_mode(match mode {
            // Nothing else runs compiled code: WasmEdge would interpret what it finds in the file.
            Mode::Aot => RunMode::Aot,
            Mode::Interpreter => RunMode::Interpreter,
        })
        .relax_simd(true)
        .multi_memories(true)
        .extended_const(true)
        .memory64(mode == Mode::Interpreter)
        .threads(false)
        .gc(false)
        .function_references(false)
        .tail_call(false)
        .exception_handling(false)
        .annotations(false)
        .component_model(false)
}

/// Settings for loading and starting guests whose memories have at most `max_pages` pages.
pub(crate) fn runtime_config(mode: Mode, max_pages: u32) -> Result<wasmedge_sdk::config::Config> {
    let runtime = RuntimeConfigOptions::new().max_memory_pages(max_pages);
    let config = ConfigBuilder::new(options(mode)).with_runtime_config(runtime).build();
    config.map_err(|e| error::instantiate(&e))
}

/// Settings for compiling.
pub(crate) fn compiler_config() -> Result<wasmedge_sdk::config::Config> {
    let compiler = CompilerConfigOptions::new()
        .optimization_level(CompilerOptimizationLevel::O3)
        .out_format(CompilerOutputFormat::Native);
    let config = ConfigBuilder::new(options(Mode::Aot)).with_compiler_config(compiler).build();
    config.map_err(|e| error::compile(&e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_have_names() {
        for mode in [Mode::Aot, Mode::Interpreter] {
            assert_eq!(mode.to_string().parse(), Ok(mode));
        }
        assert!("jit".parse::<Mode>().unwrap_err().to_string().contains("jit"));
    }
}
