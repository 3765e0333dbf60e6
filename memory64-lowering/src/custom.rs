//! Custom sections, which stay where they stay true.

use wasm_encoder::reencode::utils;
use wasm_encoder::{NameMap, NameSection};
use wasmparser::{BinaryReader, Name, NameSectionReader};

use crate::declare::contents;
use crate::renumber::Renumber;
use crate::sections::Replacement;
use crate::view::{Views, names as segments};
use crate::{Error, Result};

/// Sections that tell where code or data is, which is somewhere else now, or what features it uses.
fn is_untrue(name: &str) -> bool {
    name.starts_with(".debug_")
        || name.starts_with("metadata.code.")
        || matches!(name, "sourceMappingURL" | "external_debug_info" | "target_features")
}

/// What becomes of a custom section; `dropped` gets its name if nothing does.
pub(crate) fn section(
    data: &[u8],
    views: &Views,
    added: &[(u32, String)],
    dropped: &mut Vec<String>,
) -> Result<Replacement> {
    let mut reader = BinaryReader::new(data, 0);
    let name = reader.read_string()?;
    if name == "linking" || name.starts_with("reloc.") {
        return Err(Error::Relocatable { section: name.to_owned() });
    }
    if is_untrue(name) {
        dropped.push(name.to_owned());
        return Ok(Replacement::Removed);
    }
    if name != "name" {
        return Ok(Replacement::Same);
    }
    let start = usize::try_from(reader.original_position()).unwrap_or(usize::MAX);
    // Names that cannot be read say nothing; no engine looks at them.
    let names = names(data.get(start..).unwrap_or_default(), views, added);
    Ok(names.map_or(Replacement::Same, |names| contents(&names)))
}

fn names(data: &[u8], views: &Views, added: &[(u32, String)]) -> Result<NameSection> {
    let mut out = NameSection::new();
    let mut renumber = Renumber::new(views);
    for name in NameSectionReader::new(BinaryReader::new(data, 0)) {
        match name? {
            Name::Memory(map) => {
                let mut memories = NameMap::new();
                for naming in map {
                    let naming = naming?;
                    let Some(view) = views.get(naming.index) else { continue };
                    let count = if view.wide { view.declared } else { 1 };
                    for (index, name) in (view.base..).zip(segments(naming.name, count)) {
                        memories.append(index, &name);
                    }
                }
                out.memories(&memories);
            }
            Name::Function(map) => {
                let mut functions = NameMap::new();
                for naming in map {
                    let naming = naming?;
                    functions.append(naming.index, naming.name);
                }
                added.iter().for_each(|(index, name)| functions.append(*index, name));
                out.functions(&functions);
            }
            other => utils::parse_custom_name_subsection(&mut renumber, &mut out, other)
                .map_err(Error::reencode)?,
        }
    }
    Ok(out)
}
