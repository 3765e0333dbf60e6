//! Lines that were typed before, in a file of the user's own.

use std::path::PathBuf;

use polychord_folders::{Access, Error, Folder};

/// Lines that were typed before. No other user can read or change the file.
pub(super) struct History(Folder);

const NAME: &str = "chat-history";
/// Most lines, and most bytes of one, that are kept.
pub(super) const MOST: usize = 1000;
const MOST_BYTES: usize = 4096;

impl History {
    /// Opens it in `$XDG_STATE_HOME/polychord` (by default `~/.local/state/polychord`); none if the user has
    /// no such folder.
    pub(super) fn open() -> Result<Option<Self>, Error> {
        let Some(folder) = folder() else { return Ok(None) };
        Folder::make(&folder, Access::Private).map(|folder| Some(Self(folder)))
    }

    /// The lines, the newest last.
    pub(super) fn lines(&self) -> Result<Vec<String>, Error> {
        let bytes = self.0.read(NAME)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// Adds a line to what is in the file by now: another conversation may have added some.
    pub(super) fn add(&self, line: &str) -> Result<(), Error> {
        let mut lines = self.lines()?;
        let is_kept = !line.trim().is_empty() && line.len() <= MOST_BYTES && !line.contains('\n');
        if !is_kept || lines.last().is_some_and(|last| last == line) {
            return Ok(());
        }
        lines.push(line.to_owned());
        let first = lines.len().saturating_sub(MOST);
        let text: String = lines[first..].iter().map(|line| format!("{line}\n")).collect();
        self.0.replace(NAME, &[text.as_bytes()], 0o600)
    }
}

fn folder() -> Option<PathBuf> {
    Some(dirs::state_dir().or_else(dirs::data_local_dir)?.join("polychord"))
}
