//! What can go wrong between a host and its guests.
//!
//! - `about`: what a program learns of an error, without its message.
//! - `kind`, `trap`, `layer_problem`, `unmet`, `unmatched`: the parts of errors that are types of their own.
//! - `words`: the parts of messages.

mod about;
mod kind;
mod layer_problem;
#[cfg(test)]
mod tests;
mod trap;
mod unmatched;
mod unmet;
mod words;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use polychord_plan::{LayerHash, Printable};

pub use self::kind::ErrorKind;
pub use self::layer_problem::LayerProblem;
pub use self::trap::TrapKind;
pub use self::unmatched::Unmatched;
pub use self::unmet::Unmet;
use self::words::{in_function, join, list, memories, setter, unmatched_imports};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong between a host and its guests.
///
/// Every message says what happened, where, and with which numbers. Sizes and offsets are
/// in bytes.
///
/// ```
/// use polychord_runtime_api::{ErrorKind, Source};
///
/// let error = Source::open("/no/such/file").unwrap_err();
/// assert_eq!(error.kind(), ErrorKind::Io);
/// assert_eq!(error.operation(), Some("open"));
/// println!("{error}");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The bytes are not a module that Polychord accepts.
    #[error("the guest module is not valid at byte {offset}: {}", Printable(reason))]
    InvalidModule {
        /// Where in the module.
        offset: u64,
        /// What the validator says.
        reason: String,
    },
    /// Compiling the module could take more time and memory than a module of unknown origin may.
    #[error(
        "the guest module is too complex{}: {found} {what}, and the limit is {limit}; compile it with \
         ModuleLimits::trusted() if you trust its author, or in a process of its own",
        in_function(*function)
    )]
    TooComplex {
        /// What there is too much of.
        what: &'static str,
        /// In which function, by its index; none if it is counted for the whole module.
        function: Option<u32>,
        /// How much there is, as far as was counted.
        found: u64,
        /// The most that is accepted.
        limit: u64,
    },
    /// The engine refused a module that is valid.
    #[error("{engine} cannot compile the guest module: {}", Printable(reason))]
    Compile {
        /// Which engine.
        engine: &'static str,
        /// What the engine says.
        reason: String,
    },
    /// Something cannot be offered to guests as it is described.
    #[error(
        "{}.{} cannot be offered to guests: {}",
        Printable(module),
        Printable(name),
        Printable(reason)
    )]
    Import {
        /// Module part of its name.
        module: String,
        /// Name part of its name.
        name: String,
        /// Why not, and what to do.
        reason: String,
    },
    /// The guest imports what the host does not supply, or not in this type.
    #[error("the guest imports what the host does not supply: {}", unmatched_imports(unmatched))]
    Imports {
        /// Every import that is not matched.
        unmatched: Vec<Unmatched>,
    },
    /// A function of the host has ended the guest's call.
    #[error(
        "{}.{}, which the guest has called, failed: {}",
        Printable(module),
        Printable(name),
        Printable(source)
    )]
    Host {
        /// Which engine runs the guest.
        engine: &'static str,
        /// Module part of the function's name.
        module: String,
        /// Name part of the function's name.
        name: String,
        /// Why: the function's own error, or [`HostPanic`](crate::imports::HostPanic).
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The guest has ended its program with a code. This is no failure, but the end of the call.
    #[error("the guest has ended with code {code}")]
    Exit {
        /// The code: 0 by convention if all is well.
        code: i32,
    },
    /// A running call cannot be stopped.
    #[error(
        "the guest was not started so that its calls can be stopped: start it with \
         Limits::interruptible, or with a time limit"
    )]
    NotInterruptible,
    /// There is no such global.
    #[error(
        "the guest has no global {} that the host can use; it has {}",
        Printable(global),
        Printable(list(available))
    )]
    MissingGlobal {
        /// What was asked for.
        global: String,
        /// The globals that there are.
        available: Vec<String>,
    },
    /// A global cannot be set to a value.
    #[error(
        "the global {} has type {}, and cannot be set to {}",
        Printable(global),
        Printable(expected),
        Printable(given)
    )]
    GlobalType {
        /// The global.
        global: String,
        /// Its type, with `mut` if it can change.
        expected: String,
        /// The value.
        given: String,
    },
    /// Bytes of a guest that should be text are none.
    #[error(
        "the {len} bytes at {ptr:#x} of the guest's memory are no text: only the first {valid} are UTF-8"
    )]
    NotText {
        /// Where they are.
        ptr: u64,
        /// How many.
        len: u64,
        /// How many of them are text.
        valid: u64,
    },
    /// The engine could not make an instance.
    #[error("{engine} cannot start the guest: {}", Printable(reason))]
    Instantiate {
        /// Which engine.
        engine: &'static str,
        /// What the engine says.
        reason: String,
    },
    /// A call failed other than by a trap.
    #[error("{engine} cannot finish the call of {}: {}", Printable(operation), Printable(reason))]
    Call {
        /// Which engine.
        engine: &'static str,
        /// The export that was called, or `start function`.
        operation: String,
        /// What the engine says.
        reason: String,
    },
    /// The engine's library has another version than the one that Polychord is made for.
    #[error("this program is made for {engine} {expected}, but runs with {found}: {advice}")]
    EngineVersion {
        /// Which engine.
        engine: &'static str,
        /// The version that is needed.
        expected: &'static str,
        /// The version that there is.
        found: String,
        /// How to have the right one.
        advice: &'static str,
    },
    /// A part of Polychord panicked, and what it was to do is not done.
    #[error("{operation} panicked in the host: this is a bug of Polychord, please report it")]
    Panic {
        /// What was done.
        operation: &'static str,
    },
    /// The host has no memory for its own work.
    #[error("the host has no {asked} bytes of memory for {what}: {}", Printable(reason))]
    HostMemory {
        /// What it is for.
        what: &'static str,
        /// How much.
        asked: u64,
        /// Why not.
        reason: String,
    },
    /// Two engines in one process would take each other's signals.
    #[error(
        "{engine} cannot run in this process, where {other} already does: {exclusive} takes the \
         process's signal handlers for itself, and the other one would die of its next trap; run \
         each in a process of its own"
    )]
    SignalConflict {
        /// Which engine is refused.
        engine: &'static str,
        /// Which one was there before.
        other: &'static str,
        /// Which of the two cannot share.
        exclusive: &'static str,
    },
    /// The engine lacks what the caller or the module needs.
    #[error("{engine} does not offer what is needed: {}", join(unmet))]
    Unmet {
        /// Which engine.
        engine: &'static str,
        /// Every requirement that is not met.
        unmet: Vec<Unmet>,
    },
    /// The guest was stopped by a trap.
    #[error("{engine}: the guest trapped in {}: {kind}", Printable(operation))]
    Trap {
        /// Which engine.
        engine: &'static str,
        /// The export that was called, or `start function`.
        operation: String,
        /// What kind of trap.
        kind: TrapKind,
    },
    /// There is no such exported function.
    #[error(
        "the guest has no exported function {}; it exports {}",
        Printable(export),
        Printable(list(available))
    )]
    MissingExport {
        /// What was asked for.
        export: String,
        /// The functions that there are.
        available: Vec<String>,
    },
    /// Arguments or results do not fit the export.
    #[error(
        "{} has type {}, but the call is {}",
        Printable(export),
        Printable(expected),
        Printable(given)
    )]
    Signature {
        /// The export.
        export: String,
        /// Its type.
        expected: String,
        /// The types of the arguments given.
        given: String,
    },
    /// A memory cannot become as large as asked.
    #[error(
        "{} of {asked} bytes is more than the {limit} bytes that {} allows",
        Printable(what),
        Printable(limited_by)
    )]
    TooLarge {
        /// What was asked for.
        what: String,
        /// Its size.
        asked: u64,
        /// The most that is possible.
        limit: u64,
        /// Who or what sets the limit.
        limited_by: String,
    },
    /// A guest has more of something than its limits allow.
    #[error(
        "the guest has {found} {what}, and its limits allow {limit} (Limits::{})",
        setter(what)
    )]
    TooMany {
        /// What there is too much of: memories, tables, or elements of tables.
        what: &'static str,
        /// How many there are.
        found: u64,
        /// The most that is allowed.
        limit: u64,
    },
    /// The operating system or the engine has no more memory.
    #[error("{engine}: cannot allocate {asked} bytes for {what}: {}", Printable(reason))]
    OutOfMemory {
        /// Which engine.
        engine: &'static str,
        /// What was asked for.
        what: &'static str,
        /// Its size.
        asked: u64,
        /// Why not.
        reason: String,
    },
    /// There is no thread that could stop guests when their time is over.
    #[error(
        "no thread can be started that keeps time limits, so no guest is run under one: {reason}"
    )]
    NoWatchdog {
        /// What the operating system says.
        reason: String,
    },
    /// No 64-bit memory that could serve the request stands behind the guest.
    #[error("{operation} needs a 64-bit memory {kind}; make one with create_memory64 first")]
    NotEnabled {
        /// What was attempted.
        operation: &'static str,
        /// Which kind would do.
        kind: &'static str,
    },
    /// A memory in the guest needs a linear memory that the host knows.
    #[error(
        "{operation} needs a guest that exports a linear memory by the name `memory`; it exports {}",
        memories(exported)
    )]
    NoGuestMemory {
        /// What was attempted.
        operation: &'static str,
        /// Names of the memories that it exports.
        exported: Vec<String>,
    },
    /// There is no memory with this id.
    #[error("there is no memory {memory}; {count} were made")]
    MemoryNotFound {
        /// The id.
        memory: u32,
        /// How many there are.
        count: usize,
    },
    /// There is no such region in a memory.
    #[error("memory {memory} has no region {}; it has {}", Printable(region), Printable(available))]
    RegionNotFound {
        /// The memory.
        memory: u32,
        /// What was asked for.
        region: String,
        /// The regions that there are.
        available: String,
    },
    /// A memory cannot be made as described.
    #[error("the memory cannot be made: {}", Printable(reason))]
    InvalidMemory {
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// A range leaves the memory that it should lie in.
    #[error("{operation}: bytes {offset}..+{len} leave the memory of {size} bytes")]
    OutOfRange {
        /// What was attempted.
        operation: &'static str,
        /// Start of the range.
        offset: u64,
        /// Its length.
        len: u64,
        /// Size of the memory.
        size: u64,
    },
    /// A guest pointer plus a length leaves the address space.
    #[error("{operation}: pointer {ptr:#x} plus {len} bytes leaves the guest's address space")]
    PointerOverflow {
        /// The import.
        operation: &'static str,
        /// The pointer.
        ptr: u64,
        /// The length.
        len: u64,
    },
    /// A guest pointer is null or points beyond the guest's memory.
    #[error(
        "{operation}: pointer {ptr:#x} plus {len} bytes is null or leaves the guest's memory of {size} bytes"
    )]
    PointerOutOfBounds {
        /// The import.
        operation: &'static str,
        /// The pointer.
        ptr: u64,
        /// The length.
        len: u64,
        /// Size of the guest's memory.
        size: u64,
    },
    /// Bytes of the guest's memory are not one slice of it, as the memory is several in the engine.
    #[error(
        "{operation}: the {len} bytes at {ptr:#x} are not in one segment of the guest's memory, which was \
         lowered to memories of 4 GiB: copy them (Caller::read_into, Caller::write)"
    )]
    AcrossSegments {
        /// What was attempted.
        operation: &'static str,
        /// The pointer.
        ptr: u64,
        /// The length.
        len: u64,
    },
    /// A buffer cannot hold what should go into it.
    #[error("{operation}: a buffer of {given} bytes cannot hold {needed} bytes")]
    BufferTooSmall {
        /// What was attempted.
        operation: &'static str,
        /// Capacity of the buffer.
        given: u64,
        /// Size of what should go in.
        needed: u64,
    },
    /// Chunks of this size do not make up the whole.
    #[error(
        "all_gather: a chunk of {chunk} bytes from each of {ranks} ranks does not make up {total} bytes"
    )]
    BadChunk {
        /// Size of a chunk.
        chunk: u64,
        /// Size of the whole.
        total: u64,
        /// How many ranks there are.
        ranks: usize,
    },
    /// Two ranks do not do the same.
    #[error("rank {rank} {does}, but rank {other} {other_does}")]
    RanksDisagree {
        /// Who has noticed.
        rank: usize,
        /// What it does.
        does: String,
        /// Another one.
        other: usize,
        /// What that one does.
        other_does: String,
    },
    /// A rank has failed, and with it all others.
    #[error("rank {rank} of {ranks} has stopped, and all others with it: {}", Printable(reason))]
    RankStopped {
        /// Who failed first.
        rank: usize,
        /// How many ranks there are.
        ranks: usize,
        /// Why.
        reason: String,
        /// The time limit of its call, if it took longer: the group can begin anew.
        limit: Option<Duration>,
    },
    /// A group of no ranks, or of more than the limit.
    #[error("a group of {asked} ranks is not possible: 1 to {limit} are")]
    RankCount {
        /// What was asked for.
        asked: usize,
        /// The most that is possible.
        limit: usize,
    },
    /// A transport says that it is a rank which its group does not have.
    #[error("rank {rank} of {ranks} is not possible: ranks are numbered from 0")]
    RankNumber {
        /// The number.
        rank: usize,
        /// How many ranks there are.
        ranks: usize,
    },
    /// Ranks cannot begin anew while one of them computes.
    #[error(
        "{running} of {ranks} ranks are still in a call or wait for others: let them end before the \
         group begins anew"
    )]
    RankBusy {
        /// How many are.
        running: usize,
        /// How many there are.
        ranks: usize,
    },
    /// A guest cannot become part of two groups of ranks.
    #[error("the guest is rank {rank} of {ranks} already")]
    HasRank {
        /// Which one.
        rank: usize,
        /// Of how many.
        ranks: usize,
    },
    /// No layer with this id is registered.
    #[error("layer {layer} is not registered; {registered} layers are")]
    LayerNotFound {
        /// The id.
        layer: u32,
        /// How many layers are registered.
        registered: usize,
    },
    /// A layer cannot be registered as described.
    #[error("layer {layer} ({}) cannot be registered: {}", Printable(name), Printable(reason))]
    InvalidLayer {
        /// The id.
        layer: u32,
        /// Its name.
        name: String,
        /// What kind of thing is wrong.
        problem: LayerProblem,
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// A layer has other bytes than its source or its plan says.
    #[error(
        "layer {layer} ({}) has the SHA-256 {found} where {expected} was expected: the file is another one, or has changed since the plan was made",
        Printable(name)
    )]
    LayerChanged {
        /// The id.
        layer: u32,
        /// Its name.
        name: String,
        /// Of what it has to be.
        expected: Box<LayerHash>,
        /// Of what it is.
        found: Box<LayerHash>,
    },
    /// A plan does not hold together.
    #[error("the plan is not valid: {}", Printable(reason))]
    InvalidPlan {
        /// What is wrong, with the numbers.
        reason: String,
    },
    /// The file is shorter than it was when it was opened.
    #[error(
        "{} has shrunk to {now} bytes while in use; bytes {offset}..+{len} are gone: restore the file and open it again",
        Printable(path.display())
    )]
    Truncated {
        /// The file.
        path: PathBuf,
        /// Its length now.
        now: u64,
        /// Start of the range that is needed.
        offset: u64,
        /// Its length.
        len: u64,
    },
    /// A directory, a pipe or a device in the place of a file.
    #[error("{} is {found}, not a regular file: name the file itself", Printable(path.display()))]
    NotAFile {
        /// As given.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// The operating system refused.
    #[error("cannot {operation} {}: {source}", Printable(path.display()))]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}
