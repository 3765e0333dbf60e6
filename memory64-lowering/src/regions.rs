//! Which accesses can be checked together.
//!
//! Between two branches, many accesses have addresses that are a local, or a sum of locals, and a
//! constant. One comparison before them tells that all are in the first segment, and then a copy of
//! the code runs in which none is checked; else a copy in which each is.

use std::collections::{HashMap, HashSet};

use wasm_encoder::{Encode, Instruction as I};
use wasmparser::{
    BlockType, ContType, FrameKind, FuncType, ModuleArity, Operator, RefType, SubType, ValType,
};

use crate::access::Access;
use crate::locals::Locals;
use crate::placed::Placed;
use crate::values::{Base, FAR, Value, Values};
use crate::view::Views;

/// Operators at the beginning of others, and what proves that accesses among them are in the first
/// segment; without a check they are written as they are.
pub(crate) struct Part {
    pub(crate) length: usize,
    /// Accesses that are checked together.
    pub(crate) groups: Vec<Group>,
    pub(crate) proved: Proved,
}

/// For accesses by their positions: their group, or none if they always are in the first segment.
pub(crate) type Proved = HashMap<usize, Option<usize>>;

/// `base + add`, the lowest address of a group.
pub(crate) struct Start<'a> {
    base: &'a Base,
    add: i64,
}

/// An access whose address is a sum.
pub(crate) struct Fact {
    position: usize,
    memory: u32,
    base: Base,
    /// Bytes from the base to the address, and to the end of what is accessed.
    start: i64,
    end: i64,
    /// Whether nothing else is in the address.
    is_exact: bool,
    is_store: bool,
}

/// Most sums in a check.
const SUMS: usize = 8;

/// Whether an operator cannot be in a part.
pub(crate) const fn ends_run(operator: &Operator<'_>) -> bool {
    use Operator as O;
    matches!(
        operator,
        O::Block { .. }
            | O::Loop { .. }
            | O::If { .. }
            | O::Else
            | O::End
            | O::Br { .. }
            | O::BrIf { .. }
            | O::BrTable { .. }
            | O::BrOnNull { .. }
            | O::BrOnNonNull { .. }
            | O::BrOnCast { .. }
            | O::BrOnCastFail { .. }
            | O::Return
            | O::Unreachable
            | O::Call { .. }
            | O::CallIndirect { .. }
            | O::CallRef { .. }
            | O::ReturnCall { .. }
            | O::ReturnCallIndirect { .. }
            | O::ReturnCallRef { .. }
            | O::TryTable { .. }
            | O::Throw { .. }
            | O::ThrowRef
            | O::Try { .. }
            | O::Catch { .. }
            | O::CatchAll
            | O::Delegate { .. }
            | O::Rethrow { .. }
    )
}

/// The local that an operator sets.
pub(crate) const fn sets(operator: &Operator<'_>) -> Option<u32> {
    match operator {
        Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
            Some(*local_index)
        }
        _ => None,
    }
}

impl Part {
    pub(crate) fn plain(length: usize) -> Self {
        Self { length, groups: Vec::new(), proved: HashMap::new() }
    }

    /// A part of operators that no branch divides; `locals` has the types of the function's.
    pub(crate) fn first(run: &[Placed<'_>], views: &Views, locals: &Locals) -> Self {
        let mut walk = Walk::new(views, locals);
        let length = walk.walk(run);
        if length == 0 {
            return Self::plain(1);
        }
        walk.facts.retain(|fact| fact.position < length);
        walk.always.retain(|position| *position < length);
        let groups = Group::worth_it(Group::of(&walk.facts, views));
        if groups.is_empty() {
            return Self::plain(length);
        }
        let always = walk.always.into_iter().map(|position| (position, None));
        let proved = Group::proved(&groups).chain(always).collect();
        Self { length, groups, proved }
    }
}

impl Start<'_> {
    /// Pushes the sum.
    pub(crate) fn emit(&self, code: &mut Vec<u8>) {
        for (index, (local, times)) in self.base.iter().enumerate() {
            I::LocalGet(*local).encode(code);
            if *times != 1 {
                I::I64Const(*times).encode(code);
                I::I64Mul.encode(code);
            }
            if index > 0 {
                I::I64Add.encode(code);
            }
        }
        if self.add != 0 {
            I::I64Const(self.add).encode(code);
            I::I64Add.encode(code);
        }
    }
}

/// Accesses with the same base in the same memory.
pub(crate) struct Group {
    pub(crate) memory: u32,
    base: Base,
    start: i64,
    /// Bytes from the lowest address to the end of all that is accessed.
    pub(crate) span: u64,
    pub(crate) below: i64,
    pub(crate) positions: Vec<usize>,
    /// Those of accesses whose address is known but for the base, with the bytes from the start.
    pub(crate) exact: Vec<(usize, u64)>,
    pub(crate) has_store: bool,
}

impl Group {
    pub(crate) fn of(facts: &[Fact], views: &Views) -> Vec<Self> {
        let mut found: HashMap<(u32, &Base), Vec<&Fact>> = HashMap::new();
        for fact in facts {
            found.entry((fact.memory, &fact.base)).or_default().push(fact);
        }
        let groups = found.into_iter().filter_map(|((memory, base), facts)| {
            let start = facts.iter().map(|fact| fact.start).min()?;
            let end = facts.iter().map(|fact| fact.end).max()?;
            let span = u64::try_from(end - start).ok()?;
            let below = views.wide(memory)?.quick_below(span.into())?;
            let positions = facts.iter().map(|fact| fact.position).collect();
            let has_store = facts.iter().any(|fact| fact.is_store);
            let exact = facts.iter().filter(|fact| fact.is_exact);
            let exact = exact.map(|fact| (fact.position, fact.start.abs_diff(start))).collect();
            let base = base.clone();
            Some(Self { memory, base, start, span, below, positions, exact, has_store })
        });
        let mut groups: Vec<_> = groups.collect();
        // One order, whatever the map has.
        groups.sort_by(|a, b| a.positions.cmp(&b.positions));
        groups
    }

    /// Those for which fewer checks are left than there were.
    fn worth_it(mut groups: Vec<Self>) -> Vec<Self> {
        let worth = |least: usize| {
            let chosen = groups.iter().filter(|group| group.positions.len() >= least).take(SUMS);
            let (count, accesses) = chosen.fold((0, 0), |(count, accesses), group| {
                (count + 1, accesses + group.positions.len())
            });
            accesses >= 5 && accesses >= 2 * count
        };
        let least = if worth(1) {
            1
        } else if worth(2) {
            2
        } else {
            return Vec::new();
        };
        groups.retain(|group| group.positions.len() >= least);
        groups.truncate(SUMS);
        groups
    }

    /// For accesses by their positions, their group.
    pub(crate) fn proved(groups: &[Self]) -> impl Iterator<Item = (usize, Option<usize>)> + '_ {
        groups.iter().enumerate().flat_map(|(index, group)| {
            group.positions.iter().map(move |position| (*position, Some(index)))
        })
    }

    pub(crate) const fn start(&self) -> Start<'_> {
        Start { base: &self.base, add: self.start }
    }
}

/// Follows the values of a part.
pub(crate) struct Walk<'a> {
    views: &'a Views,
    types: &'a Locals,
    pub(crate) stack: Vec<Value>,
    pub(crate) locals: Values,
    pub(crate) facts: Vec<Fact>,
    /// Accesses at constant addresses in the first segment.
    pub(crate) always: Vec<usize>,
    /// Positions at which the stack was as it was at the beginning.
    even: Vec<usize>,
    /// How often an address was made of what an operator gave to a local.
    since: HashMap<usize, usize>,
    /// The operator that gave a local what has just become an address for the second time.
    shared: Option<usize>,
    /// Accesses to divided memories.
    pub(crate) accesses: usize,
    /// The last store of 64 bits, if nothing was stored since: memory, address and value.
    stored: Option<(u32, Value, Value)>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(views: &'a Views, types: &'a Locals) -> Self {
        Self {
            views,
            types,
            stack: Vec::new(),
            locals: HashMap::new(),
            facts: Vec::new(),
            always: Vec::new(),
            even: Vec::new(),
            since: HashMap::new(),
            shared: None,
            accesses: 0,
            stored: None,
        }
    }

    /// What locals are behind operators without branches, where that is a sum of locals that stayed what
    /// they were.
    pub(crate) fn behind(run: &[Placed<'_>], views: &Views, locals: &Locals) -> Values {
        let mut walk = Walk::new(views, locals);
        for (position, placed) in run.iter().enumerate() {
            if !walk.step(position, &placed.operator) {
                // What is known begins behind this one.
                walk = Walk::new(views, locals);
            }
        }
        let stays = |base: &Base| base.iter().all(|(local, _)| !walk.locals.contains_key(local));
        let known = walk.locals.iter().filter(|(_, value)| match value {
            Value::Sum { base, .. } => stays(base),
            _ => false,
        });
        known.map(|(local, value)| (*local, value.clone())).collect()
    }

    /// Begins with what is known of locals, but for those that operators set, or that is made of such.
    pub(crate) fn begin_with(&mut self, known: &Values, operators: &[Placed<'_>]) {
        let set: HashSet<u32> = operators.iter().filter_map(|it| sets(&it.operator)).collect();
        for (local, value) in known {
            let Value::Sum { base, .. } = value else { continue };
            if !set.contains(local) && base.iter().all(|(local, _)| !set.contains(local)) {
                self.locals.insert(*local, value.clone());
            }
        }
    }

    /// How many operators are a part: they leave the stack as it was, and nothing below is touched.
    fn walk(&mut self, run: &[Placed<'_>]) -> usize {
        for (position, placed) in run.iter().enumerate() {
            if !self.may_set(&placed.operator) || !self.step(position, &placed.operator) {
                break;
            }
            if let Some(cut) = self.cut() {
                // What follows has a base that is known from here on, and is a part of its own.
                return cut;
            }
            if self.stack.is_empty() {
                self.even.push(position + 1);
            }
        }
        self.even.last().copied().unwrap_or(0)
    }

    /// Follows one operator; false if it touches what was on the stack before, or is not known.
    pub(crate) fn step(&mut self, position: usize, operator: &Operator<'_>) -> bool {
        let Some((pops, pushes)) = operator.operator_arity(&NoModule) else { return false };
        let (pops, pushes) = (pops as usize, pushes as usize);
        if self.stack.len() < pops {
            return false;
        }
        let operands = self.stack.split_off(self.stack.len() - pops);
        self.access(position, operator, &operands);
        let value = self.value(position, operator, &operands);
        self.remember(operator, operands);
        self.stack.resize(self.stack.len() + pushes, Value::Anything);
        if let (1, Some(top)) = (pushes, self.stack.last_mut()) {
            *top = value;
        }
        true
    }

    /// Where a part has to end so that the next one knows an address that accesses share.
    fn cut(&mut self) -> Option<usize> {
        let begun = self.shared.take()?;
        self.even.iter().find(|even| **even > begun).copied()
    }

    /// Whether a local may be set in a block: one without a default value would lose it behind it.
    fn may_set(&self, operator: &Operator<'_>) -> bool {
        let Some(local) = sets(operator) else { return true };
        !matches!(self.types.get(local), None | Some(ValType::Ref(_)))
    }

    /// Notes an access to a divided memory.
    fn access(&mut self, position: usize, operator: &Operator<'_>, operands: &[Value]) {
        let Some(access) = Access::of(operator) else { return };
        let Some(view) = self.views.wide(access.memory) else { return };
        self.accesses += 1;
        let Some(end) = i64::try_from(access.end()).ok().filter(|end| *end < FAR) else { return };
        match operands.first() {
            Some(Value::Sum { base, add, slack }) if base.is_empty() => {
                let far = u128::from(add.cast_unsigned()) + u128::from(slack.cast_unsigned());
                let end = far + access.end();
                if end <= view.segment().into() {
                    self.always.push(position);
                }
            }
            Some(Value::Sum { base, add, slack }) if (-FAR..FAR).contains(add) => {
                let (memory, base) = (access.memory, base.clone());
                self.facts.push(Fact {
                    position,
                    memory,
                    base,
                    start: *add,
                    end: *add + slack + end,
                    is_exact: *slack == 0,
                    is_store: access.op.is_store(),
                });
            }
            Some(Value::Since(begun)) => {
                let count = self.since.entry(*begun).or_default();
                *count += 1;
                if *count == 2 {
                    self.shared = Some(*begun);
                }
            }
            _ => {}
        }
    }

    /// The value that an operator leaves, if it leaves one.
    fn value(&mut self, position: usize, operator: &Operator<'_>, operands: &[Value]) -> Value {
        match (operator, operands) {
            (Operator::LocalGet { local_index }, _) => self.local(*local_index),
            (
                Operator::LocalSet { local_index } | Operator::LocalTee { local_index },
                [value @ Value::Sum { .. }],
            ) => {
                self.locals.insert(*local_index, value.clone());
                value.clone()
            }
            (Operator::LocalSet { local_index } | Operator::LocalTee { local_index }, _) => {
                self.locals.insert(*local_index, Value::Since(position));
                Value::Since(position)
            }
            (Operator::I64Const { value }, _) => Value::number(*value, 0),
            (Operator::I32Const { value }, _) if *value >= 0 => Value::number((*value).into(), 0),
            (Operator::I32Load8U { .. } | Operator::I64Load8U { .. }, _) => Value::number(0, 0xff),
            (Operator::I32Load16U { .. } | Operator::I64Load16U { .. }, _) => {
                Value::number(0, 0xffff)
            }
            (Operator::I64And | Operator::I32And, [a, b]) => a.masked(b),
            (Operator::I64Shl | Operator::I32Shl, [a, b]) => a.shifted(b),
            (Operator::I64ExtendI32U, [value @ Value::Sum { base, .. }]) if base.is_empty() => {
                value.clone()
            }
            (Operator::I64Mul | Operator::I32Mul, [a, b]) => a.times(b),
            (Operator::I64Load { .. }, [address]) => self.loaded(operator, address),
            (Operator::I64Add, [a, b]) => a.plus(b),
            (Operator::I64Sub, [a, Value::Sum { base, add, slack: 0 }]) if base.is_empty() => {
                a.plus(&Value::number(add.wrapping_neg(), 0))
            }
            _ => Value::Anything,
        }
    }

    /// What was stored last, where it was.
    fn remember(&mut self, operator: &Operator<'_>, operands: Vec<Value>) {
        match (operator, <[Value; 2]>::try_from(operands)) {
            (Operator::I64Store { .. }, Ok([address, value])) => {
                self.stored = Access::of(operator)
                    .filter(|access| self.views.wide(access.memory).is_some())
                    .map(|access| (access.memory, address.at(access.offset), value));
            }
            (Operator::LocalSet { .. } | Operator::GlobalSet { .. } | Operator::Drop, _) => {}
            _ if operator.operator_arity(&NoModule).is_none_or(|(_, pushes)| pushes == 0) => {
                self.forget();
            }
            _ => {}
        }
    }

    /// Forgets what was stored, which may be something else by now.
    pub(crate) fn forget(&mut self) {
        self.stored = None;
    }

    /// What is loaded, if it was stored just before: compilers are kept from knowing a value so.
    fn loaded(&self, operator: &Operator<'_>, address: &Value) -> Value {
        let Some(access) = Access::of(operator) else { return Value::Anything };
        match &self.stored {
            Some((memory, stored @ Value::Sum { slack: 0, .. }, value))
                if *memory == access.memory && *stored == address.at(access.offset) =>
            {
                value.clone()
            }
            _ => Value::Anything,
        }
    }

    fn local(&self, local: u32) -> Value {
        let begins = match self.types.get(local) {
            Some(ValType::I64) => Value::Sum { base: vec![(local, 1)], add: 0, slack: 0 },
            _ => Value::Anything,
        };
        self.locals.get(&local).cloned().unwrap_or(begins)
    }
}

/// Operators whose arity depends on the module end a part.
struct NoModule;

impl ModuleArity for NoModule {
    fn sub_type_at(&self, _: u32) -> Option<&SubType> {
        None
    }

    fn tag_type_arity(&self, _: u32) -> Option<(u32, u32)> {
        None
    }

    fn type_index_of_function(&self, _: u32) -> Option<u32> {
        None
    }

    fn func_type_of_cont_type(&self, _: &ContType) -> Option<&FuncType> {
        None
    }

    fn sub_type_of_ref_type(&self, _: &RefType) -> Option<&SubType> {
        None
    }

    fn control_stack_height(&self) -> u32 {
        0
    }

    fn label_block(&self, _: u32) -> Option<(BlockType, FrameKind)> {
        None
    }
}
