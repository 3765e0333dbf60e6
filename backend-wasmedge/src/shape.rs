//! What WasmEdge cannot limit by itself, read from a module and changed in it.

use std::borrow::Cow;
use std::ops::Range;

use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Error, Limits, Result};
use wasmparser::{BinaryReaderError, ExportSectionReader, MemoryType, Parser, Payload, TableType};

use crate::NAME;
use crate::engine::MAX_PAGES64;

/// What is of interest in a module beside its exports. The module was validated.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    memories: Vec<MemoryType>,
    tables: Vec<TableType>,
    /// Number of the start function, and the name that it is exported by.
    start: Option<(u32, String)>,
    /// Most elements of a table, which is fixed when the module is compiled.
    table_limit: u64,
}

/// Numbers of sections in the binary format.
const TABLES: u8 = 4;
const EXPORTS: u8 = 7;

impl Shape {
    pub(crate) fn read(wasm: &[u8], table_limit: u64) -> Result<Self> {
        let mut shape = Self { table_limit, ..Self::default() };
        let mut names = Vec::new();
        let mut start = None;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.map_err(invalid)? {
                Payload::MemorySection(memories) => {
                    shape.memories =
                        memories.into_iter().collect::<Result<_, _>>().map_err(invalid)?;
                }
                Payload::TableSection(tables) => {
                    for table in tables {
                        shape.tables.push(table.map_err(invalid)?.ty);
                    }
                }
                Payload::ExportSection(exports) => {
                    for export in exports {
                        names.push(export.map_err(invalid)?.name);
                    }
                }
                Payload::StartSection { func, .. } => start = Some(func),
                _ => {}
            }
        }
        shape.start = start.map(|function| (function, unused_name(&names)));
        shape.check_largest()?;
        Ok(shape)
    }

    /// The name that [`rewrite`](Self::rewrite) exports the start function by.
    pub(crate) fn start(&self) -> Option<&str> {
        self.start.as_ref().map(|(_, name)| name.as_str())
    }

    /// The module with two changes. Its start function is exported and not run on its own,
    /// because WasmEdge cannot stop it there. And its tables have a limit, because WasmEdge
    /// ends the process when one grows beyond the machine's memory.
    pub(crate) fn rewrite<'a>(&self, wasm: &'a [u8]) -> Result<Cow<'a, [u8]>> {
        if self.start.is_none() && self.tables.is_empty() {
            return Ok(wasm.into());
        }
        let (mut out, mut exported) = (wasm[..8].to_vec(), false);
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload.map_err(invalid)?;
            match &payload {
                Payload::TableSection(_) => section(&mut out, TABLES, &self.tables()),
                Payload::ExportSection(exports) => {
                    exported = true;
                    section(&mut out, EXPORTS, &self.exports(wasm, Some(exports)));
                }
                // Exports come before the start section, if there are any.
                Payload::StartSection { .. } if exported => {}
                Payload::StartSection { .. } => {
                    section(&mut out, EXPORTS, &self.exports(wasm, None));
                }
                _ => {
                    if let Some((id, range)) = payload.as_section() {
                        section(&mut out, id, slice(wasm, range));
                    }
                }
            }
        }
        Ok(out.into())
    }

    /// The contents of the table section, each table with a maximum.
    fn tables(&self) -> Vec<u8> {
        let mut out = Vec::new();
        leb128(&mut out, self.tables.len() as u64);
        for table in &self.tables {
            let maximum = table.maximum.unwrap_or(u64::MAX).min(self.table_limit);
            // `functype` or `externref`: others were not accepted.
            out.push(if table.element_type.is_func_ref() { 0x70 } else { 0x6f });
            out.push(if table.table64 { 0b101 } else { 0b001 });
            leb128(&mut out, table.initial);
            // One that starts out larger is refused when it is started.
            leb128(&mut out, maximum.max(table.initial));
        }
        out
    }

    /// The contents of the export section, with the start function at the end.
    fn exports(&self, wasm: &[u8], exports: Option<&ExportSectionReader<'_>>) -> Vec<u8> {
        let count = exports.map_or(0, |exports| u64::from(exports.count()));
        let mut out = Vec::new();
        leb128(&mut out, count + u64::from(self.start.is_some()));
        if let Some(exports) = exports {
            // `original_position` is behind the count, where the entries begin.
            out.extend_from_slice(slice(wasm, exports.original_position()..exports.range().end));
        }
        if let Some((function, name)) = &self.start {
            leb128(&mut out, name.len() as u64);
            out.extend_from_slice(name.as_bytes());
            out.push(0);
            leb128(&mut out, u64::from(*function));
        }
        out
    }

    /// Refuses memories that WasmEdge cannot have under any limits.
    fn check_largest(&self) -> Result<()> {
        let limit = u64::from(MAX_PAGES64) * PAGE;
        let by = "WasmEdge (beyond them its allocator maps over other memory of the host)";
        self.check_memories(limit, by)
    }

    /// Refuses memories that are beyond the limits: WasmEdge would silently make them smaller.
    pub(crate) fn check_sizes(&self, max_pages: u32) -> Result<()> {
        self.check_memories(u64::from(max_pages) * PAGE, &format!("{NAME} with these limits"))
    }

    /// Refuses a limit of all tables together that is below what was fixed when the module was
    /// compiled.
    pub(crate) fn check_tables(&self, limits: &Limits) -> Result<()> {
        let most = |table: &TableType| {
            table.maximum.unwrap_or(u64::MAX).min(self.table_limit).max(table.initial)
        };
        let all = self.tables.iter().map(most).fold(0_u64, u64::saturating_add);
        if all <= limits.table_elements {
            return Ok(());
        }
        let limit = limits.table_elements;
        Err(Error::Instantiate {
            engine: NAME,
            reason: format!(
                "the module can make its tables larger, to {all} elements, which WasmEdge fixes when \
                 it compiles, and the limit is {limit}: declare maxima in the module, or allow {all} \
                 (Limits::table_elements)"
            ),
        })
    }

    fn check_memories(&self, limit: u64, limited_by: &str) -> Result<()> {
        let largest = self.memories.iter().map(|memory| memory.initial).max().unwrap_or(0);
        let asked = largest.saturating_mul(PAGE);
        if asked <= limit {
            return Ok(());
        }
        let (what, limited_by) = ("a memory of the guest".into(), limited_by.into());
        Err(Error::TooLarge { what, asked, limit, limited_by })
    }

    /// Most pages of any memory, by the limits and by what WasmEdge can have.
    pub(crate) fn max_pages(&self, memory_limit: u64) -> u32 {
        // One setting for all memories: those with 32-bit addresses must not outgrow them.
        let narrow = self.memories.iter().any(|memory| !memory.memory64);
        let most = if narrow { 1 << 16 } else { MAX_PAGES64 };
        u32::try_from(memory_limit / PAGE).unwrap_or(most).min(most)
    }
}

pub(crate) fn section(out: &mut Vec<u8>, id: u8, contents: &[u8]) {
    out.push(id);
    leb128(out, contents.len() as u64);
    out.extend_from_slice(contents);
}

#[allow(clippy::cast_possible_truncation, reason = "seven bits at a time")]
pub(crate) fn leb128(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A part of the module that its parser has found.
pub(crate) fn slice(wasm: &[u8], range: Range<u64>) -> &[u8] {
    let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
    wasm.get(index(range.start)..index(range.end)).unwrap_or_default()
}

/// A name that the module does not export yet.
fn unused_name(names: &[&str]) -> String {
    let mut name = "polychord start".to_owned();
    while names.contains(&name.as_str()) {
        name.push('\'');
    }
    name
}

pub(crate) fn invalid(error: BinaryReaderError) -> Error {
    crate::error::compile(error.message())
}

#[cfg(test)]
mod tests {
    use wasmparser::Validator;

    use super::*;

    const TABLE_ELEMENTS: u64 = 1 << 20;

    fn rewrite(wat: &str) -> (Shape, Vec<u8>) {
        let wasm = wat::parse_str(wat).unwrap();
        let shape = Shape::read(&wasm, TABLE_ELEMENTS).unwrap();
        let rewritten = shape.rewrite(&wasm).unwrap().into_owned();
        Validator::new().validate_all(&rewritten).unwrap();
        (shape, rewritten)
    }

    #[test]
    fn a_module_without_start_and_tables_stays_as_it_is() {
        let wasm = wat::parse_str("(module (memory 1) (func (export \"f\")))").unwrap();
        let shape = Shape::read(&wasm, TABLE_ELEMENTS).unwrap();
        assert!(matches!(shape.rewrite(&wasm).unwrap(), Cow::Borrowed(same) if same == wasm));
        assert_eq!(shape.start(), None);
    }

    #[test]
    fn the_start_function_is_exported_by_a_name_of_its_own() {
        for exports in ["", "(func (export \"polychord start\"))", "(memory (export \"m\") 1)"] {
            let text = format!("(module {exports} (func) (func $s nop) (start $s) (func))");
            let (shape, rewritten) = rewrite(&text);
            let name = shape.start().unwrap();
            let after = Shape::read(&rewritten, TABLE_ELEMENTS).unwrap();
            assert_eq!(after.start(), None, "{text}");
            let exported = Parser::new(0).parse_all(&rewritten).find_map(|payload| {
                let Payload::ExportSection(exports) = payload.unwrap() else { return None };
                exports.into_iter().map(Result::unwrap).find(|export| export.name == name)
            });
            let (function, _) = shape.start.as_ref().unwrap();
            assert_eq!(exported.unwrap().index, *function, "{text}");
        }
    }

    #[test]
    fn tables_get_a_limit_and_keep_the_rest() {
        let (before, rewritten) = rewrite(
            "(module (table 10 funcref) (table 1 7 externref) (table 2 0x7fffffff funcref)
                (func $f) (elem (i32.const 3) $f))",
        );
        let after = Shape::read(&rewritten, TABLE_ELEMENTS).unwrap();
        let maxima: Vec<_> = after.tables.iter().map(|table| table.maximum).collect();
        assert_eq!(maxima, [Some(TABLE_ELEMENTS), Some(7), Some(TABLE_ELEMENTS)]);
        for (before, after) in before.tables.iter().zip(&after.tables) {
            assert_eq!((before.element_type, before.initial), (after.element_type, after.initial));
        }
        assert!(after.check_sizes(0).is_ok());
        let all = 2 * TABLE_ELEMENTS + 7;
        assert!(after.check_tables(&Limits::default().table_elements(all)).is_ok());
        let error = after.check_tables(&Limits::default().table_elements(all - 1)).unwrap_err();
        assert!(error.to_string().contains(&all.to_string()), "{error}");
    }

    #[test]
    fn memories_beyond_the_allocator_are_refused() {
        let read = |wat: &str| Shape::read(&wat::parse_str(wat).unwrap(), TABLE_ELEMENTS);
        let error = read("(module (memory i64 131073))").unwrap_err().to_string();
        assert!(error.contains("8590000128") && error.contains("8589934592"), "{error}");
        let shape = read("(module (memory i64 131072))").unwrap();
        assert_eq!(shape.max_pages(u64::MAX), MAX_PAGES64);
        assert_eq!(shape.max_pages(3 * PAGE + 1), 3);
        assert!(shape.check_sizes(131_071).is_err());
        let mixed = read("(module (memory i64 1) (memory 1))").unwrap();
        assert_eq!(mixed.max_pages(u64::MAX), 1 << 16);
    }
}
