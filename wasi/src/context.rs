//! The context of one guest.

use std::fmt;

use wasi_common::WasiCtx;

use crate::stdio::Captured;
use crate::stop::Stop;

/// What one guest has through WASI: its arguments, its open files, its clocks, its random numbers.
///
/// It is the guest's state, or a part of it: see [`HasWasi`]. A [`WasiBuilder`](crate::WasiBuilder)
/// makes it.
pub struct Wasi {
    pub(crate) context: WasiCtx,
    pub(crate) stdout: Option<Captured>,
    pub(crate) stderr: Option<Captured>,
    /// How many files and directories are open.
    pub(crate) open: u32,
    pub(crate) most_open: u32,
    pub(crate) stop: Stop,
}

/// A guest's state that has a context of WASI in it.
///
/// ```
/// use polychord_wasi::{HasWasi, Wasi, WasiBuilder};
///
/// struct State {
///     wasi: Wasi,
///     calls: u32,
/// }
///
/// impl HasWasi for State {
///     fn wasi(&mut self) -> &mut Wasi {
///         &mut self.wasi
///     }
/// }
///
/// let mut state = State { wasi: WasiBuilder::new().build()?, calls: 0 };
/// assert!(state.wasi().stdout().is_empty() && state.calls == 0);
/// # Ok::<(), polychord_wasi::Error>(())
/// ```
pub trait HasWasi: Send + 'static {
    /// The context.
    fn wasi(&mut self) -> &mut Wasi;
}

impl HasWasi for Wasi {
    fn wasi(&mut self) -> &mut Wasi {
        self
    }
}

impl Wasi {
    /// What the guest has written to its standard output, if that is
    /// [captured](crate::Output::Captured); else nothing.
    #[must_use]
    pub fn stdout(&self) -> Vec<u8> {
        self.stdout.as_ref().map(Captured::bytes).unwrap_or_default()
    }

    /// What the guest has written to its standard error, if that is
    /// [captured](crate::Output::Captured); else nothing.
    #[must_use]
    pub fn stderr(&self) -> Vec<u8> {
        self.stderr.as_ref().map(Captured::bytes).unwrap_or_default()
    }

    /// Takes what the guest has written to its standard output, so that there is room for more.
    #[must_use]
    pub fn take_stdout(&mut self) -> Vec<u8> {
        self.stdout.as_ref().map(Captured::take).unwrap_or_default()
    }

    /// Takes what the guest has written to its standard error, so that there is room for more.
    #[must_use]
    pub fn take_stderr(&mut self) -> Vec<u8> {
        self.stderr.as_ref().map(Captured::take).unwrap_or_default()
    }
}

impl fmt::Debug for Wasi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wasi").field("open", &self.open).finish_non_exhaustive()
    }
}
