//! Guests with a time limit, watched by the case in case that nothing stops them.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use polychord_runtime_api::Limits;

use crate::Failure;

/// Limits whose calls may take this long.
pub(super) fn time_limit(limit: Duration) -> Limits {
    Limits::default().call_time(limit)
}

/// Runs a case's work in another thread, so that the case fails, and does not hang, if nothing stops
/// the guest.
pub(super) fn within_a_minute<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || send.send(work()));
    let ended = receive.recv_timeout(Duration::from_secs(60));
    ended.map_err(|_| Failure::new(format!("{what} was not stopped within a minute")))
}
