//! The bytes of a Wasmer memory, the limits on its growth, and moving guests between threads.
#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::ptr::NonNull;

use polychord_runtime_api::Mapping;
use polychord_runtime_api::abi::PAGE;
use wasmer::sys::vm::{
    MemoryError, MemoryStyle, TableStyle, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition,
};
use wasmer::sys::{BaseTunables, Tunables};
use wasmer::{AsStoreMut, AsStoreRef, Memory, MemoryType, Pages, Store, TableType};

use crate::function::Exported;

/// Pages of a Wasmer memory can be replaced by mappings.
// SAFETY: `BaseTunables` gives every linear memory a static mapping of its own (private and
// anonymous, 4 GiB and a guard), which never moves and is unmapped whole; accessible pages
// are readable and writable.
pub(crate) const MAPPING: Mapping = unsafe { Mapping::whole_pages() };

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
