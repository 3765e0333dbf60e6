//! Rewrites WebAssembly modules with 64-bit memories so that engines without memory64 run them.
//!
//! A 64-bit memory becomes several 32-bit memories, its *segments*, of up to 4 GiB each: byte
//! `a` is byte `a % 4 GiB` of segment `a / 4 GiB`. The engine needs the proposals multi-memory and
//! bulk memory, which are part of WebAssembly 3.0 and 2.0. What the module computes, where it traps
//! and how its memory grows stay the same.
//!
//! ```
//! use polychord_memory64_lowering::{Options, lower};
//!
//! let wasm = wat::parse_str(
//!     r#"(module
//!         (memory (export "memory") i64 1)
//!         (func (export "load") (param i64) (result i32) (i32.load (local.get 0))))"#,
//! )?;
//! let lowered = lower(&wasm, &Options::default().max_memory(16 << 30))?;
//! assert_eq!(lowered.report.memories[0].segments, 4);
//! // `lowered.wasm` exports `memory`, `memory.1`, `memory.2` and `memory.3`, and has no memory64.
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

#![forbid(unsafe_code)]

mod access;
mod ahead;
mod checks;
mod code;
mod custom;
mod declare;
mod error;
mod format;
mod helpers;
mod layout;
mod locals;
mod loops;
mod names;
mod options;
mod placed;
mod regions;
mod renumber;
mod report;
mod sections;
mod shape;
mod values;
mod view;
mod writer;

use wasm_encoder::{Encode, SectionId};
use wasmparser::{Encoding, Parser, Payload, Validator, WasmFeatures};

use code::Coder;
use declare::Placer;
pub use error::{Error, Result};
pub use format::{SECTION, limit_name, segment_name};
use helpers::Helpers;
pub use layout::{Layout, Memory};
pub use options::{Dispatch, Options};
pub use report::{Lowered, Report};
use sections::{Replacement, Sections, appended};
use shape::Shape;
use view::Views;

/// What a module may use; it is what WebAssembly 3.0 has, and some proposals that change nothing here.
const FEATURES: WasmFeatures = WasmFeatures::WASM3
    .union(WasmFeatures::THREADS)
    .union(WasmFeatures::CUSTOM_PAGE_SIZES)
    .union(WasmFeatures::WIDE_ARITHMETIC)
    .union(WasmFeatures::LEGACY_EXCEPTIONS)
    .union(WasmFeatures::COMPACT_IMPORTS);

/// Rewrites a module so that it has no 64-bit memories and tables; the [crate] tells how.
///
/// # Errors
///
/// [`Error`], with numbers and a way out, if the module is not valid, is a component or was lowered
/// before, uses atomic operations on a 64-bit memory, or needs more memory or memories than the
/// options allow.
pub fn lower<'a>(wasm: &'a [u8], options: &Options) -> Result<Lowered<'a>> {
    options.check()?;
    refuse_others(wasm)?;
    Validator::new_with_features(FEATURES).validate_all(wasm)?;
    let shape = Shape::read(wasm)?;
    if !shape.is_wide() {
        return Ok(Lowered { wasm: wasm.into(), report: Report::default() });
    }
    let views = Views::of(&shape, options)?;
    names::check(wasm, &views)?;
    let sections = Sections::read(wasm)?;
    let (lowered, report) = rewrite(wasm, &sections, &shape, &views, options)?;
    let features = FEATURES.difference(WasmFeatures::MEMORY64);
    Validator::new_with_features(features).validate_all(&lowered).map_err(Error::TooLarge)?;
    Ok(Lowered { wasm: lowered.into(), report })
}

/// Refuses components and lowered modules by what they are.
fn refuse_others(wasm: &[u8]) -> Result<()> {
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::Version { encoding: Encoding::Component, .. } => return Err(Error::Component),
            Payload::CustomSection(section) if section.name() == SECTION => {
                return Err(Error::Lowered);
            }
            _ => {}
        }
    }
    Ok(())
}

fn rewrite(
    wasm: &[u8],
    sections: &Sections<'_>,
    shape: &Shape,
    views: &Views,
    options: &Options,
) -> Result<(Vec<u8>, Report)> {
    let mut helpers = Helpers::new(shape, views);
    let mut placer = Placer::new(shape, views);
    let elements = sections.get(SectionId::Element);
    let elements = elements.map(|data| placer.elements(data, &mut helpers)).transpose()?;
    let data = sections.get(SectionId::Data);
    let mut data = data.map(|data| placer.data(data, &mut helpers)).transpose()?;
    let mut elements = elements.unwrap_or(Replacement::Same);
    let start = placer.finish().map(|code| helpers.start_with(code));
    let report = Report::default();
    let mut coder = Coder { wasm, shape, views, helpers, report, dispatch: options.dispatch };
    let mut bodies = functions(&mut coder)?;
    let Coder { helpers, mut report, .. } = coder;
    let added = helpers.finish()?;
    bodies.extend_from_slice(&added.bodies);
    let code = vector(&bodies);
    report.code_before = sections.get(SectionId::Code).map_or(0, <[u8]>::len) as u64;
    report.code_after = code.len() as u64;
    report.helpers = added.bodies.len() as u64;
    let mut dropped = Vec::new();
    let mut module = sections.rewrite(|id, section| match (id, section) {
        (None, Some(section)) => custom::section(section, views, &added.names, &mut dropped),
        (Some(SectionId::Import), Some(section)) => declare::imports(section, views),
        (Some(SectionId::Table), Some(section)) => declare::tables(section),
        (Some(SectionId::Memory), Some(section)) => declare::memories(section, views),
        (Some(SectionId::Export), section) => declare::exports(section, views),
        (Some(SectionId::Element), Some(_)) => {
            Ok(std::mem::replace(&mut elements, Replacement::Same))
        }
        (Some(SectionId::Data), Some(_)) => Ok(data.take().unwrap_or(Replacement::Same)),
        (Some(SectionId::Type), section) => appended(section, &added.types),
        (Some(SectionId::Function), section) => appended(section, &added.functions),
        (Some(SectionId::Global), section) => appended(section, &globals(views)),
        (Some(SectionId::Start), _) => Ok(start.map_or(Replacement::Same, number)),
        // The start function, which places data now, needs it.
        (Some(SectionId::DataCount), None) if start.is_some() => {
            Ok(number(u32::try_from(shape.data.len()).unwrap_or(u32::MAX)))
        }
        (Some(SectionId::Code), _) if !bodies.is_empty() => Ok(Replacement::Contents(code.clone())),
        _ => Ok(Replacement::Same),
    })?;
    report.dropped = dropped;
    let layout = layout(shape, views, options);
    module.section(&wasm_encoder::CustomSection {
        name: SECTION.into(),
        data: layout.encode().into(),
    });
    report.memories = layout.memories;
    report.tables = layout.tables;
    Ok((module.finish(), report))
}

/// The functions of a module, as entries of the code section.
fn functions<'a>(coder: &mut Coder<'a>) -> Result<Vec<Vec<u8>>> {
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(coder.wasm) {
        if let Payload::CodeSectionEntry(body) = payload? {
            let ty = coder.shape.defined.get(bodies.len()).copied().unwrap_or(0);
            bodies.push(coder.function(ty, &body)?);
        }
    }
    Ok(bodies)
}

/// The globals of divided memories: a lower bound of the size, and the most pages if the host sets them.
fn globals(views: &Views) -> Vec<Vec<u8>> {
    let global = |first: u64| {
        // `(mut i64) (i64.const first)`
        let mut entry = vec![0x7e, 1, 0x42];
        first.cast_signed().encode(&mut entry);
        entry.push(0x0b);
        entry
    };
    let of = |view: &view::View| [Some(0), view.most.map(|_| view.cap)];
    views.iter().filter(|view| view.wide).flat_map(of).flatten().map(global).collect()
}

fn layout(shape: &Shape, views: &Views, options: &Options) -> Layout {
    let memories = (0..).zip(shape.memories.iter().zip(views.iter()));
    let memories =
        memories.filter(|(_, (_, view))| view.wide).map(|(index, (memory, view))| Memory {
            index,
            first: view.base,
            segments: view.declared,
            maximum: view.cap,
            import: memory.import.clone(),
            exports: memory.exports.clone(),
        });
    let tables = (0..).zip(&shape.tables).filter(|(_, table)| table.wide).map(|(index, _)| index);
    Layout {
        segment_pages: options.segment_pages,
        memories: memories.collect(),
        tables: tables.collect(),
    }
}

/// The contents of a section that is one number.
fn number(number: u32) -> Replacement {
    let mut out = Vec::new();
    number.encode(&mut out);
    Replacement::Contents(out)
}

/// The contents of a section that is a vector.
fn vector(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut out = Vec::new();
    u32::try_from(entries.len()).unwrap_or(u32::MAX).encode(&mut out);
    entries.iter().for_each(|entry| out.extend_from_slice(entry));
    out
}
