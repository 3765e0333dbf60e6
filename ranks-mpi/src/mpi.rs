//! A wire over MPI.
//!
//! MPI has no way to go on without a process that has died: what waits for it waits for ever, and errors
//! end the job with texts of the library. So nothing here waits. Receives are posted before anything is
//! sent to them, sends are begun and tested later, and who is gone is found out by the mesh, from silence.
#![allow(unsafe_code, reason = "rsmpi has no requests whose buffers outlive a scope")]

use std::collections::VecDeque;
use std::ffi::{c_int, c_void};
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::Universe;
use mpi::ffi;
use mpi::topology::Communicator as _;
use mpi::traits::AsRaw as _;
use polychord_runtime_api::Result;
use polychord_runtime_api::ranks::Failure;

use crate::mesh::{Mesh, Patience};
use crate::message::MOST;
use crate::slow::{Link, Slow};
use crate::wire::{Broken, Wire};

/// All processes that `mpirun` has started, of which this one is a rank. There is one for a process; MPI ends
/// when it is dropped.
///
/// ```no_run
/// use polychord_ranks_mpi::{Patience, World};
/// use polychord_runtime_api::Rank;
///
/// let world = World::join()?;
/// let rank = Rank::over(world.mesh(None, Patience::default(), |_| World::abort(1))?)?;
/// println!("rank {} of {}", rank.index(), rank.count());
/// // The rank is dropped before the world.
/// drop(rank);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct World(Universe);

/// Why there is no world.
///
/// ```
/// use polychord_ranks_mpi::Unavailable;
///
/// assert!(Unavailable::Started.to_string().contains("already"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unavailable {
    /// MPI can be started once in a process.
    #[error("MPI was already started in this process: keep the first World")]
    Started,
    /// The library takes no calls from two threads, even one after another.
    #[error(
        "this MPI library takes calls of one thread alone: use one that has MPI_THREAD_SERIALIZED"
    )]
    OneThread,
}

/// Only one thread at a time calls MPI.
static CALLS: Mutex<()> = Mutex::new(());

fn calls() -> MutexGuard<'static, ()> {
    CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

impl World {
    /// Starts MPI, and waits for all processes to do so.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] if MPI was started before, or cannot be used from two threads.
    pub fn join() -> std::result::Result<Self, Unavailable> {
        let _calls = calls();
        let (universe, threading) =
            mpi::initialize_with_threading(Threading::Serialized).ok_or(Unavailable::Started)?;
        if threading < Threading::Serialized {
            return Err(Unavailable::OneThread);
        }
        Ok(Self(universe))
    }

    /// The transport of this process, over what connects the processes or as over a slower link. All
    /// processes call it, once.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`Mesh::new`].
    pub fn mesh(
        &self,
        link: Option<Link>,
        patience: Patience,
        last_words: impl FnOnce(Failure) + Send + 'static,
    ) -> Result<Mesh> {
        let wire = MpiWire::new(&self.0);
        match link {
            Some(link) => Mesh::new(Slow::new(wire, link), patience, last_words),
            None => Mesh::new(wire, patience, last_words),
        }
    }

    /// The number of this process, and how many there are.
    #[must_use]
    pub fn place(&self) -> (usize, usize) {
        let _calls = calls();
        let world = self.0.world();
        (index(world.rank()), index(world.size()))
    }

    /// Ends all processes of the job, with an exit code where the MPI library passes it on. What has to be
    /// said is said before.
    pub fn abort(code: i32) -> ! {
        let _calls = calls();
        // SAFETY: MPI was started, as processes of a job that was not have no other ranks; and a library that
        // was not ends the process, too.
        unsafe { ffi::MPI_Abort(ffi::RSMPI_COMM_WORLD, code) };
        std::process::exit(code)
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").finish_non_exhaustive()
    }
}

/// All other processes, with a receive posted for each.
struct MpiWire {
    communicator: ffi::MPI_Comm,
    rank: u32,
    /// Of each rank; none for this one. Their buffers are those of `buffers`.
    receives: Vec<ffi::MPI_Request>,
    buffers: Vec<Box<[u8]>>,
    /// What MPI still reads from, the oldest first.
    sends: VecDeque<Sending>,
    /// Buffers of messages that were sent.
    spare: Vec<Vec<u8>>,
}

/// A message that is on its way.
struct Sending {
    request: ffi::MPI_Request,
    bytes: Vec<u8>,
}

/// Of all messages: those of a rank stay in their order.
const TAG: c_int = 1;
/// Messages that are on their way to a rank that does not take them: it will be found to be silent before.
const MOST_SENDS: usize = 1 << 16;

// SAFETY: handles of MPI belong to the process and not to a thread, and `CALLS` serializes their use, as
// MPI_THREAD_SERIALIZED asks for.
unsafe impl Send for MpiWire {}

impl MpiWire {
    fn new(universe: &Universe) -> Self {
        let _calls = calls();
        let world = universe.world();
        let (rank, ranks) = (index(world.rank()), index(world.size()));
        let mut communicator = MaybeUninit::uninit();
        // SAFETY: the world is a communicator, and the result has a place. All processes call it.
        unsafe { ffi::MPI_Comm_dup(world.as_raw(), communicator.as_mut_ptr()) };
        // SAFETY: an error would have ended the process, which is what MPI does by default.
        let communicator = unsafe { communicator.assume_init() };
        // Errors are ours from here on.
        // SAFETY: it is the communicator that was just made.
        unsafe { ffi::MPI_Comm_set_errhandler(communicator, ffi::RSMPI_ERRORS_RETURN) };
        // SAFETY: it is a constant of the library.
        let none = unsafe { ffi::RSMPI_REQUEST_NULL };
        let mut wire = Self {
            communicator,
            rank: u32::try_from(rank).unwrap_or(u32::MAX),
            receives: vec![none; ranks],
            buffers: (0..ranks).map(|_| Box::default()).collect(),
            sends: VecDeque::new(),
            spare: Vec::new(),
        };
        for from in (0..ranks).filter(|from| *from != rank) {
            wire.buffers[from] = vec![0; MOST].into();
            // What fails now fails when it is tested.
            _ = wire.post(from);
        }
        wire
    }

    /// Lets MPI write the next message of a rank into its buffer.
    fn post(&mut self, from: usize) -> std::result::Result<(), Broken> {
        let buffer = &mut self.buffers[from];
        // SAFETY: the buffer has `MOST` bytes, which fit into an int, lies on the heap, and is not touched
        // before the request is complete: `receive` sees to it, and `drop`.
        let status = unsafe {
            ffi::MPI_Irecv(
                buffer.as_mut_ptr().cast::<c_void>(),
                c_int::try_from(buffer.len()).unwrap_or(0),
                ffi::RSMPI_UINT8_T,
                c_int::try_from(from).unwrap_or(-1),
                TAG,
                self.communicator,
                &raw mut self.receives[from],
            )
        };
        checked(status, from)
    }

    /// Takes back the buffers of messages that were sent.
    fn reap(&mut self) {
        while let Some(send) = self.sends.front_mut() {
            let mut done = 0;
            // SAFETY: the request is one that MPI_Isend made, and the result has a place.
            let status = unsafe {
                ffi::MPI_Test(&raw mut send.request, &raw mut done, ffi::RSMPI_STATUS_IGNORE)
            };
            // One that failed is over; who did not get it will be silent.
            if done == 0 && status == SUCCESS {
                return;
            }
            self.spare.extend(self.sends.pop_front().map(|send| send.bytes));
        }
    }
}

const SUCCESS: c_int = 0;

impl Wire for MpiWire {
    fn rank(&self) -> u32 {
        self.rank
    }

    fn ranks(&self) -> u32 {
        u32::try_from(self.receives.len()).unwrap_or(u32::MAX)
    }

    fn send(&mut self, to: u32, message: &[u8]) -> std::result::Result<(), Broken> {
        let _calls = calls();
        self.reap();
        if self.sends.len() >= MOST_SENDS {
            return Err(Broken::new(to, "it takes no messages"));
        }
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(message);
        let mut request = MaybeUninit::uninit();
        // SAFETY: the bytes lie on the heap, and are neither touched nor freed before the request is complete:
        // `reap` sees to it, and `drop`. No message has more than `MOST` bytes, which fit into an int.
        let status = unsafe {
            ffi::MPI_Isend(
                bytes.as_ptr().cast::<c_void>(),
                c_int::try_from(bytes.len()).unwrap_or(0),
                ffi::RSMPI_UINT8_T,
                c_int::try_from(to).unwrap_or(-1),
                TAG,
                self.communicator,
                request.as_mut_ptr(),
            )
        };
        checked(status, to as usize)?;
        // SAFETY: the call has succeeded, and so made a request.
        let request = unsafe { request.assume_init() };
        self.sends.push_back(Sending { request, bytes });
        Ok(())
    }

    fn receive(&mut self, into: &mut Vec<u8>) -> std::result::Result<Option<u32>, Broken> {
        let _calls = calls();
        self.reap();
        let count = c_int::try_from(self.receives.len()).unwrap_or(0);
        let (mut from, mut done) = (0, 0);
        let mut status = MaybeUninit::uninit();
        // SAFETY: `receives` are requests that MPI made, or none, and the results have places.
        let tested = unsafe {
            ffi::MPI_Testany(
                count,
                self.receives.as_mut_ptr(),
                &raw mut from,
                &raw mut done,
                status.as_mut_ptr(),
            )
        };
        let sender = usize::try_from(from).ok().filter(|from| *from < self.buffers.len());
        checked(tested, sender.unwrap_or_default())?;
        let Some(sender) = sender.filter(|_| done != 0) else { return Ok(None) };
        let mut len = 0;
        // SAFETY: a request is complete, and so the status was written.
        unsafe { ffi::MPI_Get_count(status.as_ptr(), ffi::RSMPI_UINT8_T, &raw mut len) };
        let message = self.buffers[sender].get(..index(len)).unwrap_or_default();
        into.clear();
        into.extend_from_slice(message);
        self.post(sender)?;
        Ok(u32::try_from(sender).ok())
    }
}

impl Drop for MpiWire {
    fn drop(&mut self) {
        let start = Instant::now();
        while !self.sends.is_empty() && start.elapsed() < Duration::from_secs(1) {
            let calls = calls();
            self.reap();
            drop(calls);
            std::thread::yield_now();
        }
        // What MPI may still read from or write to stays for ever: a rank is gone, and the process ends.
        self.sends.drain(..).for_each(|send| std::mem::forget(send.bytes));
        let _calls = calls();
        for (request, buffer) in self.receives.iter_mut().zip(&mut self.buffers) {
            if buffer.is_empty() {
                continue;
            }
            let mut done = 0;
            // SAFETY: the request is one that MPI made; its buffer is freed only if it is complete.
            unsafe { ffi::MPI_Cancel(request) };
            // SAFETY: as above, and the result has a place.
            unsafe { ffi::MPI_Test(request, &raw mut done, ffi::RSMPI_STATUS_IGNORE) };
            if done == 0 {
                std::mem::forget(std::mem::take(buffer));
            }
        }
    }
}

/// A status of MPI as an error about a rank, in the words of the library.
fn checked(status: c_int, rank: usize) -> std::result::Result<(), Broken> {
    if status == SUCCESS {
        return Ok(());
    }
    let mut text = [0_u8; 1024];
    let mut len = 0;
    // SAFETY: the text has more bytes than any library's MPI_MAX_ERROR_STRING, which is at most 512.
    unsafe { ffi::MPI_Error_string(status, text.as_mut_ptr().cast(), ptr::addr_of_mut!(len)) };
    let text = String::from_utf8_lossy(text.get(..index(len)).unwrap_or_default()).into_owned();
    Err(Broken::new(
        u32::try_from(rank).unwrap_or(u32::MAX),
        format!("MPI cannot reach it: {text}"),
    ))
}

/// A number of MPI, which is never negative.
fn index(number: c_int) -> usize {
    usize::try_from(number).unwrap_or_default()
}
