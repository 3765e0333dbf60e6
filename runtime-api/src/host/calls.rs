//! What is kept while the guest calls functions of the host: the user's state, why a call has to
//! end, and how deep calls are within each other.

use std::sync::atomic::Ordering;
use std::sync::{Arc, MutexGuard, PoisonError};

use super::{Host, UserState};
use crate::error::Unmet;
use crate::interrupt::Switch;
use crate::memory::segment::LinearMemories;
use crate::{Error, Result, TrapKind, stack};

/// Most calls of a guest within each other: as many on every engine, if the stack does not end
/// before.
const DEEPEST: u32 = 64;

/// A call within a call, until this is dropped.
pub(crate) struct Deeper<'a>(&'a Host);

impl Drop for Deeper<'_> {
    fn drop(&mut self) {
        self.0.depth.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Host {
    /// Takes the user's state out, for as long as something uses it.
    pub(crate) fn take_state(&self) -> Option<UserState> {
        self.user().take()
    }

    pub(crate) fn give_state(&self, state: UserState) {
        *self.user() = Some(state);
    }

    /// Keeps why the running call of the guest has to end.
    pub(crate) fn end_call_with(&self, error: Error) {
        if !matches!(error, Error::Exit { .. }) {
            self.counters.error();
        }
        let engine = self.capabilities.engine;
        tracing::debug!(engine, %error, "a function of the host ends the call");
        *self.pending.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// The result of a call of the guest that has ended, where the engine tells of traps only.
    pub(crate) fn end_of_call<T>(&self, done: Result<T>) -> Result<T> {
        done.map_err(|error| {
            let pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner).take();
            // A function of the host that was stopped while it waited ends the call by a trap, too.
            let error = pending.unwrap_or(error);
            match self.switch.get() {
                Some(switch) => switch.explain(error),
                None => error,
            }
        })
    }

    /// Begins a call of an export within a call of the guest.
    pub(crate) fn go_deeper(&self, export: &str) -> Result<Deeper<'_>> {
        let engine = self.capabilities.engine;
        if !self.capabilities.reentrance {
            let (needed, offered) = ("yes, a function of the host calls its guest", "no");
            let unmet =
                Unmet { field: "reentrance", needed: needed.into(), offered: offered.into() };
            return Err(Error::Unmet { engine, unmet: vec![unmet] });
        }
        let depth = self.depth.fetch_add(1, Ordering::Relaxed);
        let deeper = Deeper(self);
        if depth < DEEPEST && stack::has_room_for_more() {
            return Ok(deeper);
        }
        let operation = export.to_owned();
        Err(Error::Trap { engine, operation, kind: TrapKind::StackOverflow })
    }

    /// Checks that a function of the host may grow a memory by this many pages.
    pub(crate) fn check_growth(
        &self,
        guest: &dyn LinearMemories,
        memory: usize,
        pages: u64,
    ) -> Result<()> {
        let now = self.view.size(guest, memory);
        let asked = now.saturating_add(pages.saturating_mul(polychord_abi::PAGE));
        let limit = now + self.room(guest, memory);
        if asked <= limit {
            return Ok(());
        }
        let what = format!("the guest's memory {memory} of {now} bytes, grown");
        Err(Error::TooLarge { what, asked, limit, limited_by: self.limited_by() })
    }

    /// What stops a running call of the guest, if anything can.
    pub(crate) fn switch(&self) -> Option<&Arc<Switch>> {
        self.switch.get()
    }

    pub(crate) fn set_switch(&self, switch: Arc<Switch>) {
        // A host has one guest, which is started once.
        _ = self.switch.set(switch);
    }

    fn user(&self) -> MutexGuard<'_, Option<UserState>> {
        self.user.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
