//! How large and how intricate a module may be, before a compiler sees it.

use crate::capability::Memory64Choice;

/// Bounds on a module, so that compiling it takes bounded time and memory.
///
/// A compiler's work is not proportional to the size of a module: eight kilobytes can cost an
/// optimizing compiler gigabytes. [`Engine::compile`](crate::Engine::compile) therefore counts,
/// while it validates, what the work is proportional to, and refuses a module with
/// [`Error::TooComplex`](crate::Error::TooComplex) before the engine sees it.
///
/// The defaults are for modules of unknown origin, and far beyond what compilers emit for one function:
/// the transformer guest, of 200 KB, has an effort of 230,000 in all. The worst module at the limits
/// that was found takes Cranelift ten seconds of one core and less than a gigabyte.
///
/// | bound | default | what counts |
/// | --- | --- | --- |
/// | [`bytes`](Self::bytes) | 16 MiB | the module |
/// | [`definitions`](Self::definitions) | 50,000 | types, functions, globals, exports, segments: each kind |
/// | [`signature`](Self::signature) | 1,000 | parameters and results of one type |
/// | [`locals`](Self::locals) | 5,000 | locals of one function, parameters included |
/// | [`nesting`](Self::nesting) | 5,000 | blocks within blocks |
/// | [`nested_loops`](Self::nested_loops) | 100 | loops within loops |
/// | [`effort`](Self::effort) | 600,000 and 2,000,000 | steps of compiling; of one function, and of all |
/// | [`spread`](Self::spread) | 10,000,000 and 40,000,000 | live values, at each block; of one function, and of all |
///
/// The *effort* is the number of instructions, where one that takes or leaves many values (a call
/// with a hundred results) counts for each; of locals, of targets of `br_table`, and 40 for each
/// function and 4 for each of its parameters; 20 and a join for each loop and each instruction that guests
/// with a time limit can be stopped before (calls of the host, growth, `memory.init`, and those
/// that work on tables); and of joins `j`, which count `j + j²/300` in a
/// function, since allocating registers for them takes time that grows with the square.
///
///
/// A *join* is a value that a compiler may have to choose by where control came from: the
/// operands of each branch (for a `br_table`, of each target), the results of each block, and
/// each local that is assigned within a block, or used within a loop.
///
/// The *spread* is the number of locals and operands, added up over all blocks.
///
/// ```
/// use polychord_runtime_api::{Capabilities, Error, ModuleInfo, ModuleLimits};
///
/// let engine = Capabilities::new("mine", "1.0", "interpreter");
/// let refused = ModuleInfo::parse_within(b"\0asm\x01\0\0\0", &engine, &ModuleLimits::default().bytes(4));
/// assert!(matches!(refused, Err(Error::TooComplex { .. })));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModuleLimits {
    pub(crate) bytes: u64,
    pub(crate) definitions: u64,
    pub(crate) signature: u64,
    pub(crate) locals: u64,
    pub(crate) nesting: u64,
    pub(crate) nested_loops: u64,
    pub(crate) effort: Bound,
    pub(crate) spread: Bound,
    pub(crate) memory64: Memory64Choice,
    pub(crate) only_stoppable: bool,
}

/// Most of one function, and of all functions of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) function: u64,
    pub(crate) module: u64,
}

impl ModuleLimits {
    /// No bounds but those of the WebAssembly specification's implementation limits: for modules
    /// whose author is trusted, or for a compiler in a process of its own
    /// ([`CompilerCommand`](crate::spi::CompilerCommand)).
    #[must_use]
    pub const fn trusted() -> Self {
        const NONE: Bound = Bound { function: u64::MAX, module: u64::MAX };
        Self {
            bytes: u64::MAX,
            definitions: u64::MAX,
            signature: u64::MAX,
            locals: u64::MAX,
            nesting: u64::MAX,
            nested_loops: u64::MAX,
            effort: NONE,
            spread: NONE,
            memory64: Memory64Choice::Auto,
            only_stoppable: false,
        }
    }

    /// Most bytes of the module.
    #[must_use]
    pub const fn bytes(mut self, most: u64) -> Self {
        self.bytes = most;
        self
    }

    /// Most types, functions, globals, exports, and segments of elements or data, of each kind.
    #[must_use]
    pub const fn definitions(mut self, most: u64) -> Self {
        self.definitions = most;
        self
    }

    /// Most parameters and results, together, of a function type.
    #[must_use]
    pub const fn signature(mut self, most: u64) -> Self {
        self.signature = most;
        self
    }

    /// Most locals of a function, parameters included.
    #[must_use]
    pub const fn locals(mut self, most: u64) -> Self {
        self.locals = most;
        self
    }

    /// Most blocks within blocks.
    #[must_use]
    pub const fn nesting(mut self, most: u64) -> Self {
        self.nesting = most;
        self
    }

    /// Most loops within loops.
    #[must_use]
    pub const fn nested_loops(mut self, most: u64) -> Self {
        self.nested_loops = most;
        self
    }

    /// How the module is to get its 64-bit memories. A module that is lowered has to keep all bounds as it
    /// was and as it then is, which is up to four times as much code.
    #[must_use]
    pub const fn memory64(mut self, choice: Memory64Choice) -> Self {
        self.memory64 = choice;
        self
    }

    /// Most steps of compiling one function, and all functions together.
    #[must_use]
    pub const fn effort(mut self, function: u64, module: u64) -> Self {
        self.effort = Bound { function, module };
        self
    }

    /// Most live values, added up over the blocks of one function, and of all together.
    #[must_use]
    pub const fn spread(mut self, function: u64, module: u64) -> Self {
        self.spread = Bound { function, module };
        self
    }

    /// Says that each guest of the module can be stopped, by a time limit or an
    /// [`Interrupter`](crate::Interrupter): the code of guests that look whether they should is
    /// compiled at once, and that of others when the first of these starts, if one does. Otherwise it
    /// is the other way round, and a module all of whose guests can be stopped is compiled twice.
    #[must_use]
    pub const fn only_stoppable(mut self) -> Self {
        self.only_stoppable = true;
        self
    }
}

impl Default for ModuleLimits {
    fn default() -> Self {
        Self {
            bytes: 16 << 20,
            definitions: 50_000,
            signature: 1_000,
            locals: 5_000,
            nesting: 5_000,
            nested_loops: 100,
            effort: Bound { function: 600_000, module: 2_000_000 },
            spread: Bound { function: 10_000_000, module: 40_000_000 },
            memory64: Memory64Choice::Auto,
            only_stoppable: false,
        }
    }
}
