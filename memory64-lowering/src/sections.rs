//! Modules as lists of sections, most of which stay as they are.

use wasm_encoder::{Encode, Module, RawSection, SectionId};
use wasmparser::{BinaryReader, Parser};

use crate::Result;

/// The sections of a module, in order: their numbers in the binary format, and their contents.
pub(crate) struct Sections<'a> {
    list: Vec<(u8, &'a [u8])>,
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
        let mut list = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            if let Some((id, range)) = payload?.as_section() {
                let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
                let data = wasm.get(index(range.start)..index(range.end)).unwrap_or_default();
                list.push((id, data));
            }
        }
        Ok(Self { list })
    }

    /// The contents of a section, if the module has it.
    pub(crate) fn get(&self, id: SectionId) -> Option<&'a [u8]> {
        self.list.iter().find(|(number, _)| *number == id as u8).map(|(_, data)| *data)
    }

    /// The module with sections replaced. Each section of the binary format is asked for once, with
    /// no contents if the module has none; custom sections (number 0) each by itself.
    pub(crate) fn rewrite(
        &self,
        mut replace: impl FnMut(Option<SectionId>, Option<&'a [u8]>) -> Result<Replacement>,
    ) -> Result<Module> {
        let mut module = Module::new();
        let mut rest = self.list.iter().peekable();
        for id in ORDER.map(Some).into_iter().chain([None]) {
            while let Some((_, data)) = rest.next_if(|(id, _)| *id == 0) {
                write(&mut module, 0, replace(None, Some(data))?, Some(data));
            }
            let Some(id) = id else { break };
            let present = rest.next_if(|(number, _)| *number == id as u8).map(|(_, data)| *data);
            write(&mut module, id as u8, replace(Some(id), present)?, present);
        }
        Ok(module)
    }
}

fn write(module: &mut Module, id: u8, replacement: Replacement, present: Option<&[u8]>) {
    match (&replacement, present) {
        (Replacement::Contents(data), _) => _ = module.section(&RawSection { id, data }),
        (Replacement::Same, Some(data)) => _ = module.section(&RawSection { id, data }),
        (Replacement::Same, None) | (Replacement::Removed, _) => {}
    }
}

/// A section that is a vector, with entries appended.
pub(crate) fn appended(section: Option<&[u8]>, entries: &[Vec<u8>]) -> Result<Replacement> {
    if entries.is_empty() {
        return Ok(Replacement::Same);
    }
    let (count, old) = match section {
        Some(data) => {
            let mut reader = BinaryReader::new(data, 0);
            let count = reader.read_var_u32()?;
            let start = usize::try_from(reader.original_position()).unwrap_or(usize::MAX);
            (count, data.get(start..).unwrap_or_default())
        }
        None => (0, &[][..]),
    };
    let mut out = Vec::with_capacity(old.len() + 16);
    count.saturating_add(u32::try_from(entries.len()).unwrap_or(u32::MAX)).encode(&mut out);
    out.extend_from_slice(old);
    entries.iter().for_each(|entry| out.extend_from_slice(entry));
    Ok(Replacement::Contents(out))
}

/// The bytes of an entry with their number before them.
pub(crate) fn sized(entry: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entry.len() + 5);
    entry.encode(&mut out);
    out
}
