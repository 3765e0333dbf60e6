//! What a host has to know to see the segments of a memory as one.

use wasm_encoder::Encode;
use wasmparser::{BinaryReader, Parser, Payload};

use crate::format::{PAGE, SECTION};
use crate::{Error, Result};

/// The version of the contents of the section.
const VERSION: u32 = 1;

/// The 64-bit memories of a lowered module, and where they are now.
///
/// ```
/// use polychord_memory64_lowering::{Layout, Options, lower, segment_name};
///
/// let wasm = wat::parse_str(r#"(module (memory (export "memory") i64 1))"#).unwrap();
/// let lowered = lower(&wasm, &Options::default().max_memory(8 << 30)).unwrap();
/// let layout = Layout::read(&lowered.wasm).unwrap().unwrap();
/// let memory = &layout.memories[0];
/// assert_eq!((&memory.exports[0][..], memory.segments), ("memory", 2));
/// // Byte 5 GiB is byte 1 GiB of the second segment, which has this name.
/// assert_eq!(layout.locate(5 << 30), (1, 1 << 30));
/// assert_eq!(segment_name("memory", 1), "memory.1");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Layout {
    /// Pages of 64 KiB in each segment but the last of a memory.
    pub segment_pages: u32,
    /// The memories that were divided.
    pub memories: Vec<Memory>,
    /// Tables that had 64-bit indices, by their index.
    pub tables: Vec<u32>,
}

/// A 64-bit memory that is now several 32-bit memories, which [`Layout`] lists.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Memory {
    /// Its index before.
    pub index: u32,
    /// The index of its first segment; the others follow.
    pub first: u32,
    /// How many segments there are.
    pub segments: u32,
    /// Pages that it can have at most.
    pub maximum: u64,
    /// Module and name that it is imported by; those of the segments are [`segment_name`](crate::segment_name)s.
    pub import: Option<(String, String)>,
    /// Names that it is exported by; those of the segments are [`segment_name`](crate::segment_name)s.
    pub exports: Vec<String>,
}

impl Layout {
    /// The layout of a lowered module; `None` if the module was not lowered.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the module cannot be read, or [`Error::Layout`] if its section is of
    /// another version.
    pub fn read(wasm: &[u8]) -> Result<Option<Self>> {
        for payload in Parser::new(0).parse_all(wasm) {
            if let Payload::CustomSection(section) = payload?
                && section.name() == SECTION
            {
                return Self::decode(section.data()).map(Some);
            }
        }
        Ok(None)
    }

    /// The segment that a byte is in, and its address there.
    #[must_use]
    pub const fn locate(&self, address: u64) -> (u64, u64) {
        let segment = self.segment_bytes();
        (address / segment, address % segment)
    }

    /// Bytes of a segment.
    #[must_use]
    pub const fn segment_bytes(&self) -> u64 {
        // At least one page, which `decode` checks.
        self.segment_pages as u64 * PAGE
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        VERSION.encode(&mut out);
        self.segment_pages.encode(&mut out);
        self.memories.len().encode(&mut out);
        for memory in &self.memories {
            memory.index.encode(&mut out);
            memory.first.encode(&mut out);
            memory.segments.encode(&mut out);
            memory.maximum.encode(&mut out);
            u32::from(memory.import.is_some()).encode(&mut out);
            if let Some((module, name)) = &memory.import {
                module.encode(&mut out);
                name.encode(&mut out);
            }
            memory.exports.len().encode(&mut out);
            memory.exports.iter().for_each(|name| name.encode(&mut out));
        }
        self.tables.encode(&mut out);
        out
    }

    fn decode(data: &[u8]) -> Result<Self> {
        let mut reader = BinaryReader::new(data, 0);
        let version = reader.read_var_u32()?;
        let segment_pages = reader.read_var_u32()?;
        if version != VERSION || !segment_pages.is_power_of_two() || segment_pages > 1 << 16 {
            return Err(Error::Layout { version, segment_pages, known: VERSION });
        }
        let mut layout = Self { segment_pages, memories: Vec::new(), tables: Vec::new() };
        for _ in 0..reader.read_var_u32()? {
            layout.memories.push(Memory::decode(&mut reader)?);
        }
        for _ in 0..reader.read_var_u32()? {
            layout.tables.push(reader.read_var_u32()?);
        }
        Ok(layout)
    }
}

impl Memory {
    fn decode(reader: &mut BinaryReader<'_>) -> Result<Self> {
        let (index, first) = (reader.read_var_u32()?, reader.read_var_u32()?);
        let (segments, maximum) = (reader.read_var_u32()?, reader.read_var_u64()?);
        let import = match reader.read_var_u32()? {
            0 => None,
            _ => Some((reader.read_string()?.to_owned(), reader.read_string()?.to_owned())),
        };
        let mut exports = Vec::new();
        for _ in 0..reader.read_var_u32()? {
            exports.push(reader.read_string()?.to_owned());
        }
        Ok(Self { index, first, segments, maximum, import, exports })
    }
}
