//! How much a guest may use.

use std::time::Duration;

/// How much a guest may use. Stacks are limited by the engine's own setting.
///
/// ```
/// use std::time::Duration;
/// use polychord_runtime_api::Limits;
///
/// let limits = Limits::default().memory_bytes(1 << 20).call_time(Duration::from_secs(1));
/// assert_eq!(limits.total(), 4 << 20);
/// ```
///
/// # A guest as a whole
///
/// All memories of a guest together, exported or not, never exceed
/// [`total_bytes`](Self::total_bytes), and all its tables never exceed
/// [`table_elements`](Self::table_elements). The total is divided when the guest is started, in
/// the same way for every engine: each memory may grow to the same size, at most
/// [`memory_bytes`](Self::memory_bytes), so chosen that the total is kept if all of them do; what a
/// memory cannot use because of the module's own maximum is left to the others. A guest that
/// starts with more than its memories may grow to is refused. Tables likewise.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Most bytes of each linear memory, whether guest or host grows it. At most 4 GiB are possible for a
    /// 32-bit memory, which is the default.
    pub memory_bytes: u64,
    /// Most bytes of all linear memories together; by default four times
    /// [`memory_bytes`](Self::memory_bytes).
    pub total_bytes: Option<u64>,
    /// Most linear memories; 16 by default.
    pub memories: u32,
    /// Most tables; 16 by default.
    pub tables: u32,
    /// Most elements of all tables together; 2^20 by default. No table has more than 2^20.
    pub table_elements: u64,
    /// Longest time that a call of the guest may take; none by default.
    pub call_time: Option<Duration>,
    /// Whether a running call can be stopped by an [`Interrupter`](crate::Interrupter); it can where
    /// there is a [`call_time`](Self::call_time), and not otherwise by default. Code that can be
    /// stopped is slower by what it takes to look at a flag in each loop.
    pub interruptible: bool,
}

/// Most elements of a table: far more than a compiler emits, far less than a machine has.
pub(crate) const TABLE_ELEMENTS: u64 = 1 << 20;

impl Limits {
    /// Sets the most bytes of each linear memory.
    #[must_use]
    pub const fn memory_bytes(mut self, most: u64) -> Self {
        self.memory_bytes = most;
        self
    }

    /// Sets the most bytes of all linear memories together.
    #[must_use]
    pub const fn total_bytes(mut self, most: u64) -> Self {
        self.total_bytes = Some(most);
        self
    }

    /// Sets the most linear memories.
    #[must_use]
    pub const fn memories(mut self, most: u32) -> Self {
        self.memories = most;
        self
    }

    /// Sets the most tables.
    #[must_use]
    pub const fn tables(mut self, most: u32) -> Self {
        self.tables = most;
        self
    }

    /// Sets the most elements of all tables together.
    #[must_use]
    pub const fn table_elements(mut self, most: u64) -> Self {
        self.table_elements = most;
        self
    }

    /// Sets the longest time that a call may take, or none.
    #[must_use]
    pub fn call_time(mut self, most: impl Into<Option<Duration>>) -> Self {
        self.call_time = most.into();
        self
    }

    /// Sets whether a running call can be stopped from another thread.
    #[must_use]
    pub const fn interruptible(mut self, can: bool) -> Self {
        self.interruptible = can;
        self
    }

    /// Whether anything can stop a running call: a time limit, or an
    /// [`Interrupter`](crate::Interrupter).
    #[must_use]
    pub const fn can_be_stopped(&self) -> bool {
        self.interruptible || self.call_time.is_some()
    }

    /// Most bytes of all linear memories together.
    #[must_use]
    pub const fn total(&self) -> u64 {
        match self.total_bytes {
            Some(total) => total,
            None => self.memory_bytes.saturating_mul(4),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory_bytes: 1 << 32,
            total_bytes: None,
            memories: 16,
            tables: 16,
            table_elements: TABLE_ELEMENTS,
            call_time: None,
            interruptible: false,
        }
    }
}
