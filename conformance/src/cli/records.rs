//! Reads what runs have written down.

use std::fs;
use std::path::{Path, PathBuf};

use polychord_conformance::record::Line;

use super::error::{Error, io};
use super::report::EngineReport;

/// The report of an engine whose run is over, from the folder that all runs recorded to.
pub(super) fn report(name: &str, folder: &Path) -> Result<EngineReport, Error> {
    let own = |path: &PathBuf| {
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        stem == name || stem.starts_with(&format!("{name}-"))
    };
    let lines: Vec<_> = files(folder)?.iter().filter(|path| own(path)).flat_map(read).collect();
    let error = lines.is_empty().then(|| format!("{} has no record of it", folder.display()));
    Ok(EngineReport::new(name, lines, error))
}

/// All lines in a folder that are complete.
pub(super) fn all(folder: &Path) -> Result<Vec<Line>, Error> {
    Ok(files(folder)?.iter().flat_map(read).collect())
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let entries = fs::read_dir(folder).map_err(io("read", folder))?;
    let paths: Result<Vec<_>, _> = entries.map(|entry| entry.map(|entry| entry.path())).collect();
    let mut paths = paths.map_err(io("read", folder))?;
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    Ok(paths)
}

fn read(path: &PathBuf) -> Vec<Line> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}
