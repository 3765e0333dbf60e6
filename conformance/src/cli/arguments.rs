//! Arguments of the command line.

use std::path::PathBuf;

/// Runs the conformance suite on engines and writes a report.
#[derive(Debug, clap::Parser)]
#[command(name = "polychord-conformance", version)]
pub(crate) struct Arguments {
    /// Which engine: a name, or `all` for those that come with Polychord. May be repeated.
    #[arg(long, value_name = "NAME", default_value = "all")]
    pub(super) engine: Vec<String>,
    /// Another backend's test program, as `cargo test --no-run` builds it. May be repeated.
    #[arg(long, value_name = "NAME=PATH", value_parser = program)]
    pub(super) program: Vec<(String, PathBuf)>,
    /// Folder for report.json, report.md and report.html.
    #[arg(long, value_name = "FOLDER", default_value = "target/conformance")]
    pub(super) report: PathBuf,
    /// Runs only cases whose name contains this.
    #[arg(long, value_name = "TEXT")]
    pub(super) filter: Option<String>,
    /// Runs nothing: reports on runs of `cargo test` that are over, from the folder that
    /// POLYCHORD_CONFORMANCE_RECORD named.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["program", "filter"])]
    pub(super) records: Option<PathBuf>,
}

fn program(text: &str) -> Result<(String, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("is not NAME=PATH")?;
    Ok((name.to_owned(), path.into()))
}
