//! Which guests hold which layers.

mod budget;
mod placer;
mod sizes;

use polychord_runtime_api::{Capabilities, Plan, Policy};

use crate::error::Result;
use crate::model::Model;
use crate::options::SessionOptions;
use placer::Placer;

/// A placement that was decided on; [`Model::place`] and [`Session::placed`] give it.
///
/// [`Session::placed`]: crate::Session::placed
///
/// ```no_run
/// # use polychord_runtime_api::Engine;
/// use polychord_session::{Error, Model, SessionOptions};
///
/// fn explain(model: &Model, engine: &dyn Engine) -> Result<(), Error> {
///     let placed = model.place(&SessionOptions::new().context(2048), engine.capabilities())?;
///     println!("{}, because {}", placed.name, placed.reason);
///     println!("{} bytes at most", placed.guest_needs.iter().sum::<u64>());
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Placed {
    /// `resident32`, `sharded32`, `multi32`, `native64` or `paged`.
    pub name: &'static str,
    /// Why, in a few words.
    pub reason: String,
    /// Which layer is where.
    pub plan: Plan,
    /// Which layers stay, where layers are paged.
    pub policy: Policy,
    /// Bytes that each guest needs for weights, cache and activations, in the order of the plan.
    pub guest_needs: Vec<u64>,
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

impl Placed {
    /// Bytes that all guests of one rank need together.
    pub(crate) fn least_bytes(&self) -> u64 {
        self.guest_needs.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}
