//! Functions as they are written.

use wasm_encoder::{BlockType, Encode, Instruction as I, ValType};

use crate::access::arg;
use crate::sections::sized;
use crate::view::View;

/// A function that is being written.
pub(super) struct Body {
    pub(super) params: Vec<ValType>,
    pub(super) results: Vec<ValType>,
    locals: Vec<ValType>,
    code: Vec<u8>,
}

impl Body {
    pub(super) fn new(params: &[ValType], results: &[ValType]) -> Self {
        let (params, results) = (params.to_vec(), results.to_vec());
        Self { params, results, locals: Vec::new(), code: Vec::new() }
    }

    pub(super) fn local(&mut self, ty: ValType) -> u32 {
        self.locals.push(ty);
        u32::try_from(self.params.len() + self.locals.len() - 1).unwrap_or(u32::MAX)
    }

    pub(super) fn emit(&mut self, instructions: &[I<'_>]) -> &mut Self {
        instructions.iter().for_each(|instruction| instruction.encode(&mut self.code));
        self
    }

    pub(super) fn append(&mut self, code: &[u8]) {
        self.code.extend_from_slice(code);
    }

    /// Traps, where the condition on the stack holds, as an access out of bounds does.
    pub(super) fn trap_if(&mut self, view: &View) {
        self.emit(&[I::If(BlockType::Empty)]);
        self.emit(&trap(view)).emit(&[I::End]);
    }

    /// One of the cases, by the number in a local, which is one of them; then goes on behind all.
    pub(super) fn switch(&mut self, number: u32, cases: u32, mut case: impl FnMut(&mut Self, u32)) {
        let last = cases - 1;
        self.emit(&[I::Block(BlockType::Empty)]);
        if cases > 1 {
            (0..cases).for_each(|_| _ = self.emit(&[I::Block(BlockType::Empty)]));
            let targets: Vec<_> = (0..last).collect();
            self.emit(&[I::LocalGet(number), I::BrTable(targets.into(), last), I::End]);
        }
        for index in 0..cases {
            case(self, index);
            if index < last {
                self.emit(&[I::Br(last - index), I::End]);
            }
        }
        self.emit(&[I::End]);
    }

    /// Sets locals to the segment of an address and to the address in it.
    pub(super) fn locate(&mut self, view: &View, address: u32, segment: u32, low: u32) {
        if view.reach > 1 {
            let shift = I::I64Const(view.shift.into());
            self.emit(&[I::LocalGet(address), shift, I::I64ShrU, I::I32WrapI64]);
            self.emit(&[I::LocalSet(segment)]);
        }
        self.emit(&[I::LocalGet(address), I::I32WrapI64]);
        if view.shift < 32 {
            self.emit(&[I::I32Const(view.mask()), I::I32And]);
        }
        self.emit(&[I::LocalSet(low)]);
    }

    /// An entry of the code section.
    pub(super) fn encode(mut self) -> Vec<u8> {
        self.emit(&[I::End]);
        let mut out = Vec::new();
        self.locals.len().encode(&mut out);
        for ty in &self.locals {
            1_u32.encode(&mut out);
            ty.encode(&mut out);
        }
        out.extend_from_slice(&self.code);
        sized(&out)
    }
}

/// Traps as an access out of bounds does: no 32-bit memory has a byte at 8 GiB.
pub(super) fn trap(view: &View) -> [I<'static>; 4] {
    let far = arg(view.base, u32::MAX.into(), 0);
    [I::I32Const(-1), I::I32Load8U(far), I::Drop, I::Unreachable]
}
