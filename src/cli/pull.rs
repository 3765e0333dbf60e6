//! `polychord pull`: fetches a model.

use std::io::{IsTerminal as _, Write};

use polychord::hub::ModelRef;

use super::model::FindArgs;
use super::{Failure, terminal};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which model: `hf:owner/repo/file.gguf`, `hf:owner/repo:TAG`, a path, or nothing for the
    /// default
    model: Option<ModelRef>,

    #[command(flatten)]
    find: FindArgs,
}

/// Fetches a model and prints where it is.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let model = args.model.clone().unwrap_or_default();
    let path = args.find.find(&model)?;
    let mut stdout = std::io::stdout();
    // A script needs the path as it is.
    match stdout.is_terminal() {
        true => writeln!(stdout, "{}", terminal::line(path.display()))?,
        false => writeln!(stdout, "{}", path.display())?,
    }
    Ok(())
}
