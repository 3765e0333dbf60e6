//! Functions of the module: each operator on a 64-bit memory or table in the way of 32-bit ones.

use std::collections::HashMap;

use wasm_encoder::reencode::utils;
use wasm_encoder::{BlockType, Encode, Instruction as I};
use wasmparser::{FunctionBody, Operator};

use crate::access::Access;
use crate::ahead;
use crate::checks::{self, Place};
use crate::helpers::{Helper, Helpers};
use crate::locals::{self, Locals};
use crate::loops::{self, Copies};
use crate::placed::{Placed, position};
use crate::regions::{Part, Proved, Walk, ends_run};
use crate::renumber::Renumber;
use crate::report::Report;
use crate::shape::Shape;
use crate::view::{View, Views};
use crate::writer::Writer;
use crate::{Dispatch, Error, Result};

/// Rewrites functions.
pub(crate) struct Coder<'a> {
    pub(crate) wasm: &'a [u8],
    pub(crate) shape: &'a Shape,
    pub(crate) views: &'a Views,
    pub(crate) helpers: Helpers<'a>,
    pub(crate) report: Report,
    pub(crate) dispatch: Dispatch,
}

/// Most bytes of a function, as validators have it, with its length before it.
const LONGEST: usize = 7_654_321;

/// Most operators that are looked at together.
const RUN: usize = 512;

/// Loads of a part that are worth a copy in which they are done ahead.
const EARLY: usize = 10;

/// How often parts are looked for among them, so that no module takes long.
const TRIES: usize = 64;

/// What is known of the address of an access.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// The access is in the first segment, or in the one behind it.
    First,
    Second,
    /// What is loaded is in this local.
    Loaded(u32),
    /// Nothing: it is checked.
    Nothing,
    /// The access is in the segment whose number is in the local of this group.
    SegmentOf(usize),
    /// It is most likely not in the first segment.
    Elsewhere,
}

/// What is known of an access where groups are at some places; `loaded` are locals by positions.
fn known(proved: &Proved, at: &[Place], loaded: &HashMap<usize, u32>, position: usize) -> Known {
    let group = match (proved.get(&position), loaded.get(&position)) {
        (_, Some(local)) => return Known::Loaded(*local),
        (Some(Some(group)), _) => *group,
        (Some(None), _) => return Known::First,
        (None, _) => return Known::Nothing,
    };
    match at.get(group) {
        Some(Place::Any) => Known::SegmentOf(group),
        Some(Place::Second) => Known::Second,
        _ => Known::First,
    }
}

impl<'a> Coder<'a> {
    /// A function, as an entry of the code section; in a smaller way if it were too long, or had too many
    /// locals.
    pub(crate) fn function(&mut self, ty: u32, body: &FunctionBody<'a>) -> Result<Vec<u8>> {
        let asked = self.dispatch;
        for smaller in [asked, Dispatch::Inline] {
            let before = self.report.clone();
            self.dispatch = smaller;
            let written = self.written(ty, body);
            self.dispatch = asked;
            let (entry, locals) = written?;
            if entry.len() <= LONGEST && locals <= locals::MOST {
                return Ok(entry);
            }
            self.report = before;
        }
        self.dispatch = Dispatch::Helpers;
        let written = self.written(ty, body);
        self.dispatch = asked;
        Ok(written?.0)
    }

    /// A function, as an entry of the code section, and how many locals it has.
    fn written(&mut self, ty: u32, body: &FunctionBody<'a>) -> Result<(Vec<u8>, u32)> {
        let mut locals = Locals::default();
        self.shape.params(ty).iter().for_each(|ty| locals.push(1, *ty));
        let mut groups = body.get_locals_reader()?;
        let count = groups.get_count();
        let first = position(groups.original_position());
        for _ in 0..count {
            let (number, ty) = groups.read()?;
            locals.push(number, ty);
        }
        let mut reader = body.get_operators_reader()?;
        let start = position(reader.original_position());
        let mut out = Writer::new(locals.count());
        let mut run = Vec::new();
        let mut unreachable = Unreachable::default();
        while !reader.eof() {
            let at = position(reader.original_position());
            let operator = reader.read()?;
            let placed = Placed { operator, start: at, end: position(reader.original_position()) };
            let ends = ends_run(&placed.operator);
            let is_loop =
                matches!(placed.operator, Operator::Loop { blockty: wasmparser::BlockType::Empty })
                    && self.dispatch == Dispatch::Regions
                    && !unreachable.is_here();
            let before = is_loop.then(|| Walk::behind(&run, self.views, &locals));
            if ends || unreachable.is_here() || run.len() == RUN {
                self.run(&mut out, &run, &locals)?;
                run.clear();
            }
            if let Some(before) = before
                && let Some(copies) = Copies::of(&reader, self.views, &locals, &before)?
            {
                self.copies(&mut out, &copies)?;
                for _ in &copies.body {
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
        let added = u32::try_from(out.added.len()).unwrap_or(u32::MAX);
        let entry = out.finish(count, self.wasm.get(first..start).unwrap_or_default());
        Ok((entry, locals.count().saturating_add(added)))
    }

    /// Operators without a branch between them.
    fn run(&mut self, out: &mut Writer, run: &[Placed<'a>], locals: &Locals) -> Result<()> {
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
            if part.groups.is_empty() {
                for placed in now {
                    self.operator(out, placed, Known::Nothing)?;
                }
                continue;
            }
            self.report.regions += 1;
            self.part(out, &part, now)?;
        }
        Ok(())
    }

    /// Operators that accesses among them are checked before.
    fn part(&mut self, out: &mut Writer, part: &Part, operators: &[Placed<'a>]) -> Result<()> {
        let within = |position| match part.proved.contains_key(&position) {
            true => Known::First,
            false => Known::Nothing,
        };
        out.checks(self.views, &part.groups, &[], false);
        out.emit(&[I::If(BlockType::Empty)]);
        self.operators(out, operators, within)?;
        out.emit(&[I::Else]);
        let at = checks::places(self.views, &part.groups, |group| !group.has_store);
        let early = part.groups.iter().zip(&at).filter(|(_, at)| **at == Place::Any);
        let early: usize = early.map(|(group, _)| group.exact.len()).sum();
        let has_far = early >= EARLY
            && ahead::may_be_early(operators, &part.groups, &part.proved, self.views);
        if has_far {
            out.checks(self.views, &part.groups, &at, true);
            out.emit(&[I::If(BlockType::Empty)]);
            let loaded = out.load_ahead(self.views, &part.groups, &at, operators);
            self.operators(out, operators, |position| known(&part.proved, &at, &loaded, position))?;
            out.emit(&[I::Else]);
        }
        // Behind a copy for what is far comes seldom anything.
        let rest = if has_far { Known::Elsewhere } else { Known::Nothing };
        self.operators(out, operators, |_| rest)?;
        (0..=usize::from(has_far)).for_each(|_| out.emit(&[I::End]));
        Ok(())
    }

    /// Operators without branches.
    fn operators(
        &mut self,
        out: &mut Writer,
        operators: &[Placed<'a>],
        known: impl Fn(usize) -> Known,
    ) -> Result<()> {
        for (position, placed) in operators.iter().enumerate() {
            self.operator(out, placed, known(position))?;
        }
        Ok(())
    }

    /// A loop in several copies.
    fn copies(&mut self, out: &mut Writer, copies: &Copies<'a>) -> Result<()> {
        self.report.loops += 1;
        let (block, again) = (I::Block(BlockType::Empty), I::Loop(BlockType::Empty));
        let at = checks::places(self.views, &copies.groups, |group| copies.may_be_far(group));
        let early = ahead::may_be_early(&copies.body, &copies.groups, &copies.proved, self.views);
        let ways = copies.ways(at, early);
        // Behind each block is the next copy, and behind the first one the end.
        (0..=ways.len()).for_each(|_| out.emit(std::slice::from_ref(&block)));
        for (at, behind) in ways.iter().zip((0..ways.len()).rev()) {
            // The block behind whose end a failed check goes on is the first one around, then come these.
            let behind = u32::try_from(behind).unwrap_or(u32::MAX);
            out.emit(std::slice::from_ref(&again));
            out.checks(self.views, &copies.groups, at, early);
            out.emit(&[I::I32Eqz, I::BrIf(1)]);
            let loaded = match early {
                true => out.load_ahead(self.views, &copies.groups, at, &copies.body),
                false => HashMap::new(),
            };
            let known = |position| known(&copies.proved, at, &loaded, position);
            self.copy(out, copies, behind + 2, known)?;
            out.emit(&[I::Br(behind + 1), I::End]);
        }
        out.emit(&[again]);
        self.copy(out, copies, 1, |_| Known::Elsewhere)?;
        out.emit(&[I::End]);
        Ok(())
    }

    /// The body of a loop, with its `end`, that is `more` blocks deeper than before; `known` tells what
    /// is known of an access of which the checks tell something.
    fn copy(
        &mut self,
        out: &mut Writer,
        copies: &Copies<'a>,
        more: u32,
        known: impl Fn(usize) -> Known,
    ) -> Result<()> {
        let mut depth = 0_u32;
        for (index, placed) in copies.body.iter().enumerate() {
            match placed.operator {
                Operator::Block { .. } | Operator::If { .. } => depth += 1,
                Operator::End => depth = depth.saturating_sub(1),
                _ => {}
            }
            match loops::branch(&placed.operator, depth, more)? {
                Some(branch) => out.emit(&[branch]),
                None => self.operator(out, placed, known(index))?,
            }
        }
        Ok(())
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
            if let Operator::LocalGet { local_index } = placed.operator {
                out.get(local_index);
            } else {
                let bytes = self.wasm.get(placed.start..placed.end).unwrap_or_default();
                out.code.extend_from_slice(bytes);
            }
        }
        Ok(())
    }

    /// A load or a store. On the stack are the address and what is stored, or the vector that gets
    /// a lane.
    fn access(&mut self, out: &mut Writer, access: Access, view: &View, known: Known) {
        let has_value = access.op.is_store() || access.op.lane().is_some();
        let value = has_value.then(|| out.take_value(access.op.value()));
        match known {
            Known::First => {
                out.emit(&[I::I32WrapI64]);
                out.on_segment(access, view.base, value);
            }
            Known::Second => {
                out.wrap(view);
                out.on_segment(access, view.base + 1, value);
            }
            Known::Loaded(local) => out.loaded(access, local, value),
            Known::SegmentOf(group) => out.in_segment_of(access, view, value, group),
            Known::Nothing | Known::Elsewhere => {
                let helper = self.helpers.index(access.helper());
                let quick = view.quick_below(access.end());
                let below =
                    quick.filter(|_| known == Known::Nothing && self.dispatch != Dispatch::Helpers);
                match below {
                    Some(below) => self.checked(out, access, view, (value, helper, below)),
                    None => out.elsewhere(access, helper, value),
                }
                self.report.checked += u64::from(below.is_some());
                return;
            }
        }
        self.report.proved += 1;
    }

    /// A load or a store in the first segment if its address is below a number, or by a function.
    fn checked(
        &self,
        out: &mut Writer,
        access: Access,
        view: &View,
        (value, helper, below): (Option<u32>, u32, i64),
    ) {
        let result = match access.op.is_store() {
            true => BlockType::Empty,
            false => BlockType::Result(access.op.value()),
        };
        let address = out.address();
        out.is_below(below);
        out.emit(&[I::If(result), I::LocalGet(address), I::I32WrapI64]);
        out.on_segment(access, view.base, value);
        out.emit(&[I::Else]);
        let others = if self.dispatch == Dispatch::Switch { view.reach } else { 1 };
        for segment in 1..others.min(8) {
            let start = I::I64Const(view.segment().cast_signed() * i64::from(segment));
            out.emit(&[I::LocalGet(address), start, I::I64Sub]);
            out.is_below(below);
            out.emit(&[I::If(result), I::LocalGet(address)]);
            out.wrap(view);
            out.on_segment(access, view.base + segment, value);
            out.emit(&[I::Else]);
        }
        out.emit(&[I::LocalGet(address)]);
        out.elsewhere(access, helper, value);
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
