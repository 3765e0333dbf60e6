//! What the shared files use, of loom. How locks are poisoned is the standard library's.

pub(crate) use std::sync::PoisonError;

pub(crate) use loom::sync::{Arc, Condvar, Mutex, MutexGuard, atomic};
