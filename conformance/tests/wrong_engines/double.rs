//! An engine that passes everything on to another one, except where a defect steps in.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use polychord_runtime_api::spi::Host;
use polychord_runtime_api::{
    Capabilities, Engine, Image, Instantiation, Interrupter, LayerId, LayerSpec, Limits,
    LinearMemories, LoadedLayer, MemoryId, MemorySpec, MemoryStats, Module, ModuleInfo,
    ModuleLimits, Rank, Region, Result, Runtime, Stats, Value, ValueType,
};

/// One deliberate mistake: overrides what it does wrong.
pub(crate) trait Defect: std::fmt::Debug + Sync {
    fn claim(&self, _has: &mut Capabilities) {}

    fn compile(&self, engine: &dyn Engine, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        engine.compile(wasm)
    }

    fn instantiate(&self, module: &dyn Module, limits: &Limits) -> Result<Box<dyn Runtime>> {
        module.instantiate(limits)
    }

    fn instantiate_with(
        &self,
        module: &dyn Module,
        with: Instantiation<'_>,
    ) -> Result<Box<dyn Runtime>> {
        module.instantiate_with(with)
    }

    fn call(&self, guest: &mut Guest, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        guest.inner.call(export, args)
    }

    fn memory<'a>(&self, guest: &'a Guest) -> &'a [u8] {
        guest.inner.memory()
    }

    fn memory_mut<'a>(&self, guest: &'a mut Guest) -> &'a mut [u8] {
        guest.inner.memory_mut()
    }

    /// The linear memory that is taken for the one of this index.
    fn index(&self, index: usize) -> usize {
        index
    }

    fn create_memory64(&self, guest: &mut Guest, spec: &MemorySpec) -> Result<MemoryId> {
        guest.inner.create_memory64(spec)
    }

    fn grow_region(
        &self,
        guest: &mut Guest,
        memory: MemoryId,
        name: &str,
        bytes: u64,
    ) -> Result<u64> {
        guest.inner.grow_region(memory, name, bytes)
    }

    fn register_layer(&self, guest: &mut Guest, spec: LayerSpec) -> Result<()> {
        guest.inner.register_layer(spec)
    }

    fn load_layer(&self, guest: &mut Guest, id: LayerId) -> Result<LoadedLayer> {
        guest.inner.load_layer(id)
    }

    fn load_layer_from(&self, guest: &mut Guest, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer> {
        guest.inner.load_layer_from(id, bytes)
    }

    fn release_layer(&self, guest: &mut Guest, id: LayerId) -> Result<()> {
        guest.inner.release_layer(id)
    }

    fn unregister_layer(&self, guest: &mut Guest, id: LayerId) -> Result<()> {
        guest.inner.unregister_layer(id)
    }

    fn read(&self, guest: &Guest, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()> {
        guest.inner.read_memory64(memory, offset, out)
    }

    fn write(&self, guest: &mut Guest, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        guest.inner.write_memory64(memory, offset, data)
    }

    fn write_image(
        &self,
        guest: &mut Guest,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        guest.inner.write_image(0, address, image, range)
    }

    fn stats(&self, guest: &Guest) -> Stats {
        guest.inner.stats()
    }

    fn global(&self, guest: &mut Guest, name: &str) -> Result<Value> {
        guest.inner.global(name)
    }

    fn set_global(&self, guest: &mut Guest, name: &str, value: Value) -> Result<()> {
        guest.inner.set_global(name, value)
    }

    fn interrupter(&self, guest: &Guest) -> Result<Interrupter> {
        guest.inner.interrupter()
    }

    /// Whether guests are never taken down.
    fn leaks(&self) -> bool {
        false
    }
}

/// A guest of the engine behind, and what defects remember about it.
pub(crate) struct Guest {
    pub(crate) inner: Box<dyn Runtime>,
    /// What the memory was at some time, if a defect cares.
    pub(crate) old_memory: Vec<u8>,
    /// Size of the memory at the start.
    pub(crate) first_size: usize,
    /// The thread that started it.
    pub(crate) thread: std::thread::ThreadId,
}

#[derive(Debug)]
pub(crate) struct Double {
    inner: Arc<dyn Engine>,
    capabilities: Arc<Capabilities>,
    defect: &'static dyn Defect,
}

struct DoubleModule {
    inner: Arc<dyn Module>,
    capabilities: Arc<Capabilities>,
    defect: &'static dyn Defect,
}

struct DoubleRuntime {
    /// Always there, but for a guest that is being taken down.
    guest: Option<Guest>,
    defect: &'static dyn Defect,
}

impl Double {
    pub(crate) fn new(inner: Arc<dyn Engine>, defect: &'static dyn Defect) -> Self {
        let mut capabilities = Capabilities::clone(inner.capabilities());
        defect.claim(&mut capabilities);
        Self { inner, capabilities: Arc::new(capabilities), defect }
    }

    fn wrap(&self, inner: Arc<dyn Module>) -> Arc<dyn Module> {
        let capabilities = self.capabilities.clone();
        Arc::new(DoubleModule { inner, capabilities, defect: self.defect })
    }
}

impl Engine for Double {
    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn compile(&self, wasm: &[u8]) -> Result<Arc<dyn Module>> {
        Ok(self.wrap(self.defect.compile(&*self.inner, wasm)?))
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        Ok(self.wrap(self.inner.compile_within(wasm, limits)?))
    }
}

impl Module for DoubleModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        self.inner.info()
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        &self.capabilities
    }

    fn instantiate(&self, limits: &Limits) -> Result<Box<dyn Runtime>> {
        Ok(self.wrap(self.defect.instantiate(&*self.inner, limits)?))
    }

    fn instantiate_with(&self, with: Instantiation<'_>) -> Result<Box<dyn Runtime>> {
        Ok(self.wrap(self.defect.instantiate_with(&*self.inner, with)?))
    }
}

impl DoubleModule {
    fn wrap(&self, inner: Box<dyn Runtime>) -> Box<dyn Runtime> {
        let thread = std::thread::current().id();
        let first_size = inner.memory().len();
        let guest = Guest { inner, old_memory: Vec::new(), first_size, thread };
        Box::new(DoubleRuntime { guest: Some(guest), defect: self.defect })
    }
}

impl Guest {
    /// Zeros as the results of a function, as if a call of it had done nothing.
    pub(crate) fn zeros(&self, export: &str) -> Vec<Value> {
        let ty = self.inner.host().module().functions().get(export);
        ty.map(|ty| ty.results.iter().copied().map(ValueType::zero).collect()).unwrap_or_default()
    }
}

impl DoubleRuntime {
    fn guest(&self) -> &Guest {
        self.guest.as_ref().unwrap()
    }

    fn guest_mut(&mut self) -> &mut Guest {
        self.guest.as_mut().unwrap()
    }
}

impl Drop for DoubleRuntime {
    fn drop(&mut self) {
        let guest = self.guest.take();
        if self.defect.leaks() {
            std::mem::forget(guest);
        }
    }
}

impl LinearMemories for DoubleRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        match self.defect.index(index) {
            0 => self.defect.memory(self.guest()),
            index => self.guest().inner.linear_memory(index),
        }
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        let defect = self.defect;
        match defect.index(index) {
            0 => defect.memory_mut(self.guest_mut()),
            index => self.guest_mut().inner.linear_memory_mut(index),
        }
    }
}

impl Runtime for DoubleRuntime {
    fn host(&self) -> &Host {
        self.guest().inner.host()
    }

    fn create_memory64(&mut self, spec: &MemorySpec) -> Result<MemoryId> {
        let defect = self.defect;
        defect.create_memory64(self.guest_mut(), spec)
    }

    fn grow_region(&mut self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64> {
        let defect = self.defect;
        defect.grow_region(self.guest_mut(), memory, name, bytes)
    }

    fn register_layer(&mut self, spec: LayerSpec) -> Result<()> {
        let defect = self.defect;
        defect.register_layer(self.guest_mut(), spec)
    }

    fn load_layer(&mut self, id: LayerId) -> Result<LoadedLayer> {
        let defect = self.defect;
        defect.load_layer(self.guest_mut(), id)
    }

    fn load_layer_from(&mut self, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer> {
        let defect = self.defect;
        defect.load_layer_from(self.guest_mut(), id, bytes)
    }

    fn release_layer(&mut self, id: LayerId) -> Result<()> {
        let defect = self.defect;
        defect.release_layer(self.guest_mut(), id)
    }

    fn unregister_layer(&mut self, id: LayerId) -> Result<()> {
        let defect = self.defect;
        defect.unregister_layer(self.guest_mut(), id)
    }

    fn read_memory64(&self, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()> {
        self.defect.read(self.guest(), memory, offset, out)
    }

    fn write_memory64(&mut self, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()> {
        let defect = self.defect;
        defect.write(self.guest_mut(), memory, offset, data)
    }

    fn write_image(
        &mut self,
        _memory: usize,
        address: u64,
        image: &Image,
        range: Range<u64>,
    ) -> Result<u64> {
        let defect = self.defect;
        defect.write_image(self.guest_mut(), address, image, range)
    }

    fn stats(&self) -> Stats {
        self.defect.stats(self.guest())
    }

    fn call(&mut self, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        let defect = self.defect;
        defect.call(self.guest_mut(), export, args)
    }

    fn region(&self, memory: MemoryId, name: &str) -> Result<Region> {
        self.guest().inner.region(memory, name)
    }

    fn join(&mut self, rank: Rank) -> Result<()> {
        self.guest_mut().inner.join(rank)
    }

    fn memory_address(&self, memory: MemoryId) -> Result<Option<u64>> {
        self.guest().inner.memory_address(memory)
    }

    fn memory_stats(&self) -> Vec<MemoryStats> {
        self.guest().inner.memory_stats()
    }

    fn call_into(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.guest_mut().inner.call_into(export, args, results)
    }

    fn global(&mut self, name: &str) -> Result<Value> {
        let defect = self.defect;
        defect.global(self.guest_mut(), name)
    }

    fn set_global(&mut self, name: &str, value: Value) -> Result<()> {
        let defect = self.defect;
        defect.set_global(self.guest_mut(), name, value)
    }

    fn interrupter(&self) -> Result<Interrupter> {
        self.defect.interrupter(self.guest())
    }

    fn state_any(&self) -> Option<&(dyn Any + Send)> {
        self.guest().inner.state_any()
    }

    fn state_any_mut(&mut self) -> Option<&mut (dyn Any + Send)> {
        self.guest_mut().inner.state_any_mut()
    }
}
