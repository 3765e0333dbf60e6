//! Functions that are added to a module: those that fill or copy memory piece by piece, and can be
//! stopped between two pieces, and one that checks the flag and does nothing else.

use wasm_encoder::{BlockType, Encode, Instruction as I, ValType};

use super::flag::Check;
use crate::sections::{function_type, index, sized};
use crate::shape::Shape;

/// Most bytes that a guest fills or copies without checking the flag.
pub const PIECE: u32 = 1 << 20;

/// The functions that a module needs, one for each kind of operation on each of its memories.
pub(super) struct Bulk<'a> {
    shape: &'a Shape,
    check: Check,
    kinds: Vec<Kind>,
}

/// A function to be added to a module.
pub(super) struct Added {
    /// Its type, as an entry of the type section.
    pub(super) ty: Vec<u8>,
    /// Its code, as an entry of the code section.
    pub(super) body: Vec<u8>,
    type_index: u32,
}

/// What a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// It checks the flag. A call of it is shorter than the check itself, so a module that has very many
    /// of the instructions that need one does not become much larger.
    Check,
    /// It carries out an operation piece by piece.
    Bulk(Operation),
}

/// An operation, by the indices of its memories.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Fill(u32),
    Copy { to: u32, from: u32 },
}

/// Parameters: the destination, what is filled or copied from there, and the number of bytes.
const TO: u32 = 0;
const WHAT: u32 = 1;
const LEN: u32 = 2;

impl<'a> Bulk<'a> {
    pub(super) const fn new(shape: &'a Shape, check: Check) -> Self {
        Self { shape, check, kinds: Vec::new() }
    }

    /// The index of the function for `memory.fill`.
    pub(super) fn fill(&mut self, memory: u32) -> u32 {
        self.index(Kind::Bulk(Operation::Fill(memory)))
    }

    /// The index of the function for `memory.copy`.
    pub(super) fn copy(&mut self, to: u32, from: u32) -> u32 {
        self.index(Kind::Bulk(Operation::Copy { to, from }))
    }

    /// The index of the function that checks the flag.
    pub(super) fn check(&mut self) -> u32 {
        self.index(Kind::Check)
    }

    fn index(&mut self, kind: Kind) -> u32 {
        let known = self.kinds.iter().position(|known| *known == kind);
        let at = known.unwrap_or_else(|| {
            self.kinds.push(kind);
            self.kinds.len() - 1
        });
        self.shape.functions + u32::try_from(at).unwrap_or(u32::MAX)
    }

    /// All functions that were asked for, in the order of their indices.
    pub(super) fn functions(&self) -> Vec<Added> {
        (self.shape.types..)
            .zip(&self.kinds)
            .map(|(type_index, kind)| Added {
                ty: self.ty(*kind),
                body: self.body(*kind),
                type_index,
            })
            .collect()
    }

    fn address(&self, memory: u32) -> Width {
        let wide = self.shape.memories.get(memory as usize).copied().unwrap_or_default();
        if wide { Width::I64 } else { Width::I32 }
    }

    /// The widths of destination, source and length; a filling byte counts as a source of 32 bits.
    fn widths(&self, operation: Operation) -> [Width; 3] {
        match operation {
            Operation::Fill(memory) => [self.address(memory), Width::I32, self.address(memory)],
            Operation::Copy { to, from } => {
                let (to, from) = (self.address(to), self.address(from));
                [to, from, to.min(from)]
            }
        }
    }

    fn ty(&self, kind: Kind) -> Vec<u8> {
        match kind {
            Kind::Check => function_type(&[]),
            Kind::Bulk(operation) => function_type(&self.widths(operation).map(Width::ty)),
        }
    }

    fn body(&self, kind: Kind) -> Vec<u8> {
        let mut code = Code(Vec::new());
        // No locals beside the parameters.
        0_u32.encode(&mut code.0);
        self.check.encode(&mut code.0);
        if let Kind::Bulk(operation) = kind {
            self.pieces(operation, &mut code);
        }
        code.push(&[I::End]);
        sized(&code.0)
    }

    /// Appends an operation that is divided into pieces.
    fn pieces(&self, kind: Operation, code: &mut Code) {
        let check = self.check;
        let [to, what, len] = self.widths(kind);
        let operation = match kind {
            Operation::Fill(memory) => I::MemoryFill(memory),
            Operation::Copy { to, from } => I::MemoryCopy { dst_mem: to, src_mem: from },
        };
        code.push(&[I::Block(BlockType::Empty)]);
        code.leave_unless_longer_than_a_piece(len);
        // A range that leaves its memory is left to the instruction, which traps before it writes.
        match kind {
            Operation::Fill(memory) => code.leave_if_outside(memory, TO, to, len),
            Operation::Copy { to: memory, from } => {
                code.leave_if_outside(memory, TO, to, len);
                code.leave_if_outside(from, WHAT, what, len);
            }
        }
        if let Operation::Copy { to: memory, from } = kind
            && memory == from
        {
            code.copy_from_the_end_if_above(to, len, check, &operation);
        }
        code.push(&[I::Loop(BlockType::Empty)]);
        check.encode(&mut code.0);
        code.push(&[I::LocalGet(TO), I::LocalGet(WHAT), len.constant(PIECE), operation.clone()]);
        code.advance(TO, to);
        if matches!(kind, Operation::Copy { .. }) {
            code.advance(WHAT, what);
        }
        code.push(&[I::LocalGet(LEN), len.constant(PIECE), len.sub(), I::LocalSet(LEN)]);
        code.push(&[I::LocalGet(LEN), len.constant(PIECE), len.gt(), I::BrIf(0), I::End, I::End]);
        code.push(&[I::LocalGet(TO), I::LocalGet(WHAT), I::LocalGet(LEN), operation]);
    }
}

impl Added {
    /// An entry of the function section.
    pub(super) fn type_index(&self) -> Vec<u8> {
        index(self.type_index)
    }
}

/// Instructions that are being written.
struct Code(Vec<u8>);

impl Code {
    fn push(&mut self, instructions: &[I<'_>]) {
        instructions.iter().for_each(|instruction| instruction.encode(&mut self.0));
    }

    fn leave_unless_longer_than_a_piece(&mut self, len: Width) {
        self.push(&[I::LocalGet(LEN), len.constant(PIECE), len.gt(), I::I32Eqz, I::BrIf(0)]);
    }

    /// Leaves the block if the range that begins at a parameter ends beyond the memory.
    fn leave_if_outside(&mut self, memory: u32, start: u32, address: Width, len: Width) {
        // `size < len || start > size - len`, in 64 bits, in which no size overflows: an engine
        // has no memory of all 2^48 pages.
        self.push(&[I::LocalGet(LEN)]);
        self.widen(len);
        self.size(memory, address);
        self.push(&[I::I64GtU, I::BrIf(0)]);
        self.push(&[I::LocalGet(start)]);
        self.widen(address);
        self.size(memory, address);
        self.push(&[I::LocalGet(LEN)]);
        self.widen(len);
        self.push(&[I::I64Sub, I::I64GtU, I::BrIf(0)]);
    }

    /// The size of a memory in bytes.
    fn size(&mut self, memory: u32, address: Width) {
        self.push(&[I::MemorySize(memory)]);
        self.widen(address);
        self.push(&[I::I64Const(16), I::I64Shl]);
    }

    fn widen(&mut self, width: Width) {
        if width == Width::I32 {
            self.push(&[I::I64ExtendI32U]);
        }
    }

    /// Copies all but the first bytes from the end on, if the destination lies above the source:
    /// ranges that overlap are then read before they are written. Then leaves the block.
    fn copy_from_the_end_if_above(&mut self, width: Width, len: Width, check: Check, copy: &I<'_>) {
        self.push(&[I::LocalGet(TO), I::LocalGet(WHAT), width.gt(), I::If(BlockType::Empty)]);
        self.push(&[I::Loop(BlockType::Empty)]);
        check.encode(&mut self.0);
        self.push(&[I::LocalGet(LEN), len.constant(PIECE), len.sub(), I::LocalSet(LEN)]);
        for start in [TO, WHAT] {
            self.push(&[I::LocalGet(start), I::LocalGet(LEN), width.add()]);
        }
        self.push(&[len.constant(PIECE), copy.clone()]);
        self.push(&[I::LocalGet(LEN), len.constant(PIECE), len.gt(), I::BrIf(0), I::End]);
        self.push(&[I::Br(1), I::End]);
    }

    fn advance(&mut self, start: u32, width: Width) {
        self.push(&[I::LocalGet(start), width.constant(PIECE), width.add(), I::LocalSet(start)]);
    }
}

/// The type of an address or a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Width {
    I32,
    I64,
}

impl Width {
    const fn ty(self) -> ValType {
        match self {
            Self::I32 => ValType::I32,
            Self::I64 => ValType::I64,
        }
    }

    fn constant(self, value: u32) -> I<'static> {
        match self {
            Self::I32 => I::I32Const(value.cast_signed()),
            Self::I64 => I::I64Const(value.into()),
        }
    }

    const fn add(self) -> I<'static> {
        match self {
            Self::I32 => I::I32Add,
            Self::I64 => I::I64Add,
        }
    }

    const fn sub(self) -> I<'static> {
        match self {
            Self::I32 => I::I32Sub,
            Self::I64 => I::I64Sub,
        }
    }

    /// Greater than, without signs.
    const fn gt(self) -> I<'static> {
        match self {
            Self::I32 => I::I32GtU,
            Self::I64 => I::I64GtU,
        }
    }
}
