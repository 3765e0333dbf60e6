//! The instructions of a function, as they are written, and the locals that are added.

use wasm_encoder::{BlockType, Encode, Instruction as I, ValType};

use crate::access::Access;
use crate::sections::sized;
use crate::view::View;

/// A function that is being written.
pub(crate) struct Writer {
    pub(crate) code: Vec<u8>,
    /// Locals of the function before.
    locals: u32,
    /// Locals that were added.
    pub(crate) added: Vec<ValType>,
    /// The last `local.get`s of the function that follow each other: where they begin, and their locals.
    got: Vec<(usize, u32)>,
    /// Where these end.
    got_end: usize,
    /// What most addresses are compared with, if any was.
    below: Option<i64>,
}

/// Most segments that there is code for.
pub(crate) const FAR: u32 = 4;

/// The number of the local with the segment of the first group.
pub(crate) const SEGMENTS: usize = 2;

impl Writer {
    pub(crate) const fn new(locals: u32) -> Self {
        Self {
            code: Vec::new(),
            locals,
            added: Vec::new(),
            got: Vec::new(),
            got_end: 0,
            below: None,
        }
    }

    /// The entry of the code section, given how many declarations of locals there were, and these.
    pub(crate) fn finish(mut self, count: u32, declarations: &[u8]) -> Vec<u8> {
        let mut first = Vec::new();
        if let Some(below) = self.below {
            let local = self.below_local();
            [I::I64Const(below), I::LocalSet(local)].iter().for_each(|it| it.encode(&mut first));
        }
        let mut entry = Vec::new();
        (count + u32::try_from(self.added.len()).unwrap_or(0)).encode(&mut entry);
        entry.extend_from_slice(declarations);
        for ty in &self.added {
            1_u32.encode(&mut entry);
            ty.encode(&mut entry);
        }
        entry.extend_from_slice(&first);
        entry.extend_from_slice(&self.code);
        sized(&entry)
    }

    pub(crate) fn emit(&mut self, instructions: &[I<'_>]) {
        instructions.iter().for_each(|instruction| instruction.encode(&mut self.code));
    }

    /// A local of a type: for `i64` the address of an access (0), what it stores (1) and what addresses
    /// are compared with (2), for `i32` what it stores (0), its address in a segment (1) and the segments of
    /// groups (from [`SEGMENTS`] on); what is loaded ahead follows these.
    pub(crate) fn scratch(&mut self, ty: ValType, number: usize) -> u32 {
        let mut of_type = self.added.iter().enumerate().filter(|(_, added)| **added == ty);
        let position = of_type.nth(number).map(|(at, _)| at).unwrap_or_else(|| {
            let there = self.added.iter().filter(|added| **added == ty).count();
            self.added.extend((there..=number).map(|_| ty));
            self.added.len() - 1
        });
        self.locals.saturating_add(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// The local for what is stored.
    fn value(&mut self, ty: ValType) -> u32 {
        self.scratch(ty, usize::from(ty == ValType::I64))
    }

    /// The local with what most addresses are compared with, which takes fewer bytes than the number.
    fn below_local(&mut self) -> u32 {
        self.scratch(ValType::I64, 2)
    }

    /// Pushes a local of the function.
    pub(crate) fn get(&mut self, local: u32) {
        if self.got_end != self.code.len() {
            self.got.clear();
        }
        self.got.push((self.code.len(), local));
        self.emit(&[I::LocalGet(local)]);
        self.got_end = self.code.len();
    }

    /// Takes a local back that was pushed last.
    fn take_back(&mut self) -> Option<u32> {
        if self.got_end != self.code.len() {
            return None;
        }
        let (start, local) = self.got.pop()?;
        self.code.truncate(start);
        self.got_end = start;
        Some(local)
    }

    /// Takes a value from the stack; the local that has it.
    pub(crate) fn take_value(&mut self, ty: ValType) -> u32 {
        self.take_back().unwrap_or_else(|| {
            let value = self.value(ty);
            self.emit(&[I::LocalSet(value)]);
            value
        })
    }

    /// The local with the address that is on the stack, and stays there.
    pub(crate) fn address(&mut self) -> u32 {
        let (address, instruction) = match self.take_back() {
            Some(local) => (local, I::LocalGet(local)),
            None => {
                let address = self.scratch(ValType::I64, 0);
                (address, I::LocalTee(address))
            }
        };
        self.emit(&[instruction]);
        address
    }

    /// Whether the address on the stack is below a number, without signs.
    pub(crate) fn is_below(&mut self, below: i64) {
        let number = match *self.below.get_or_insert(below) == below {
            true => I::LocalGet(self.below_local()),
            false => I::I64Const(below),
        };
        self.emit(&[number, I::I64LtU]);
    }

    /// What was loaded before, in place of the address on the stack.
    pub(crate) fn loaded(&mut self, access: Access, local: u32, value: Option<u32>) {
        if self.take_back().is_none() {
            self.emit(&[I::Drop]);
        }
        match (value, access.op.lane()) {
            (Some(vector), Some((_, replace))) => {
                self.emit(&[I::LocalGet(vector), I::LocalGet(local), replace]);
            }
            _ => self.emit(&[I::LocalGet(local)]),
        }
    }

    /// The access on the segment of a group, whose address is on the stack.
    pub(crate) fn in_segment_of(
        &mut self,
        access: Access,
        view: &View,
        value: Option<u32>,
        group: usize,
    ) {
        let [low, segment] = [1, SEGMENTS + group].map(|number| self.scratch(ValType::I32, number));
        self.wrap(view);
        self.emit(&[I::LocalSet(low)]);
        let result = match access.op.is_store() {
            true => BlockType::Empty,
            false => BlockType::Result(access.op.value()),
        };
        let segments = view.reach.min(FAR);
        for index in 1..segments {
            self.emit(&[I::LocalGet(segment), I::I32Const(index.cast_signed()), I::I32Eq]);
            self.emit(&[I::If(result), I::LocalGet(low)]);
            self.on_segment(access, view.base + index, value);
            self.emit(&[I::Else]);
        }
        self.emit(&[I::LocalGet(low)]);
        self.on_segment(access, view.base, value);
        (1..segments).for_each(|_| self.emit(&[I::End]));
    }

    /// What is left of the address on the stack in a segment.
    pub(crate) fn wrap(&mut self, view: &View) {
        self.emit(&[I::I32WrapI64]);
        if view.shift < 32 {
            self.emit(&[I::I32Const(view.mask()), I::I32And]);
        }
    }

    pub(crate) fn on_segment(&mut self, access: Access, segment: u32, value: Option<u32>) {
        if let Some(value) = value {
            self.emit(&[I::LocalGet(value)]);
        }
        self.emit(&[access.on(segment)]);
    }

    /// The access by the function that finds its segment; its address is on the stack.
    pub(crate) fn elsewhere(&mut self, access: Access, helper: u32, value: Option<u32>) {
        self.emit(&[I::I64Const(access.offset.cast_signed())]);
        let call = I::Call(helper);
        match (value, access.op.lane()) {
            (None, _) => self.emit(&[call]),
            (Some(value), None) => self.emit(&[I::LocalGet(value), call]),
            (Some(vector), Some((_, extract))) if access.op.is_store() => {
                self.emit(&[I::LocalGet(vector), extract, call]);
            }
            (Some(vector), Some((op, replace))) => {
                let number = self.value(op.value());
                self.emit(&[call, I::LocalSet(number), I::LocalGet(vector)]);
                self.emit(&[I::LocalGet(number), replace]);
            }
        }
    }
}
