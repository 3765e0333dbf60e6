//! What engines can do, and what callers need of them.

use serde::Serialize;

use crate::error::{Error, Result, Unmet};

/// What an engine can do, as it is configured in this process.
///
/// What is claimed here is tested, and what is not claimed is tested to be refused.
///
/// ```
/// use polychord_runtime_api::{Capabilities, Memory64};
///
/// let mut engine = Capabilities::new("mine", "1.0", "interpreter");
/// assert_eq!(engine.memory64, Memory64::Host);
/// engine.threads = true;
/// ```
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// Name of the engine: its cargo feature, and what the command line calls it.
    pub engine: &'static str,
    /// Version of the engine.
    pub version: &'static str,
    /// How it runs guests: the compiler, or the interpreter.
    pub execution: &'static str,
    /// 64-bit linear memories.
    pub memory64: Memory64,
    /// Largest 32-bit linear memory, in bytes.
    pub memory32_max_bytes: u64,
    /// Several linear memories in one guest.
    pub multi_memory: bool,
    /// The relaxed SIMD instructions.
    pub relaxed_simd: RelaxedSimd,
    /// Whether file pages can be mapped over a guest's memory. Nothing is mapped because of it
    /// alone: the memory itself has to lend
    /// [`WholePages`](crate::spi::WholePages), and is copied to if it does not.
    pub mapping: bool,
    /// Whether a running guest can be stopped by [`Limits::call_time`](crate::Limits::call_time).
    pub time_limit: bool,
    /// Whether runaway recursion ends in a trap and not in the end of the process.
    pub stack_overflow_trap: bool,
    /// Whether many guests may run at once, each on a thread of its own.
    pub threads: bool,
    /// Whether a function of the host may call the guest that has called it
    /// ([`Caller::call`](crate::imports::Caller::call)).
    pub reentrance: bool,
}

/// How the engine provides 64-bit memories.
///
/// ```
/// use polychord_runtime_api::{Capabilities, Memory64};
///
/// fn largest_native(engine: &Capabilities) -> u64 {
///     match engine.memory64 {
///         Memory64::Native { max_bytes } => max_bytes,
///         _ => 0,
///     }
/// }
/// # assert_eq!(Memory64::Lowered { max_bytes: 9 }.max_bytes(), 9);
/// # assert_eq!(largest_native(&Capabilities::new("mine", "1.0", "interpreter")), 0);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Memory64 {
    /// By the engine itself, as the memory64 proposal has it.
    Native {
        /// Largest one, in bytes.
        max_bytes: u64,
    },
    /// As several 32-bit memories: modules are rewritten before the engine sees them
    /// (`polychord-memory64-lowering`), and the host presents these memories as one.
    Lowered {
        /// Largest one, in bytes.
        max_bytes: u64,
    },
    /// Not at all: only behind the host imports.
    Host,
}

impl Memory64 {
    /// What an engine without 64-bit memories has, if it has several memories in a guest: 16 segments of
    /// 4 GiB, since each takes address space, however small it is.
    pub const LOWERED: Self = Self::Lowered { max_bytes: 64 << 30 };

    /// Largest 64-bit memory in bytes; 0 if there is none.
    #[must_use]
    pub const fn max_bytes(self) -> u64 {
        match self {
            Self::Native { max_bytes } | Self::Lowered { max_bytes } => max_bytes,
            Self::Host => 0,
        }
    }
}

/// How a module is to get its 64-bit memories, if it declares any.
///
/// ```
/// use polychord_runtime_api::{Memory64Choice, ModuleLimits};
///
/// // Refused where they would not be the engine's own.
/// let limits = ModuleLimits::default().memory64(Memory64Choice::Native);
/// assert_eq!("lowered".parse(), Ok(Memory64Choice::Lowered));
/// # let _ = limits;
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Memory64Choice {
    /// From the engine, or else lowered.
    #[default]
    Auto,
    /// From the engine only.
    Native,
    /// Lowered, whatever the engine has: for comparisons, and for engines whose own are slower.
    Lowered,
}

polychord_plan::named!(Memory64Choice, "way to get 64-bit memories", {
    Auto = "auto": "From the engine, or else lowered",
    Native = "native": "From the engine only",
    Lowered = "lowered": "As several 32-bit memories, whatever the engine has",
});

/// What the relaxed SIMD instructions bring.
///
/// ```
/// use polychord_runtime_api::RelaxedSimd;
///
/// assert_eq!("faster".parse(), Ok(RelaxedSimd::Faster));
/// assert_eq!(RelaxedSimd::Slower.to_string(), "slower");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum RelaxedSimd {
    /// The engine does not know them.
    Unsupported,
    /// They run, but no faster than plain SIMD.
    Slower,
    /// They run, and faster than plain SIMD.
    Faster,
}

polychord_plan::named!(RelaxedSimd, "support of relaxed SIMD", {
    Unsupported = "unsupported": "The engine does not know the instructions",
    Slower = "slower": "They run, but no faster than plain SIMD",
    Faster = "faster": "They run, and faster than plain SIMD",
});

/// What a caller needs of an engine. The default needs nothing.
///
/// ```
/// use polychord_runtime_api::{Capabilities, Error, Requirements};
///
/// let engine = Capabilities::new("mine", "1.0", "interpreter");
/// let needs = Requirements::NONE.memory32_bytes(1 << 30).threads();
/// let Err(Error::Unmet { unmet, .. }) = needs.check(&engine) else { panic!("it has no threads") };
/// assert_eq!(unmet[0].field, "threads");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Requirements {
    /// Least size of a 64-bit memory, native or lowered, in bytes.
    pub memory64_bytes: Option<u64>,
    /// 64-bit memories of the engine itself.
    pub native_memory64: bool,
    /// Least size of a 32-bit memory, in bytes.
    pub memory32_bytes: Option<u64>,
    /// Several memories in one guest.
    pub multi_memory: bool,
    /// The relaxed SIMD instructions.
    pub relaxed_simd: bool,
    /// Mapping of file pages.
    pub mapping: bool,
    /// Stopping a guest that takes too long.
    pub time_limit: bool,
    /// A trap on runaway recursion.
    pub stack_overflow_trap: bool,
    /// Many guests at once.
    pub threads: bool,
    /// Calls of a guest within its own calls.
    pub reentrance: bool,
}

impl Capabilities {
    /// Describes an engine that has 32-bit memories of up to 4 GiB and claims nothing else. What it
    /// does have is then set field by field.
    #[must_use]
    pub const fn new(engine: &'static str, version: &'static str, execution: &'static str) -> Self {
        Self {
            engine,
            version,
            execution,
            memory64: Memory64::Host,
            memory32_max_bytes: 1 << 32,
            multi_memory: false,
            relaxed_simd: RelaxedSimd::Unsupported,
            mapping: false,
            time_limit: false,
            stack_overflow_trap: false,
            threads: false,
            reentrance: false,
        }
    }
}

impl Requirements {
    /// Nothing beyond what every engine has.
    pub const NONE: Self = Self {
        memory64_bytes: None,
        native_memory64: false,
        memory32_bytes: None,
        multi_memory: false,
        relaxed_simd: false,
        mapping: false,
        time_limit: false,
        stack_overflow_trap: false,
        threads: false,
        reentrance: false,
    };

    /// Adds the need for a 64-bit memory of at least this many bytes, native or lowered.
    #[must_use]
    pub const fn memory64_bytes(mut self, bytes: u64) -> Self {
        self.memory64_bytes = Some(bytes);
        self
    }

    /// Adds the need for 64-bit memories of the engine itself.
    #[must_use]
    pub const fn native_memory64(mut self) -> Self {
        self.native_memory64 = true;
        self
    }

    /// Adds the need for a 32-bit memory of at least this many bytes.
    #[must_use]
    pub const fn memory32_bytes(mut self, bytes: u64) -> Self {
        self.memory32_bytes = Some(bytes);
        self
    }

    /// Adds the need for several memories in one guest.
    #[must_use]
    pub const fn multi_memory(mut self) -> Self {
        self.multi_memory = true;
        self
    }

    /// Adds the need for the relaxed SIMD instructions.
    #[must_use]
    pub const fn relaxed_simd(mut self) -> Self {
        self.relaxed_simd = true;
        self
    }

    /// Adds the need for mapping of file pages.
    #[must_use]
    pub const fn mapping(mut self) -> Self {
        self.mapping = true;
        self
    }

    /// Adds the need for stopping a guest that takes too long.
    #[must_use]
    pub const fn time_limit(mut self) -> Self {
        self.time_limit = true;
        self
    }

    /// Adds the need for a trap on runaway recursion.
    #[must_use]
    pub const fn stack_overflow_trap(mut self) -> Self {
        self.stack_overflow_trap = true;
        self
    }

    /// Adds the need for many guests at once.
    #[must_use]
    pub const fn threads(mut self) -> Self {
        self.threads = true;
        self
    }

    /// Adds the need for calls of a guest within its own calls.
    #[must_use]
    pub const fn reentrance(mut self) -> Self {
        self.reentrance = true;
        self
    }

    /// Compares with what an engine offers.
    ///
    /// # Errors
    ///
    /// [`Error::Unmet`] with every field that is not met, not only the first.
    pub fn check(&self, has: &Capabilities) -> Result<()> {
        let mut unmet = Vec::new();
        self.check_sizes(has, &mut unmet);
        let is_native = matches!(has.memory64, Memory64::Native { .. });
        let flags = [
            ("native_memory64", self.native_memory64, is_native),
            ("multi_memory", self.multi_memory, has.multi_memory),
            ("relaxed_simd", self.relaxed_simd, has.relaxed_simd != RelaxedSimd::Unsupported),
            ("mapping", self.mapping, has.mapping),
            ("time_limit", self.time_limit, has.time_limit),
            ("stack_overflow_trap", self.stack_overflow_trap, has.stack_overflow_trap),
            ("threads", self.threads, has.threads),
            ("reentrance", self.reentrance, has.reentrance),
        ];
        for (field, needed, offered) in flags {
            if needed && !offered {
                unmet.push(Unmet { field, needed: "yes".into(), offered: "no".into() });
            }
        }
        if unmet.is_empty() {
            return Ok(());
        }
        Err(Error::Unmet { engine: has.engine, unmet })
    }

    fn check_sizes(&self, has: &Capabilities, unmet: &mut Vec<Unmet>) {
        let sizes = [
            ("memory64_bytes", self.memory64_bytes, has.memory64.max_bytes()),
            ("memory32_bytes", self.memory32_bytes, has.memory32_max_bytes),
        ];
        for (field, needed, offered) in sizes {
            if let Some(needed) = needed.filter(|needed| *needed > offered) {
                let needed = format!("{needed} bytes");
                unmet.push(Unmet { field, needed, offered: format!("{offered} bytes") });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_unmet_field_is_listed() {
        let has = Capabilities { stack_overflow_trap: true, ..crate::idle::capabilities() };
        let needs = Requirements {
            memory64_bytes: Some(1),
            native_memory64: true,
            memory32_bytes: Some(1 << 33),
            multi_memory: true,
            relaxed_simd: true,
            mapping: true,
            time_limit: true,
            stack_overflow_trap: true,
            threads: true,
            reentrance: true,
        };
        let Err(Error::Unmet { unmet, .. }) = needs.check(&has) else { panic!("must be refused") };
        let fields: Vec<_> = unmet.iter().map(|unmet| unmet.field).collect();
        assert_eq!(
            fields,
            [
                "memory64_bytes",
                "memory32_bytes",
                "native_memory64",
                "relaxed_simd",
                "mapping",
                "time_limit",
                "reentrance"
            ]
        );
        assert!(Requirements::default().check(&has).is_ok());
    }
}
