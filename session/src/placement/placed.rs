//! A placement that was decided on.

use polychord_runtime_api::{Plan, Policy};

/// A placement that was decided on; [`Model::place`] and [`Session::placed`] give it.
///
/// [`Model::place`]: crate::Model::place
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
    /// `resident32`, `sharded32`, `multi32`, `native64`, `flat64` or `paged`.
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
    /// The first address that weights may have, with `flat64`.
    pub weights_from: u64,
}

impl Placed {
    /// Whether everything is in one 64-bit memory.
    pub(crate) fn is_flat(&self) -> bool {
        matches!(self.name, "flat64" | "native64")
    }

    /// Bytes that all guests of one rank need together.
    pub(crate) fn least_bytes(&self) -> u64 {
        self.guest_needs.iter().fold(0, |sum, bytes| sum.saturating_add(*bytes))
    }
}
