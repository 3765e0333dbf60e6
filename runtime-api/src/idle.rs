//! A guest for tests, without an engine.

use std::sync::Arc;

use polychord_abi::PAGE;
use polychord_memory64_lowering::{Layout, Options, lower};

use crate::capability::{Capabilities, Memory64, RelaxedSimd};
use crate::host::Host;
use crate::limits::Limits;
use crate::live::LiveGuest;
use crate::memory::segment::LinearMemories;
use crate::memory::view::View;
use crate::module::{GlobalAt, ModuleInfo};
use crate::spi::Instance;
use crate::value::Value;
use crate::{Error, Result};

/// A guest that does nothing, whose memories are plain bytes.
pub(crate) struct Idle {
    pub(crate) memories: Vec<Vec<u8>>,
    /// A memory that does not grow now.
    pub(crate) stuck: Option<usize>,
}

impl Idle {
    /// A guest with this many empty memories, of at most 8 pages each if there are several.
    pub(crate) fn start(memories: usize) -> LiveGuest<Self> {
        Self::claiming(memories, capabilities())
    }

    /// Of an engine that claims this.
    pub(crate) fn claiming(memories: usize, capabilities: Capabilities) -> LiveGuest<Self> {
        let max = if memories > 1 { "8" } else { "" };
        let name = |index| if index == 0 { "memory".into() } else { format!("memory{index}") };
        let exports: String = (0..memories)
            .map(|index| format!("(memory (export \"{}\") 0 {max})", name(index)))
            .collect();
        let mut guest = Self::of(&format!("(module {exports})"), capabilities);
        guest.instance().memories = vec![Vec::new(); memories];
        guest
    }

    /// Of a module with 64-bit memories of up to 16 pages, which are lowered to segments of `segment_pages`,
    /// and have the bytes that they begin with.
    pub(crate) fn lowered(wat: &str, segment_pages: u32) -> LiveGuest<Self> {
        let capabilities = Capabilities { memory64: Memory64::LOWERED, ..capabilities() };
        let wasm = wat::parse_str(wat).unwrap();
        let options = Options::default().max_memory(16 * PAGE).segment_pages(segment_pages);
        let wasm_lowered = lower(&wasm, &options.cut_maximum(true)).unwrap().wasm;
        let declared = Arc::new(ModuleInfo::parse(&wasm, &capabilities).unwrap());
        let module = Arc::new(ModuleInfo::parse(&wasm_lowered, &capabilities).unwrap());
        let layout = Layout::read(&wasm_lowered).unwrap().unwrap();
        let view = View::lowered(&declared, module.clone(), &layout).unwrap();
        let bytes = |bytes: u64| vec![0; usize::try_from(bytes).unwrap()];
        let memories = module.memories().iter().map(|memory| bytes(memory.min_bytes)).collect();
        let host = Host::new(Arc::new(capabilities), declared, Limits::default(), view).unwrap();
        LiveGuest::new(Arc::new(host), Box::new(Self { memories, stuck: None }), None)
    }

    /// Of a module, with no bytes in its memories.
    pub(crate) fn of(wat: &str, capabilities: Capabilities) -> LiveGuest<Self> {
        let module = wat::parse_str(wat).unwrap();
        let module = ModuleInfo::parse(&module, &capabilities).unwrap();
        let host =
            Host::new(Arc::new(capabilities), Arc::new(module), Limits::default(), View::default())
                .unwrap();
        let idle = Self { memories: Vec::new(), stuck: None };
        LiveGuest::new(Arc::new(host), Box::new(idle), None)
    }
}

/// What an engine can do that has nothing but memories.
pub(crate) fn capabilities() -> Capabilities {
    Capabilities {
        engine: "test",
        version: "0",
        execution: "none",
        memory64: Memory64::Host,
        memory32_max_bytes: 1 << 32,
        multi_memory: true,
        relaxed_simd: RelaxedSimd::Unsupported,
        mapping: false,
        time_limit: false,
        stack_overflow_trap: false,
        threads: true,
        reentrance: false,
    }
}

impl LinearMemories for Idle {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.memories.get(index).map_or(&[], |bytes| bytes)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.memories.get_mut(index).map_or(&mut [], |bytes| bytes)
    }
}

impl Instance for Idle {
    fn grow(&mut self, memory: usize, pages: u64) -> Result<u64> {
        if self.stuck == Some(memory) {
            let (engine, what, reason) = ("test", "a memory", "it is stuck".into());
            return Err(Error::OutOfMemory { engine, what, asked: pages * PAGE, reason });
        }
        let before = self.memories[memory].len();
        self.memories[memory].resize(before + usize::try_from(pages * PAGE).unwrap(), 0);
        Ok(before as u64 / PAGE)
    }

    fn invoke(&mut self, _: &str, _: &[Value], _: &mut [Value]) -> Result<()> {
        Ok(())
    }

    fn global(&mut self, _: GlobalAt<'_>) -> Result<Value> {
        Ok(Value::I32(0))
    }

    fn set_global(&mut self, _: GlobalAt<'_>, _: Value) -> Result<()> {
        Ok(())
    }
}
