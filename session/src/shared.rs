//! The beginning of a sequence that a session shares with its forks.
//!
//! The rows of keys and values are written into an [image](polychord_runtime_api::Image) once. Each fork shows it
//! in the place of its own pages, and so does the session itself from its next evaluation on. A page is copied when
//! one of them writes to it, which happens only after a cut. Then what is behind the cut is taken away first, and all
//! of it if little is left, so that no session keeps an image for which it has pages of its own.

use std::sync::{Arc, Mutex, PoisonError};

use polychord_runtime_api::{ImageBuilder, ImageRoom};

use crate::caches::{Given, ImageRows};
use crate::error::Result;
use crate::prefix::{Prefix, Wanted};
use crate::rank_pool::RankPool;

/// What a session has of a prefix.
#[derive(Default)]
pub(crate) struct Shared(Mutex<Option<Known>>);

struct Known {
    prefix: Arc<Prefix>,
    /// The first positions whose rows are still those of the sequence.
    valid: u32,
    /// Whether the session's own guests show it.
    is_shown: bool,
}

impl Prefix {
    /// Writes an image of what all guests have kept of the first positions; none if that is too little.
    /// Evaluations have not gone beyond `reached`.
    fn of(pool: &RankPool, positions: u32, reached: u32, room: &ImageRoom) -> Result<Option<Self>> {
        let mut image = ImageBuilder::new(room)?;
        let mut rows: Vec<Vec<ImageRows>> = Vec::new();
        pool.each_guest(|rank, guest, caches, runtime| {
            rows.resize_with(rows.len().max(rank + 1), Vec::new);
            // Guests that are elsewhere have none.
            rows[rank].resize_with(guest, ImageRows::new);
            rows[rank].push(caches.append_to(&mut image, runtime, positions, reached)?);
            Ok(())
        })?;
        if rows.iter().flatten().all(ImageRows::is_empty) {
            return Ok(None);
        }
        Ok(Some(Self { image: image.finish()?, positions, rows }))
    }

    /// Shows the rows of the first `valid` positions, which the guests have.
    fn show(&self, pool: &mut RankPool, valid: u32) -> Result<()> {
        pool.each_guest_mut(|rank, guest, caches, runtime| {
            let Some((image, rows)) = self.of_guest(rank, guest) else { return Ok(()) };
            caches.show(runtime, image, rows, valid)
        })
    }

    /// Takes the rows from position `valid` on away, and all of them if `all`: the first ones are then copies.
    fn release(&self, pool: &mut RankPool, valid: u32, all: bool) {
        let released = pool.each_guest_mut(|rank, guest, caches, runtime| {
            let Some((_, rows)) = self.of_guest(rank, guest) else { return Ok(()) };
            caches.release(runtime, rows, valid..self.positions, all)
        });
        if let Err(error) = released {
            // Bits do not depend on it.
            tracing::debug!(%error, "rows are still shared that are not needed any more");
        }
    }
}

impl Shared {
    /// What a fork that was given some of a prefix knows.
    pub(crate) fn with(wanted: Wanted, given: Given) -> Self {
        let known = wanted.filter(|_| given.shared > 0);
        let known = known.map(|(prefix, valid)| Known { prefix, valid, is_shown: true });
        Self(Mutex::new(known))
    }

    /// Bytes of the image.
    pub(crate) fn bytes(&self) -> u64 {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.as_ref().map_or(0, |known| known.prefix.image.bytes())
    }

    /// What a fork of the first `len` positions can share: what is there already if that is half of it, else
    /// a new image. Evaluations have not gone beyond `reached`.
    pub(crate) fn offer(
        &self,
        pool: &RankPool,
        len: u32,
        reached: u32,
        room: &ImageRoom,
    ) -> Wanted {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_enough = |known: &Known| known.valid.min(len) >= len.div_ceil(2);
        if !known.as_ref().is_some_and(is_enough) {
            match Prefix::of(pool, len, reached, room) {
                Ok(Some(prefix)) => {
                    let prefix = Arc::new(prefix);
                    *known = Some(Known { prefix, valid: len, is_shown: false });
                }
                Ok(None) => {}
                Err(error) => tracing::debug!(%error, "a fork shares nothing more: it is a copy"),
            }
        }
        known.as_ref().map(|known| (known.prefix.clone(), known.valid.min(len)))
    }

    /// Makes ready for an evaluation that writes rows from `position` on.
    ///
    /// # Errors
    ///
    /// Those of reading the image. Rows of the sequence may then be damaged.
    pub(crate) fn before_writing(&mut self, pool: &mut RankPool, position: u32) -> Result<()> {
        let known = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        let Some(Known { prefix, valid, is_shown }) = known else { return Ok(()) };
        if position < *valid {
            *valid = position;
            let is_little = position < prefix.positions.div_ceil(2);
            prefix.release(pool, position, is_little);
            if is_little {
                *known = None;
                return Ok(());
            }
        }
        if !std::mem::replace(is_shown, true) {
            prefix.show(pool, *valid)?;
        }
        Ok(())
    }
}
