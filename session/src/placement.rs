//! Which guests hold which layers.

mod budget;
mod placer;
mod sizes;

use polychord_runtime_api::{Capabilities, Plan, Policy};

use crate::error::Result;
use crate::model::Model;
use crate::options::SessionOptions;
use placer::Placer;

/// A placement that was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// `resident32`, `sharded32`, `multi32`, `native64` or `paged`.
    pub name: &'static str,
    /// Why, in a few words.
    pub reason: String,
    /// Which layer is where.
    pub plan: Plan,
    /// Which layers stay, where they take turns.
    pub policy: Policy,
    /// Most bytes that each linear memory of a guest may have.
    pub guest_bytes: u64,
}

impl Model {
    /// Decides which guests hold which layers.
    ///
    /// # Errors
    ///
    /// [`Error::Context`] if the model does not allow the context,
    /// [`Error::TooLargeForMemory32`] if the placement asked for has too little room,
    /// [`Error::Unavailable`] if the engine has no memory for it, [`Error::Ranks`] if there cannot
    /// be so many ranks, [`Error::Plan`] if it cannot
    /// be split like that, and [`Error::Runtime`] if a plan is for another model or does not
    /// hold together.
    pub fn place(&self, options: &SessionOptions, engine: &Capabilities) -> Result<Placed> {
        Placer::new(self, options, engine)?.place(options)
    }
}
