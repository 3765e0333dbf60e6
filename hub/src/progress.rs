//! What a caller hears while a model is fetched.

use std::error::Error;

/// Hears how far a fetch is. Everything but [`report`](Self::report) may be left out.
pub trait Progress {
    /// `done` bytes of `total` (where known) have come from `source`. Called several times a second;
    /// `done` starts again at 0 when a source is left for the next.
    fn report(&mut self, source: &str, done: u64, total: Option<u64>);

    /// `source` failed; the next one follows, if there is one.
    fn failed(&mut self, source: &str, cause: &dyn Error) {
        let _ = (source, cause);
    }

    /// Something is not as it should be, but the fetch goes on.
    fn warn(&mut self, message: &str) {
        let _ = message;
    }

    /// The fetch is over, well or badly. Not called where nothing had to be fetched.
    fn finished(&mut self) {}
}

/// Hears nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Progress for Silent {
    fn report(&mut self, _source: &str, _done: u64, _total: Option<u64>) {}
}

impl<F: FnMut(&str, u64, Option<u64>)> Progress for F {
    fn report(&mut self, source: &str, done: u64, total: Option<u64>) {
        self(source, done, total);
    }
}
