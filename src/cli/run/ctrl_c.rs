//! Ctrl-C stops the guest.

use polychord::api::Interrupter;

use crate::cli::Failure;

/// From now on Ctrl-C ends the call of a guest; a second one ends this program, as it does without this.
#[cfg(unix)]
pub(super) fn stops(guest: Interrupter) -> Result<(), Failure> {
    use signal_hook::consts::SIGINT;

    let cannot = |error| format!("cannot wait for Ctrl-C: {error}");
    let mut signals = signal_hook::iterator::Signals::new([SIGINT]).map_err(cannot)?;
    let wait = move || {
        let mut asked = false;
        for _ in signals.forever() {
            if asked || !guest.interrupt() {
                std::process::exit(i32::from(super::ending::Status::Interrupted as u8));
            }
            asked = true;
        }
    };
    let thread = std::thread::Builder::new().name("ctrl-c".into());
    thread.spawn(wait).map_err(cannot)?;
    Ok(())
}

/// Ctrl-C ends this program.
#[cfg(not(unix))]
pub(super) fn stops(_: Interrupter) -> Result<(), Failure> {
    Ok(())
}
