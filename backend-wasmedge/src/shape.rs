//! What WasmEdge cannot limit by itself, read from a module and changed in it.

use std::borrow::Cow;

use polychord_passes::{copies, tables};
use polychord_runtime_api::abi::PAGE;
use polychord_runtime_api::{Error, Limits, Result};
use wasmparser::{BinaryReaderError, MemoryType, Operator, Parser, Payload, TableType};

use crate::config::MAX_PAGES64;
use crate::{NAME, error};

/// What is of interest in a module beside its exports. The module was validated.
#[derive(Debug, Default)]
pub(crate) struct Shape {
    memories: Vec<MemoryType>,
    tables: Vec<TableType>,
    /// Most elements of a table, which is fixed when the module is compiled.
    table_limit: u64,
}

/// Most loops of a function that is compiled in this process for guests with a time limit. Three
/// functions of 9,900 loops took LLVM 100 s, and the transformer guest has 23 in one.
const LOOPS: u32 = 2_000;

impl Shape {
    /// Reads a module, and limits its tables, because WasmEdge ends the process when one grows beyond
    /// the machine's memory. Its interpreter reads 64 bits of a 32-bit address when it copies between memories or
    /// tables of both widths, and where a vector was in that slot, the upper ones are left from it.
    pub(crate) fn read(wasm: &[u8], table_limit: u64) -> Result<(Self, Cow<'_, [u8]>)> {
        let mut shape = Self { table_limit, ..Self::default() };
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
                _ => {}
            }
        }
        shape.check_largest()?;
        let failed = |error: polychord_passes::Error| error::compile(&error.to_string());
        let limited = tables::limit(wasm, table_limit).map_err(failed)?;
        let changed = match &limited {
            Cow::Borrowed(limited) => copies::clear(limited).map_err(failed)?,
            Cow::Owned(limited) => Cow::Owned(copies::clear(limited).map_err(failed)?.into_owned()),
        };
        Ok((shape, changed))
    }

    /// Refuses code that would keep LLVM busy for minutes once it looks at a time limit in every
    /// loop: its time grows with the square of the loops of a function.
    pub(crate) fn check_loops(wasm: &[u8]) -> Result<()> {
        let mut function = 0_u32;
        for payload in Parser::new(0).parse_all(wasm) {
            let Payload::CodeSectionEntry(body) = payload.map_err(invalid)? else { continue };
            let mut loops = 0_u32;
            for operator in body.get_operators_reader().map_err(invalid)? {
                loops += u32::from(matches!(operator.map_err(invalid)?, Operator::Loop { .. }));
            }
            if loops > LOOPS {
                return Err(error::compile(&format!(
                    "function {function} of the module's own has {loops} loops, and LLVM could take \
                     minutes for more than {LOOPS} that look at a time limit: have it compiled in a \
                     process of its own (Config::compiler), or start the guest without a limit",
                )));
            }
            function += 1;
        }
        Ok(())
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

    /// Refuses to limit a memory to no pages beside one of a page, if it could grow: WasmEdge has
    /// one limit for all memories of a guest.
    pub(crate) fn check_below_a_page(&self, max_pages: u32) -> Result<()> {
        if max_pages > 0 || self.memories.iter().all(|memory| memory.maximum == Some(0)) {
            return Ok(());
        }
        Err(Error::Instantiate {
            engine: NAME,
            reason: format!(
                "a guest with a time limit has a page for it, and WasmEdge cannot limit the guest's \
                 own memory to less: allow {PAGE} bytes (Limits::memory_bytes), or declare a maximum \
                 of 0 pages in the module"
            ),
        })
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

fn invalid(error: BinaryReaderError) -> Error {
    error::compile(error.message())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE_ELEMENTS: u64 = 1 << 20;

    fn read(wat: &str) -> Result<Shape> {
        let wasm = wat::parse_str(wat).unwrap();
        Shape::read(&wasm, TABLE_ELEMENTS).map(|(shape, _)| shape)
    }

    #[test]
    fn tables_are_limited() {
        let wasm = wat::parse_str("(module (table 1 funcref))").unwrap();
        let (_, rewritten) = Shape::read(&wasm, TABLE_ELEMENTS).unwrap();
        let (again, same) = Shape::read(&rewritten, TABLE_ELEMENTS).unwrap();
        assert_eq!(again.tables[0].maximum, Some(TABLE_ELEMENTS));
        assert_eq!(same, rewritten);
    }

    #[test]
    fn tables_beyond_the_limit_are_refused() {
        assert!(read("(module (table 1048576 funcref))").unwrap().check_sizes(0).is_ok());
        let two = read("(module (table 1 funcref) (table 1 7 externref))").unwrap();
        let all = TABLE_ELEMENTS + 7;
        assert!(two.check_tables(&Limits::default().table_elements(all)).is_ok());
        let error = two.check_tables(&Limits::default().table_elements(all - 1)).unwrap_err();
        assert!(error.to_string().contains(&all.to_string()), "{error}");
    }

    #[test]
    fn very_many_loops_under_a_time_limit_are_refused() {
        let module = |loops| {
            let text = format!("(module (func) (func {}))", "(loop)".repeat(loops));
            Shape::check_loops(&wat::parse_str(text).unwrap())
        };
        assert!(module(LOOPS as usize).is_ok());
        let error = module(LOOPS as usize + 1).unwrap_err().to_string();
        assert!(error.contains("function 1") && error.contains("2001 loops"), "{error}");
    }

    #[test]
    fn memories_beyond_the_allocator_are_refused() {
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
