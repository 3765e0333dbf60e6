//! The beginning of a sequence in an image, as a session and its forks share it.

use std::sync::Arc;

use polychord_runtime_api::Image;

use crate::caches::ImageRows;

/// Rows of the first positions of a sequence, of all guests that are here.
pub(crate) struct Prefix {
    pub(crate) image: Image,
    pub(crate) positions: u32,
    /// By rank and guest.
    pub(crate) rows: Vec<Vec<ImageRows>>,
}

/// A prefix, and how many of its positions are wanted.
pub(crate) type Wanted = Option<(Arc<Prefix>, u32)>;

impl Prefix {
    /// The image, and where it has the rows of a guest.
    pub(crate) fn of_guest(&self, rank: usize, guest: usize) -> Option<(&Image, &ImageRows)> {
        Some((&self.image, self.rows.get(rank)?.get(guest)?))
    }
}
