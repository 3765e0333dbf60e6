//! The signal handlers of the process, kept as they were while something replaces them.
#![allow(unsafe_code)]

/// Handlers that are set again when this is dropped.
#[cfg(unix)]
pub(crate) struct Handlers(Vec<(i32, libc::sigaction)>);

/// The last signal that has a fixed meaning; those behind it are for real-time use.
#[cfg(unix)]
const LAST: i32 = 31;

#[cfg(unix)]
impl Handlers {
    /// The handlers that are set now.
    pub(crate) fn now() -> Self {
        let handlers = (1..=LAST).filter_map(|signal| {
            // SAFETY: all zeros are a valid `sigaction`: the default action.
            let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
            // SAFETY: a null pointer changes nothing, and `action` is there to be written to.
            let status = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) };
            (status == 0).then_some((signal, action))
        });
        Self(handlers.collect())
    }
}

#[cfg(unix)]
impl Drop for Handlers {
    fn drop(&mut self) {
        for (signal, action) in &self.0 {
            // SAFETY: the action is one that was set for this signal before. Signals whose action
            // cannot be changed are left alone by the system.
            unsafe { libc::sigaction(*signal, &raw const *action, std::ptr::null_mut()) };
        }
    }
}

/// Elsewhere nothing replaces handlers.
#[cfg(not(unix))]
pub(crate) struct Handlers;

#[cfg(not(unix))]
impl Handlers {
    pub(crate) fn now() -> Self {
        Self
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn handlers_come_back() {
        extern "C" fn ours(_: i32) {}
        let current = || Handlers::now().0[libc::SIGWINCH as usize - 1].1.sa_sigaction;
        let before = current();
        {
            let _handlers = Handlers::now();
            // SAFETY: the handler does nothing.
            unsafe { libc::signal(libc::SIGWINCH, ours as *const () as usize) };
            assert_ne!(current(), before);
        }
        assert_eq!(current(), before);
    }
}
