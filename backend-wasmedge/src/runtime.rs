use std::sync::{Arc, OnceLock};

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{
    Instance, Module, Reads, Start, Started, TimeLimit, Variants, WholePages,
};
use polychord_runtime_api::{Error, Limits, LinearMemories, ModuleInfo, Result, Value};
use wasmedge_sys::ffi;

use crate::aot::Cache;
use crate::engine::{MAX_PAGES64, Mode, runtime_config};
use crate::executor::Executor;
use crate::imports::{self, from_engine, to_engine};
use crate::memory::{Guest, RESERVED, State, check_address_space};
use crate::shape::Shape;
use crate::{NAME, error, keeper};

/// A compiled guest.
pub(crate) struct WasmEdgeModule {
    modules: Variants<wasmedge_sdk::Module>,
    /// Where native code is; none for the interpreter.
    cache: Option<Arc<Cache>>,
    shape: Shape,
    info: Arc<ModuleInfo>,
}

/// A live guest.
struct WasmEdgeRuntime {
    time: TimeLimit,
    guest: Guest,
    executor: Executor,
    /// Arguments and results of the last call, kept for their room.
    values: Vec<ffi::WasmEdge_Value>,
}

impl WasmEdgeModule {
    pub(crate) fn new(
        wasm: &[u8],
        info: Arc<ModuleInfo>,
        cache: Option<Arc<Cache>>,
    ) -> Result<Self> {
        let (shape, wasm) = Shape::read(wasm, info.table_limit(&Limits::default()))?;
        if let Some(cache) = &cache {
            keeper::start(cache)?;
        }
        let modules = Variants::new(&wasm, load(cache.as_deref(), &wasm)?);
        Ok(Self { modules, cache, shape, info })
    }

    /// Why a guest could not start, if it is for lack of address space.
    fn no_room(&self) -> Option<Error> {
        self.info.memory()?;
        let reason = check_address_space().err()?.to_string();
        let what = "address space for the guest's memory";
        Some(Error::OutOfMemory { engine: NAME, what, asked: RESERVED, reason })
    }
}

impl Module for WasmEdgeModule {
    fn start(&self, start: Start) -> Result<Started> {
        let host = start.host().clone();
        let limit = host.limits().call_time;
        let mut pages = self.shape.max_pages(host.memory_limit());
        self.shape.check_sizes(pages)?;
        if self.info.grows_tables() {
            self.shape.check_tables(host.limits())?;
        }
        let mut timed = None;
        if let Some(limit) = limit {
            let cache = self.cache.as_deref();
            let compile = |wasm: &[u8]| {
                if cache.is_some_and(Cache::compiles_here) {
                    Shape::check_loops(wasm)?;
                }
                load(cache, wasm)
            };
            timed = Some((limit, self.modules.stoppable(NAME, Reads::Always, compile)?));
            // The flag has a page of its own.
            self.shape.check_below_a_page(pages)?;
            pages = pages.max(1);
        }
        let module = timed.map_or(self.modules.plain(), |(_, timed)| &timed.module);
        let mode = if self.cache.is_some() { Mode::Aot } else { Mode::Interpreter };
        let config = runtime_config(mode, pages)?;
        let memories = Arc::new(OnceLock::new());
        let imports =
            imports::define(&self.info, State { host: host.clone(), memories: memories.clone() })
                .map_err(|e| error::instantiate(&e))?;
        let guest = Guest::start(&config, module, imports, &self.info)
            .map_err(|e| self.no_room().unwrap_or_else(|| error::instantiate(&e)))?;
        for (made, declared) in guest.memories().iter().zip(self.info.memories()) {
            check_real_size(declared.min_bytes, made.pages().saturating_mul(PAGE))?;
        }
        let time = match timed {
            Some((limit, timed)) => guest.time_limit(limit, &timed.memory)?,
            None => TimeLimit::none(),
        };
        let (executor, values) = (new_executor()?, Vec::new());
        let mut runtime = WasmEdgeRuntime { time, guest, executor, values };
        if let Some(export) = self.shape.start() {
            runtime.run(export, "the start function", &[], &mut [])?;
        }
        // Host functions find the memories from here on.
        _ = memories.set(runtime.guest.memories().to_vec());
        Ok(start.finish(runtime))
    }
}

impl LinearMemories for WasmEdgeRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.guest.linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.guest.linear_memory_mut(index)
    }

    fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        self.guest.whole_pages(index)
    }
}

impl Instance for WasmEdgeRuntime {
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
        let Self { time, executor, values, .. } = self;
        values.clear();
        values.extend(args.iter().chain(&*results).map(|value| to_engine(*value)));
        let (args, out) = values.split_at_mut(args.len());
        // SAFETY: the function is one of `self.guest`, which `self` keeps while it runs; the
        // caller has checked numbers and types of values.
        let mut invoke = || unsafe { executor.invoke(function, args, out) };
        time.run(|| invoke().map_err(|code| error::call(code, operation)))?;
        for (result, value) in results.iter_mut().zip(out) {
            *result = from_engine(*value);
        }
        Ok(())
    }
}

/// A module to be run: native code, or what the interpreter reads.
fn load(cache: Option<&Cache>, wasm: &[u8]) -> Result<wasmedge_sdk::Module> {
    if let Some(cache) = cache {
        return cache.load(wasm);
    }
    let config = runtime_config(Mode::Interpreter, MAX_PAGES64)?;
    let module = wasmedge_sdk::Module::from_bytes(Some(&config), wasm);
    module.map_err(|e| error::compile(&e.to_string()))
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
