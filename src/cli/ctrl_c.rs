//! Ctrl-C stops what a command has begun, and not the command.

use super::Failure;

/// What the shell is told of a program that Ctrl-C has ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// From now on Ctrl-C calls `stop`, in a thread of its own. Where that has nothing to stop, and returns false,
/// this program ends, as it does without this.
#[cfg(unix)]
pub(crate) fn stops(mut stop: impl FnMut() -> bool + Send + 'static) -> Result<(), Failure> {
    use signal_hook::consts::SIGINT;

    let cannot = |error| format!("cannot wait for Ctrl-C: {error}");
    let mut signals = signal_hook::iterator::Signals::new([SIGINT]).map_err(cannot)?;
    let wait = move || {
        for _ in signals.forever() {
            if !stop() {
                std::process::exit(INTERRUPTED.into());
            }
        }
    };
    let thread = std::thread::Builder::new().name("ctrl-c".into());
    thread.spawn(wait).map_err(cannot)?;
    Ok(())
}

/// Ctrl-C ends this program.
#[cfg(not(unix))]
pub(crate) fn stops(_: impl FnMut() -> bool + Send + 'static) -> Result<(), Failure> {
    Ok(())
}
