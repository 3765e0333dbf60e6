//! What a module declares, as far as lowering has to know.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasmparser::{
    CompositeInnerType, ExternalKind, MemoryType, Parser, Payload, RefType, TypeRef, ValType,
};

use crate::{Error, Result};

/// Counts, types and names of a module.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    pub(crate) types: u32,
    /// For each type its parameters, if it is a function's.
    params: Vec<Option<Box<[ValType]>>>,
    /// For each function of the module itself, its type.
    pub(crate) defined: Vec<u32>,
    pub(crate) functions: u32,
    pub(crate) globals: u32,
    pub(crate) memories: Vec<Memory>,
    pub(crate) tables: Vec<Table>,
    /// For each data segment its length.
    pub(crate) data: Vec<u64>,
    pub(crate) start: Option<u32>,
}

/// A memory as the module declares it.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) ty: MemoryType,
    pub(crate) import: Option<(String, String)>,
    pub(crate) exports: Vec<String>,
}

/// A table as the module declares it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Table {
    pub(crate) wide: bool,
    pub(crate) element: RefType,
}

impl Shape {
    pub(crate) fn read(wasm: &[u8]) -> Result<Self> {
        let mut shape = Self::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(types) => {
                    for group in types {
                        group?.into_types().for_each(|ty| shape.ty(&ty.composite_type.inner));
                    }
                }
                Payload::ImportSection(imports) => {
                    for import in imports.into_imports() {
                        let import = import?;
                        let name = (import.module.to_owned(), import.name.to_owned());
                        shape.import(import.ty, name);
                    }
                }
                Payload::FunctionSection(functions) => {
                    for ty in functions {
                        shape.defined.push(ty?);
                        shape.functions += 1;
                    }
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        shape.tables.push(Table::of(table?.ty));
                    }
                }
                Payload::MemorySection(memories) => {
                    for ty in memories {
                        let memory = Memory { ty: ty?, import: None, exports: Vec::new() };
                        shape.memories.push(memory);
                    }
                }
                Payload::GlobalSection(globals) => shape.globals += globals.count(),
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export?;
                        if export.kind == ExternalKind::Memory
                            && let Some(memory) = shape.memories.get_mut(export.index as usize)
                        {
                            memory.exports.push(export.name.to_owned());
                        }
                    }
                }
                Payload::StartSection { func, .. } => shape.start = Some(func),
                Payload::DataSection(data) => {
                    for segment in data {
                        shape.data.push(segment?.data.len() as u64);
                    }
                }
                _ => {}
            }
        }
        Ok(shape)
    }

    fn ty(&mut self, ty: &CompositeInnerType) {
        self.types += 1;
        self.params.push(match ty {
            CompositeInnerType::Func(function) => Some(function.params().into()),
            _ => None,
        });
    }

    fn import(&mut self, ty: TypeRef, name: (String, String)) {
        match ty {
            TypeRef::Func(_) | TypeRef::FuncExact(_) => self.functions += 1,
            TypeRef::Table(ty) => self.tables.push(Table::of(ty)),
            TypeRef::Memory(ty) => {
                self.memories.push(Memory { ty, import: Some(name), exports: Vec::new() });
            }
            TypeRef::Global(_) => self.globals += 1,
            TypeRef::Tag(_) => {}
        }
    }

    /// Whether anything in the module has addresses of 64 bits.
    pub(crate) fn is_wide(&self) -> bool {
        self.memories.iter().any(|memory| memory.ty.memory64)
            || self.tables.iter().any(|table| table.wide)
    }

    /// Parameters of a function type.
    pub(crate) fn params(&self, ty: u32) -> &[ValType] {
        self.params.get(ty as usize).and_then(Option::as_deref).unwrap_or_default()
    }

    pub(crate) fn table_is_wide(&self, table: u32) -> bool {
        self.tables.get(table as usize).is_some_and(|table| table.wide)
    }

    /// The type of the elements of a table.
    pub(crate) fn element(&self, table: u32) -> Result<wasm_encoder::ValType> {
        let table = self.tables.get(table as usize);
        let element = table.map_or(RefType::FUNCREF, |table| table.element);
        let element = RoundtripReencoder.ref_type(element).map_err(Error::reencode)?;
        Ok(wasm_encoder::ValType::Ref(element))
    }
}

impl Table {
    const fn of(ty: wasmparser::TableType) -> Self {
        Self { wide: ty.table64, element: ty.element_type }
    }
}
