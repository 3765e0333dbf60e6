//! Which guests hold which layers.
//!
//! - `placed`: the result.
//! - `placer`: choosing a placement, and making its plan.
//! - `sizes`: what guests need; `budget`: what the machine has.

mod budget;
mod placed;
mod placer;
mod sizes;

use polychord_runtime_api::{Capabilities, Hosts};

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

    /// Divides the layers over several hosts, each of which has as few guests as have room, or as many as
    /// [`Placement::Sharded32`](crate::Placement::Sharded32) says. The plan names the host of each guest
    /// ([`Plan::hosts`](polychord_runtime_api::Plan::hosts)); sessions that are its stages take it by
    /// [`Placement::Planned`](crate::Placement::Planned).
    ///
    /// ```no_run
    /// # use polychord_runtime_api::{Engine, Hosts};
    /// use polychord_session::{Error, Model, SessionOptions};
    ///
    /// fn explain(model: &Model, engine: &dyn Engine) -> Result<(), Error> {
    ///     let hosts = Hosts::OfBytes(vec![16 << 30, 32 << 30]);
    ///     let placed = model.place_on(&hosts, &SessionOptions::new(), engine.capabilities())?;
    ///     println!("{:?}", placed.plan.hosts);
    ///     Ok(())
    /// }
    /// ```
    ///
    /// # Errors
    ///
    /// The errors of [`place`](Self::place), and [`Error::Runtime`](crate::Error::Runtime) if hosts have not the
    /// memory, or there are more than parts of the model. Placements other than `auto` and `sharded32` are
    /// [`Error::Plan`](crate::Error::Plan).
    pub fn place_on(
        &self,
        hosts: &Hosts,
        options: &SessionOptions,
        engine: &Capabilities,
    ) -> Result<Placed> {
        Placer::new(self, options, engine)?.place_on(hosts, options)
    }
}
