//! `polychord pull`: fetches a model.

use std::io::{IsTerminal as _, Write};

use polychord::hub::{Hub, ModelRef};

use super::progress::TerminalBar;
use super::{Failure, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which model: `hf:owner/repo/file.gguf`, a path, or nothing for the default
    model: Option<ModelRef>,
}

/// Fetches a model and prints where it is.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let model = args.model.clone().unwrap_or_default();
    let path = Hub::find(&model, &mut TerminalBar::new())?;
    let mut stdout = std::io::stdout();
    // A script needs the path as it is.
    match stdout.is_terminal() {
        true => writeln!(stdout, "{}", terminal::line(path.display()))?,
        false => writeln!(stdout, "{}", path.display())?,
    }
    Ok(())
}
