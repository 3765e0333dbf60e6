//! What a template may cost: steps, memory, depth.
//!
//! Everything that an evaluation makes is charged before it is made, and given back when it
//! is dropped. So a bound holds whatever the template does, without a look at the clock.

use std::cell::Cell;
use std::rc::Rc;

/// Longest template, in bytes; the longest known ones have about 20 KiB.
pub(super) const TEMPLATE: usize = 256 << 10;
/// Most tokens between `{{` and `}}`, or `{%` and `%}`.
pub(super) const TAG_TOKENS: usize = 4096;
/// Most `elif` branches of one `if`.
pub(super) const ELIFS: usize = 512;
/// How deep blocks, brackets and conditional expressions may lie in each other.
pub(super) const NESTING: usize = 64;
/// Most arguments of one call.
pub(super) const ARGUMENTS: usize = 255;
/// How deep the evaluation may go, with macros and recursive loops.
pub(super) const EVALUATION: usize = 320;
/// How deep lists and dictionaries may lie in each other.
pub(super) const VALUE: u8 = 64;
/// Longest `range`, as in Python's sandbox.
pub(super) const RANGE: i64 = 100_000;
/// Largest width or precision of formatted text.
pub(super) const WIDTH: usize = 1024;
/// Stack of the thread that parses and evaluates. The depths above need less than a quarter.
#[cfg_attr(
    all(target_family = "wasm", target_os = "unknown"),
    expect(dead_code, reason = "there are no threads")
)]
pub(super) const STACK: usize = 8 << 20;

/// Bytes of text for which a step is charged.
const BYTES_PER_STEP: usize = 16;

/// Why an evaluation does not go on.
#[derive(Debug)]
pub(super) enum Stop {
    /// A limit would be exceeded.
    Limit { what: &'static str, limit: usize },
    /// The template called `raise_exception`.
    Refused(String),
    /// A mistake of the template, with the line once it is known.
    Failed { reason: String, line: Option<u32> },
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

impl Stop {
    pub(super) fn failed(reason: impl Into<String>) -> Self {
        Self::Failed { reason: reason.into(), line: None }
    }

    /// Says which filter failed, unless the reason begins with a name.
    pub(super) fn of_filter(self, name: &str) -> Self {
        match self {
            Self::Failed { reason, line } if !reason.starts_with('`') => {
                Self::Failed { reason: format!("`{name}`: {reason}"), line }
            }
            other => other,
        }
    }

    /// Adds the line, unless an inner statement has done so.
    pub(super) fn at(self, line: u32) -> Self {
        match self {
            Self::Failed { reason, line: None } => Self::Failed { reason, line: Some(line) },
            other => other,
        }
    }
}

/// Shorthand for a mistake of the template.
pub(super) fn fail<T>(reason: impl Into<String>) -> Result<T> {
    Err(Stop::failed(reason))
}

/// Limits of one evaluation, which grow with the conversation.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) steps: usize,
    pub(super) memory: usize,
    pub(super) output: usize,
}

impl Limits {
    /// Limits for `count` messages that have `said` bytes together.
    pub(super) fn new(count: usize, said: usize) -> Self {
        let sum = |base: usize, message: usize, byte: usize| {
            base.saturating_add(message.saturating_mul(count))
                .saturating_add(byte.saturating_mul(said))
        };
        Self {
            steps: sum(1_000_000, 10_000, 16),
            memory: sum(8 << 20, 32 << 10, 16),
            output: sum(1 << 20, 16 << 10, 2),
        }
    }
}

/// Counts what an evaluation costs.
#[derive(Clone, Debug)]
pub(super) struct Meter(Rc<Counters>);

#[derive(Debug)]
struct Counters {
    limits: Limits,
    steps: Cell<usize>,
    held: Cell<usize>,
    depth: Cell<usize>,
}

impl Meter {
    pub(super) fn new(limits: Limits) -> Self {
        let (steps, held, depth) = (Cell::new(0), Cell::new(0), Cell::new(0));
        Self(Rc::new(Counters { limits, steps, held, depth }))
    }

    /// Takes steps.
    pub(super) fn steps(&self, count: usize) -> Result<()> {
        let (steps, limit) = (self.0.steps.get().saturating_add(count), self.0.limits.steps);
        if steps > limit {
            return Err(Stop::Limit { what: "steps", limit });
        }
        self.0.steps.set(steps);
        Ok(())
    }

    /// Takes the steps for looking at bytes of text.
    pub(super) fn scan(&self, bytes: usize) -> Result<()> {
        self.steps(1 + bytes / BYTES_PER_STEP)
    }

    /// Takes memory, until the result is dropped.
    pub(super) fn charge(&self, bytes: usize) -> Result<Charge> {
        let mut charge = Charge { meter: self.clone(), bytes: 0 };
        charge.grow(bytes)?;
        Ok(charge)
    }

    /// Goes one level deeper, until the result is dropped.
    pub(super) fn enter(&self) -> Result<Level> {
        let depth = self.0.depth.get() + 1;
        if depth > EVALUATION {
            return Err(Stop::Limit { what: "levels of evaluation", limit: EVALUATION });
        }
        self.0.depth.set(depth);
        Ok(Level(self.clone()))
    }

    pub(super) fn output_limit(&self) -> usize {
        self.0.limits.output
    }
}

/// Memory that something holds.
#[derive(Debug)]
pub(super) struct Charge {
    meter: Meter,
    bytes: usize,
}

impl Charge {
    /// Takes more memory.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let counters = &self.meter.0;
        let (held, limit) = (counters.held.get().saturating_add(bytes), counters.limits.memory);
        if held > limit {
            return Err(Stop::Limit { what: "bytes of text and lists", limit });
        }
        counters.held.set(held);
        self.bytes += bytes;
        Ok(())
    }

    pub(super) fn meter(&self) -> &Meter {
        &self.meter
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.meter.0.held.update(|held| held - self.bytes);
    }
}

/// A level of the evaluation.
pub(super) struct Level(Meter);

impl Drop for Level {
    fn drop(&mut self) {
        self.0.0.depth.update(|depth| depth - 1);
    }
}
