//! Modules as lists of sections, most of which a pass copies as they are.

use std::ops::Range;

use wasm_encoder::{Encode, Module, RawSection, SectionId, ValType};
use wasmparser::{Parser, Payload};

use crate::{Error, Result};

/// The sections of a module, in order, and the names that it exports.
pub(crate) struct Sections<'a> {
    wasm: &'a [u8],
    list: Vec<Section<'a>>,
    exported: Vec<&'a str>,
}

/// One section: its number in the binary format and its contents.
#[derive(Clone)]
struct Section<'a> {
    id: u8,
    data: &'a [u8],
}

/// Sections in the order of the binary format, in which numbers do not ascend.
const ORDER: [SectionId; 13] = [
    SectionId::Type,
    SectionId::Import,
    SectionId::Function,
    SectionId::Table,
    SectionId::Memory,
    SectionId::Tag,
    SectionId::Global,
    SectionId::Export,
    SectionId::Start,
    SectionId::Element,
    SectionId::DataCount,
    SectionId::Code,
    SectionId::Data,
];

impl<'a> Sections<'a> {
    pub(crate) fn read(wasm: &'a [u8]) -> Result<Self> {
        let mut sections = Self { wasm, list: Vec::new(), exported: Vec::new() };
        for payload in Parser::new(0).parse_all(wasm) {
            let payload = payload?;
            match &payload {
                Payload::Version { encoding: wasmparser::Encoding::Component, .. } => {
                    return Err(Error::Unsupported { what: "the form of a component" });
                }
                Payload::ExportSection(exports) => {
                    for export in exports.clone() {
                        sections.exported.push(export?.name);
                    }
                }
                _ => {}
            }
            if let Some((id, range)) = payload.as_section() {
                let data = sections.slice(range);
                sections.list.push(Section { id, data });
            }
        }
        Ok(sections)
    }

    /// A part of the module that its parser has found.
    pub(crate) fn slice(&self, range: Range<u64>) -> &'a [u8] {
        let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
        self.wasm.get(index(range.start)..index(range.end)).unwrap_or_default()
    }

    /// A name that begins with `wanted` and that the module does not export.
    pub(crate) fn unused_name(&self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        while self.exported.contains(&name.as_str()) {
            name.push('\'');
        }
        name
    }

    /// The module with some sections replaced: `replace` returns the contents for those that it
    /// knows, and `None` for those that stay. It is asked once for every section of the binary
    /// format, with no contents if the module has none; what stays empty stays out.
    pub(crate) fn rewrite(
        &self,
        mut replace: impl FnMut(SectionId, Option<&'a [u8]>) -> Result<Replacement>,
    ) -> Result<Vec<u8>> {
        let mut module = Module::new();
        let mut rest = self.list.iter().peekable();
        for id in ORDER {
            while let Some(custom) = rest.next_if(|section| section.id == 0) {
                module.section(&RawSection { id: 0, data: custom.data });
            }
            let present = rest.next_if(|section| section.id == id as u8);
            match (replace(id, present.map(|section| section.data))?, present) {
                (Replacement::Contents(data), _) => {
                    module.section(&RawSection { id: id as u8, data: &data });
                }
                (Replacement::Same, Some(section)) => {
                    module.section(&RawSection { id: section.id, data: section.data });
                }
                (Replacement::Same, None) | (Replacement::Removed, _) => {}
            }
        }
        for section in rest {
            module.section(&RawSection { id: section.id, data: section.data });
        }
        Ok(module.finish())
    }
}

/// What to write in place of a section.
pub(crate) enum Replacement {
    /// It stays as it is, present or not.
    Same,
    /// It is left out.
    Removed,
    /// It has these contents.
    Contents(Vec<u8>),
}

/// The contents of a section that is a vector.
pub(crate) fn vector(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    u32::try_from(entries.len()).unwrap_or(u32::MAX).encode(&mut out);
    entries.iter().for_each(|entry| out.extend_from_slice(entry));
    out
}

/// A section that is a vector, with entries appended.
pub(crate) fn appended(section: Option<&[u8]>, entries: &[Vec<u8>]) -> Result<Replacement> {
    if entries.is_empty() {
        return Ok(Replacement::Same);
    }
    let (count, old) = match section {
        Some(data) => {
            let mut reader = wasmparser::BinaryReader::new(data, 0);
            let count = reader.read_var_u32()?;
            let start = usize::try_from(reader.original_position()).unwrap_or(usize::MAX);
            (count, data.get(start..).unwrap_or_default())
        }
        None => (0, &[][..]),
    };
    let added = u32::try_from(entries.len()).ok().and_then(|added| count.checked_add(added));
    let added = added.ok_or(Error::Unsupported { what: "too many entries in a section" })?;
    let mut out = Vec::with_capacity(old.len() + 16);
    added.encode(&mut out);
    out.extend_from_slice(old);
    entries.iter().for_each(|entry| out.extend_from_slice(entry));
    Ok(Replacement::Contents(out))
}

/// The type of a function without results, as an entry of the type section.
pub(crate) fn function_type(parameters: &[ValType]) -> Vec<u8> {
    // The binary format's mark, parameters, results.
    let mut entry = vec![0x60];
    parameters.encode(&mut entry);
    [ValType::I32; 0].encode(&mut entry);
    entry
}

/// An index, as an entry of the function section.
pub(crate) fn index(of: u32) -> Vec<u8> {
    let mut entry = Vec::new();
    of.encode(&mut entry);
    entry
}

/// The bytes of an entry with their number before them.
pub(crate) fn sized(entry: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.len() + 5);
    entry.encode(&mut out);
    out
}
