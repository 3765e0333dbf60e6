//! The types of imports and exports, as the module declares them.

use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{FuncType, GlobalType as Global, MemoryType as Memory, ValType};

use crate::imports::{ExternType, GlobalType, MemoryType, TableType};
use crate::value::{AddressType, FunctionType, ValueType};

/// The type of something that is imported or exported.
pub(super) fn extern_type(ty: EntityType, types: TypesRef<'_>) -> ExternType {
    match ty {
        EntityType::Func(id) | EntityType::FuncExact(id) => {
            let ty = types[id].unwrap_func();
            function_type(ty).map_or_else(|| reference("function", ty), ExternType::Function)
        }
        EntityType::Memory(ty) => ExternType::Memory(memory_type(ty)),
        EntityType::Global(ty) => global_type(ty),
        EntityType::Table(ty) => ExternType::Table(TableType {
            element: ty.element_type.to_string(),
            min: ty.initial,
            max: ty.maximum,
        }),
        EntityType::Tag(id) => {
            let ty = types[id].unwrap_func();
            function_type(ty).map_or_else(|| reference("tag", ty), ExternType::Tag)
        }
    }
}

fn memory_type(ty: Memory) -> MemoryType {
    let address = if ty.memory64 { AddressType::I64 } else { AddressType::I32 };
    let memory = MemoryType::new(ty.initial).address(address);
    ty.maximum.map_or(memory, |max| memory.max(max))
}

fn global_type(ty: Global) -> ExternType {
    match value_type(&ty.content_type) {
        Some(content) => {
            let global = GlobalType::new(content);
            ExternType::Global(if ty.mutable { global.mutable() } else { global })
        }
        None => ExternType::Reference { kind: "global", ty: ty.content_type.to_string() },
    }
}

fn reference(kind: &'static str, ty: &FuncType) -> ExternType {
    let names = |types: &[ValType]| {
        let names: Vec<_> = types.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    ExternType::Reference {
        kind,
        ty: format!("({}) -> ({})", names(ty.params()), names(ty.results())),
    }
}

fn function_type(ty: &FuncType) -> Option<FunctionType> {
    let convert = |types: &[ValType]| types.iter().map(value_type).collect::<Option<Vec<_>>>();
    Some(FunctionType { params: convert(ty.params())?, results: convert(ty.results())? })
}

const fn value_type(ty: &ValType) -> Option<ValueType> {
    match ty {
        ValType::I32 => Some(ValueType::I32),
        ValType::I64 => Some(ValueType::I64),
        ValType::F32 => Some(ValueType::F32),
        ValType::F64 => Some(ValueType::F64),
        ValType::V128 => Some(ValueType::V128),
        ValType::Ref(_) => None,
    }
}
