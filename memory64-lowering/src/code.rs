//! Functions of the module: each operator on a 64-bit memory or table in the way of 32-bit ones.

use wasm_encoder::reencode::utils;
use wasm_encoder::{BlockType, Encode, Instruction as I, ValType};
use wasmparser::{FunctionBody, Operator};

use crate::access::Access;
use crate::helpers::{Helper, Helpers};
use crate::loops::{self, Twice};
use crate::regions::{Check, Part, ends_run};
use crate::renumber::Renumber;
use crate::sections::sized;
use crate::shape::Shape;
use crate::view::{View, Views};
use crate::{Dispatch, Error, Report, Result};

/// Rewrites functions.
pub(crate) struct Coder<'a> {
    pub(crate) wasm: &'a [u8],
    pub(crate) shape: &'a Shape,
    pub(crate) views: &'a Views,
    pub(crate) helpers: Helpers<'a>,
    pub(crate) report: Report,
    pub(crate) dispatch: Dispatch,
}

/// An operator, and where its bytes are in the module.
pub(crate) struct Placed<'a> {
    pub(crate) operator: Operator<'a>,
    pub(crate) start: usize,
    pub(crate) end: usize,
}

/// Most operators that are looked at together.
const RUN: usize = 512;

/// How often parts are looked for among them, so that no module takes long.
const TRIES: usize = 64;

/// A function that is being written.
struct Writer {
    code: Vec<u8>,
    /// Locals of the function before.
    locals: u32,
    /// Locals that were added.
    added: Vec<ValType>,
}

/// What is known of the address of an access.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The access is in the first segment.
    First,
    /// Nothing: it is checked.
    Nothing,
    /// It is most likely not in the first segment.
    Elsewhere,
}

impl<'a> Coder<'a> {
    /// A function, as an entry of the code section.
    pub(crate) fn function(&mut self, ty: u32, body: &FunctionBody<'a>) -> Result<Vec<u8>> {
        let mut locals: Vec<_> = self.shape.params(ty).to_vec();
        let mut groups = body.get_locals_reader()?;
        let count = groups.get_count();
        let first = position(groups.original_position());
        for _ in 0..count {
            let (number, ty) = groups.read()?;
            // Validated: there are 50,000 at most.
            locals.extend((0..number).map(|_| ty));
        }
        let mut reader = body.get_operators_reader()?;
        let start = position(reader.original_position());
        let length = u32::try_from(locals.len()).unwrap_or(u32::MAX);
        let mut out = Writer { code: Vec::new(), locals: length, added: Vec::new() };
        let mut run = Vec::new();
        let mut unreachable = Unreachable::default();
        while !reader.eof() {
            let at = position(reader.original_position());
            let operator = reader.read()?;
            let placed = Placed { operator, start: at, end: position(reader.original_position()) };
            let ends = ends_run(&placed.operator);
            if ends || unreachable.is_here() || run.len() == RUN {
                self.run(&mut out, &run, &locals)?;
                run.clear();
            }
            if self.dispatch == Dispatch::Regions
                && !unreachable.is_here()
                && matches!(
                    placed.operator,
                    Operator::Loop { blockty: wasmparser::BlockType::Empty }
                )
                && let Some(twice) = Twice::of(&reader, self.views, &locals)?
            {
                self.twice(&mut out, &twice)?;
                for _ in &twice.body {
                    reader.read()?;
                }
                continue;
            }
            if ends {
                unreachable.passes(&placed.operator);
                self.operator(&mut out, &placed, Known::Nothing)?;
            } else if unreachable.is_here() {
                self.operator(&mut out, &placed, Known::Nothing)?;
            } else {
                run.push(placed);
            }
        }
        self.run(&mut out, &run, &locals)?;
        let mut entry = Vec::new();
        (count + u32::try_from(out.added.len()).unwrap_or(0)).encode(&mut entry);
        entry.extend_from_slice(self.wasm.get(first..start).unwrap_or_default());
        for ty in &out.added {
            1_u32.encode(&mut entry);
            ty.encode(&mut entry);
        }
        entry.extend_from_slice(&out.code);
        Ok(sized(&entry))
    }

    /// Operators without a branch between them.
    fn run(
        &mut self,
        out: &mut Writer,
        run: &[Placed<'a>],
        locals: &[wasmparser::ValType],
    ) -> Result<()> {
        let mut rest = run;
        let mut tries = TRIES;
        while !rest.is_empty() {
            let part = match self.dispatch {
                Dispatch::Regions if tries > 0 => Part::first(rest, self.views, locals),
                _ => Part::plain(rest.len()),
            };
            tries = tries.saturating_sub(1);
            let (now, later) = rest.split_at(part.length.clamp(1, rest.len()));
            rest = later;
            if part.checks.is_empty() {
                for placed in now {
                    self.operator(out, placed, Known::Nothing)?;
                }
                continue;
            }
            self.report.regions += 1;
            self.checks(out, &part.checks);
            out.emit(&[I::If(BlockType::Empty)]);
            let mut proved = part.proved.iter().peekable();
            for (index, placed) in now.iter().enumerate() {
                let known = proved.next_if(|proved| **proved == index);
                let known = known.map_or(Known::Nothing, |_| Known::First);
                self.operator(out, placed, known)?;
            }
            out.emit(&[I::Else]);
            for placed in now {
                self.operator(out, placed, Known::Elsewhere)?;
            }
            out.emit(&[I::End]);
        }
        Ok(())
    }

    /// A loop in two copies.
    fn twice(&mut self, out: &mut Writer, twice: &Twice<'a>) -> Result<()> {
        self.report.loops += 1;
        let (block, again) = (I::Block(BlockType::Empty), I::Loop(BlockType::Empty));
        out.emit(&[block.clone(), block, again.clone()]);
        self.checks(out, &twice.checks);
        // Out of the loop, and of the block whose end the other copy is behind.
        out.emit(&[I::I32Eqz, I::BrIf(1)]);
        self.copy(out, twice, 2, &twice.proved)?;
        out.emit(&[I::Br(1), I::End, again]);
        self.copy(out, twice, 1, &[])?;
        out.emit(&[I::End]);
        Ok(())
    }

    /// The body of a loop that is `more` blocks deeper than before.
    fn copy(
        &mut self,
        out: &mut Writer,
        twice: &Twice<'a>,
        more: u32,
        proved: &[usize],
    ) -> Result<()> {
        let mut depth = 0_u32;
        let mut proved = proved.iter().peekable();
        for (index, placed) in twice.body.iter().enumerate() {
            match placed.operator {
                Operator::Block { .. } | Operator::If { .. } => depth += 1,
                Operator::End => depth = depth.saturating_sub(1),
                _ => {}
            }
            if let Some(branch) = loops::branch(&placed.operator, depth, more)? {
                out.emit(&[branch]);
                continue;
            }
            let known = proved.next_if(|proved| **proved == index);
            self.operator(out, placed, known.map_or(Known::Nothing, |_| Known::First))?;
        }
        Ok(())
    }

    /// Pushes whether all checks succeed.
    fn checks(&self, out: &mut Writer, checks: &[Check]) {
        for (index, check) in checks.iter().enumerate() {
            check.emit(&mut out.code);
            if index > 0 {
                I::I32And.encode(&mut out.code);
            }
        }
    }

    fn operator(&mut self, out: &mut Writer, placed: &Placed<'a>, known: Known) -> Result<()> {
        if let Some(access) = Access::of(&placed.operator)
            && let Some(view) = self.views.wide(access.memory)
        {
            self.access(out, access, view, known);
            return Ok(());
        }
        if self.memory_operator(out, &placed.operator) || self.table_operator(out, &placed.operator)
        {
            return Ok(());
        }
        let mut renumber = Renumber::new(self.views);
        let instruction = utils::instruction(&mut renumber, placed.operator.clone());
        let instruction = instruction.map_err(Error::reencode)?;
        if renumber.met_wide {
            let text = format!("{:?}", placed.operator);
            let name = text.split([' ', '{']).next().unwrap_or_default();
            let what = format!("{name} on a 64-bit memory");
            return Err(Error::Unsupported { what });
        }
        if renumber.moved {
            instruction.encode(&mut out.code);
        } else {
            let bytes = self.wasm.get(placed.start..placed.end).unwrap_or_default();
            out.code.extend_from_slice(bytes);
        }
        Ok(())
    }

    /// A load or a store. On the stack are the address and what is stored, or the vector that gets
    /// a lane.
    fn access(&mut self, out: &mut Writer, access: Access, view: &View, known: Known) {
        let has_value = access.op.is_store() || access.op.lane().is_some();
        let value = has_value.then(|| out.scratch(access.op.value(), 1));
        if let Some(value) = value {
            out.emit(&[I::LocalSet(value)]);
        }
        if known == Known::First {
            self.report.proved += 1;
            out.emit(&[I::I32WrapI64]);
            out.first(access, view, value);
            return;
        }
        let address = out.scratch(ValType::I64, 0);
        let quick = view.quick_below(access.end());
        let helper = self.helpers.index(access.helper());
        let below = match (quick, self.dispatch, known) {
            (None, ..) | (_, Dispatch::Helpers, _) => None,
            (Some(below), ..) => Some(below),
        };
        let Some(below) = below else {
            out.emit(&[I::LocalSet(address)]);
            out.elsewhere(access, helper, address, value);
            return;
        };
        self.report.checked += 1;
        let result = match access.op.is_store() {
            true => BlockType::Empty,
            false => BlockType::Result(access.op.value()),
        };
        out.emit(&[I::LocalTee(address), I::I64Const(below), I::I64LtU, I::If(result)]);
        out.emit(&[I::LocalGet(address), I::I32WrapI64]);
        out.first(access, view, value);
        out.emit(&[I::Else]);
        let others = if self.dispatch == Dispatch::Switch { view.reach } else { 1 };
        for segment in 1..others.min(8) {
            let start = I::I64Const(view.segment().cast_signed() * i64::from(segment));
            out.emit(&[I::LocalGet(address), start, I::I64Sub, I::I64Const(below), I::I64LtU]);
            out.emit(&[I::If(result), I::LocalGet(address), I::I32WrapI64]);
            if view.shift < 32 {
                out.emit(&[I::I32Const((1 << view.shift) - 1), I::I32And]);
            }
            out.on_segment(access, view.base + segment, value);
            out.emit(&[I::Else]);
        }
        out.elsewhere(access, helper, address, value);
        (0..others.clamp(1, 8)).for_each(|_| out.emit(&[I::End]));
    }

    /// Writes what stands for an operator on whole memories, if it is one and a memory is divided.
    fn memory_operator(&mut self, out: &mut Writer, operator: &Operator<'_>) -> bool {
        let wide = |memory| self.views.wide(memory).is_some();
        let helper = match *operator {
            Operator::MemorySize { mem } if wide(mem) => Helper::Size(mem),
            Operator::MemoryGrow { mem } if wide(mem) => Helper::Grow(mem),
            Operator::MemoryFill { mem } if wide(mem) => Helper::Fill(mem),
            Operator::MemoryInit { data_index, mem } if wide(mem) => Helper::Init(mem, data_index),
            Operator::MemoryCopy { dst_mem, src_mem } if wide(dst_mem) || wide(src_mem) => {
                Helper::Copy(dst_mem, src_mem)
            }
            _ => return false,
        };
        out.emit(&[I::Call(self.helpers.index(helper))]);
        true
    }

    /// Writes what stands for an operator on a table with 64-bit indices, if it is one.
    fn table_operator(&mut self, out: &mut Writer, operator: &Operator<'_>) -> bool {
        let wide = |table| self.shape.table_is_wide(table);
        let helpers = &mut self.helpers;
        match *operator {
            Operator::CallIndirect { type_index, table_index } if wide(table_index) => {
                let index = I::Call(helpers.index(Helper::Index));
                out.emit(&[index, I::CallIndirect { type_index, table_index }]);
            }
            Operator::ReturnCallIndirect { type_index, table_index } if wide(table_index) => {
                let index = I::Call(helpers.index(Helper::Index));
                out.emit(&[index, I::ReturnCallIndirect { type_index, table_index }]);
            }
            Operator::TableGet { table } if wide(table) => {
                out.emit(&[I::Call(helpers.index(Helper::Index)), I::TableGet(table)]);
            }
            Operator::TableSize { table } if wide(table) => {
                out.emit(&[I::TableSize(table), I::I64ExtendI32U]);
            }
            Operator::TableSet { table } if wide(table) => {
                out.emit(&[I::Call(helpers.index(Helper::TableSet(table)))]);
            }
            Operator::TableFill { table } if wide(table) => {
                out.emit(&[I::Call(helpers.index(Helper::TableFill(table)))]);
            }
            Operator::TableGrow { table } if wide(table) => {
                out.emit(&[I::Call(helpers.index(Helper::TableGrow(table)))]);
            }
            Operator::TableInit { elem_index, table } if wide(table) => {
                out.emit(&[I::Call(helpers.index(Helper::TableInit(table, elem_index)))]);
            }
            Operator::TableCopy { dst_table, src_table } if wide(dst_table) || wide(src_table) => {
                out.emit(&[I::Call(helpers.index(Helper::TableCopy(dst_table, src_table)))]);
            }
            _ => return false,
        }
        true
    }
}

impl Writer {
    fn emit(&mut self, instructions: &[I<'_>]) {
        instructions.iter().for_each(|instruction| instruction.encode(&mut self.code));
    }

    /// A local of a type whose value is used up within one operator; `number` tells two apart.
    fn scratch(&mut self, ty: ValType, number: usize) -> u32 {
        let of_type = self.added.iter().enumerate().filter(|(_, added)| **added == ty);
        // Only the address is number 0, and the value of a store may be of its type.
        let wanted = if ty == ValType::I64 { number } else { 0 };
        let position = of_type.map(|(at, _)| at).nth(wanted).unwrap_or_else(|| {
            let missing = wanted + 1 - self.added.iter().filter(|added| **added == ty).count();
            self.added.extend((0..missing).map(|_| ty));
            self.added.len() - 1
        });
        self.locals.saturating_add(u32::try_from(position).unwrap_or(u32::MAX))
    }

    /// The access on the first segment, whose address is on the stack.
    fn first(&mut self, access: Access, view: &View, value: Option<u32>) {
        self.on_segment(access, view.base, value);
    }

    fn on_segment(&mut self, access: Access, segment: u32, value: Option<u32>) {
        if let Some(value) = value {
            self.emit(&[I::LocalGet(value)]);
        }
        self.emit(&[access.on(segment)]);
    }

    /// The access by the function that finds its segment.
    fn elsewhere(&mut self, access: Access, helper: u32, address: u32, value: Option<u32>) {
        let offset = I::I64Const(access.offset.cast_signed());
        let lane = access.op.lane().map(|(_, instruction)| instruction);
        let (address, call) = ([I::LocalGet(address), offset], [I::Call(helper)]);
        match (value, lane) {
            (None, _) => {
                self.emit(&address);
                self.emit(&call);
            }
            (Some(value), None) => {
                self.emit(&address);
                self.emit(&[I::LocalGet(value)]);
                self.emit(&call);
            }
            (Some(vector), Some(extract)) if access.op.is_store() => {
                self.emit(&address);
                self.emit(&[I::LocalGet(vector), extract]);
                self.emit(&call);
            }
            (Some(vector), Some(replace)) => {
                self.emit(&[I::LocalGet(vector)]);
                self.emit(&address);
                self.emit(&call);
                self.emit(&[replace]);
            }
        }
    }
}

/// Whether code can be reached, which decides what is on the stack.
#[derive(Default)]
struct Unreachable {
    /// Blocks within the one in which code cannot be reached, if there is one.
    depth: Option<usize>,
}

impl Unreachable {
    const fn is_here(&self) -> bool {
        self.depth.is_some()
    }

    fn passes(&mut self, operator: &Operator<'_>) {
        use Operator as O;
        match (operator, &mut self.depth) {
            (
                O::Block { .. }
                | O::Loop { .. }
                | O::If { .. }
                | O::TryTable { .. }
                | O::Try { .. },
                Some(depth),
            ) => *depth += 1,
            (O::End | O::Delegate { .. }, Some(depth @ 1..)) => *depth -= 1,
            (
                O::End | O::Delegate { .. } | O::Else | O::Catch { .. } | O::CatchAll,
                depth @ Some(0),
            ) => *depth = None,
            (
                O::Unreachable
                | O::Br { .. }
                | O::BrTable { .. }
                | O::Return
                | O::ReturnCall { .. }
                | O::ReturnCallIndirect { .. }
                | O::ReturnCallRef { .. }
                | O::Throw { .. }
                | O::ThrowRef
                | O::Rethrow { .. },
                depth @ None,
            ) => *depth = Some(0),
            _ => {}
        }
    }
}

pub(crate) fn position(at: u64) -> usize {
    usize::try_from(at).unwrap_or(usize::MAX)
}
