//! Which guests hold which layers.
//!
//! - `placed`: the result.
//! - `placer`: choosing a placement, and making its plan.
//! - `sizes`: what guests need; `budget`: what the machine has.

mod budget;
mod placed;
mod placer;
mod sizes;

use polychord_runtime_api::Capabilities;

pub use self::placed::Placed;
use self::placer::Placer;
use crate::error::Result;
use crate::model::Model;
use crate::options::SessionOptions;

impl Model {
    /// Decides which guests hold which layers.
    ///
    /// # Errors
    ///
    /// [`Error::Context`] if the model does not allow the context,
    /// [`Error::TooLargeForMemory32`] if the placement asked for has too little room,
    /// [`Error::Unavailable`] if the engine has no memory for it, [`Error::Ranks`] if there cannot
    /// be that many ranks, [`Error::MemoryBytes`] if the guests need more than the options allow,
    /// [`Error::Plan`] if the model cannot be split like that, and [`Error::Runtime`] if a plan is
    /// for another model or does not hold together.
    ///
    /// [`Error::Context`]: crate::Error::Context
    /// [`Error::TooLargeForMemory32`]: crate::Error::TooLargeForMemory32
    /// [`Error::Unavailable`]: crate::Error::Unavailable
    /// [`Error::Ranks`]: crate::Error::Ranks
    /// [`Error::MemoryBytes`]: crate::Error::MemoryBytes
    /// [`Error::Plan`]: crate::Error::Plan
    /// [`Error::Runtime`]: crate::Error::Runtime
    pub fn place(&self, options: &SessionOptions, engine: &Capabilities) -> Result<Placed> {
        Placer::new(self, options, engine)?.place(options)
    }
}
