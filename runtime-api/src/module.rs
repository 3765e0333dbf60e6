//! What a module imports, exports and declares, read once for all engines.

mod bounds;
mod calls;
mod externs;
mod format;
mod proposals;
mod shape;

use std::collections::{BTreeMap, BTreeSet};

use self::bounds::{accepted_features, invalid};
use self::externs::extern_type;
use wasmparser::types::TypesRef;
use wasmparser::{Parser, Payload, WasmFeatures};

pub(crate) use self::shape::Shape;
use crate::capability::{Capabilities, Memory64, Memory64Choice, RelaxedSimd};
use crate::error::{Error, Result, Unmet};
use crate::imports::{ExportType, ExternType, ImportType, MemoryType};
use crate::limits::Limits;
use crate::module_limits::ModuleLimits;
use crate::value::{AddressType, FunctionType};

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
    imports: Vec<ImportType>,
    exports: Vec<ExportType>,
    functions: BTreeMap<String, FunctionType>,
    memories: Vec<LinearMemory>,
    /// Names of all exported memories, whatever the host makes of them.
    memory_names: Vec<String>,
    shape: Shape,
    grows_tables: bool,
    /// Whether a memory or a table has 64-bit addresses.
    is_wide: bool,
    only_stoppable: bool,
}

/// Where a global of a guest is.
///
/// ```
/// use polychord_runtime_api::spi::GlobalAt;
///
/// assert_ne!(GlobalAt::Export("count"), GlobalAt::Import(0));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum GlobalAt<'a> {
    /// It is exported by this name.
    Export(&'a str),
    /// It is the import of this index, in [`ModuleInfo::imports`].
    Import(usize),
}

/// A linear memory that a module exports or imports.
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
    /// The name that it is exported by; if it is imported only, the name of its import.
    pub name: String,
    /// Which of the module's imports it is, by the index in [`ModuleInfo::imports`]; none if it is
    /// the module's own.
    pub import: Option<usize>,
    /// Type of its addresses.
    pub address: AddressType,
    /// Size at the start, in bytes.
    pub min_bytes: u64,
    /// The module's own limit, in bytes.
    pub max_bytes: Option<u64>,
    /// Its index in the module.
    pub(crate) index: u32,
}

/// The name of the memory that the pointers of host imports are about.
const MEMORY: &str = "memory";

impl ModuleInfo {
    /// Whether each of its guests can be stopped: see [`ModuleLimits::only_stoppable`].
    #[must_use]
    pub const fn only_stoppable(&self) -> bool {
        self.only_stoppable
    }

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
        format::check(wasm)?;
        let valid = bounds::validate(wasm, accepted_features(), limits);
        let valid = valid.map_err(|error| proposals::explain(error, wasm, limits))?;
        check_features(wasm, engine, limits)?;
        let types = valid.types.as_ref();
        let mut info = Self {
            imports: Vec::new(),
            exports: Vec::new(),
            functions: BTreeMap::new(),
            memories: Vec::new(),
            memory_names: Vec::new(),
            shape: Shape::read(types),
            is_wide: is_wide(types),
            grows_tables: valid.grows_tables,
            only_stoppable: limits.only_stoppable,
        };
        // Imports come before exports.
        let mut memories = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(|error| invalid(&error))? {
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let import = import.map_err(|error| invalid(&error))?;
                        info.read_import(&import, types, &mut memories);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        let export = export.map_err(|error| invalid(&error))?;
                        info.read_export(&export, types, &mut memories);
                    }
                }
                _ => {}
            }
        }
        info.memories = in_order(memories);
        Ok(info)
    }

    /// All that the module imports, in its order.
    #[must_use]
    pub fn imports(&self) -> &[ImportType] {
        &self.imports
    }

    /// All that the module exports, in its order.
    #[must_use]
    pub fn exports(&self) -> &[ExportType] {
        &self.exports
    }

    /// The exported functions by name. Functions whose types are beyond [`ValueType`](crate::ValueType) are
    /// left out: a host cannot call them.
    #[must_use]
    pub const fn functions(&self) -> &BTreeMap<String, FunctionType> {
        &self.functions
    }

    /// The memories that the module exports or imports, by the index that the host knows them by:
    /// first the one that the pointers of host imports are about, which is exported as `memory` or
    /// else the first that is imported; then the others in the module's order. None if there is no
    /// such memory.
    #[must_use]
    pub fn memories(&self) -> &[LinearMemory] {
        &self.memories
    }

    /// The memory of index 0: the one that the module exports as `memory`, or else the first that
    /// it imports.
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

    /// Whether a memory or a table has 64-bit addresses, exported or not.
    pub(crate) const fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// All memories and tables, exported or not.
    pub(crate) const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The type of addresses in the memory of index 0; 32-bit if there is none.
    #[must_use]
    pub fn address(&self) -> AddressType {
        self.memory().map(|memory| memory.address).unwrap_or_default()
    }

    fn read_import(
        &mut self,
        import: &wasmparser::Import<'_>,
        types: TypesRef<'_>,
        memories: &mut Vec<Named>,
    ) {
        let Some(ty) = types.entity_type_from_import(import) else { return };
        let ty = extern_type(ty, types);
        if let ExternType::Memory(ty) = &ty {
            // Imported memories come first in the module's own count.
            let index = u32::try_from(memories.len()).unwrap_or(u32::MAX);
            let memory = LinearMemory::new(import.name, *ty, Some(self.imports.len()), index);
            memories.push(Named { index, exported: false, memory });
        }
        let (module, name) = (import.module.to_owned(), import.name.to_owned());
        self.imports.push(ImportType { module, name, ty });
    }

    fn read_export(
        &mut self,
        export: &wasmparser::Export<'_>,
        types: TypesRef<'_>,
        memories: &mut Vec<Named>,
    ) {
        let Some(ty) = types.entity_type_from_export(export) else { return };
        let ty = extern_type(ty, types);
        let name = export.name.to_owned();
        match &ty {
            ExternType::Function(ty) => _ = self.functions.insert(name.clone(), ty.clone()),
            ExternType::Memory(ty) => {
                self.memory_names.push(name.clone());
                let index = export.index;
                let same = memories.iter().find(|named| named.index == index && !named.exported);
                let import = same.and_then(|named| named.memory.import);
                let memory = LinearMemory::new(export.name, *ty, import, index);
                memories.push(Named { index, exported: true, memory });
            }
            _ => {}
        }
        self.exports.push(ExportType { name, ty });
    }
}

impl LinearMemory {
    pub(crate) fn new(name: &str, ty: MemoryType, import: Option<usize>, index: u32) -> Self {
        let bytes = |pages: u64| pages.saturating_mul(polychord_abi::PAGE);
        Self {
            name: name.to_owned(),
            import,
            address: ty.address,
            min_bytes: bytes(ty.min_pages),
            max_bytes: ty.max_pages.map(bytes),
            index,
        }
    }
}

/// A memory with its index in the module.
struct Named {
    index: u32,
    /// Whether the name is that of an export, and not that of an import.
    exported: bool,
    memory: LinearMemory,
}

/// Memories in the order of [`ModuleInfo::memories`], each once, though it may be exported by several
/// names, or imported and exported. The list has imports before exports.
fn in_order(mut all: Vec<Named>) -> Vec<LinearMemory> {
    let main = all.iter().position(|named| named.exported && named.memory.name == MEMORY);
    let main = main.or_else(|| all.iter().position(|named| !named.exported));
    let Some(main) = main.map(|at| all.remove(at)) else { return Vec::new() };
    let mut seen = BTreeSet::from([main.index]);
    // The first export names it; the name of an import does where there is none.
    all.sort_by_key(|named| (named.index, !named.exported));
    all.retain(|named| seen.insert(named.index));
    std::iter::once(main).chain(all).map(|named| named.memory).collect()
}

fn is_wide(types: TypesRef<'_>) -> bool {
    (0..types.memory_count()).any(|index| types.memory_at(index).memory64)
        || (0..types.table_count()).any(|index| types.table_at(index).table64)
}

/// Whether an engine has 64-bit memories in the way that is asked for.
const fn has_memory64(engine: &Capabilities, choice: Memory64Choice) -> bool {
    match choice {
        Memory64Choice::Auto => !matches!(engine.memory64, Memory64::Host),
        Memory64Choice::Native => matches!(engine.memory64, Memory64::Native { .. }),
        Memory64Choice::Lowered => engine.multi_memory,
    }
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
        ("memory64", WasmFeatures::MEMORY64, has_memory64(engine, limits.memory64)),
    ];
    let mut unmet = Vec::new();
    for (field, feature, offered) in optional {
        let without = accepted_features() & !feature;
        if !offered && bounds::validate(wasm, without, limits).is_err() {
            let needed = match field {
                "memory64" if limits.memory64 == Memory64Choice::Native => {
                    "yes, and native, which the caller asks for (allow lowering by \
                     ModuleLimits::memory64, or take an engine that has 64-bit memories)"
                }
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
