//! A feed-forward part with experts, some of them at a time: what a host calls that brings them in
//! when they were chosen.
//!
//! Results are those of the feed-forward part in one call: each choice is computed by itself, and
//! they are added in the same order, once all of them are there.
#![allow(unsafe_code)]

use polychord_abi::transformer::{feature, status};

use crate::experts::Routed;
use crate::forward::Network;
use crate::host::Layers;
use crate::stage::Stage;
use crate::{Status, experts, exports};

/// Lets rows choose the experts of a block.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_route(block: i32, n: i32) -> Status {
    exports::code(exports::with(|network| network.route(block, n)))
}

/// The experts that were chosen, or null before `INIT`.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_choices() -> *const u32 {
    let choices = |network: &mut Network| Ok(network.buffers.experts.chosen.as_ptr());
    exports::with(choices).unwrap_or(core::ptr::null())
}

/// Lets experts compute that were chosen.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_experts(block: i32, end: i32) -> Status {
    exports::code(exports::with(|network| network.compute_experts(block, end)))
}

/// Adds what they gave.
#[unsafe(no_mangle)]
pub extern "C" fn transformer_combine(block: i32) -> Status {
    exports::code(exports::with(|network| network.combine(block)))
}

impl Network {
    fn route(&mut self, block: i32, n: i32) -> Result<(), Status> {
        self.routed = None;
        let n = self.rows(n)?;
        let (block, _) = self.range(block, 1)?;
        let weights = self.blocks.get(block).ok_or(status::BAD_BLOCK)?;
        if !weights.shape.has(feature::EXPERTS) {
            return Err(status::BAD_BLOCK);
        }
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position: 0, n };
        let layers = Layers::new();
        stage.enter_feed_forward(weights, &layers, &mut self.buffers)?;
        stage.enter_experts(weights, &layers, &mut self.buffers)?;
        self.routed = Some(Routed { block, n, done: 0 });
        Ok(())
    }

    fn compute_experts(&mut self, block: i32, end: i32) -> Result<(), Status> {
        let routed = self.take_routed(block)?;
        let Routed { block, n, done } = routed;
        let end = usize::try_from(end).map_err(|_| status::BAD_BATCH)?;
        let weights = &self.blocks[block];
        let choices = n * weights.shape.experts_used;
        let places = done..experts::places_below(end, choices, &self.buffers).max(done);
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position: 0, n };
        let done = places.end;
        experts::compute(&stage, weights, &Layers::new(), &mut self.buffers, places)?;
        self.routed = Some(Routed { done, ..routed });
        Ok(())
    }

    fn combine(&mut self, block: i32) -> Result<(), Status> {
        let Routed { block, n, done } = self.take_routed(block)?;
        let weights = &self.blocks[block];
        if done != n * weights.shape.experts_used {
            return Err(status::BAD_ORDER);
        }
        let stage = Stage { shape: &self.shape, ropes: self.ropes, position: 0, n };
        let (layers, buffers) = (Layers::new(), &mut self.buffers);
        let stack = stage.leave_experts(weights, &layers, buffers)?;
        stage.leave_feed_forward(&stack, weights, &layers, buffers)
    }

    /// What was chosen in a block; it is put back by what succeeds and is not the end.
    fn take_routed(&mut self, block: i32) -> Result<Routed, Status> {
        let (block, _) = self.range(block, 1)?;
        self.routed.take().filter(|routed| routed.block == block).ok_or(status::BAD_ORDER)
    }
}
