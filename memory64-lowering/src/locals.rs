//! The types of a function's locals, of which a short function may declare 50,000.

use wasmparser::ValType;

/// Most locals of a function, parameters included, as validators have it.
pub(crate) const MOST: u32 = 50_000;

/// Locals as runs of the same type.
#[derive(Default)]
pub(crate) struct Locals {
    /// For each run the local behind it, and the type.
    runs: Vec<(u32, ValType)>,
}

impl Locals {
    pub(crate) fn push(&mut self, count: u32, ty: ValType) {
        if count > 0 {
            self.runs.push((self.count().saturating_add(count), ty));
        }
    }

    pub(crate) fn count(&self) -> u32 {
        self.runs.last().map_or(0, |(end, _)| *end)
    }

    /// The type of a local.
    pub(crate) fn get(&self, local: u32) -> Option<ValType> {
        let run = self.runs.partition_point(|(end, _)| *end <= local);
        self.runs.get(run).map(|(_, ty)| *ty)
    }
}
