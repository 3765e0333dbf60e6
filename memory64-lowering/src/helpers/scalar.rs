//! Loads and stores that are not, or may not be, in the first segment.

use wasm_encoder::{BlockType, Instruction as I, ValType};

use super::body::{Body, trap};
use super::{Helper, Helpers};
use crate::access::{Access, Op, arg};
use crate::view::View;

impl Helpers<'_> {
    fn view(&self, memory: u32) -> &View {
        // Helpers are asked for by operators of a valid module, whose memories are all there.
        self.views.get(memory).unwrap_or_else(|| unreachable!("memory {memory} is not there"))
    }

    pub(super) fn access(&mut self, memory: u32, op: Op) -> Body {
        const ADDRESS: u32 = 0;
        const OFFSET: u32 = 1;
        const VALUE: u32 = 2;
        let view = self.view(memory).clone();
        let mut body = match op.is_store() {
            true => Body::new(&[ValType::I64, ValType::I64, op.value()], &[]),
            false => Body::new(&[ValType::I64, ValType::I64], &[op.value()]),
        };
        let start = body.local(ValType::I64);
        body.emit(&[I::LocalGet(ADDRESS), I::LocalGet(OFFSET), I::I64Add, I::LocalTee(start)]);
        body.emit(&[I::LocalGet(ADDRESS), I::I64LtU]).trap_if(&view);
        let last = match op.width() {
            1 => start,
            width => {
                let last = body.local(ValType::I64);
                let more = I::I64Const(i64::from(width) - 1);
                body.emit(&[I::LocalGet(start), more, I::I64Add, I::LocalTee(last)]);
                body.emit(&[I::LocalGet(start), I::I64LtU]).trap_if(&view);
                last
            }
        };
        let outside = [I::LocalGet(last), I::GlobalGet(view.limit), I::I64GeU];
        body.emit(&outside).emit(&[I::If(BlockType::Empty)]);
        body.emit(&[I::Call(self.index(Helper::Refresh(memory)))]);
        body.emit(&outside).trap_if(&view);
        body.emit(&[I::End]);
        if view.reach > 1 && op.width() > 1 {
            self.straddle(&mut body, memory, op, [start, last, VALUE]);
        }
        let [segment, low] = [body.local(ValType::I32), body.local(ValType::I32)];
        body.locate(&view, start, segment, low);
        body.switch(segment, view.reach, |body, index| {
            body.emit(&[I::LocalGet(low)]);
            if op.is_store() {
                body.emit(&[I::LocalGet(VALUE)]);
            }
            body.emit(&[op.on(view.base + index), I::Return]);
        });
        if !op.is_store() {
            body.emit(&trap(&view));
        }
        body
    }

    /// What two segments share is moved byte by byte.
    fn straddle(&mut self, body: &mut Body, memory: u32, op: Op, [start, last, value]: [u32; 3]) {
        let shift = I::I64Const(self.view(memory).shift.into());
        body.emit(&[I::LocalGet(start), shift.clone(), I::I64ShrU]);
        body.emit(&[I::LocalGet(last), shift, I::I64ShrU]);
        body.emit(&[I::I64Ne, I::If(BlockType::Empty)]);
        let half = [I::LocalGet(start), I::I64Const(8), I::I64Add];
        let [gather, scatter] = [Helper::Gather(memory), Helper::Scatter(memory)];
        match op {
            Op::V128Load => {
                let gather = I::Call(self.index(gather));
                body.emit(&[I::LocalGet(start), I::I32Const(8), gather.clone(), I::I64x2Splat]);
                body.emit(&half).emit(&[I::I32Const(8), gather, I::I64x2ReplaceLane(1)]);
            }
            Op::V128Store => {
                let scatter = I::Call(self.index(scatter));
                body.emit(&[I::LocalGet(start), I::I32Const(8), I::LocalGet(value)]);
                body.emit(&[I::I64x2ExtractLane(0), scatter.clone()]).emit(&half);
                body.emit(&[I::I32Const(8), I::LocalGet(value), I::I64x2ExtractLane(1), scatter]);
            }
            op => {
                let width = I::I32Const(op.width().cast_signed());
                body.emit(&[I::LocalGet(start), width]);
                if op.is_store() {
                    body.emit(&[I::LocalGet(value)]).emit(&op.convert());
                    body.emit(&[I::Call(self.index(scatter))]);
                } else {
                    body.emit(&[I::Call(self.index(gather))]).emit(&op.convert());
                }
            }
        }
        body.emit(&[I::Return, I::End]);
    }

    pub(super) fn gather(&mut self, memory: u32) -> Body {
        const ADDRESS: u32 = 0;
        const LEFT: u32 = 1;
        let mut body = Body::new(&[ValType::I64, ValType::I32], &[ValType::I64]);
        let bits = body.local(ValType::I64);
        body.emit(&[I::Loop(BlockType::Empty)]);
        body.emit(&[I::LocalGet(bits), I::I64Const(8), I::I64Shl, I::LocalGet(ADDRESS)]);
        body.emit(&[I::LocalGet(LEFT), I::I32Const(1), I::I32Sub, I::LocalTee(LEFT)]);
        body.emit(&[I::I64ExtendI32U, I::I64Add, I::Call(self.index(Helper::Byte(memory)))]);
        body.emit(&[I::I64ExtendI32U, I::I64Or, I::LocalSet(bits), I::LocalGet(LEFT)]);
        body.emit(&[I::BrIf(0), I::End, I::LocalGet(bits)]);
        body
    }

    pub(super) fn scatter(&mut self, memory: u32) -> Body {
        const ADDRESS: u32 = 0;
        const LEFT: u32 = 1;
        const BITS: u32 = 2;
        let mut body = Body::new(&[ValType::I64, ValType::I32, ValType::I64], &[]);
        body.emit(&[I::Loop(BlockType::Empty), I::LocalGet(ADDRESS), I::LocalGet(BITS)]);
        body.emit(&[I::I32WrapI64, I::Call(self.index(Helper::PutByte(memory)))]);
        body.emit(&[I::LocalGet(ADDRESS), I::I64Const(1), I::I64Add, I::LocalSet(ADDRESS)]);
        body.emit(&[I::LocalGet(BITS), I::I64Const(8), I::I64ShrU, I::LocalSet(BITS)]);
        body.emit(&[I::LocalGet(LEFT), I::I32Const(1), I::I32Sub, I::LocalTee(LEFT)]);
        body.emit(&[I::BrIf(0), I::End]);
        body
    }

    pub(super) fn byte(&self, memory: u32) -> Body {
        let mut body = Body::new(&[ValType::I64], &[ValType::I32]);
        let view = self.view(memory);
        let [segment, low] = [body.local(ValType::I32), body.local(ValType::I32)];
        body.locate(view, 0, segment, low);
        body.switch(segment, view.reach, |body, index| {
            let load = I::I32Load8U(arg(view.base + index, 0, 0));
            body.emit(&[I::LocalGet(low), load, I::Return]);
        });
        body.emit(&trap(view));
        body
    }

    pub(super) fn put_byte(&self, memory: u32) -> Body {
        let mut body = Body::new(&[ValType::I64, ValType::I32], &[]);
        let view = self.view(memory);
        let [segment, low] = [body.local(ValType::I32), body.local(ValType::I32)];
        body.locate(view, 0, segment, low);
        body.switch(segment, view.reach, |body, index| {
            let store = I::I32Store8(arg(view.base + index, 0, 0));
            body.emit(&[I::LocalGet(low), I::LocalGet(1), store]);
        });
        body
    }
}

impl Access {
    /// The function for it, which for a lane is that of a number.
    pub(crate) fn helper(self) -> Helper {
        let op = self.op.lane().map_or(self.op, |(op, _)| op);
        Helper::Access(self.memory, op)
    }
}
