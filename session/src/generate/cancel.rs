//! Cancelling an answer from elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels answers from another thread; clones cancel the same ones.
///
/// An answer looks at it before each token, and within a long prompt before each batch
/// ([`SessionOptions::batch`](crate::SessionOptions::batch)), so cancelling takes effect after the
/// batch that runs (eight batches, where layers are paged). A handle stays cancelled: make a new one for the next answer.
///
/// ```
/// use polychord_session::{CancelHandle, GenerateOptions};
///
/// let cancel = CancelHandle::new();
/// let options = GenerateOptions::new().cancel(&cancel);
/// let other = cancel.clone();
/// std::thread::spawn(move || other.cancel()).join().unwrap();
/// assert!(cancel.is_cancelled());
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default)]
pub struct CancelHandle(Arc<AtomicBool>);

impl CancelHandle {
    /// A handle that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends the answers that have this handle, with [`Finish::Cancelled`](crate::Finish).
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether [`cancel`](Self::cancel) was called.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
