use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{
    Capabilities, Error, Host, Limits, LinearMemories, MappedLayers, Module, ModuleInfo, Result,
    Runtime, Value,
};
use wasmedge_sys::ffi;

use crate::aot::Cache;
use crate::engine::{MAX_PAGES64, Mode, runtime_config};
use crate::executor::Executor;
use crate::imports::{self, from_engine, to_engine};
use crate::interruption::check_at_calls;
use crate::memory::{Guest, RESERVED, State, check_address_space};
use crate::shape::Shape;
use crate::{NAME, error, keeper};

/// A compiled guest.
pub(crate) struct WasmEdgeModule {
    /// Without checks for a time limit, if it is compiled.
    module: wasmedge_sdk::Module,
    /// What is needed to compile it again, with checks for a time limit.
    compiled: Option<Compiled>,
    shape: Shape,
    info: Arc<ModuleInfo>,
    capabilities: Arc<Capabilities>,
}

struct Compiled {
    wasm: Box<[u8]>,
    cache: Arc<Cache>,
    interruptible: OnceLock<wasmedge_sdk::Module>,
}

/// A live guest.
struct WasmEdgeRuntime {
    /// Dropped first.
    _mapped: MappedLayers,
    guest: Guest,
    executor: Executor,
    /// Arguments and results of the last call, kept for their room.
    values: Vec<ffi::WasmEdge_Value>,
    host: Arc<Host>,
}

impl WasmEdgeModule {
    pub(crate) fn new(
        wasm: &[u8],
        info: Arc<ModuleInfo>,
        capabilities: Arc<Capabilities>,
        cache: Option<Arc<Cache>>,
    ) -> Result<Self> {
        let shape = Shape::read(wasm, info.table_limit(&Limits::default()))?;
        let wasm = &*shape.rewrite(wasm)?;
        let compiled = cache.map(|cache| Compiled {
            wasm: wasm.into(),
            cache,
            interruptible: OnceLock::new(),
        });
        let module = match &compiled {
            Some(Compiled { cache, .. }) => {
                keeper::start(cache)?;
                cache.load(wasm, false)?
            }
            None => {
                let config = runtime_config(Mode::Interpreter, MAX_PAGES64)?;
                wasmedge_sdk::Module::from_bytes(Some(&config), wasm)
                    .map_err(|e| error::compile(&e.to_string()))?
            }
        };
        Ok(Self { module, compiled, shape, info, capabilities })
    }

    /// Why a guest could not start, if it is for lack of address space.
    fn no_room(&self) -> Option<Error> {
        self.info.memory()?;
        let reason = check_address_space().err()?.to_string();
        let what = "address space for the guest's memory";
        Some(Error::OutOfMemory { engine: NAME, what, asked: RESERVED, reason })
    }

    /// The module to start under these limits. Checks for a time limit cost compiled code
    /// speed, so only guests that have one get them.
    fn for_limit(&self, limit: Option<Duration>) -> Result<&wasmedge_sdk::Module> {
        let (Some(_), Some(compiled)) = (limit, &self.compiled) else { return Ok(&self.module) };
        if let Some(module) = compiled.interruptible.get() {
            return Ok(module);
        }
        let wasm = check_at_calls(&compiled.wasm)?;
        let module = compiled.cache.load(&wasm, true)?;
        Ok(compiled.interruptible.get_or_init(|| module))
    }
}

impl Module for WasmEdgeModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        &self.info
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn start(&self, host: Arc<Host>) -> Result<Box<dyn Runtime>> {
        let limit = host.limits().call_time;
        let pages = self.shape.max_pages(host.memory_limit());
        self.shape.check_sizes(pages)?;
        if self.info.grows_tables() {
            self.shape.check_tables(host.limits())?;
        }
        let mode = if self.compiled.is_some() { Mode::Aot } else { Mode::Interpreter };
        let config = runtime_config(mode, pages)?;
        let memories = Arc::new(OnceLock::new());
        let imports =
            imports::define(&self.info, State { host: host.clone(), memories: memories.clone() })
                .map_err(|e| error::instantiate(&e, limit))?;
        let guest = Guest::start(&config, self.for_limit(limit)?, imports, &self.info)
            .map_err(|e| self.no_room().unwrap_or_else(|| error::instantiate(&e, limit)))?;
        for (made, declared) in guest.memories().iter().zip(self.info.memories()) {
            check_real_size(declared.min_bytes, made.pages().saturating_mul(PAGE))?;
        }
        let (executor, values) = (new_executor()?, Vec::new());
        let mapped = host.mapped_layers();
        let mut runtime = WasmEdgeRuntime { _mapped: mapped, guest, executor, values, host };
        if let Some(export) = self.shape.start() {
            runtime.run(export, "the start function", &[], &mut [])?;
        }
        // Host functions find the memories from here on.
        _ = memories.set(runtime.guest.memories().to_vec());
        Ok(Box::new(runtime))
    }
}

impl LinearMemories for WasmEdgeRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.guest.linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.guest.linear_memory_mut(index)
    }
}

impl Runtime for WasmEdgeRuntime {
    fn host(&self) -> &Arc<Host> {
        &self.host
    }

    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        self.guest.grow(memory, pages).ok_or_else(|| Error::OutOfMemory {
            engine: NAME,
            what: "growing the guest's memory",
            asked: pages.saturating_mul(PAGE),
            reason: match self.guest.memories().get(memory) {
                Some(memory) => format!(
                    "it has {} pages, and its limit or the system allows no more",
                    memory.pages()
                ),
                None => "it has none of this index".into(),
            },
        })
    }

    fn invoke(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.run(export, export, args, results)
    }
}

impl WasmEdgeRuntime {
    /// Calls a function, which errors call `operation`, under the time limit.
    #[allow(unsafe_code, reason = "the contract of the executor module is met here")]
    fn run(
        &mut self,
        export: &str,
        operation: &str,
        args: &[Value],
        results: &mut [Value],
    ) -> Result<()> {
        let Some(function) = self.guest.function(export) else {
            return Err(Error::MissingExport { export: export.to_owned(), available: Vec::new() });
        };
        let Self { executor, values, host, .. } = self;
        values.clear();
        values.extend(args.iter().chain(&*results).map(|value| to_engine(*value)));
        let (args, out) = values.split_at_mut(args.len());
        let limit = host.limits().call_time;
        let done = match limit.and_then(|limit| Instant::now().checked_add(limit)) {
            // SAFETY: the function is one of `self.guest`, which `self` keeps while it runs; the
            // caller has checked numbers and types of values.
            None => unsafe { executor.invoke(function, args, out) },
            Some(deadline) => {
                let executor = new_executor()?;
                // SAFETY: as above.
                unsafe { executor.invoke_until(function, args, out, deadline) }
            }
        };
        done.map_err(|code| error::call(code, operation, limit))?;
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(*value);
        }
        Ok(())
    }
}

/// Refuses a memory that is not as large as its module says.
fn check_real_size(asked: u64, made: u64) -> Result<()> {
    if made >= asked {
        return Ok(());
    }
    Err(Error::OutOfMemory {
        engine: NAME,
        what: "the guest's initial memory",
        asked,
        reason: format!("WasmEdge made only {made} bytes of it"),
    })
}

fn new_executor() -> Result<Executor> {
    let reason = "WasmEdge has no memory for an executor".to_owned();
    Executor::new().ok_or(Error::Instantiate { engine: NAME, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_memory_that_is_not_what_was_asked_is_refused() {
        assert!(check_real_size(PAGE, PAGE).is_ok());
        assert!(check_real_size(PAGE, 2 * PAGE).is_ok());
        let error = check_real_size(3 * PAGE, 2 * PAGE).unwrap_err().to_string();
        assert!(error.contains("196608") && error.contains("131072"), "{error}");
    }
}
