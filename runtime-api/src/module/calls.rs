//! What is called and set by name, looked up and compared with the module before any engine is asked.

use super::{GlobalAt, ModuleInfo};
use crate::imports::{ExternType, GlobalType};
use crate::value::{FunctionType, Value, ValueType};
use crate::{Error, Result};

impl ModuleInfo {
    /// The type of an exported function that takes these arguments and, if it is given, has this
    /// number of results.
    pub(crate) fn check_call(
        &self,
        export: &str,
        args: &[Value],
        room: Option<usize>,
    ) -> Result<&FunctionType> {
        let functions = self.functions();
        let Some(ty) = functions.get(export) else {
            let available = functions.keys().cloned().collect();
            return Err(Error::MissingExport { export: export.to_owned(), available });
        };
        let given = args.iter().map(|value| value.ty());
        if !given.clone().eq(ty.params.iter().copied()) {
            return Err(signature(export, ty, given, None));
        }
        if room.is_some_and(|room| room != ty.results.len()) {
            return Err(signature(export, ty, given, room));
        }
        Ok(ty)
    }

    /// Where a global is, and its type. An exported one comes before one that is imported; one that
    /// is imported is named as its import, alone or with the module before it (`env.name`).
    pub(crate) fn global(&self, name: &str) -> Result<(GlobalAt<'_>, GlobalType)> {
        self.exported_global(name).or_else(|| self.imported_global(name)).ok_or_else(|| {
            let exported = self.exports().iter().filter(|export| is_global(&export.ty));
            let exported = exported.map(|export| export.name.clone());
            let imported = self.imports().iter().filter(|import| is_global(&import.ty));
            let imported = imported.map(|import| format!("{}.{}", import.module, import.name));
            let available = exported.chain(imported).collect();
            Error::MissingGlobal { global: name.to_owned(), available }
        })
    }

    /// Where a global is that can be set to this value.
    pub(crate) fn global_to_set(&self, name: &str, value: Value) -> Result<GlobalAt<'_>> {
        let (at, ty) = self.global(name)?;
        if ty.mutable && ty.ty == value.ty() {
            return Ok(at);
        }
        let (global, expected) = (name.to_owned(), ty.to_string());
        Err(Error::GlobalType { global, expected, given: format!("a value of {}", value.ty()) })
    }

    fn exported_global(&self, name: &str) -> Option<(GlobalAt<'_>, GlobalType)> {
        self.exports().iter().find_map(|export| match export.ty {
            ExternType::Global(ty) if export.name == name => {
                Some((GlobalAt::Export(&export.name), ty))
            }
            _ => None,
        })
    }

    fn imported_global(&self, name: &str) -> Option<(GlobalAt<'_>, GlobalType)> {
        self.imports().iter().enumerate().find_map(|(index, import)| {
            let is_it = import.name == name
                || name.strip_prefix(&import.module).and_then(|rest| rest.strip_prefix('.'))
                    == Some(&import.name);
            match import.ty {
                ExternType::Global(ty) if is_it => Some((GlobalAt::Import(index), ty)),
                _ => None,
            }
        })
    }
}

const fn is_global(ty: &ExternType) -> bool {
    matches!(ty, ExternType::Global(_))
}

/// The error of a call that has other arguments than the function, or room for another number of results.
fn signature(
    export: &str,
    ty: &FunctionType,
    given: impl Iterator<Item = ValueType>,
    room: Option<usize>,
) -> Error {
    let given: Vec<_> = given.map(|ty| ty.to_string()).collect();
    let room = room.map(|count| format!(" with room for {count} results")).unwrap_or_default();
    let (export, expected) = (export.to_owned(), ty.to_string());
    Error::Signature { export, expected, given: format!("({}){room}", given.join(", ")) }
}
