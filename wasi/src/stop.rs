//! Whether a guest that waits should stop.

use std::sync::{Arc, OnceLock};

use polychord_runtime_api::imports::{Caller, HostError};
use polychord_runtime_api::{Error, Interrupter, TrapKind};

/// What stops a guest, as soon as it is known, if anything does.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Arc<OnceLock<(Interrupter, &'static str)>>);

impl Stop {
    pub(crate) fn is_asked_for(&self) -> bool {
        self.0.get().is_some_and(|(interrupter, _)| interrupter.is_stopping())
    }

    /// Ends the guest's call if it was stopped while a function ran.
    pub(crate) fn check(&self, function: &str) -> Result<(), HostError> {
        match self.0.get() {
            Some((interrupter, engine)) if interrupter.is_stopping() => {
                let (operation, kind) = (function.to_owned(), TrapKind::Unreachable);
                Err(HostError::new(Error::Trap { engine, operation, kind }))
            }
            _ => Ok(()),
        }
    }

    /// Learns what stops the guest that has called.
    pub(crate) fn learn(&self, found: Option<(Interrupter, &'static str)>) {
        if let Some(found) = found {
            // It is the same each time.
            self.0.get_or_init(|| found);
        }
    }
}

/// What stops a guest, and its engine.
pub(crate) fn of(caller: &Caller<'_>) -> Option<(Interrupter, &'static str)> {
    Some((caller.interrupter()?, caller.host().capabilities().engine))
}
