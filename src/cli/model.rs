//! Which model a command is about, and where it is.

use std::path::PathBuf;
use std::str::FromStr;

use polychord::hub::{Hub, ModelRef};
use polychord::model::Model;
use polychord_remote::Options;

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
        if text.starts_with("https://") || text.starts_with("http://") {
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

    /// Opens a file on a server, of which the header is read, and what tells its version from others.
    pub(crate) fn open_web(self, url: &str) -> Result<(Model, String), Failure> {
        if self.offline {
            return Err(Failure::usage(format!("{url} is on a server, and --offline was given")));
        }
        let cache = Hub::new()?.cache_dir().join("remote");
        let file = polychord_remote::open(url, &Options::new().cache(cache, KEPT))?;
        Ok((Model::from_source(url, file.source)?, file.version))
    }
}
