//! Whether weights are touched ahead, and why.

use std::time::Duration;

/// Whether guests touch weights ahead of their use, and why, as the first rank has it.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// let touched = session.report().touch_ahead;
/// println!("{} bytes at a time: {}", touched.bytes, touched.reason);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TouchReport {
    /// Bytes that are touched at a time, from now on; 0 if none are.
    pub bytes: u32,
    /// Why.
    pub reason: &'static str,
    /// If it was measured, the median time of a token in guests without touching ...
    pub without: Option<Duration>,
    /// ... and with the best number of bytes that was tried to the end.
    pub with: Option<Duration>,
}
