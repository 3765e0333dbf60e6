//! Guests with imports.

use polychord_runtime_api::imports::{Caller, HostError, Imports};
use polychord_runtime_api::{Engine, Instantiation, Limits, Result, Runtime};

use crate::Failure;

/// Starts a guest with imports, and the default limits.
pub(super) fn start(
    engine: &dyn Engine,
    wat: &str,
    imports: &Imports,
) -> Result<Box<dyn Runtime>, Failure> {
    let module = crate::guest::compile(engine, wat)?;
    Ok(module.instantiate_with(Instantiation::new(&Limits::default()).imports(imports))?)
}

/// A function that does nothing.
pub(super) fn nothing(_: &mut Caller<'_>, (): ()) -> Result<(), HostError> {
    Ok(())
}
