//! What a program gives to its guests: functions, memories and globals, the same on every engine.
//!
//! - `types`: what modules import and export.
//! - `native`: functions of native Rust types.
//! - `function`: a function as engines call it.
//! - `slot`: its arguments and results as compiled code stores them.
//! - `caller`: what a function may use of the guest that has called it.
//! - `error`: how a function ends the guest's call.
//! - `resolve`: the imports of a module, matched with what there is.
//! - `layers`: the functions of the module `env`, which every guest may import.

mod caller;
mod error;
mod function;
mod layers;
mod native;
pub(crate) mod resolve;
mod slot;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use self::caller::{Bytes, Caller};
pub use self::error::{HostError, HostPanic};
pub use self::function::{HostFunction, Stopped};
#[cfg(test)]
pub(crate) use self::layers::layer_function;
pub use self::layers::{LAYER_FUNCTIONS, LayerFunction};
pub use self::native::{HostValue, Outcome, Params, Plain};
pub use self::slot::Slot;
pub use self::types::{ExportType, ExternType, GlobalType, ImportType, MemoryType, TableType};
pub use crate::error::Unmatched;
use crate::value::{FunctionType, Value};
use crate::{Error, Result};

/// What guests may import: functions, memories and globals of the program that runs them.
///
/// A plain value, built once and given to any number of guests of any engine by
/// [`Instantiation::imports`](crate::Instantiation::imports). A clone costs nothing. Guests that
/// do not import something that is in it do not notice it.
///
/// ```
/// use polychord_runtime_api::imports::{Caller, HostError, Imports};
///
/// let mut imports = Imports::new();
/// imports
///     .function("host", "add", |_: &mut Caller<'_>, (a, b): (i32, i32)| a.wrapping_add(b))?
///     .function("host", "print", |caller: &mut Caller<'_>, (ptr, len): (u32, u32)| {
///         println!("{}", caller.read_str(ptr, len)?);
///         Ok::<_, HostError>(())
///     })?;
/// assert!(imports.function("host", "add", |_, (): ()| ()).is_err(), "it is there already");
/// # Ok::<(), polychord_runtime_api::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Imports {
    modules: Arc<BTreeMap<String, BTreeMap<String, Item>>>,
}

/// Something that a guest may import.
///
/// A backend gets those of a module, in its order, by [`Start::imports`](crate::spi::Start::imports).
///
/// ```
/// use polychord_runtime_api::spi::{Item, Start};
///
/// fn functions(start: &Start) -> usize {
///     start.imports().iter().filter(|item| matches!(item, Item::Function(_))).count()
/// }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Item {
    /// A function of the host.
    Function(HostFunction),
    /// A memory that is made for each guest.
    Memory(MemoryType),
    /// A global that is made for each guest, and its first value.
    Global(GlobalType, Value),
}

impl Imports {
    /// Nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a function of native types: a tuple of 0 to 12 numbers as parameters, and as a result
    /// nothing, a number, a tuple of them, or a [`Result`] of one of these with [`HostError`].
    ///
    /// # Errors
    ///
    /// [`Error::Import`] if there is something of this name already.
    pub fn function<P: Params, R: Outcome>(
        &mut self,
        module: &str,
        name: &str,
        function: impl Fn(&mut Caller<'_>, P) -> R + Send + Sync + 'static,
    ) -> Result<&mut Self> {
        self.add(module, name, Item::Function(HostFunction::typed(module, name, function)))
    }

    /// Adds a function whose type is known only when the program runs. It gets its arguments, and
    /// room for its results, which are zeros of their types at first.
    ///
    /// ```
    /// use polychord_runtime_api::imports::Imports;
    /// use polychord_runtime_api::{FunctionType, Value, ValueType};
    ///
    /// let ty = FunctionType { params: vec![ValueType::I64; 2], results: vec![ValueType::I64] };
    /// Imports::new().untyped("host", "max", ty, |_, args, results| {
    ///     let largest = args.iter().filter_map(|value| value.as_i64()).max();
    ///     results[0] = Value::I64(largest.unwrap_or_default());
    ///     Ok(())
    /// })?;
    /// # Ok::<(), polychord_runtime_api::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Import`] if there is something of this name already.
    pub fn untyped(
        &mut self,
        module: &str,
        name: &str,
        ty: FunctionType,
        function: impl Fn(&mut Caller<'_>, &[Value], &mut [Value]) -> Result<(), HostError>
        + Send
        + Sync
        + 'static,
    ) -> Result<&mut Self> {
        self.add(module, name, Item::Function(HostFunction::untyped(module, name, ty, function)))
    }

    /// Adds a memory. Each guest that imports it gets one of its own, of zeros.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] if there is something of this name already, or if the memory would begin
    /// beyond its own maximum.
    pub fn memory(&mut self, module: &str, name: &str, ty: MemoryType) -> Result<&mut Self> {
        if ty.max_pages.is_some_and(|max| max < ty.min_pages) {
            return Err(refuse(
                module,
                name,
                format!("a memory of {ty} begins beyond its maximum"),
            ));
        }
        self.add(module, name, Item::Memory(ty))
    }

    /// Adds a global with its first value. Each guest that imports it gets one of its own.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] if there is something of this name already, or if the value has another
    /// type.
    pub fn global(
        &mut self,
        module: &str,
        name: &str,
        ty: GlobalType,
        value: impl Into<Value>,
    ) -> Result<&mut Self> {
        let value = value.into();
        if value.ty() != ty.ty {
            let reason =
                format!("a global of type {ty} cannot begin with a value of {}", value.ty());
            return Err(refuse(module, name, reason));
        }
        self.add(module, name, Item::Global(ty, value))
    }

    /// Adds all that others have.
    ///
    /// # Errors
    ///
    /// [`Error::Import`] if both have something of the same name; nothing is added then.
    pub fn extend(&mut self, other: &Self) -> Result<&mut Self> {
        let mut all = self.clone();
        for (module, items) in &*other.modules {
            for (name, item) in items {
                all.add(module, name, item.clone())?;
            }
        }
        *self = all;
        Ok(self)
    }

    /// What there is by this name.
    #[must_use]
    pub fn get(&self, module: &str, name: &str) -> Option<&Item> {
        self.modules.get(module)?.get(name)
    }

    /// All names and types, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, ExternType)> {
        self.modules.iter().flat_map(|(module, items)| {
            items.iter().map(move |(name, item)| (&**module, &**name, item.ty()))
        })
    }

    fn add(&mut self, module: &str, name: &str, item: Item) -> Result<&mut Self> {
        if layers::is_reserved(module, name) {
            let reason = "every guest has it already, and it cannot be replaced: rename yours";
            return Err(refuse(module, name, reason.into()));
        }
        let items = Arc::make_mut(&mut self.modules).entry(module.to_owned()).or_default();
        if let Some(there) = items.get(name) {
            let (there, given) = (there.ty(), item.ty());
            let reason = format!("there is {there} of this name, and {given} is given: rename one");
            return Err(refuse(module, name, reason));
        }
        items.insert(name.to_owned(), item);
        Ok(self)
    }
}

impl Item {
    /// Its type.
    #[must_use]
    pub fn ty(&self) -> ExternType {
        match self {
            Self::Function(function) => ExternType::Function(function.ty().clone()),
            Self::Memory(ty) => ExternType::Memory(*ty),
            Self::Global(ty, _) => ExternType::Global(*ty),
        }
    }
}

fn refuse(module: &str, name: &str, reason: String) -> Error {
    Error::Import { module: module.to_owned(), name: name.to_owned(), reason }
}
