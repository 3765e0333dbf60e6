//! Which model a command is about, and where it is.

use std::path::PathBuf;
use std::str::FromStr;

use polychord::api::{Plan, PlannedLayer};
use polychord::hub::{Hub, ModelRef};
use polychord::model::Model;
use polychord_remote::{Options, RangeDigest, S3};

use super::Failure;
use super::progress::TerminalBar;

/// Which model a command is about: one that the cache finds, or a file on a server.
#[derive(Clone, Debug)]
pub(crate) enum ModelArg {
    Named(ModelRef),
    /// Read as it is needed.
    Web(String),
}

/// Most bytes of files on servers that are kept on disk.
const KEPT: u64 = 16 << 30;

impl Default for ModelArg {
    fn default() -> Self {
        Self::Named(ModelRef::default())
    }
}

impl FromStr for ModelArg {
    type Err = polychord::hub::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if ["https://", "http://", "s3://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Ok(Self::Web(text.to_owned()));
        }
        text.parse().map(Self::Named)
    }
}

/// How the models that a command names are found.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct FindArgs {
    /// Fetch nothing: use what is on this machine
    #[arg(long)]
    pub(crate) offline: bool,
}

impl FindArgs {
    /// The file of a model, which is fetched if that is needed and allowed.
    pub(crate) fn find(self, model: &ModelRef) -> Result<PathBuf, Failure> {
        let progress = &mut TerminalBar::new();
        Ok(match model {
            // Needs no folder for a cache.
            ModelRef::Path(_) => Hub::find(model, progress)?,
            _ => Hub::new()?.offline(self.offline).resolve(model, progress)?,
        })
    }

    /// Opens a file on a server, of which the header is read, and what tells its version from others. Layers have
    /// to have the hashes that a plan says. Without the server it is what the cache has.
    pub(crate) fn open_web(
        self,
        url: &str,
        plan: Option<&Plan>,
    ) -> Result<(Model, String), Failure> {
        let cache = Hub::new()?.cache_dir().join("remote");
        let digests = plan.iter().flat_map(|plan| &plan.layers).filter_map(digest);
        let options = Options::new().cache(cache, KEPT).s3(S3::from_env()).offline(self.offline);
        let file = polychord_remote::open(url, &digests.fold(options, Options::digest))?;
        Ok((Model::from_source(url, file.source)?, file.version))
    }
}

/// What the bytes of a planned layer have to be, if the plan says so.
fn digest(layer: &PlannedLayer) -> Option<RangeDigest> {
    Some(RangeDigest::new(layer.source.start, layer.source.bytes, layer.sha256?.0))
}
