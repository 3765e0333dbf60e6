//! Sizes of divided memories.
//!
//! All segments before the last that has bytes are full, so their sizes alone tell the size of the
//! memory, to all modules that share them. Growing begins with the highest segment: if an engine runs out of
//! memory on the way, a lower segment is not full, and what lies above it does not count.

use wasm_encoder::{BlockType, Instruction as I, ValType};

use super::body::Body;
use super::{Helper, Helpers};

impl Helpers<'_> {
    pub(super) fn size(&self, memory: u32) -> Body {
        let mut body = Body::new(&[], &[ValType::I64]);
        let Some(view) = self.views.get(memory) else { return body };
        let [total, size] = [body.local(ValType::I64), body.local(ValType::I64)];
        body.emit(&[I::Block(BlockType::Empty)]);
        for segment in 0..view.reach {
            let bytes = I::MemorySize(view.base + segment);
            body.emit(&[bytes, I::I64ExtendI32U, I::LocalTee(size), I::LocalGet(total)]);
            body.emit(&[I::I64Add, I::LocalSet(total)]);
            if segment + 1 < view.reach {
                let full = I::I64Const(view.segment_pages().cast_signed());
                body.emit(&[I::LocalGet(size), full, I::I64LtU, I::BrIf(0)]);
            }
        }
        body.emit(&[I::End, I::LocalGet(total)]);
        body
    }

    pub(super) fn refresh(&mut self, memory: u32) -> Body {
        let mut body = Body::new(&[], &[]);
        let Some(limit) = self.views.get(memory).map(|view| view.limit) else { return body };
        body.emit(&[I::Call(self.index(Helper::Size(memory))), I::I64Const(16), I::I64Shl]);
        body.emit(&[I::GlobalSet(limit)]);
        body
    }

    pub(super) fn grow(&mut self, memory: u32) -> Body {
        const DELTA: u32 = 0;
        let mut body = Body::new(&[ValType::I64], &[ValType::I64]);
        let size = I::Call(self.index(Helper::Size(memory)));
        let Some(view) = self.views.get(memory) else { return body };
        let [old, new] = [body.local(ValType::I64), body.local(ValType::I64)];
        let [want, have] = [body.local(ValType::I64), body.local(ValType::I64)];
        let fail = [I::If(BlockType::Empty), I::I64Const(-1), I::Return, I::End];
        // `delta > cap - old`; a module that shares the memory may have made it larger than `cap`.
        let cap = match view.most {
            Some(global) => I::GlobalGet(global),
            None => I::I64Const(view.cap.cast_signed()),
        };
        body.emit(&[size, I::LocalTee(old), cap.clone(), I::I64GtU]).emit(&fail);
        body.emit(&[I::LocalGet(DELTA), cap, I::LocalGet(old), I::I64Sub, I::I64GtU]).emit(&fail);
        body.emit(&[I::LocalGet(old), I::LocalGet(DELTA), I::I64Add, I::LocalSet(new)]);
        for segment in (0..view.reach).rev() {
            let pages = view.segment_pages();
            let before = I::I64Const((u64::from(segment) * pages).cast_signed());
            let full = I::I64Const(pages.cast_signed());
            body.emit(&[I::Block(BlockType::Empty)]);
            // Nothing of it is wanted.
            body.emit(&[I::LocalGet(new), before.clone(), I::I64LeU, I::BrIf(0)]);
            body.emit(&[I::LocalGet(new), before, I::I64Sub, I::LocalTee(want), full.clone()]);
            body.emit(&[I::LocalGet(want), full, I::I64LtU, I::Select, I::LocalSet(want)]);
            let here = view.base + segment;
            body.emit(&[I::MemorySize(here), I::I64ExtendI32U, I::LocalTee(have)]);
            body.emit(&[I::LocalGet(want), I::I64GeU, I::BrIf(0)]);
            body.emit(&[I::LocalGet(want), I::LocalGet(have), I::I64Sub, I::I32WrapI64]);
            body.emit(&[I::MemoryGrow(here), I::I32Const(-1), I::I32Eq]).emit(&fail);
            body.emit(&[I::End]);
        }
        body.emit(&[I::LocalGet(old)]);
        body
    }
}
