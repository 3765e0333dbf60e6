//! Whether a guest that waits should stop.

use std::sync::{Arc, OnceLock};

use polychord_runtime_api::Interrupter;

/// What stops a guest, as soon as it is known, if anything does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<OnceLock<Interrupter>>);

impl Stop {
    pub(crate) fn know(&self, interrupter: Option<Interrupter>) {
        if let Some(interrupter) = interrupter {
            // It is the same each time.
            self.0.get_or_init(|| interrupter);
        }
    }

    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.get().is_some_and(Interrupter::is_stopping)
    }
}
