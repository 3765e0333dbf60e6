//! Everything that a call writes.

use polychord_abi::buffers::Experts;
use polychord_abi::transformer::status;

use crate::kernels::Activations;
use crate::model::Shape;
use crate::{Status, alloc};

/// Everything that a call writes; sized once.
pub(crate) struct Buffers {
    pub(crate) tokens: &'static mut [u32],
    pub(crate) hidden: &'static mut [f32],
    pub(crate) normed: &'static mut [f32],
    pub(crate) queries: &'static mut [f32],
    pub(crate) keys: &'static mut [f32],
    pub(crate) values: &'static mut [f32],
    pub(crate) attended: &'static mut [f32],
    pub(crate) gate: &'static mut [f32],
    pub(crate) up: &'static mut [f32],
    pub(crate) residual: &'static mut [f32],
    pub(crate) scores: &'static mut [f32],
    pub(crate) scratch: &'static mut [f32],
    pub(crate) integers: Option<Activations>,
    pub(crate) experts: Choices,
    /// Two for what a part of a network that not all have needs in between.
    pub(crate) mixed: &'static mut [f32],
    pub(crate) other: &'static mut [f32],
    /// `[n][carried]`: what blocks get beside the hidden state.
    pub(crate) carried: &'static mut [f32],
    pub(crate) logits: &'static mut [f32],
}

impl Buffers {
    /// Allocates all that a checked description needs.
    pub(crate) fn new(shape: &Shape) -> Result<Self, Status> {
        let lens = &shape.buffers;
        let floats = |len: u64| alloc::floats(alloc::len(len)?).ok_or(status::OUT_OF_MEMORY);
        Ok(Self {
            tokens: alloc::words(alloc::len(lens.tokens)?).ok_or(status::OUT_OF_MEMORY)?,
            hidden: floats(lens.hidden)?,
            normed: floats(lens.hidden)?,
            queries: floats(lens.queries)?,
            keys: floats(lens.keys)?,
            values: floats(lens.keys)?,
            attended: floats(lens.queries)?,
            gate: floats(lens.ffn)?,
            up: floats(lens.ffn)?,
            residual: floats(lens.hidden)?,
            scores: floats(lens.scores)?,
            scratch: floats(lens.scratch)?,
            integers: match &lens.integers {
                Some(lens) => Some(Activations::new(lens).ok_or(status::OUT_OF_MEMORY)?),
                None => None,
            },
            experts: Choices::new(&lens.experts)?,
            mixed: floats(lens.mixed)?,
            other: floats(lens.mixed)?,
            carried: floats(lens.carried)?,
            logits: floats(lens.logits)?,
        })
    }
}

/// What experts write; empty where there are none. A *choice* is a token with one of its experts.
pub(crate) struct Choices {
    /// `[n][experts]`: what they are chosen by.
    pub(crate) routes: &'static mut [f32],
    /// `[n][used]`: which expert each choice is of, and then its place in `order`.
    pub(crate) chosen: &'static mut [u32],
    /// `[n][used]`: the weight of each choice.
    pub(crate) weights: &'static mut [f32],
    /// The choices, ordered by their experts.
    pub(crate) order: &'static mut [u32],
    /// `[n * used][dim]`, in that order: the hidden state.
    pub(crate) rows: &'static mut [f32],
    /// `[n * used][dim]`, in that order: what experts made of it.
    pub(crate) results: &'static mut [f32],
    /// `[n * used][expert_ffn]`, in that order.
    pub(crate) gate: &'static mut [f32],
    /// The other factor, likewise.
    pub(crate) up: &'static mut [f32],
}

impl Choices {
    /// Room for the choices of a batch.
    fn new(lens: &Experts) -> Result<Self, Status> {
        let floats = |len: u64| alloc::floats(alloc::len(len)?).ok_or(status::OUT_OF_MEMORY);
        let words = |len: u64| alloc::words(alloc::len(len)?).ok_or(status::OUT_OF_MEMORY);
        Ok(Self {
            routes: floats(lens.routes)?,
            chosen: words(lens.choices)?,
            weights: floats(lens.choices)?,
            order: words(lens.choices)?,
            rows: floats(lens.rows)?,
            results: floats(lens.rows)?,
            gate: floats(lens.widths)?,
            up: floats(lens.widths)?,
        })
    }
}
