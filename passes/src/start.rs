//! Start functions that are exported, so that a host calls them when it is ready.

use std::borrow::Cow;

use wasm_encoder::{Encode, ExportKind, SectionId};
use wasmparser::{Parser, Payload};

use crate::Result;
use crate::sections::{Replacement, Sections, appended};

/// A module without a start section.
///
/// ```
/// use polychord_passes::start;
///
/// let wasm = wat::parse_str("(module (func $begin) (start $begin))").unwrap();
/// let exported = start::export(&wasm).unwrap();
/// assert_eq!(exported.start.as_deref(), Some("polychord start"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WithoutStart<'a> {
    /// The module.
    pub wasm: Cow<'a, [u8]>,
    /// The name that the start function is exported by, if there is one; the module exported
    /// nothing by that name before.
    pub start: Option<String>,
}

/// Exports a module's start function in place of having the engine run it.
///
/// The host then calls it after the module was instantiated: data and element segments are in
/// place by then, as they are for a start function.
///
/// # Errors
///
/// [`Error`](crate::Error) if the module is not valid.
pub fn export(wasm: &[u8]) -> Result<WithoutStart<'_>> {
    let Some(function) = function(wasm)? else {
        return Ok(WithoutStart { wasm: wasm.into(), start: None });
    };
    let sections = Sections::read(wasm)?;
    let name = sections.unused_name("polychord start");
    let rewritten = sections.rewrite(|id, section| match id {
        SectionId::Start => Ok(Replacement::Removed),
        SectionId::Export => appended(section, &[export_entry(&name, ExportKind::Func, function)]),
        _ => Ok(Replacement::Same),
    })?;
    Ok(WithoutStart { wasm: rewritten.into(), start: Some(name) })
}

/// The number of the start function.
fn function(wasm: &[u8]) -> Result<Option<u32>> {
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::StartSection { func, .. } = payload? {
            return Ok(Some(func));
        }
    }
    Ok(None)
}

/// An entry of the export section.
pub(crate) fn export_entry(name: &str, kind: ExportKind, index: u32) -> Vec<u8> {
    let mut entry = Vec::new();
    name.encode(&mut entry);
    kind.encode(&mut entry);
    index.encode(&mut entry);
    entry
}

#[cfg(test)]
mod tests {
    use wasmparser::Validator;

    use super::*;

    #[test]
    fn the_start_function_is_exported_by_a_name_of_its_own() {
        let other = "(func (export \"polychord start\") (param i32))";
        for exports in ["", other, "(memory (export \"m\") 1)"] {
            let text = format!("(module {exports} (func) (func $s nop) (start $s) (func))");
            let wasm = wat::parse_str(&text).unwrap();
            let WithoutStart { wasm: rewritten, start } = export(&wasm).unwrap();
            Validator::new().validate_all(&rewritten).unwrap();
            assert_eq!(function(&rewritten).unwrap(), None, "{text}");
            let name = start.unwrap();
            let expected = function(&wasm).unwrap().unwrap();
            let exported = Parser::new(0).parse_all(&rewritten).find_map(|payload| {
                let Payload::ExportSection(exports) = payload.unwrap() else { return None };
                exports.into_iter().map(Result::unwrap).find(|export| export.name == name)
            });
            assert_eq!(exported.unwrap().index, expected, "{text}");
        }
    }

    #[test]
    fn a_module_without_a_start_function_stays_as_it_is() {
        let wasm = wat::parse_str("(module (memory 1) (func (export \"f\")))").unwrap();
        let same = export(&wasm).unwrap();
        assert!(matches!(same.wasm, Cow::Borrowed(bytes) if bytes == wasm));
        assert_eq!(same.start, None);
    }
}
