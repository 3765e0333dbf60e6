//! Waiting: for time to pass, and for files to be ready.

use std::time::{Duration, Instant};

use wasi_common::sched::{RwEventFlags, RwSubscription, Subscription};
use wasi_common::snapshots::preview_1::types::Errno;
use wasi_common::{Error, Poll, WasiFile, WasiSched};

use crate::stop::Stop;
use crate::time::Passed;

/// How often a guest that waits looks whether it should stop.
const LOOK: Duration = Duration::from_millis(10);

/// Waits for a guest.
pub(crate) struct Scheduler {
    /// The fixed clock, on which waiting takes no time.
    pub(crate) passed: Option<Passed>,
    pub(crate) stop: Stop,
}

#[wiggle::async_trait]
impl WasiSched for Scheduler {
    async fn poll_oneoff<'a>(&self, poll: &mut Poll<'a>) -> Result<(), Error> {
        loop {
            let wait = match poll.earliest_clock_deadline() {
                Some(deadline) => deadline.duration_until().unwrap_or_default(),
                None => Duration::MAX,
            };
            let pause = if self.passed.is_some() { Duration::ZERO } else { wait.min(LOOK) };
            if ready(poll, pause)? || wait.is_zero() || self.stop.is_asked_for() {
                return Ok(());
            }
            match &self.passed {
                Some(passed) if wait < Duration::MAX => passed.advance(wait),
                // Nothing but a file can end it.
                Some(_) => std::thread::sleep(LOOK),
                None => {}
            }
        }
    }

    async fn sched_yield(&self) -> Result<(), Error> {
        std::thread::yield_now();
        Ok(())
    }

    async fn sleep(&self, time: Duration) -> Result<(), Error> {
        if let Some(passed) = &self.passed {
            passed.advance(time);
            return Ok(());
        }
        let begin = Instant::now();
        while !self.stop.is_asked_for() {
            let left = time.saturating_sub(begin.elapsed());
            if left.is_zero() {
                break;
            }
            std::thread::sleep(left.min(LOOK));
        }
        Ok(())
    }
}

/// What a file is waited for.
#[derive(Clone, Copy)]
pub(crate) enum Ready {
    ToRead,
    ToWrite,
}

/// Waits until a file of the host is ready, or the guest should stop.
#[cfg(unix)]
pub(crate) fn until(file: &dyn WasiFile, what: Ready, stop: &Stop) -> Result<(), Error> {
    while !stop.is_asked_for() {
        if host::is_ready(file, what, LOOK)? {
            return Ok(());
        }
    }
    Err(Errno::Intr.into())
}

/// Where the host cannot be asked, files are taken to be ready.
#[cfg(not(unix))]
pub(crate) fn until(_: &dyn WasiFile, _: Ready, _: &Stop) -> Result<(), Error> {
    Ok(())
}

/// Waits before something is tried again.
pub(crate) fn a_moment() {
    std::thread::sleep(LOOK);
}

/// Marks the files that are ready, and says whether there is one. Waits for a time if there is none.
fn ready(poll: &mut Poll<'_>, pause: Duration) -> Result<bool, Error> {
    let mut found = false;
    let mut asked = Vec::new();
    for subscription in poll.rw_subscriptions() {
        // What has no number in the host, as captured output, does not make anybody wait.
        if !can_wait(subscription) {
            complete(subscription, RwEventFlags::empty());
            found = true;
        } else {
            asked.push(subscription);
        }
    }
    let pause = if found { Duration::ZERO } else { pause };
    Ok(host::ready(asked, pause)? || found)
}

fn complete(subscription: &mut Subscription<'_>, flags: RwEventFlags) {
    match subscription {
        Subscription::Read(file) => {
            let bytes = file.file.num_ready_bytes().unwrap_or(0).max(1);
            file.complete(bytes, flags);
        }
        Subscription::Write(file) => file.complete(0, flags),
        Subscription::MonotonicClock(_) => {}
    }
}

fn file<'s, 'f>(subscription: &'s mut Subscription<'f>) -> Option<&'s mut RwSubscription<'f>> {
    match subscription {
        Subscription::Read(file) | Subscription::Write(file) => Some(file),
        Subscription::MonotonicClock(_) => None,
    }
}

#[cfg(unix)]
fn can_wait(subscription: &mut Subscription<'_>) -> bool {
    file(subscription).is_some_and(|it| it.file.pollable().is_some())
}

/// Where the host cannot be asked, files are taken to be ready: reading them waits.
#[cfg(not(unix))]
fn can_wait(_: &mut Subscription<'_>) -> bool {
    false
}

#[cfg(unix)]
mod host {
    use std::time::Duration;

    use rustix::event::{PollFd, PollFlags, Timespec};
    use rustix::io::Errno as HostErrno;
    use wasi_common::Error;
    use wasi_common::WasiFile;
    use wasi_common::sched::{RwEventFlags, Subscription};
    use wasi_common::snapshots::preview_1::types::Errno;

    use super::Ready;

    /// Whether a file is ready, waiting for that for at most this time. One that has ended or failed is:
    /// reading or writing it says so.
    pub(super) fn is_ready(
        file: &dyn WasiFile,
        what: Ready,
        pause: Duration,
    ) -> Result<bool, Error> {
        let events = match what {
            Ready::ToRead => PollFlags::IN,
            Ready::ToWrite => PollFlags::OUT,
        };
        let fd = file.pollable().ok_or(Errno::Badf)?;
        let pause = Timespec::try_from(pause).map_err(|_| Errno::Overflow)?;
        match rustix::event::poll(&mut [PollFd::from_borrowed_fd(fd, events)], Some(&pause)) {
            Ok(ready) => Ok(ready > 0),
            Err(HostErrno::INTR) => Ok(false),
            Err(error) => Err(std::io::Error::from(error).into()),
        }
    }

    /// Asks the host which files are ready, waiting for one for at most this time.
    pub(super) fn ready(
        mut asked: Vec<&mut Subscription<'_>>,
        pause: Duration,
    ) -> Result<bool, Error> {
        let found: Vec<PollFlags> = {
            let mut fds = Vec::new();
            for subscription in &asked {
                let (file, events) = match subscription {
                    Subscription::Read(file) => (file.file, PollFlags::IN),
                    Subscription::Write(file) => (file.file, PollFlags::OUT),
                    Subscription::MonotonicClock(_) => continue,
                };
                let fd = file.pollable().ok_or(Errno::Badf)?;
                fds.push(PollFd::from_borrowed_fd(fd, events));
            }
            let pause = Timespec::try_from(pause).map_err(|_| Errno::Overflow)?;
            match rustix::event::poll(&mut fds, Some(&pause)) {
                Ok(_) | Err(HostErrno::INTR) => {}
                Err(error) => return Err(std::io::Error::from(error).into()),
            }
            fds.iter().map(PollFd::revents).collect()
        };
        let mut any = false;
        for (subscription, events) in asked.iter_mut().zip(found) {
            if events.is_empty() {
                continue;
            }
            any = true;
            match super::file(subscription) {
                Some(file) if events.contains(PollFlags::NVAL) => file.error(Errno::Badf.into()),
                Some(file) if events.contains(PollFlags::ERR) => file.error(Errno::Io.into()),
                _ if events.contains(PollFlags::HUP) => {
                    super::complete(subscription, RwEventFlags::HANGUP);
                }
                _ => super::complete(subscription, RwEventFlags::empty()),
            }
        }
        Ok(any)
    }
}

#[cfg(not(unix))]
mod host {
    use std::time::Duration;

    use wasi_common::Error;
    use wasi_common::sched::Subscription;

    pub(super) fn ready(_: Vec<&mut Subscription<'_>>, pause: Duration) -> Result<bool, Error> {
        std::thread::sleep(pause);
        Ok(false)
    }
}
