//! Tables with a maximum.

use std::borrow::Cow;

use wasm_encoder::reencode::{Reencode, RoundtripReencoder};
use wasm_encoder::{Encode, SectionId};
use wasmparser::{Parser, Payload, TableSectionReader};

use crate::sections::{Replacement, Sections};
use crate::{Error, Result};

/// Gives each table at most `elements` elements, or as many as it starts with if those are more.
///
/// # Errors
///
/// [`Error`] if the module is not valid.
pub fn limit(wasm: &[u8], elements: u64) -> Result<Cow<'_, [u8]>> {
    let mut tables = None;
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::TableSection(section) = payload? {
            tables = Some(limited(section, elements)?);
        }
    }
    let Some(tables) = tables else { return Ok(wasm.into()) };
    let rewritten = Sections::read(wasm)?.rewrite(|id, _| match id {
        SectionId::Table => Ok(Replacement::Contents(tables.clone())),
        _ => Ok(Replacement::Same),
    })?;
    Ok(rewritten.into())
}

/// The contents of the table section, with a maximum for each.
fn limited(section: TableSectionReader<'_>, elements: u64) -> Result<Vec<u8>> {
    let mut contents = Vec::new();
    section.count().encode(&mut contents);
    for table in section {
        let table = table?;
        if !matches!(table.init, wasmparser::TableInit::RefNull) {
            return Err(Error::Unsupported { what: "a table with an initial element" });
        }
        let unknown = |_| Error::Unsupported { what: "a table of an unknown type" };
        let mut ty = RoundtripReencoder.table_type(table.ty).map_err(unknown)?;
        let maximum = ty.maximum.unwrap_or(u64::MAX).min(elements);
        // A table that begins larger is refused when the module is started.
        ty.maximum = Some(maximum.max(ty.minimum));
        ty.encode(&mut contents);
    }
    Ok(contents)
}

#[cfg(test)]
mod tests {
    use wasmparser::{TableType, Validator};

    use super::*;

    const MOST: u64 = 1 << 20;

    fn tables(wasm: &[u8]) -> Vec<TableType> {
        let mut found = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::TableSection(tables) = payload.unwrap() {
                found.extend(tables.into_iter().map(|table| table.unwrap().ty));
            }
        }
        found
    }

    #[test]
    fn tables_get_a_limit_and_keep_the_rest() {
        let wasm = wat::parse_str(
            "(module (table 10 funcref) (table 1 7 externref) (table 2 0x7fffffff funcref)
                (table 0x10000000 funcref) (func $f) (elem (i32.const 3) $f))",
        )
        .unwrap();
        let limited = limit(&wasm, MOST).unwrap();
        Validator::new().validate_all(&limited).unwrap();
        let (before, after) = (tables(&wasm), tables(&limited));
        let maxima: Vec<_> = after.iter().map(|table| table.maximum).collect();
        assert_eq!(maxima, [Some(MOST), Some(7), Some(MOST), Some(0x1000_0000)]);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!((before.element_type, before.initial), (after.element_type, after.initial));
        }
    }

    #[test]
    fn a_module_without_tables_stays_as_it_is() {
        let wasm = wat::parse_str("(module (memory 1))").unwrap();
        assert!(matches!(limit(&wasm, MOST).unwrap(), Cow::Borrowed(bytes) if bytes == wasm));
    }
}
