//! What a caller decides, as JSON.

use polychord_model::config::Config;
use polychord_model::descriptor::Settings;
use polychord_model::{Activations, CacheType};
use polychord_plan::Plan;
use serde::Deserialize;

use crate::error::{Error, Result};

/// What a session is to be like, and what the host has.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Options {
    /// `auto`, `resident32`, `sharded32`, `multi32`, `native64` or `paged`.
    #[serde(default = "auto")]
    pub(crate) placement: String,
    /// How many guests `sharded32` is to have.
    #[serde(default)]
    pub(crate) memories: Option<usize>,
    /// Most bytes of weights that `paged` holds at a time.
    #[serde(default)]
    pub(crate) resident_bytes: Option<u64>,
    /// A plan to follow, in place of a placement.
    #[serde(default)]
    pub(crate) plan: Option<Plan>,
    #[serde(default)]
    pub(crate) context: Option<u32>,
    #[serde(default = "batch")]
    pub(crate) batch: u32,
    #[serde(default)]
    pub(crate) activations: Option<String>,
    #[serde(default)]
    pub(crate) cache_type: Option<String>,
    /// What the host has.
    pub(crate) host: Host,
}

/// What the host has, as it was measured.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Host {
    /// Most bytes of a 32-bit memory.
    pub(crate) memory32_bytes: u64,
    /// Most bytes of a 64-bit memory; 0 if there is none.
    #[serde(default)]
    pub(crate) memory64_bytes: u64,
    /// Whether a module may have several memories.
    #[serde(default)]
    pub(crate) multi_memory: bool,
    /// Most bytes of all memories together, where that is known.
    #[serde(default)]
    pub(crate) total_bytes: Option<u64>,
}

fn auto() -> String {
    "auto".into()
}

const fn batch() -> u32 {
    64
}

/// Tokens of context where a model has more and the caller does not say: as in `polychord`.
const DEFAULT_CONTEXT: u32 = 4096;

impl Options {
    pub(crate) fn read(json: &str) -> Result<Self> {
        serde_json::from_str(json)
            .map_err(|reason| Error::Json { what: "options of a session", reason })
    }

    /// How guests are to compute a network.
    pub(crate) fn settings(&self, config: &Config) -> Result<Settings> {
        let limit = config.context_length;
        let context = match self.context {
            None => limit.min(DEFAULT_CONTEXT),
            Some(asked) if asked > 0 && asked <= limit => asked,
            Some(asked) => return Err(Error::Context { asked, limit }),
        };
        if self.batch == 0 {
            let most = u32::MAX.into();
            return Err(Error::Number { option: "batch", asked: 0, least: 1, most });
        }
        let named = |name: polychord_plan::UnknownName| Error::Unusable(name.to_string());
        let activations = match &self.activations {
            Some(name) => name.parse::<Activations>().map_err(named)?,
            None => Activations::default(),
        };
        let cache_type = match &self.cache_type {
            Some(name) => name.parse::<CacheType>().map_err(named)?,
            None => CacheType::default(),
        };
        cache_type.check(config)?;
        Ok(Settings::new(context, self.batch.min(context)).numbers(activations, cache_type))
    }
}
