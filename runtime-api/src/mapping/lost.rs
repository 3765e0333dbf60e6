//! Pages of a mapped file that the file no longer has.
//!
//! An access to a mapped page beyond the end of its file raises SIGBUS, whose default is the
//! end of the process. Here a page of ours that is lost becomes zeros instead, so that whoever
//! read it goes on, and the loss is remembered until somebody asks ([`Watch::is_lost`]): a
//! result that was computed meanwhile must not be used. Other signals are passed on.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

/// A range of mapped pages that is looked after for as long as this lives.
#[derive(Debug)]
pub(crate) struct Watch(&'static Slot);

/// How many ranges can be looked after at once, in all guests of the process.
const SLOTS: usize = 4096;

/// One range, for a signal handler to read without locks.
#[derive(Debug)]
struct Slot {
    /// Address of the first byte; 0 if the slot is free.
    start: AtomicUsize,
    end: AtomicUsize,
    lost: AtomicBool,
}

static RANGES: [Slot; SLOTS] = [const {
    Slot { start: AtomicUsize::new(0), end: AtomicUsize::new(0), lost: AtomicBool::new(false) }
}; SLOTS];

/// Held while a range is added, or the handler set.
static CHANGING: Mutex<()> = Mutex::new(());

/// Done when it was said that there are too many.
static FULL: Once = Once::new();

/// The handler that was there before ours.
static PREVIOUS: AtomicPtr<libc::sigaction> = AtomicPtr::new(std::ptr::null_mut());

thread_local! {
    /// Whether this thread is passing a signal on, so that two handlers that pass on to each
    /// other come to an end.
    static PASSING: Cell<bool> = const { Cell::new(false) };
}

impl Watch {
    /// Looks after pages from now on; none if there are too many already.
    ///
    /// # Errors
    ///
    /// What the operating system says to a handler of SIGBUS.
    pub(crate) fn new(pages: &Range<usize>) -> io::Result<Option<Self>> {
        let _guard = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
        set_handler()?;
        let free = RANGES.iter().find(|slot| slot.start.load(Ordering::Relaxed) == 0);
        let Some(slot) = free else {
            FULL.call_once(|| {
                tracing::warn!(
                    "{SLOTS} layers are mapped at once, which is as many as can be looked after; \
                     further ones are copied"
                );
            });
            return Ok(None);
        };
        slot.end.store(pages.end, Ordering::Release);
        slot.lost.store(false, Ordering::Relaxed);
        slot.start.store(pages.start, Ordering::Release);
        Ok(Some(Self(slot)))
    }

    /// Whether a page was lost, and reads as zeros now.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.lost.load(Ordering::Acquire)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.start.store(0, Ordering::Release);
    }
}

/// Sets our handler again if an engine has replaced it since.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn keep_handler() -> io::Result<()> {
    if PREVIOUS.load(Ordering::Acquire).is_null() {
        // Nothing was mapped yet.
        return Ok(());
    }
    if is_ours(&current()?) {
        return Ok(());
    }
    let _guard = CHANGING.lock().unwrap_or_else(PoisonError::into_inner);
    set_handler()
}

/// Sets our handler, and remembers the one before it.
fn set_handler() -> io::Result<()> {
    let before = current()?;
    if is_ours(&before) {
        return Ok(());
    }
    // Never freed, as a handler may be reading it; engines set handlers once.
    PREVIOUS.store(Box::into_raw(Box::new(before)), Ordering::Release);
    // SAFETY: all zeros are a valid `sigaction`: the default action, no flags, an empty mask.
    let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
    ours.sa_sigaction = handle as *const () as usize;
    ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
    // SAFETY: the handler has the signature of SA_SIGINFO and does only what a handler may:
    // it reads atomics and calls `mmap`, `sigaction`, and the handler that was there before.
    match unsafe { libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The action that is set now.
fn current() -> io::Result<libc::sigaction> {
    // SAFETY: all zeros are a valid `sigaction`.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer changes nothing, and `action` is there to be written to.
    match unsafe { libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut action) } {
        0 => Ok(action),
        _ => Err(io::Error::last_os_error()),
    }
}

fn is_ours(action: &libc::sigaction) -> bool {
    action.sa_sigaction == handle as *const () as usize
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the system passes a valid `siginfo_t`.
    let what = unsafe { &*info };
    // SAFETY: that of SIGBUS has an address.
    let address = unsafe { what.si_addr() }.addr();
    if !replace(address) {
        pass_on(signal, info, context);
    }
}

/// Puts zeros in the place of a lost page; false if the page is none of ours.
fn replace(address: usize) -> bool {
    let holds = |slot: &&Slot| {
        let start = slot.start.load(Ordering::Acquire);
        let range = start..slot.end.load(Ordering::Acquire);
        // The slot may have been given to another range in between.
        start != 0 && range.contains(&address) && slot.start.load(Ordering::Acquire) == start
    };
    let Some(slot) = RANGES.iter().find(holds) else { return false };
    slot.lost.store(true, Ordering::Release);
    let page = rustix::param::page_size();
    let start = std::ptr::with_exposed_provenance_mut(address - address % page);
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS;
    // SAFETY: the pages of a slot are ours to replace (the contract of `map_file`), and the one
    // at `address` has no bytes any more: that is what the signal says.
    let mapped = unsafe { libc::mmap(start, page, protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Lets the handler before ours have the signal, or the default action, which ends the process.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: the pointer is null or of a box that is never freed.
    let previous = unsafe { previous.as_ref() };
    let action = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    if action == libc::SIG_DFL || action == libc::SIG_IGN || PASSING.get() {
        // SAFETY: the default action is always valid. The access is repeated on return.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        return;
    }
    PASSING.set(true);
    if previous.is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0) {
        type Handler = extern "C" fn(i32, *mut libc::siginfo_t, *mut libc::c_void);
        // SAFETY: it was set with SA_SIGINFO, so it is a function of this type.
        let handler: Handler = unsafe { std::mem::transmute(action) };
        handler(signal, info, context);
    } else {
        // SAFETY: it was set without SA_SIGINFO and is no constant, so it is a function of
        // this type.
        let handler: extern "C" fn(i32) = unsafe { std::mem::transmute(action) };
        handler(signal);
    }
    PASSING.set(false);
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use memmap2::MmapOptions;

    use super::*;

    #[test]
    fn lost_pages_are_zeros_and_remembered() {
        let page = rustix::param::page_size();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 4 * page]).unwrap();
        // SAFETY: what happens when somebody changes the file is what this test is about.
        let map = unsafe { MmapOptions::new().map_copy(&file).unwrap() };
        let start = map.as_ptr().expose_provenance();
        let watch = Watch::new(&(start..start + map.len())).unwrap().unwrap();
        assert_eq!(std::hint::black_box(&map)[3 * page], 7);
        file.set_len(page as u64).unwrap();
        assert!(!watch.is_lost());
        assert_eq!(std::hint::black_box(&map)[3 * page], 0);
        assert!(watch.is_lost());
        assert_eq!(std::hint::black_box(&map)[page - 1], 7);
        drop(watch);
        let again = Watch::new(&(start..start + map.len())).unwrap().unwrap();
        assert!(!again.is_lost());
        keep_handler().unwrap();
    }
}
