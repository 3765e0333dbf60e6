//! Whether the names of segments are free.

use std::collections::HashSet;

use wasmparser::{ExternalKind, Parser, Payload, TypeRef};

use crate::format::limit_name;
use crate::view::{View, Views, names};
use crate::{Error, Result};

/// Refuses a module in which the name of a segment is taken.
pub(crate) fn check(wasm: &[u8], views: &Views) -> Result<()> {
    let (mut imported, mut exported) = (HashSet::new(), HashSet::new());
    let (mut memory_imports, mut memory_exports) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        match payload? {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let import = import?;
                    imported.insert((import.module, import.name));
                    if matches!(import.ty, TypeRef::Memory(_)) {
                        memory_imports.push((import.module, import.name));
                    }
                }
            }
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export?;
                    exported.insert(export.name);
                    if export.kind == ExternalKind::Memory {
                        memory_exports.push((export.index, export.name));
                    }
                }
            }
            _ => {}
        }
    }
    for (memory, _) in (0..).zip(views.iter()).filter(|(_, view)| view.most.is_some()) {
        let name = limit_name(memory);
        if exported.contains(&*name) {
            return Err(Error::Name { memory, name });
        }
    }
    for ((index, view), (module, name)) in (0..).zip(views.iter()).zip(memory_imports) {
        free(index, view, name, |name| !imported.contains(&(module, name)))?;
    }
    for (index, name) in memory_exports {
        let Some(view) = views.get(index) else { continue };
        free(index, view, name, |name| !exported.contains(name))?;
    }
    Ok(())
}

fn free(memory: u32, view: &View, name: &str, is_free: impl Fn(&str) -> bool) -> Result<()> {
    let segments = if view.wide { view.declared } else { 1 };
    match names(name, segments).skip(1).find(|name| !is_free(name)) {
        Some(name) => Err(Error::Name { memory, name }),
        None => Ok(()),
    }
}
