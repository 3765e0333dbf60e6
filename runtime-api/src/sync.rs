//! Locks, conditions, atomics, channels and threads of the standard library, under names that `loom/` has its own for.
//!
//! What is compiled there as well, with every order in which threads can run, takes them from here.

pub(crate) use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, atomic, mpsc};
pub(crate) use std::thread;
