//! Modules as they are and lowered, side by side on one engine.

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(dead_code, reason = "each test file uses a part of it")]

use polychord_memory64_lowering::{Layout, Options, lower, segment_name};
use wasmtime::{Config, Engine, Instance, Linker, Memory, Module, Store, Trap, Val};

/// An engine with memory64, which has room for a memory to grow where it is: no byte is copied for that.
pub(crate) fn native() -> Engine {
    engine(true, 16 << 30)
}

/// An engine without memory64, on which only lowered modules run.
pub(crate) fn without() -> Engine {
    engine(false, 4 << 30)
}

pub(crate) fn engine(memory64: bool, reservation: u64) -> Engine {
    let mut config = Config::new();
    config.wasm_memory64(memory64).wasm_multi_memory(true);
    // Traps are many, and where they came from is never asked.
    config.wasm_backtrace_max_frames(None).memory_reservation(reservation);
    if reservation < 4 << 30 {
        config.memory_guard_size(0).memory_reservation_for_growth(0);
    }
    Engine::new(&config).unwrap()
}

/// A running module, native or lowered.
pub(crate) struct Guest {
    pub(crate) store: Store<()>,
    pub(crate) instance: Instance,
    layout: Option<Layout>,
}

/// What a call did: its results as bits, or why it trapped.
pub(crate) type Outcome = Result<Vec<String>, String>;

impl Guest {
    pub(crate) fn start(engine: &Engine, wasm: &[u8]) -> Result<Self, String> {
        let module = Module::new(engine, wasm).map_err(|error| format!("{error:?}"))?;
        let mut store = Store::new(engine, ());
        let linker = Linker::new(engine);
        let instance = linker.instantiate(&mut store, &module).map_err(|error| reason(&error))?;
        Ok(Self { store, instance, layout: Layout::read(wasm).unwrap() })
    }

    pub(crate) fn call(&mut self, name: &str, args: &[Val]) -> Outcome {
        let function = self.instance.get_func(&mut self.store, name).unwrap();
        let mut results = vec![Val::I32(0); function.ty(&self.store).results().len()];
        match function.call(&mut self.store, args, &mut results) {
            Ok(()) => Ok(results.iter().map(show).collect()),
            Err(error) => Err(reason(&error)),
        }
    }

    /// Calls a function whose arguments and result are numbers.
    pub(crate) fn number(&mut self, name: &str, args: &[i64]) -> Result<i64, String> {
        let args: Vec<_> = args.iter().map(|arg| Val::I64(*arg)).collect();
        self.call(name, &args).map(|results| results.first().map_or(0, |it| it.parse().unwrap()))
    }

    /// Bytes of an exported memory in pieces, seen as one.
    pub(crate) fn bytes(&mut self, name: &str) -> Vec<u8> {
        self.memories(name).iter().flat_map(|it| it.data(&self.store).to_vec()).collect()
    }

    fn memories(&mut self, name: &str) -> Vec<Memory> {
        let lowered = self.layout.as_ref().and_then(|layout| {
            let named = |memory: &&polychord_memory64_lowering::Memory| {
                memory.exports.iter().any(|export| export == name)
            };
            layout.memories.iter().find(named).map(|memory| memory.segments)
        });
        let names = (0..lowered.unwrap_or(1)).map(|segment| segment_name(name, segment));
        names.map(|name| self.instance.get_memory(&mut self.store, &name).unwrap()).collect()
    }
}

/// A value, with all bits of numbers.
pub(crate) fn show(value: &Val) -> String {
    match value {
        Val::I32(x) => x.to_string(),
        Val::I64(x) => x.to_string(),
        Val::F32(x) => format!("f32:{x:08x}"),
        Val::F64(x) => format!("f64:{x:016x}"),
        Val::V128(x) => format!("v128:{:032x}", x.as_u128()),
        Val::FuncRef(it) => format!("func {}", it.is_some()),
        other => format!("{other:?}"),
    }
}

/// The kind of a trap, or the text of another error.
pub(crate) fn reason(error: &wasmtime::Error) -> String {
    match error.downcast_ref::<Trap>() {
        Some(trap) => format!("trap: {trap:?}"),
        None => format!("error: {}", error.root_cause()),
    }
}

/// The same module on an engine with memory64, and lowered on one without.
pub(crate) fn pair(wat: &str, options: &Options) -> [Guest; 2] {
    let wasm = wat::parse_str(wat).unwrap();
    let lowered = lower(&wasm, options).unwrap();
    assert!(!lowered.report.memories.is_empty() || !lowered.report.tables.is_empty());
    [Guest::start(&native(), &wasm).unwrap(), Guest::start(&without(), &lowered.wasm).unwrap()]
}
