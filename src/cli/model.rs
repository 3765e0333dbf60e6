//! Which model a command is about, and where it is.

use std::path::PathBuf;

use polychord::hub::{Hub, ModelRef};

use super::Failure;
use super::progress::TerminalBar;

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
}
