use std::io::Write;

use polychord::hub::{Hub, ModelRef, TerminalBar};

use super::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which model: `hf:owner/repo/file.gguf`, a path, or nothing for the default
    model: Option<ModelRef>,
}

/// Fetches a model and prints where it is.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let model = args.model.clone().unwrap_or_default();
    let path = Hub::find(&model, &mut TerminalBar::new())?;
    writeln!(std::io::stdout(), "{}", path.display())?;
    Ok(())
}
