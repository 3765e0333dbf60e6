//! How the sessions of a conversation are started.

use polychord::model::{Activations, CacheType, Ranks, SessionOptions, SimdFlavor, TouchAhead};

use super::Failure;
use super::choice::choice;
use super::load::Load;
use super::placement::PlacementArgs;

#[derive(Debug, clap::Args)]
pub(crate) struct SessionArgs {
    /// How weights come into guests. With `map` the file must not change meanwhile
    #[arg(long, value_enum, default_value_t = Load::default())]
    pub(crate) load: Load,

    #[command(flatten)]
    placement: PlacementArgs,

    /// How activations are multiplied with quantized weights
    #[arg(long, value_parser = choice::<Activations>(), default_value_t)]
    activations: Activations,

    /// How the cache of keys and values stores its numbers
    #[arg(long, value_parser = choice::<CacheType>(), default_value_t)]
    cache_type: CacheType,

    /// Threads that compute each answer, each with guests of its own
    #[arg(long, value_name = "N|auto", default_value_t)]
    ranks: Ranks,

    /// Touch weights ahead of their use, in bursts of BYTES: a number, `off`, or `auto` for what the
    /// first tokens show to be faster. It changes no result
    #[arg(long, value_name = "auto|off|BYTES", default_value_t)]
    touch_ahead: TouchAhead,

    /// The build of the guest
    #[arg(long, value_parser = choice::<SimdFlavor>(), default_value_t)]
    pub(crate) guest: SimdFlavor,

    /// Most tokens of a conversation; by default 4,096, or the model's own context if that is shorter
    #[arg(long, value_name = "TOKENS")]
    context: Option<u32>,
}

impl SessionArgs {
    pub(crate) fn options(&self) -> Result<SessionOptions, Failure> {
        Ok(SessionOptions::new()
            .placement(self.placement.placement()?)
            .activations(self.activations)
            .cache_type(self.cache_type)
            .ranks(self.ranks)
            .touch_ahead(self.touch_ahead)
            .context(self.context))
    }
}
