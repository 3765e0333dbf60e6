//! The bytes of a Wasmer memory, the limits on its growth, and moving guests between threads.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ptr::NonNull;
use std::time::Duration;

use polychord_runtime_api::Result;
use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::spi::{TimeLimit, WholePages};
use wasmer::sys::vm::{
    MemoryError, MemoryStyle, TableStyle, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition,
};
use wasmer::sys::{BaseTunables, Tunables};
use wasmer::{AsStoreMut, AsStoreRef, Instance, Memory, MemoryType, Pages, Store, TableType};

use crate::NAME;
use crate::function::Exported;

/// A live guest as Wasmer has it: a store, and everything that lives in it.
pub(crate) struct Guest {
    pub(crate) store: Store,
    /// The exported ones that a host can call.
    pub(crate) functions: BTreeMap<String, Exported>,
    /// The exported ones, by the index that the host knows them by.
    pub(crate) memories: Vec<Memory>,
}

// SAFETY: a `Store` is not `Send` because of raw pointers between its own objects, and because
// of an optional callback and trap handler. All the objects move together here: the store is
// made, filled and owned by this crate alone, and nothing that it hands out outlives a borrow
// of it. The callback and the handler are never set, and our host functions and their state
// are `Send`. What Wasmer keeps per thread (active stores, interrupts) is installed when a
// call begins and removed before it returns, and no call is running while the value moves.
unsafe impl Send for Guest {}

impl Guest {
    /// The bytes of a memory, of which the pages may be replaced.
    pub(crate) fn whole_pages(&mut self, index: usize) -> Option<WholePages<'_>> {
        let Self { store, memories, .. } = self;
        let bytes = bytes_mut(memories.get(index)?, store);
        // SAFETY: the store has the tunables `Limited`, whose `BaseTunables` give every linear
        // memory a static mapping of its own (private and anonymous, 4 GiB and a guard), which
        // never moves and is unmapped whole, with the store; growth makes further pages of it
        // readable and writable and touches no others. It is not shared with threads or other
        // stores. While the store is borrowed exclusively no guest code runs, and `bytes` is the
        // only reference into the memory.
        Some(unsafe { WholePages::new(bytes) })
    }
}

/// The bytes of a memory.
pub(crate) fn bytes<'a>(memory: &Memory, store: &'a impl AsStoreRef) -> &'a [u8] {
    let view = memory.view(store);
    // SAFETY: the pointer and length are those of the memory as it is now. It is not shared
    // with other threads (the engine has the threads proposal off), and neither growing it nor
    // running its guest is possible while `store` is borrowed.
    unsafe { std::slice::from_raw_parts(view.data_ptr(), len(&view)) }
}

/// The bytes of a memory, to write to.
pub(crate) fn bytes_mut<'a>(memory: &Memory, store: &'a mut impl AsStoreMut) -> &'a mut [u8] {
    let view = memory.view(store);
    // SAFETY: as in `bytes`, and the exclusive borrow of `store` excludes every other slice.
    unsafe { std::slice::from_raw_parts_mut(view.data_ptr(), len(&view)) }
}

fn len(view: &wasmer::MemoryView<'_>) -> usize {
    usize::try_from(view.data_size()).unwrap_or(0)
}

/// The time limit of a guest whose code looks at a flag in the memory that is exported by this
/// name.
pub(crate) fn time_limit(
    limit: Duration,
    instance: &Instance,
    memory: &str,
    store: &impl AsStoreRef,
) -> Result<TimeLimit> {
    let memory = instance.exports.get_memory(memory).ok();
    let base = memory.and_then(|memory| NonNull::new(memory.view(store).data_ptr()));
    let base = base.ok_or_else(|| TimeLimit::no_memory(NAME))?;
    // SAFETY: the memory has one page, never grows (that is its maximum), and is mapped until
    // the store is dropped, which the guest's runtime owns together with the limit.
    Ok(unsafe { TimeLimit::new(limit, base) })
}

/// Limits for the growth that guests ask for, over Wasmer's own tunables.
pub(crate) struct Limited {
    base: BaseTunables,
    max_pages: Pages,
    max_elements: u32,
}

impl Limited {
    /// Limits of each memory and of each table.
    pub(crate) fn new(memory_bytes: u64, table_elements: u64) -> Self {
        let pages = u32::try_from(memory_bytes / PAGE).unwrap_or(u32::MAX);
        let max_elements = u32::try_from(table_elements).unwrap_or(u32::MAX);
        Self { base: BaseTunables::new(), max_pages: Pages(pages.min(1 << 16)), max_elements }
    }

    fn memory(&self, ty: &MemoryType) -> MemoryType {
        let maximum = ty.maximum.map_or(self.max_pages, |pages| pages.min(self.max_pages));
        // The host has refused modules whose memories start out beyond the limit, so only the page
        // that guests with a time limit have for its flag can be larger.
        let maximum = maximum.max(ty.minimum);
        MemoryType { maximum: Some(maximum), ..*ty }
    }

    fn table(&self, ty: &TableType) -> TableType {
        let most = self.max_elements;
        let maximum = ty.maximum.map_or(most, |max| max.min(most));
        TableType { maximum: Some(maximum), ..*ty }
    }
}

impl Tunables for Limited {
    fn memory_style(&self, memory: &MemoryType) -> MemoryStyle {
        self.base.memory_style(memory)
    }

    fn table_style(&self, table: &TableType) -> TableStyle {
        self.base.table_style(table)
    }

    fn create_host_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
    ) -> Result<VMMemory, MemoryError> {
        self.base.create_host_memory(&self.memory(ty), style)
    }

    unsafe fn create_vm_memory(
        &self,
        ty: &MemoryType,
        style: &MemoryStyle,
        definition: NonNull<VMMemoryDefinition>,
    ) -> Result<VMMemory, MemoryError> {
        // SAFETY: the caller's promise about `definition` is passed on unchanged.
        unsafe { self.base.create_vm_memory(&self.memory(ty), style, definition) }
    }

    fn create_host_table(&self, ty: &TableType, style: &TableStyle) -> Result<VMTable, String> {
        self.base.create_host_table(&self.table(ty), style)
    }

    unsafe fn create_vm_table(
        &self,
        ty: &TableType,
        style: &TableStyle,
        definition: NonNull<VMTableDefinition>,
    ) -> Result<VMTable, String> {
        // SAFETY: the caller's promise about `definition` is passed on unchanged.
        unsafe { self.base.create_vm_table(&self.table(ty), style, definition) }
    }
}
