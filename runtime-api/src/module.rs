//! What a module imports, exports and declares, read once for all engines.

mod bounds;
mod proposals;
mod shape;
mod signature;

use std::collections::{BTreeMap, BTreeSet};

use self::bounds::{accepted_features, invalid};
use wasmparser::types::{EntityType, TypesRef};
use wasmparser::{Parser, Payload, ValType, WasmFeatures};

pub(crate) use self::shape::Shape;
pub(crate) use self::signature::{Function, find};
pub use self::signature::{HOST_FUNCTIONS, HostFunction};
use crate::capability::{Capabilities, Memory64, RelaxedSimd};
use crate::error::{Error, Result, Unmet};
use crate::limits::Limits;
use crate::module_limits::ModuleLimits;
use crate::value::{AddressType, FunctionType, ValueType};

/// What a module imports and exports, read from its bytes once for all engines.
///
/// ```
/// use polychord_runtime_api::{Capabilities, ModuleInfo};
///
/// let engine = Capabilities::new("mine", "1.0", "interpreter");
/// let info = ModuleInfo::parse(b"\0asm\x01\0\0\0", &engine)?;
/// assert!(info.imports().is_empty() && info.memories().is_empty());
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct ModuleInfo {
    imports: Vec<Import>,
    functions: BTreeMap<String, FunctionType>,
    memories: Vec<LinearMemory>,
    /// Names of all exported memories, whatever the host makes of them.
    memory_names: Vec<String>,
    shape: Shape,
    grows_tables: bool,
}

/// A function that a module imports from the host.
///
/// ```
/// use polychord_runtime_api::ModuleInfo;
///
/// fn show(info: &ModuleInfo) {
///     for import in info.imports() {
///         println!("{} {}", import.function.name, import.ty);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Import {
    /// Which of [`HOST_FUNCTIONS`].
    pub function: &'static HostFunction,
    /// Its type, for the address type of the module.
    pub ty: FunctionType,
}

/// A linear memory that a module exports.
///
/// ```
/// use polychord_runtime_api::ModuleInfo;
///
/// fn least_bytes(info: &ModuleInfo) -> u64 {
///     info.memories().iter().map(|memory| memory.min_bytes).sum()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LinearMemory {
    /// The name that it is exported by.
    pub name: String,
    /// Type of its addresses.
    pub address: AddressType,
    /// Size at the start, in bytes.
    pub min_bytes: u64,
    /// The module's own limit, in bytes.
    pub max_bytes: Option<u64>,
}

/// The name of the memory that the pointers of host imports are about.
const MEMORY: &str = "memory";

impl ModuleInfo {
    /// Reads and validates a module for an engine, within the default limits.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`parse_within`](Self::parse_within).
    pub fn parse(wasm: &[u8], engine: &Capabilities) -> Result<Self> {
        Self::parse_within(wasm, engine, &ModuleLimits::default())
    }

    /// Reads and validates a module for an engine, within limits.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidModule`], [`Error::TooComplex`], [`Error::Import`] or [`Error::Unmet`]; see
    /// [`Engine::compile`](crate::Engine::compile).
    pub fn parse_within(wasm: &[u8], engine: &Capabilities, limits: &ModuleLimits) -> Result<Self> {
        let valid = bounds::validate(wasm, accepted_features(), limits);
        let valid = valid.map_err(|error| proposals::explain(error, wasm, limits))?;
        check_features(wasm, engine, limits)?;
        let types = valid.types.as_ref();
        let mut info = Self {
            imports: Vec::new(),
            functions: BTreeMap::new(),
            memories: Vec::new(),
            memory_names: Vec::new(),
            shape: Shape::read(types),
            grows_tables: valid.grows_tables,
        };
        // Exports first: the type of addresses decides the signatures of imports.
        let mut memories = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::ExportSection(exports) = payload.map_err(|error| invalid(&error))? {
                for export in exports {
                    let export = export.map_err(|error| invalid(&error))?;
                    info.read_export(&export, types, &mut memories);
                }
            }
        }
        info.memory_names = memories.iter().map(|(_, memory)| memory.name.clone()).collect();
        info.memories = in_order(memories);
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::ImportSection(section) = payload.map_err(|error| invalid(&error))? {
                for import in section.into_imports() {
                    info.read_import(&import.map_err(|error| invalid(&error))?, types)?;
                }
            }
        }
        Ok(info)
    }

    /// The functions that the module imports, in its order.
    #[must_use]
    pub fn imports(&self) -> &[Import] {
        &self.imports
    }

    /// The exported functions by name. Functions whose types are beyond [`ValueType`] are
    /// left out: a host cannot call them.
    #[must_use]
    pub const fn functions(&self) -> &BTreeMap<String, FunctionType> {
        &self.functions
    }

    /// The exported memories by the index that the host knows them by: first the one named
    /// `memory`, which the pointers of host imports are about, then the others in the module's
    /// order. None if none has that name.
    #[must_use]
    pub fn memories(&self) -> &[LinearMemory] {
        &self.memories
    }

    /// The memory that the module exports as `memory`.
    #[must_use]
    pub fn memory(&self) -> Option<&LinearMemory> {
        self.memories.first()
    }

    /// Names of all memories that the module exports, in the order of its exports.
    #[must_use]
    pub fn memory_names(&self) -> &[String] {
        &self.memory_names
    }

    /// Whether the module can make a table larger.
    #[must_use]
    pub const fn grows_tables(&self) -> bool {
        self.grows_tables
    }

    /// Most elements that each of the module's tables may have under these limits.
    #[must_use]
    pub fn table_limit(&self, limits: &Limits) -> u64 {
        self.shape.table_share(limits)
    }

    /// All memories and tables, exported or not.
    pub(crate) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The type of addresses in the memory named `memory`; 32-bit if there is none.
    #[must_use]
    pub fn address(&self) -> AddressType {
        self.memory().map(|memory| memory.address).unwrap_or_default()
    }

    fn read_export(
        &mut self,
        export: &wasmparser::Export<'_>,
        types: TypesRef<'_>,
        memories: &mut Vec<(u32, LinearMemory)>,
    ) {
        match types.entity_type_from_export(export) {
            Some(EntityType::Func(id)) => {
                let ty = function_type(types[id].unwrap_func());
                self.functions.extend(ty.map(|ty| (export.name.to_owned(), ty)));
            }
            Some(EntityType::Memory(ty)) => {
                let bytes = |pages: u64| pages.saturating_mul(polychord_abi::PAGE);
                let memory = LinearMemory {
                    name: export.name.to_owned(),
                    address: if ty.memory64 { AddressType::I64 } else { AddressType::I32 },
                    min_bytes: bytes(ty.initial),
                    max_bytes: ty.maximum.map(bytes),
                };
                memories.push((export.index, memory));
            }
            _ => {}
        }
    }

    fn read_import(&mut self, import: &wasmparser::Import<'_>, types: TypesRef<'_>) -> Result<()> {
        let refuse = |reason: String| {
            let (module, name) = (import.module.to_owned(), import.name.to_owned());
            Err(Error::Import { module, name, reason })
        };
        let Some(EntityType::Func(id)) = types.entity_type_from_import(import) else {
            return refuse("only functions can be imported".into());
        };
        let function = find(import.name).filter(|_| import.module == polychord_abi::MODULE);
        let Some(function) = function else {
            let names: Vec<_> = HOST_FUNCTIONS.iter().map(|f| f.name).collect();
            let offered = names.join(", ");
            return refuse(format!("module {} offers {offered}", polychord_abi::MODULE));
        };
        let ty = function.ty(self.address());
        let given = function_type(types[id].unwrap_func());
        if given.as_ref() != Some(&ty) {
            let given = given.map_or("another type".into(), |given| given.to_string());
            return refuse(format!("its type is {ty}, but the guest declares {given}"));
        }
        self.imports.push(Import { function, ty });
        Ok(())
    }
}

/// Exported memories in the order of [`ModuleInfo::memories`], each once, though it may be
/// exported by several names.
fn in_order(mut memories: Vec<(u32, LinearMemory)>) -> Vec<LinearMemory> {
    let Some(at) = memories.iter().position(|(_, memory)| memory.name == MEMORY) else {
        return Vec::new();
    };
    let main = memories.swap_remove(at);
    let mut seen = BTreeSet::from([main.0]);
    memories.retain(|(index, _)| seen.insert(*index));
    memories.sort_by_key(|(index, _)| *index);
    std::iter::once(main).chain(memories).map(|(_, memory)| memory).collect()
}

/// Refuses a module that uses a feature which the engine does not claim.
fn check_features(wasm: &[u8], engine: &Capabilities, limits: &ModuleLimits) -> Result<()> {
    let optional = [
        (
            "relaxed_simd",
            WasmFeatures::RELAXED_SIMD,
            engine.relaxed_simd != RelaxedSimd::Unsupported,
        ),
        ("multi_memory", WasmFeatures::MULTI_MEMORY, engine.multi_memory),
        ("memory64", WasmFeatures::MEMORY64, matches!(engine.memory64, Memory64::Native { .. })),
    ];
    let mut unmet = Vec::new();
    for (field, feature, offered) in optional {
        let without = accepted_features() & !feature;
        if !offered && bounds::validate(wasm, without, limits).is_err() {
            let needed = match field {
                "memory64" => {
                    "yes, the module uses it (build it for wasm32 with a memory of MemoryKind::Host, \
                     or run it on an engine that has 64-bit memories)"
                }
                _ => "yes, the module uses it",
            };
            unmet.push(Unmet { field, needed: needed.into(), offered: "no".into() });
        }
    }
    if unmet.is_empty() {
        return Ok(());
    }
    Err(Error::Unmet { engine: engine.engine, unmet })
}

fn function_type(ty: &wasmparser::FuncType) -> Option<FunctionType> {
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
