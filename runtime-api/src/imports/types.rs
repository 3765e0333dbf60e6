//! Types of what modules import and export.

use std::fmt;

use crate::value::{AddressType, FunctionType, ValueType};

/// Something that a module imports.
///
/// ```
/// use polychord_runtime_api::ModuleInfo;
///
/// fn show(info: &ModuleInfo) {
///     for import in info.imports() {
///         println!("{}.{}: {}", import.module, import.name, import.ty);
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ImportType {
    /// Where it should come from.
    pub module: String,
    /// Its name there.
    pub name: String,
    /// What it should be.
    pub ty: ExternType,
}

/// Something that a module exports.
///
/// ```
/// use polychord_runtime_api::imports::ExternType;
/// use polychord_runtime_api::ModuleInfo;
///
/// fn functions(info: &ModuleInfo) -> usize {
///     info.exports().iter().filter(|export| matches!(export.ty, ExternType::Function(_))).count()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExportType {
    /// Its name.
    pub name: String,
    /// What it is.
    pub ty: ExternType,
}

/// What can be imported or exported.
///
/// ```
/// use polychord_runtime_api::imports::{ExternType, MemoryType};
///
/// let memory = ExternType::Memory(MemoryType::new(1).max(4));
/// assert_eq!(memory.to_string(), "a memory of 1 to 4 pages");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExternType {
    /// A function of numbers and vectors.
    Function(FunctionType),
    /// A linear memory.
    Memory(MemoryType),
    /// A global with a number or a vector.
    Global(GlobalType),
    /// A table, which the host cannot use.
    Table(TableType),
    /// A tag of exceptions, which the host cannot use.
    Tag(FunctionType),
    /// A function or a global of references, which the host cannot use.
    Reference {
        /// What it is: `function`, `global` or `tag`.
        kind: &'static str,
        /// Its type, as the text format has it.
        ty: String,
    },
}

/// The type of a linear memory.
///
/// ```
/// use polychord_runtime_api::imports::MemoryType;
///
/// let ty = MemoryType::new(2).max(16);
/// assert_eq!((ty.min_pages, ty.max_pages), (2, Some(16)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryType {
    /// Type of its addresses.
    pub address: AddressType,
    /// Size at the start, in pages of 64 KiB.
    pub min_pages: u64,
    /// Largest size, in pages of 64 KiB.
    pub max_pages: Option<u64>,
}

/// The type of a global.
///
/// ```
/// use polychord_runtime_api::ValueType;
/// use polychord_runtime_api::imports::GlobalType;
///
/// assert_eq!(GlobalType::new(ValueType::I32).mutable().to_string(), "mut i32");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GlobalType {
    /// Type of its value.
    pub ty: ValueType,
    /// Whether it can change.
    pub mutable: bool,
}

/// The type of a table.
///
/// ```
/// use polychord_runtime_api::imports::{ExternType, TableType};
///
/// fn least_elements(ty: &ExternType) -> u64 {
///     match ty {
///         ExternType::Table(TableType { min, .. }) => *min,
///         _ => 0,
///     }
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TableType {
    /// Type of its elements, as the text format has it.
    pub element: String,
    /// Elements at the start.
    pub min: u64,
    /// Most elements.
    pub max: Option<u64>,
}

impl ExternType {
    /// Whether it is a linear memory.
    pub(crate) const fn is_memory(&self) -> bool {
        matches!(self, Self::Memory(_))
    }
}

impl MemoryType {
    /// A memory with 32-bit addresses that begins with this many pages of 64 KiB.
    #[must_use]
    pub const fn new(min_pages: u64) -> Self {
        Self { address: AddressType::I32, min_pages, max_pages: None }
    }

    /// Sets its largest size, in pages of 64 KiB.
    #[must_use]
    pub const fn max(mut self, pages: u64) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// Sets the type of its addresses.
    #[must_use]
    pub const fn address(mut self, address: AddressType) -> Self {
        self.address = address;
        self
    }
}

impl GlobalType {
    /// A global that does not change.
    #[must_use]
    pub const fn new(ty: ValueType) -> Self {
        Self { ty, mutable: false }
    }

    /// Lets it change.
    #[must_use]
    pub const fn mutable(mut self) -> Self {
        self.mutable = true;
        self
    }
}

impl fmt::Display for ExternType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Function(ty) => write!(f, "a function {ty}"),
            Self::Memory(ty) => write!(f, "a memory of {ty}"),
            Self::Global(ty) => write!(f, "a global of type {ty}"),
            Self::Table(TableType { element, min, max }) => {
                write!(f, "a table of {element} with {}", Sizes(*min, *max, "elements"))
            }
            Self::Tag(ty) => write!(f, "a tag {ty}"),
            Self::Reference { kind, ty } => write!(f, "a {kind} of type {ty}"),
        }
    }
}

impl fmt::Display for MemoryType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let wide = if self.address == AddressType::I64 { " with 64-bit addresses" } else { "" };
        write!(f, "{}{wide}", Sizes(self.min_pages, self.max_pages, "pages"))
    }
}

impl fmt::Display for GlobalType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.mutable { "mut " } else { "" }, self.ty)
    }
}

/// A range of sizes, in words.
struct Sizes(u64, Option<u64>, &'static str);

impl fmt::Display for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self(min, Some(max), what) => write!(f, "{min} to {max} {what}"),
            Self(min, None, what) => write!(f, "{min} or more {what}"),
        }
    }
}
