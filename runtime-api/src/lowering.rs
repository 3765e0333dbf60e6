//! Modules with 64-bit memories, for engines that have none: rewritten before the engine sees them.

use std::borrow::Cow;
use std::sync::Arc;

use polychord_memory64_lowering::{Dispatch, Layout, Options, lower as rewrite};

use crate::capability::{Capabilities, Memory64, Memory64Choice};
use crate::error::{Error, Result};
use crate::imports::{Item, MemoryType};
use crate::memory::view::View;
use crate::module::ModuleInfo;
use crate::module_limits::ModuleLimits;
use crate::value::AddressType;

/// A module as an engine gets it, and how its memories are seen as those that it declares.
pub(crate) struct Lowered<'a> {
    pub(crate) wasm: Cow<'a, [u8]>,
    pub(crate) view: View,
}

/// Ways to lower, the fastest code first, and the smallest one last.
const WAYS: [Dispatch; 3] = [Dispatch::Regions, Dispatch::Inline, Dispatch::Helpers];

/// Lowers a module that was found valid, if it has 64-bit memories and the engine has not, or if that is
/// asked for.
///
/// # Errors
///
/// [`Error::Compile`] with the reason if it cannot be lowered, and [`Error::TooComplex`] if even the
/// smallest code that comes out could take too much to compile.
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
    let mut ways = WAYS.into_iter().peekable();
    let (dispatch, lowered, module) = loop {
        let dispatch = ways.next().unwrap_or_default();
        let options = options.clone().dispatch(dispatch);
        let lowered = rewrite(wasm, &options).map_err(|error| failed(error.to_string()))?;
        match ModuleInfo::parse_within(&lowered.wasm, engine, limits) {
            Err(Error::TooComplex { .. }) if ways.peek().is_some() => {}
            module => break (dispatch, lowered, Arc::new(module?)),
        }
    };
    let layout = Layout::read(&lowered.wasm).map_err(|error| failed(error.to_string()))?;
    let layout = layout.ok_or_else(|| failed("it has no layout".into()))?;
    tracing::debug!(
        engine = engine.engine,
        ?dispatch,
        memories = layout.memories.len(),
        code_before = lowered.report.code_before,
        code_after = lowered.report.code_after,
        "64-bit memories lowered"
    );
    let view = View::lowered(declared, module, &layout).map_err(failed)?;
    Ok(Lowered { wasm: lowered.wasm, view })
}

/// What the engine is to define, of what the module declares that it imports.
pub(crate) fn items(view: &View, items: Vec<Item>) -> Vec<Item> {
    let Some((counts, pages)) = view.imports() else { return items };
    let mut defined = Vec::with_capacity(counts.iter().sum());
    for (item, count) in items.into_iter().zip(counts) {
        match item {
            Item::Memory(ty) if ty.address == AddressType::I64 => {
                let segments = (0..count as u64).map(|index| segment(ty, index, pages));
                defined.extend(segments.map(Item::Memory));
            }
            item => defined.push(item),
        }
    }
    defined
}

/// The type of a segment of a memory, of at most this many pages.
fn segment(ty: MemoryType, index: u64, pages: u64) -> MemoryType {
    let within = |size: u64| size.saturating_sub(index.saturating_mul(pages)).min(pages);
    let segment = MemoryType::new(within(ty.min_pages));
    ty.max_pages.map_or(segment, |max| segment.max(within(max)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ValueType;
    use crate::idle::Idle;
    use crate::imports::GlobalType;
    use crate::module::GlobalAt;

    #[test]
    fn what_is_imported_becomes_segments() {
        let wat = "(module (import \"a\" \"f\" (func)) (import \"a\" \"m\" (memory i64 3 5))
            (import \"a\" \"g\" (global i32)) (import \"a\" \"n\" (memory 1)))";
        let mut guest = Idle::lowered(wat, 2);
        let view = guest.shared_host().view().clone();
        let ty = MemoryType::new(3).max(5).address(AddressType::I64);
        let narrow = MemoryType::new(1);
        let global = Item::Global(GlobalType::new(ValueType::I32), 1.into());
        let given = vec![global.clone(), Item::Memory(ty), global, Item::Memory(narrow)];
        let types: Vec<_> = items(&view, given).iter().map(|item| item.ty().to_string()).collect();
        let memories: Vec<_> = types.iter().filter(|ty| ty.contains("memory")).collect();
        // As many as the most that is possible: others, which import the same, may have more.
        assert_eq!(memories[0], "a memory of 2 to 2 pages");
        assert_eq!(memories[1], "a memory of 1 to 2 pages");
        assert_eq!(memories[2], "a memory of 0 to 1 pages");
        assert_eq!(memories[memories.len() - 1], "a memory of 1 or more pages");
        let segments = memories.len() - 1;
        assert_eq!(view.global(GlobalAt::Import(2)), GlobalAt::Import(1 + segments));
        assert_eq!(view.first(1), segments);
        assert_eq!(guest.instance().memories.len(), segments + 1);
    }
}
