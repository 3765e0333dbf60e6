//! What a caller hears while a model is fetched.

use std::error::Error;

/// Hears how far a fetch is. Everything but [`report`](Self::report) may be left out.
///
/// ```
/// use polychord_hub::Progress;
///
/// /// Keeps what a window would show.
/// #[derive(Default)]
/// struct Line(String);
///
/// impl Progress for Line {
///     fn report(&mut self, source: &str, done: u64, total: Option<u64>) {
///         let total = total.map_or(String::new(), |total| format!(" of {total}"));
///         self.0 = format!("{source}: {done}{total} bytes");
///     }
/// }
///
/// let mut line = Line::default();
/// line.report("Hugging Face", 5, Some(9));
/// assert_eq!(line.0, "Hugging Face: 5 of 9 bytes");
///
/// // A closure is one, too.
/// let mut last = 0;
/// let mut bytes = |_: &str, done: u64, _: Option<u64>| last = done;
/// Progress::report(&mut bytes, "pip", 7, None);
/// assert_eq!(last, 7);
/// ```
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
///
/// ```no_run
/// use polychord_hub::{Hub, ModelRef, Silent};
///
/// let path = Hub::new()?.resolve(&ModelRef::Default, &mut Silent)?;
/// # Ok::<(), polychord_hub::Error>(())
/// ```
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
