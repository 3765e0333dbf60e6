//! Indices of memories, where nothing else changes.

use wasm_encoder::reencode::{Error, Reencode};

use crate::view::Views;

/// Gives memories their new indices.
pub(crate) struct Renumber<'a> {
    views: &'a Views,
    /// Whether an index changed.
    pub(crate) moved: bool,
    /// Whether a divided memory was met, which has no index.
    pub(crate) met_wide: bool,
}

impl<'a> Renumber<'a> {
    pub(crate) const fn new(views: &'a Views) -> Self {
        Self { views, moved: false, met_wide: false }
    }
}

impl Reencode for Renumber<'_> {
    type Error = std::convert::Infallible;

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error> {
        let Some(view) = self.views.get(memory) else { return Ok(memory) };
        self.moved |= view.base != memory;
        self.met_wide |= view.wide;
        Ok(view.base)
    }
}
