//! `polychord key`: keys that sign receipts.

use std::io::Write as _;
use std::path::PathBuf;

use polychord::model::Error;
use polychord::receipts::Key;

use super::Failure;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The file of the key, which is made if it is not there
    file: PathBuf,
}

/// Prints the public part of a key.
pub(crate) fn run(args: &Args) -> Result<(), Failure> {
    let key = if args.file.exists() { Key::read(&args.file) } else { Key::create(&args.file) };
    writeln!(std::io::stdout(), "{}", key.map_err(Error::from)?.public())?;
    Ok(())
}
