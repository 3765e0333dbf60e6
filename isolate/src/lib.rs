//! Sessions in a process of their own, which may compute and do nothing else.
//!
//! A WebAssembly engine is a large program that runs code of strangers. If a guest breaks out of it, it has all
//! that its process has: memory with keys, open files, the network. [`Isolated`] is a session in another
//! process, that opens the model and the compiled code to read, and may otherwise only compute; [`Confinement`]
//! is how that process, or any other, gives its rights up.
//!
//! | what | by what |
//! | --- | --- |
//! | files: only those that were named | Landlock |
//! | no network, no programs, no signals to others, no new rights | seccomp: a list of the system calls that engines need |
//! | memory | `RLIMIT_DATA` |
//! | what it says | frames of 16 bytes, and a sealed shared memory of a size that the parent has set: lengths are not believed |
//!
//! It is there on Linux alone; elsewhere this crate is empty.

#![forbid(unsafe_code)]
#![cfg(target_os = "linux")]

mod calls;
mod channel;
mod confinement;
mod error;
mod isolated;
mod serve;

pub use confinement::{Confined, Confinement};
pub use error::{Error, Result};
pub use isolated::{Isolated, IsolatedOptions};
pub use serve::{Started, serve};
