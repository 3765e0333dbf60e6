//! Ctrl-C stops what a command has begun, and not the command.

use super::Failure;

/// What the shell is told of a program that Ctrl-C has ended.
pub(crate) const INTERRUPTED: u8 = 130;

/// From now on Ctrl-C calls `stop`, in a thread of its own. Where that has nothing to stop, and returns false,
/// this program ends, as it does without this.
#[cfg(unix)]
pub(crate) fn stops(mut stop: impl FnMut() -> bool + Send + 'static) -> Result<(), Failure> {
    use std::io::Read as _;

    use signal_hook::consts::SIGINT;
    use signal_hook::low_level::pipe;

    let cannot = |error| format!("cannot wait for Ctrl-C: {error}");
    // Not a socket, as an iterator over signals has it: a process that may only compute makes none.
    let (mut asked, ask) = std::io::pipe().map_err(cannot)?;
    pipe::register(SIGINT, ask).map_err(cannot)?;
    let wait = move || {
        let mut once = [0];
        while asked.read_exact(&mut once).is_ok() {
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
