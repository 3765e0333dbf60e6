//! Where groups of accesses are in a copy of code: what is checked for it, and loads ahead of it.

use std::collections::HashMap;

use wasm_encoder::{BlockType, Instruction as I, ValType};

use crate::ahead::{self, Early};
use crate::placed::Placed;
use crate::regions::Group;
use crate::view::{View, Views};
use crate::writer::{FAR, SEGMENTS, Writer};

/// The segment that all accesses of a group are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    First,
    /// The one behind the first, in which a model of some gigabytes has its weights.
    Second,
    /// One that is found out.
    Any,
}

/// Where groups are in a copy for what is far: anywhere, if they may be.
pub(crate) fn places(
    views: &Views,
    groups: &[Group],
    may_be_far: impl Fn(&Group) -> bool,
) -> Vec<Place> {
    let wide = |group: &Group| views.wide(group.memory).is_some_and(|view| view.reach > 1);
    let place = |group| if may_be_far(group) && wide(group) { Place::Any } else { Place::First };
    groups.iter().map(place).collect()
}

impl Writer {
    /// Pushes whether each group is where it is to be, the first segment if nothing is said, and sets the
    /// locals of those that may be anywhere. With `apart` also that what these are only read for is apart
    /// from what is written, so that it can be loaded ahead.
    pub(crate) fn checks(&mut self, views: &Views, groups: &[Group], at: &[Place], apart: bool) {
        let place = |index: usize| at.get(index).copied().unwrap_or(Place::First);
        for (index, group) in groups.iter().enumerate() {
            match (place(index), views.wide(group.memory)) {
                (Place::Second, Some(view)) => self.is_second(group, view),
                (Place::Any, Some(view)) => self.is_in_one(group, view, index),
                _ => {
                    group.start().emit(&mut self.code);
                    self.is_below(group.below);
                }
            }
            if index > 0 {
                self.emit(&[I::I32And]);
            }
        }
        if !apart {
            return;
        }
        let reads = groups
            .iter()
            .enumerate()
            .filter(|(index, group)| place(*index) == Place::Any && !group.has_store);
        for (_, read) in reads {
            for written in groups.iter().filter(|group| group.has_store) {
                self.and_apart(read, written);
            }
        }
    }

    /// Pushes whether a group is in the second segment. Its pages there count as far as the memory goes.
    fn is_second(&mut self, group: &Group, view: &View) {
        let start = self.scratch(ValType::I64, 0);
        let segment = view.segment().cast_signed();
        group.start().emit(&mut self.code);
        self.emit(&[I::LocalTee(start), I::I64Const(segment), I::I64Sub]);
        self.is_below(group.below);
        self.and_within(group, view, start);
    }

    /// Pushes whether a group is in one segment, whose number goes to its local.
    fn is_in_one(&mut self, group: &Group, view: &View, index: usize) {
        let start = self.scratch(ValType::I64, 0);
        let segment = self.scratch(ValType::I32, SEGMENTS + index);
        group.start().emit(&mut self.code);
        self.emit(&[I::LocalTee(start), I::I64Const(view.shift.into()), I::I64ShrU]);
        self.emit(&[I::I32WrapI64, I::LocalSet(segment), I::LocalGet(start)]);
        self.emit(&[I::I64Const(view.segment().cast_signed() - 1), I::I64And]);
        self.is_below(group.below);
        // Below what can be reached first, so that the sum does not overflow.
        let most = i64::from(view.reach.min(FAR)) << view.shift;
        self.emit(&[I::LocalGet(start), I::I64Const(most), I::I64LtU, I::I32And]);
        self.and_within(group, view, start);
    }

    /// Changes what is on the stack to false where a group, whose start is in a local, ends beyond the memory.
    fn and_within(&mut self, group: &Group, view: &View, start: u32) {
        let span = group.span.cast_signed();
        self.emit(&[I::LocalGet(start), I::I64Const(span), I::I64Add]);
        self.emit(&[I::GlobalGet(view.limit), I::I64LeU, I::I32And]);
    }

    /// Changes what is on the stack to false where two groups overlap.
    fn and_apart(&mut self, read: &Group, written: &Group) {
        // In 64 bits neither wraps, so that their distance tells all.
        let [ahead, both] = [read.span - 1, read.span + written.span - 1].map(u64::cast_signed);
        read.start().emit(&mut self.code);
        written.start().emit(&mut self.code);
        self.emit(&[I::I64Sub, I::I64Const(ahead), I::I64Add]);
        self.emit(&[I::I64Const(both), I::I64GeU, I::I32And]);
    }

    /// Loads what groups anywhere are only read for; the locals that have it, by the positions of the
    /// operators.
    pub(crate) fn load_ahead(
        &mut self,
        views: &Views,
        groups: &[Group],
        at: &[Place],
        operators: &[Placed<'_>],
    ) -> HashMap<usize, u32> {
        let mut loaded = HashMap::new();
        // Locals that are something else.
        let mut used = HashMap::from([
            (ValType::V128, 1),
            (ValType::I64, 3),
            (ValType::I32, SEGMENTS + groups.len()),
            (ValType::F32, 1),
            (ValType::F64, 1),
        ]);
        for (index, group) in groups.iter().enumerate() {
            let Some(view) = views.wide(group.memory) else { continue };
            if at.get(index) != Some(&Place::Any) || group.has_store {
                continue;
            }
            let mut loads = Vec::new();
            for load in ahead::loads(group, operators) {
                let number = used.entry(load.op.value()).or_default();
                let local = self.scratch(load.op.value(), *number);
                *number += 1;
                loaded.extend(load.positions.iter().map(|position| (*position, local)));
                loads.push((load, local));
            }
            let segment = self.scratch(ValType::I32, SEGMENTS + index);
            self.load_from_one(group, view, segment, &loads);
        }
        loaded
    }

    /// Loads from the segment whose number is in a local.
    fn load_from_one(&mut self, group: &Group, view: &View, segment: u32, loads: &[(Early, u32)]) {
        let low = self.scratch(ValType::I32, 1);
        group.start().emit(&mut self.code);
        self.wrap(view);
        self.emit(&[I::LocalSet(low)]);
        let segments = view.reach.min(FAR);
        for number in (0..segments).rev() {
            if number > 0 {
                self.emit(&[I::LocalGet(segment), I::I32Const(number.cast_signed()), I::I32Eq]);
                self.emit(&[I::If(BlockType::Empty)]);
            }
            for (Early { offset, op, .. }, local) in loads {
                let load = op.at(view.base + number, *offset);
                self.emit(&[I::LocalGet(low), load, I::LocalSet(*local)]);
            }
            if number > 0 {
                self.emit(&[I::Else]);
            }
        }
        (1..segments).for_each(|_| self.emit(&[I::End]));
    }
}
