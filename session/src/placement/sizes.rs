//! How many bytes the guests of a session need.

use polychord_model::demand::{CacheTooSmall, Demand};
use polychord_model::descriptor::Settings;
use polychord_model::layout::Layout;
use polychord_runtime_api::{Capabilities, Plan};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::SessionOptions;

/// What counts when a placement is chosen.
pub(super) struct Sizes {
    /// Most bytes of a guest's 32-bit memory.
    pub(super) limit: u64,
    /// What guests need beside weights.
    pub(super) demand: Demand,
    pub(super) context: u32,
}

impl Sizes {
    pub(super) fn new(
        model: &Model,
        engine: &Capabilities,
        options: &SessionOptions,
    ) -> Result<Self> {
        let context = options.context_of(model)?;
        options.cache_type.check(model.config())?;
        let settings = Settings::new(context, options.batch_of(model, context)?)
            .numbers(options.activations, options.cache_type);
        let demand = Demand::new(model.config(), &settings);
        Ok(Self { limit: engine.memory32_max_bytes, demand, context })
    }

    /// Bytes of each guest's weights, and of its cache and activations.
    pub(super) fn needs(&self, layout: &Layout, plan: &Plan) -> Result<Vec<(u64, u64)>> {
        let too_small = |error: CacheTooSmall| Error::Plan { reason: error.to_string() };
        self.demand.of_guests(layout, plan, self.context).map_err(too_small)
    }
}
