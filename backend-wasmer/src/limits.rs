//! Limits on the growth of memories and tables that guests ask for.
#![allow(unsafe_code)]

use std::ptr::NonNull;

use polychord_runtime_api::abi::PAGE;
use wasmer::sys::vm::{
    MemoryError, MemoryStyle, TableStyle, VMMemory, VMMemoryDefinition, VMTable, VMTableDefinition,
};
use wasmer::sys::{BaseTunables, Tunables};
use wasmer::{MemoryType, Pages, TableType};

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
        // The host has refused modules whose memories begin beyond the limit, so only the page of a
        // time limit's flag can be larger.
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
