//! What carries messages between processes.

/// Messages between this rank and each other one, in the order in which they were sent.
///
/// Nothing here waits: a [`Mesh`](crate::Mesh) asks again and again, from one thread at a time.
///
/// ```
/// use polychord_ranks_mpi::{Broken, Wire};
///
/// /// Of a group of one.
/// struct Alone;
///
/// impl Wire for Alone {
///     fn rank(&self) -> u32 {
///         0
///     }
///     fn ranks(&self) -> u32 {
///         1
///     }
///     fn send(&mut self, _to: u32, _message: &[u8]) -> Result<(), Broken> {
///         Ok(())
///     }
///     fn receive(&mut self, _into: &mut Vec<u8>) -> Result<Option<u32>, Broken> {
///         Ok(None)
///     }
/// }
/// # assert_eq!(Alone.ranks(), 1);
/// ```
pub trait Wire: Send {
    /// The number of this rank, from 0.
    fn rank(&self) -> u32;

    /// How many ranks there are.
    fn ranks(&self) -> u32;

    /// Begins to send at most [`MOST`](crate::MOST) bytes to another rank, and keeps what it needs
    /// of them.
    ///
    /// # Errors
    ///
    /// [`Broken`] if nothing can be sent to that rank any more.
    fn send(&mut self, to: u32, message: &[u8]) -> Result<(), Broken>;

    /// Replaces `into` by the next message that has come, and says from whom; nothing if there is none now.
    /// A message of more than [`MOST`](crate::MOST) bytes is an error.
    ///
    /// # Errors
    ///
    /// [`Broken`] if nothing comes from a rank any more.
    fn receive(&mut self, into: &mut Vec<u8>) -> Result<Option<u32>, Broken>;
}

/// A connection that is lost.
///
/// ```
/// use polychord_ranks_mpi::Broken;
///
/// assert_eq!(Broken::new(3, "connection reset").rank, 3);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Broken {
    /// The rank at the other end.
    pub rank: u32,
    /// What happened.
    pub reason: String,
}

impl Broken {
    /// A lost connection with a rank.
    #[must_use]
    pub fn new(rank: u32, reason: impl std::fmt::Display) -> Self {
        Self { rank, reason: reason.to_string() }
    }
}
