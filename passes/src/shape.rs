//! Counts and types of a module.

use wasmparser::{Operator, Parser, Payload};

use crate::Result;

/// The counts and types of a module that rewriting its code needs.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) types: u32,
    /// Imported functions, which have the first indices.
    pub(crate) imported: u32,
    /// Imported functions and those of the module.
    pub(crate) functions: u32,
    /// For each memory, whether its addresses have 64 bits.
    pub(crate) memories: Vec<bool>,
    /// For each table, whether its indices have 64 bits.
    pub(crate) tables: Vec<bool>,
}

impl Shape {
    pub(crate) fn read(wasm: &[u8]) -> Result<Self> {
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                // A group of types that refer to each other is one entry, or of none.
                Payload::TypeSection(groups) => {
                    for group in groups {
                        let types = u32::try_from(group?.types().len()).unwrap_or(u32::MAX);
                        shape.types = shape.types.saturating_add(types);
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        match import?.ty {
                            wasmparser::TypeRef::Func(_) => {
                                shape.imported += 1;
                                shape.functions += 1;
                            }
                            wasmparser::TypeRef::Memory(ty) => shape.memories.push(ty.memory64),
                            wasmparser::TypeRef::Table(ty) => shape.tables.push(ty.table64),
                            _ => {}
                        }
                    }
                }
                Payload::FunctionSection(functions) => shape.functions += functions.count(),
                Payload::MemorySection(memories) => {
                    for memory in memories {
                        shape.memories.push(memory?.memory64);
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        shape.tables.push(table?.ty.table64);
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    /// Whether an instruction may take long, and cannot be divided.
    pub(crate) fn takes_long(&self, operator: &Operator<'_>) -> bool {
        match operator {
            Operator::Call { function_index } => *function_index < self.imported,
            // A table may have an imported function.
            Operator::CallIndirect { .. } => self.imported > 0,
            Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableInit { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. }
            | Operator::TableGrow { .. } => true,
            _ => false,
        }
    }

    /// The index of the memory with the flag.
    pub(crate) fn flag_memory(&self) -> u32 {
        u32::try_from(self.memories.len()).unwrap_or(u32::MAX)
    }
}
