//! Modules with 64-bit memories, for engines that have none: rewritten before the engine sees them.

use std::borrow::Cow;
use std::sync::Arc;

use polychord_memory64_lowering::{Layout, Options, lower as rewrite};

use crate::capability::{Capabilities, Memory64, Memory64Choice};
use crate::error::{Error, Result};
use crate::memory::view::View;
use crate::module::ModuleInfo;
use crate::module_limits::ModuleLimits;

/// A module as an engine gets it, and how its memories are seen as those that it declares.
pub(crate) struct Lowered<'a> {
    pub(crate) wasm: Cow<'a, [u8]>,
    pub(crate) view: View,
}

/// Lowers a module that was found valid, if it has 64-bit memories and the engine has not, or if that is
/// asked for.
///
/// # Errors
///
/// [`Error::Compile`] with the reason if it cannot be lowered, and [`Error::TooComplex`] if what comes out
/// could take too much to compile.
pub(crate) fn lower<'a>(
    wasm: &'a [u8],
    declared: &ModuleInfo,
    engine: &Capabilities,
    limits: &ModuleLimits,
) -> Result<Lowered<'a>> {
    let is_native = matches!(engine.memory64, Memory64::Native { .. });
    if !declared.is_wide() || (is_native && limits.memory64 != Memory64Choice::Lowered) {
        return Ok(Lowered { wasm: wasm.into(), view: View::default() });
    }
    let failed = |reason: String| Error::Compile {
        engine: engine.engine,
        reason: format!("its 64-bit memories cannot be lowered to 32-bit ones: {reason}"),
    };
    let max_bytes = match engine.memory64 {
        Memory64::Lowered { max_bytes } => max_bytes,
        _ => Memory64::LOWERED.max_bytes(),
    };
    let options = Options::default().max_memory(max_bytes).cut_maximum(true).limits(true);
    let lowered = rewrite(wasm, &options).map_err(|error| failed(error.to_string()))?;
    let module = Arc::new(ModuleInfo::parse_within(&lowered.wasm, engine, limits)?);
    let layout = Layout::read(&lowered.wasm).map_err(|error| failed(error.to_string()))?;
    let layout = layout.ok_or_else(|| failed("it has no layout".into()))?;
    tracing::debug!(
        engine = engine.engine,
        memories = layout.memories.len(),
        code_before = lowered.report.code_before,
        code_after = lowered.report.code_after,
        "64-bit memories lowered"
    );
    let view = View::lowered(declared, module, &layout).map_err(failed)?;
    Ok(Lowered { wasm: lowered.wasm, view })
}
