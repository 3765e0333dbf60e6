//! A second session that goes on where another one is.

use crate::error::{Error, Result};
use crate::session::Session;

impl Session {
    /// Starts a second session of the same model, module, options and placement, with the same
    /// sequence and logits, which goes its own way from then on.
    ///
    /// Nothing is computed again. Keys and values of the sequence are shared, by whole pages, until one side
    /// writes to them, which it does only after a cut: where the engine can map
    /// ([`Capabilities::mapping`](polychord_runtime_api::Capabilities::mapping)), on Linux, for heads with 16 KiB or
    /// more. The first fork writes them into an image, which the next ones find as long as that part of the
    /// sequence stays, and which this session uses as well from its next evaluation on. Everything else is
    /// copied: states, rings of windows that have come around, ends of pages.
    /// [`SessionStats`](crate::SessionStats) has how much of each there is, and
    /// [`SessionOptions::fork_room`](crate::SessionOptions::fork_room) how much there may be. Weights that are mapped
    /// are shared, too.
    ///
    /// With a rank that was given ([`SessionOptions::rank`](crate::SessionOptions::rank)), each rank forks for
    /// itself; the two sessions then evaluate in the same order on all ranks.
    ///
    /// # Errors
    ///
    /// Returns the errors of starting a session, and [`Error::Leading`] if others follow this one
    /// ([`lead`](Self::lead)).
    pub fn fork(&self) -> Result<Self> {
        self.fork_at(self.position())
    }

    /// Starts a second session as [`fork`](Self::fork) does, with the first `len` tokens alone, and without
    /// logits if there are more: as if it had been [truncated](Self::truncate), but nothing behind them is copied.
    ///
    /// ```no_run
    /// # fn run(session: &polychord_session::Session, system_prompt: &[u32]) -> polychord_session::Result<()> {
    /// // Another conversation that begins in the same way.
    /// let len = u32::try_from(system_prompt.len()).unwrap_or(u32::MAX);
    /// let mut other = session.fork_at(len)?;
    /// other.eval(&[7, 8, 9])?;
    /// println!("{} bytes are shared", other.report().shared_bytes);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the errors of [`fork`](Self::fork), and [`Error::Truncate`] if the sequence is shorter.
    pub fn fork_at(&self, len: u32) -> Result<Self> {
        if self.is_leading() {
            return Err(Error::Leading);
        }
        let position = self.position();
        if len > position {
            return Err(Error::Truncate { asked: len, position });
        }
        let mut fork = self.start_alike()?;
        fork.continue_from(self, len, self.offer(len))?;
        Ok(fork)
    }
}
