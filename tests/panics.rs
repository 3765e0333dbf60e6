//! An engine that panics while several ranks compute: the caller gets the panic or an error, and no
//! rank waits for one that will never come.
#![allow(clippy::unwrap_used, reason = "tests")]

mod common;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::llama::{Llama, Shape};
use common::{each_engine, test_name};
use polychord::api::spi::Host;
use polychord::api::{
    Capabilities, Engine, Instantiation, Interrupter, LayerId, LayerSpec, LinearMemories,
    LoadedLayer, MemoryId, MemorySpec, MemoryStats, Module, ModuleInfo, ModuleLimits, Rank, Region,
    Result, Runtime, Stats, Value,
};
use polychord::model::gguf::GgmlType;
use polychord::model::{Model, Ranks, SessionOptions, Transformer};

/// An engine whose guests panic in one rank, once it is set.
#[derive(Debug)]
struct Panics {
    inner: Arc<dyn Engine>,
    /// The rank whose next call panics, and [`NONE`] if none does.
    next: Arc<AtomicUsize>,
}

const NONE: usize = usize::MAX;

struct PanicsModule {
    inner: Arc<dyn Module>,
    next: Arc<AtomicUsize>,
}

struct PanicsRuntime {
    inner: Box<dyn Runtime>,
    next: Arc<AtomicUsize>,
}

impl Engine for Panics {
    fn capabilities(&self) -> &Arc<Capabilities> {
        self.inner.capabilities()
    }

    fn compile_within(&self, wasm: &[u8], limits: &ModuleLimits) -> Result<Arc<dyn Module>> {
        let inner = self.inner.compile_within(wasm, limits)?;
        Ok(Arc::new(PanicsModule { inner, next: self.next.clone() }))
    }
}

impl Module for PanicsModule {
    fn info(&self) -> &Arc<ModuleInfo> {
        self.inner.info()
    }

    fn capabilities(&self) -> &Arc<Capabilities> {
        self.inner.capabilities()
    }

    fn instantiate_with(&self, with: Instantiation<'_>) -> Result<Box<dyn Runtime>> {
        let inner = self.inner.instantiate_with(with)?;
        Ok(Box::new(PanicsRuntime { inner, next: self.next.clone() }))
    }
}

impl LinearMemories for PanicsRuntime {
    fn linear_memory(&self, index: usize) -> &[u8] {
        self.inner.linear_memory(index)
    }

    fn linear_memory_mut(&mut self, index: usize) -> &mut [u8] {
        self.inner.linear_memory_mut(index)
    }
}

impl PanicsRuntime {
    /// Panics if this rank is the one that should, in the middle of its work.
    fn before(&self, export: &str) {
        let rank = self.inner.host().rank().map_or(NONE - 1, |rank| rank.index());
        // Blocks gather, so that the others are waiting by then.
        if export == "transformer_blocks"
            && self.next.compare_exchange(rank, NONE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
        {
            panic!("as it should");
        }
    }
}

/// Methods that do what the guest behind does.
macro_rules! forward {
    ($($name:ident($me:ident: $access:ty $(, $arg:ident: $ty:ty)*) -> $result:ty;)*) => {
        $(fn $name($me: $access $(, $arg: $ty)*) -> $result {
            $me.inner.$name($($arg),*)
        })*
    };
}

impl Runtime for PanicsRuntime {
    fn call(&mut self, export: &str, args: &[Value]) -> Result<Vec<Value>> {
        self.before(export);
        self.inner.call(export, args)
    }

    fn call_into(&mut self, export: &str, args: &[Value], results: &mut [Value]) -> Result<()> {
        self.before(export);
        self.inner.call_into(export, args, results)
    }

    forward! {
        host(self: &Self) -> &Host;
        create_memory64(self: &mut Self, spec: &MemorySpec) -> Result<MemoryId>;
        region(self: &Self, memory: MemoryId, name: &str) -> Result<Region>;
        grow_region(self: &mut Self, memory: MemoryId, name: &str, bytes: u64) -> Result<u64>;
        register_layer(self: &mut Self, spec: LayerSpec) -> Result<()>;
        load_layer(self: &mut Self, id: LayerId) -> Result<LoadedLayer>;
        load_layer_from(self: &mut Self, id: LayerId, bytes: &[u8]) -> Result<LoadedLayer>;
        release_layer(self: &mut Self, id: LayerId) -> Result<()>;
        unregister_layer(self: &mut Self, id: LayerId) -> Result<()>;
        read_memory64(self: &Self, memory: MemoryId, offset: u64, out: &mut [u8]) -> Result<()>;
        write_memory64(self: &mut Self, memory: MemoryId, offset: u64, data: &[u8]) -> Result<()>;
        join(self: &mut Self, rank: Rank) -> Result<()>;
        memory_address(self: &Self, memory: MemoryId) -> Result<Option<u64>>;
        stats(self: &Self) -> Stats;
        memory_stats(self: &Self) -> Vec<MemoryStats>;
        global(self: &mut Self, name: &str) -> Result<Value>;
        set_global(self: &mut Self, name: &str, value: Value) -> Result<()>;
        interrupter(self: &Self) -> Result<Interrupter>;
        state_any(self: &Self) -> Option<&(dyn Any + Send)>;
        state_any_mut(self: &mut Self) -> Option<&mut (dyn Any + Send)>;
    }
}

#[test]
fn an_engine_that_panics_in_one_rank_lets_no_other_wait() {
    each_engine(test_name!(), |engine| {
        let next = Arc::new(AtomicUsize::new(NONE));
        let double: Arc<dyn Engine> =
            Arc::new(Panics { inner: engine.clone(), next: next.clone() });
        let folder = tempfile::tempdir().unwrap();
        let path = Llama::random(Shape::of(GgmlType::Q8_0)).save(folder.path());
        let mut options = SessionOptions::default();
        options.ranks = Ranks::Exactly(3);
        let transformer = Transformer::new(&double).unwrap();
        let mut session = transformer.start(&Model::open(&path).unwrap(), &options).unwrap();
        let prompt = [3, 14, 15, 92];
        let expected = session.eval(&prompt).unwrap().as_bytes().to_vec();
        for rank in [0, 1, 2, 0, 2] {
            session.reset();
            next.store(rank, Ordering::SeqCst);
            let done = catch_unwind(AssertUnwindSafe(|| session.eval(&prompt).map(|_| ())));
            assert_eq!(next.load(Ordering::SeqCst), NONE, "it was not called");
            match done {
                // The rank of this thread.
                Err(_) => assert_eq!(rank, 0),
                Ok(done) => {
                    let error = done.unwrap_err().to_string();
                    assert!(rank != 0 && error.contains("panicked"), "{rank}: {error}");
                }
            }
            // Its guests are as they were, and compute again.
            session.reset();
            assert!(session.eval(&prompt).unwrap().as_bytes() == expected);
        }
    });
}
