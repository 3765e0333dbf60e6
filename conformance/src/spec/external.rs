//! What modules import and export, and whether the one fits the other.

use std::collections::HashMap;

use wasmparser::types::EntityType;
use wasmparser::{
    BinaryReaderError, FuncType, GlobalType, MemoryType, Parser, Payload, TableType, Validator,
    WasmFeatures,
};

/// The type of an import or an export.
#[derive(Clone, Debug)]
pub(super) enum External {
    Function(FuncType),
    Table(TableType),
    Memory(MemoryType),
    Global(GlobalType),
    Other,
}

/// The imports and exports of a module, for linking it.
#[derive(Debug, Default)]
pub(super) struct Interface {
    /// Module, name and type of each import.
    pub(super) imports: Vec<(String, String, External)>,
    pub(super) exports: HashMap<String, External>,
    /// It has no state (memory, table or mutable global): instances cannot be told apart.
    pub(super) stateless: bool,
}

impl Interface {
    pub(super) fn of(wasm: &[u8]) -> Result<Self, BinaryReaderError> {
        let types = Validator::new_with_features(WasmFeatures::all()).validate_all(wasm)?;
        let types = types.as_ref();
        let external = |ty: Option<EntityType>| match ty {
            Some(EntityType::Func(id) | EntityType::FuncExact(id)) => {
                External::Function(types[id].unwrap_func().clone())
            }
            Some(EntityType::Table(ty)) => External::Table(ty),
            Some(EntityType::Memory(ty)) => External::Memory(ty),
            Some(EntityType::Global(ty)) => External::Global(ty),
            _ => External::Other,
        };
        let variable = (0..types.global_count()).any(|index| types.global_at(index).mutable);
        let stateless = types.memory_count() == 0 && types.table_count() == 0 && !variable;
        let mut interface = Self { imports: Vec::new(), exports: HashMap::new(), stateless };
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import?;
                        let ty = external(types.entity_type_from_import(&import));
                        let (module, name) = (import.module.to_owned(), import.name.to_owned());
                        interface.imports.push((module, name, ty));
                    }
                }
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        let ty = external(types.entity_type_from_export(&export));
                        interface.exports.insert(export.name.to_owned(), ty);
                    }
                }
                _ => {}
            }
        }
        Ok(interface)
    }
}

impl External {
    /// Whether an export can be imported as this type. Memories and tables count as large as
    /// they are at the time.
    pub(super) fn accepts(&self, export: &Self, size: impl FnOnce() -> Option<u64>) -> bool {
        match (self, export) {
            (Self::Function(wanted), Self::Function(has)) => wanted == has,
            (Self::Global(wanted), Self::Global(has)) => wanted == has,
            (Self::Memory(wanted), Self::Memory(has)) => {
                wanted.memory64 == has.memory64
                    && wanted.shared == has.shared
                    && wanted.page_size_log2 == has.page_size_log2
                    && within(wanted.maximum, has.maximum)
                    && (wanted.initial <= has.initial
                        || size().is_some_and(|size| wanted.initial <= size))
            }
            (Self::Table(wanted), Self::Table(has)) => {
                wanted.element_type == has.element_type
                    && wanted.table64 == has.table64
                    && within(wanted.maximum, has.maximum)
                    && (wanted.initial <= has.initial
                        || size().is_some_and(|size| wanted.initial <= size))
            }
            _ => false,
        }
    }
}

fn within(wanted: Option<u64>, has: Option<u64>) -> bool {
    wanted.is_none_or(|wanted| has.is_some_and(|has| has <= wanted))
}
