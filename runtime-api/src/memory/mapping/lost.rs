//! Pages of a mapped file that the file no longer has.
//!
//! An access to a mapped page beyond the end of its file raises SIGBUS, whose default is the
//! end of the process. Here a page of ours that is lost becomes zeros instead, so that the
//! reader goes on, and the loss is remembered until it is asked for ([`Watch::is_lost`]): a
//! result that was computed meanwhile must not be used. Other signals are passed on, also those that
//! a process sends.

use std::cell::Cell;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use super::budget;

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
    /// The signal that this thread is passing on, so that two handlers that pass on to each other
    /// come to an end.
    static PASSING: Cell<Option<Passing>> = const { Cell::new(None) };
}

/// A signal that is passed on, to a handler which need not return.
#[derive(Clone, Copy, Debug)]
struct Passing {
    /// Address of what the system saved when it delivered the signal.
    context: usize,
    /// Address of a variable of the function that passes it on.
    frame: usize,
}

impl Passing {
    /// Whether `inner` was called by the handler that this was passed on to: for the same signal,
    /// and further down the stack. A handler that has jumped out of `self` left a record that is
    /// none of these.
    const fn calls(self, inner: Self) -> bool {
        self.context == inner.context && inner.frame < self.frame
    }
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
        let most = SLOTS.min(budget::most_layers());
        let free = RANGES[..most].iter().find(|slot| slot.start.load(Ordering::Relaxed) == 0);
        let Some(slot) = free else {
            FULL.call_once(|| {
                tracing::warn!(
                    "{most} layers are mapped at once, which is as many as this process can look \
                     after and may take of vm.max_map_count; further ones are copied"
                );
            });
            return Ok(None);
        };
        slot.end.store(pages.end, Ordering::Release);
        slot.lost.store(false, Ordering::Relaxed);
        slot.start.store(pages.start, Ordering::Release);
        Ok(Some(Self(slot)))
    }

    /// Whether these bytes are among those that are looked after.
    pub(crate) fn is_at(&self, bytes: &[u8]) -> bool {
        let range = bytes.as_ptr_range();
        self.0.start.load(Ordering::Relaxed) <= range.start.addr()
            && range.end.addr() <= self.0.end.load(Ordering::Relaxed)
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

/// Whether a signal tells of an access that found no page: not one that a process has sent, nor
/// one for a defect of the machine.
const fn is_fault(info: &libc::siginfo_t) -> bool {
    info.si_code == libc::BUS_ADRERR
}

extern "C" fn handle(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: with SA_SIGINFO the system passes a valid `siginfo_t`.
    let what = unsafe { &*info };
    if is_fault(what) {
        // SAFETY: that of a fault has an address.
        let address = unsafe { what.si_addr() }.addr();
        if replace(address) {
            return;
        }
    }
    pass_on(signal, info, context);
}

/// Puts zeros in the place of lost pages; false if the page is none of ours.
///
/// All pages of the range from this one on are replaced at once, since they are behind the end of
/// the file, too: one by one each could take a mapping of its own, of which a process has not as
/// many as pages.
fn replace(address: usize) -> bool {
    let mut end = None;
    // A range that was left behind by a memory which is gone hides none that is there.
    for slot in &RANGES {
        let start = slot.start.load(Ordering::Acquire);
        let slot_end = slot.end.load(Ordering::Acquire);
        // The slot may have been given to another range in between.
        let is_same = slot.start.load(Ordering::Acquire) == start;
        if start != 0 && start <= address && address < slot_end && is_same {
            slot.lost.store(true, Ordering::Release);
            end = Some(end.map_or(slot_end, |end: usize| end.min(slot_end)));
        }
    }
    let Some(end) = end else { return false };
    let page = rustix::param::page_size();
    let start = address - address % page;
    let flags = libc::MAP_PRIVATE | libc::MAP_FIXED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let pages = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the pages of a slot are ours to replace (the contract of `WholePages`), and those
    // from `address` on have no bytes any more: that is what the signal says.
    let mapped = unsafe { libc::mmap(pages, end - start, protection, flags, -1, 0) };
    mapped != libc::MAP_FAILED
}

/// Lets the handler before ours have the signal, or the default action, which ends the process.
/// Ours stays set, but for that.
fn pass_on(signal: i32, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    let previous = PREVIOUS.load(Ordering::Acquire);
    // SAFETY: the pointer is null or of a box that is never freed.
    let previous = unsafe { previous.as_ref() };
    let action = previous.map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
    // SAFETY: with SA_SIGINFO the system passes a valid `siginfo_t`.
    let code = unsafe { &*info }.si_code;
    // The system does not let a process ignore a fault.
    if action == libc::SIG_IGN && code <= 0 {
        return;
    }
    let mut frame = 0_u8;
    let here = Passing { context: context.addr(), frame: std::ptr::from_mut(&mut frame).addr() };
    let outer = PASSING.get();
    if action == libc::SIG_DFL || action == libc::SIG_IGN || outer.is_some_and(|it| it.calls(here))
    {
        // SAFETY: the default action is always valid.
        unsafe { libc::signal(signal, libc::SIG_DFL) };
        // A fault is repeated on return. Others have to be sent again; the system holds them back
        // until then.
        if !matches!(code, libc::BUS_ADRALN..=libc::BUS_MCEERR_AR) {
            // SAFETY: sends a signal to this thread.
            unsafe { libc::raise(signal) };
        }
        return;
    }
    PASSING.set(Some(here));
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
    PASSING.set(outer);
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

    /// What a child process of this test does, which then may die.
    const CHILD: &str = "POLYCHORD_TEST_BUS";

    /// A SIGBUS that a process sends is none of ours: it ends a process as it always does, is
    /// ignored where it is ignored, and reaches the handler that was there before.
    #[test]
    fn a_signal_that_is_sent_is_passed_on() {
        use std::os::unix::process::ExitStatusExt as _;

        if let Ok(before) = std::env::var(CHILD) {
            return send_to_self(&before);
        }
        let (_, module) = module_path!().split_once("::").unwrap();
        let name = format!("{module}::a_signal_that_is_sent_is_passed_on");
        for (before, signal) in
            [("default", Some(libc::SIGBUS)), ("ignore", None), ("handler", None)]
        {
            let mut child = std::process::Command::new(std::env::current_exe().unwrap());
            let done = child.args(["--exact", &name]).env(CHILD, before).output().unwrap();
            assert_eq!(done.status.signal(), signal, "{before}: {done:?}");
            assert!(signal.is_some() || done.status.success(), "{before}: {done:?}");
        }
    }

    fn send_to_self(before: &str) {
        static SEEN: AtomicUsize = AtomicUsize::new(0);
        extern "C" fn count(_: i32) {
            SEEN.fetch_add(1, Ordering::Relaxed);
        }
        let handler = match before {
            "default" => libc::SIG_DFL,
            "ignore" => libc::SIG_IGN,
            _ => count as extern "C" fn(i32) as usize,
        };
        // SAFETY: the handler only counts.
        unsafe { libc::signal(libc::SIGBUS, handler) };
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&[7; 65_536]).unwrap();
        // SAFETY: what happens when somebody changes the file is what this test is about.
        let map = unsafe { MmapOptions::new().map_copy(&file).unwrap() };
        let start = map.as_ptr().expose_provenance();
        let watch = Watch::new(&(start..start + map.len())).unwrap().unwrap();
        for times in 1..=3 {
            // SAFETY: what the signal does is what this test is about.
            unsafe { libc::raise(libc::SIGBUS) };
            assert!(is_ours(&current().unwrap()), "{before}");
            assert_eq!(SEEN.load(Ordering::Relaxed), if before == "handler" { times } else { 0 });
        }
        assert!(!watch.is_lost());
        file.set_len(0).unwrap();
        assert_eq!(std::hint::black_box(&map)[65_535], 0);
        assert!(watch.is_lost());
    }

    /// Two handlers that pass on to each other come to an end; one that jumped out is forgotten.
    #[test]
    fn only_a_handler_that_was_passed_to_calls_back() {
        let passing = |context, frame| Passing { context, frame };
        assert!(passing(10, 1000).calls(passing(10, 900)));
        // Delivered anew, after a handler that did not return: on another stack, or at the top of
        // the same one.
        assert!(!passing(10, 1000).calls(passing(11, 900)));
        assert!(!passing(10, 1000).calls(passing(10, 1000)));
        assert!(!passing(10, 900).calls(passing(10, 1000)));
    }

    /// All pages behind the one that was touched are replaced at once.
    #[test]
    fn what_is_lost_takes_one_mapping() {
        let page = rustix::param::page_size();
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![7; 100 * page]).unwrap();
        // SAFETY: what happens when somebody changes the file is what this test is about.
        let map = unsafe { MmapOptions::new().map_copy(&file).unwrap() };
        let start = map.as_ptr().expose_provenance();
        let watch = Watch::new(&(start..start + map.len())).unwrap().unwrap();
        file.set_len(10 * page as u64).unwrap();
        for index in (10..100).step_by(2) {
            assert_eq!(std::hint::black_box(&map)[index * page], 0);
        }
        assert!(watch.is_lost());
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let starts = maps.lines().filter_map(|line| line.split_once('-'));
        let starts = starts.map(|(start, _)| usize::from_str_radix(start, 16).unwrap());
        let inside = starts.filter(|at| (start..start + map.len()).contains(at)).count();
        assert!(inside <= 2, "{inside} mappings");
    }
}
