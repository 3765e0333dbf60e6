//! A file of what a prompt has left in a session, so that the next one begins with it.

use std::io::Write as _;
use std::path::Path;

use polychord::api::Printable;
use polychord::model::{Error, Model, SaveOptions, Session, SessionOptions, Transformer};
use polychord::receipts::Error as Refused;
use polychord::receipts::snapshot::{Reader, State};

use super::Failure;
use crate::cli::snapshot::{open, refuse, replace};

/// The file, and the tokens that are in it.
pub(super) struct PromptCache<'a> {
    path: &'a Path,
    kept: Vec<u32>,
}

impl<'a> PromptCache<'a> {
    /// Looks into a file. There is nothing in one that is not there, or is of another model.
    ///
    /// # Errors
    ///
    /// If it is something else than a snapshot, which is not to be lost.
    pub(super) fn read(path: &'a Path, model: &Model) -> Result<Self, Failure> {
        if !path.exists() {
            return Ok(Self { path, kept: Vec::new() });
        }
        let most = model.config().context_length.saturating_add(1);
        let state = Reader::new(open(path)?)
            .and_then(|mut reader| State::read(&mut reader, most))
            .map(|state| {
                let seen = state.meta.position as usize;
                state.tokens.into_iter().take(seen).collect()
            });
        match state {
            Ok(kept) => Ok(Self { path, kept }),
            // More tokens than this model can have.
            Err(error @ Refused::TooLarge { .. }) => Ok(Self::other(path, &error)?),
            Err(error) => Err(refuse(path, &error)),
        }
    }

    fn other(path: &'a Path, error: &Refused) -> Result<Self, Failure> {
        writeln!(
            std::io::stderr(),
            "the prompt is computed anew, and {} replaced: {}",
            Printable(path.display()),
            Printable(error)
        )?;
        Ok(Self { path, kept: Vec::new() })
    }

    /// Starts a session from the file, if its beginning is that of the prompt.
    pub(super) fn start(
        &mut self,
        prompt: &[u32],
        transformer: &Transformer,
        model: &Model,
        options: &mut SessionOptions,
    ) -> Result<Option<Session>, Failure> {
        if self.kept.first().is_none_or(|first| prompt.first() != Some(first)) {
            return Ok(None);
        }
        // No longer than the model's own, which was checked.
        let needed = u32::try_from(self.kept.len()).unwrap_or(u32::MAX);
        options.context = options.context.map(|context| context.max(needed));
        match transformer.restore(model, open(self.path)?, options) {
            Ok(restored) => Ok(Some(restored.session)),
            Err(Error::Receipt(error @ Refused::Differs { .. })) => {
                *self = Self::other(self.path, &error)?;
                Ok(None)
            }
            Err(Error::Receipt(error)) => Err(refuse(self.path, &error)),
            Err(error) => Err(error.into()),
        }
    }

    /// Evaluates what the session has not seen of the prompt, but for the last token, and writes it to the
    /// file if that has not all of it. Returns how much it had seen.
    pub(super) fn fill(&self, session: &mut Session, prompt: &[u32]) -> Result<usize, Failure> {
        let before = prompt.split_last().map_or(&[][..], |(_, before)| before);
        let same = session.tokens().iter().zip(before).take_while(|(a, b)| a == b).count();
        if same == before.len() {
            return Ok(same);
        }
        // No more than the context.
        session.truncate(u32::try_from(same).unwrap_or(u32::MAX))?;
        session.extend(&before[same..])?;
        let options = SaveOptions::new().compress();
        replace(self.path, |file| Ok(session.save_with(file, &options)?))?;
        Ok(same)
    }
}
