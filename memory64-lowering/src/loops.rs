//! Innermost loops, of which there are copies: one for as long as all that is accessed is in the first
//! segment, one for as long as each address that is a sum of the same locals is in one segment, and
//! one for everything else. Long loops have more between the first two, for one sum that is far alone: in
//! the second segment, which needs no choice, or in any.
//!
//! ```text
//! block $done
//!   block $slow
//!     block $far
//!       loop       ;; leaves for $far at the head of an iteration
//!       end
//!       br $done
//!     end
//!     loop         ;; leaves for $slow; loads first what is far, see `ahead`
//!     end
//!     br $done
//!   end
//!   loop
//!   end
//! end
//! ```
//!
//! What lives from one iteration to the next is in locals, so each copy can go on where another was; and
//! all but the last have no calls, around which compilers would have to save what is in registers.

use wasm_encoder::Instruction as I;
use wasmparser::{BlockType, Operator, OperatorsReader};

use crate::Result;
use crate::checks::Place;
use crate::locals::Locals;
use crate::placed::{Placed, position};
use crate::regions::{Group, Proved, Walk, ends_run, sets};
use crate::values::{Value, Values};
use crate::view::Views;

/// Most operators of a loop that is copied.
const LONGEST: usize = 4096;

/// Operators of a loop that has a copy for each group that is far alone.
const LONG: usize = 128;

/// Most sums of locals that are checked at the head of a loop.
const SUMS: usize = 12;

/// An innermost loop that is worth copies.
pub(crate) struct Copies<'a> {
    /// Its operators, without `loop`, and with `end`.
    pub(crate) body: Vec<Placed<'a>>,
    /// Accesses that are checked together at the head.
    pub(crate) groups: Vec<Group>,
    pub(crate) proved: Proved,
    /// Accesses that are not checked at the head.
    others: usize,
}

/// Most accesses of a loop for whose stores there is code for each segment, too.
const FEW: usize = 2;

/// A block in a loop.
struct Frame {
    /// Values on the stack when it begins.
    height: usize,
    results: usize,
    unreachable: bool,
}

impl<'a> Copies<'a> {
    /// Looks at a loop whose body a reader is at; `known` is what locals are before it.
    pub(crate) fn of(
        reader: &OperatorsReader<'a>,
        views: &Views,
        locals: &Locals,
        known: &Values,
    ) -> Result<Option<Self>> {
        let Some(body) = body(reader.clone())? else { return Ok(None) };
        let mut walk = Walk::new(views, locals);
        walk.begin_with(known, &body);
        if !follow(&mut walk, &body) {
            return Ok(None);
        }
        let mut groups = Group::of(&walk.facts, views);
        // Those that are about most accesses.
        groups.sort_by_key(|group| std::cmp::Reverse(group.positions.len()));
        groups.truncate(SUMS);
        let mut proved: Proved = Group::proved(&groups).collect();
        let others = walk.accesses - walk.always.len() - proved.len();
        // Others are checked by themselves, with calls in each copy.
        if proved.is_empty() || others > proved.len() / 4 {
            return Ok(None);
        }
        proved.extend(walk.always.iter().map(|position| (*position, None)));
        Ok(Some(Self { body, groups, proved, others }))
    }

    /// Where groups are in each copy but the last; `far` is where they are in the last of these, and `early`
    /// tells whether loads are done ahead there.
    pub(crate) fn ways(&self, far: Vec<Place>, early: bool) -> Vec<Vec<Place>> {
        let mut ways = vec![vec![Place::First; far.len()]];
        let movable: Vec<usize> = (0..far.len()).filter(|at| far[*at] == Place::Any).collect();
        // One of two is most often the one that is far: what is loaded ahead of a long loop takes registers.
        if movable.len() == 2 && early && self.body.len() >= LONG {
            for place in [Place::Second, Place::Any] {
                for alone in &movable {
                    let mut way = vec![Place::First; far.len()];
                    way[*alone] = place;
                    ways.push(way);
                }
            }
        }
        if !movable.is_empty() {
            ways.push(far);
        }
        ways
    }

    /// Whether a group may be in any segment in the second copy: what is written seldom is far away,
    /// and code for each segment is long.
    pub(crate) fn may_be_far(&self, group: &Group) -> bool {
        !group.has_store || self.proved.len() + self.others <= FEW
    }
}

/// The operators of a loop up to its `end`, if there is no loop in it.
fn body<'a>(mut reader: OperatorsReader<'a>) -> Result<Option<Vec<Placed<'a>>>> {
    let (mut body, mut depth) = (Vec::new(), 0_usize);
    while body.len() < LONGEST {
        let start = position(reader.original_position());
        let operator = reader.read()?;
        match operator {
            Operator::Block { .. } | Operator::If { .. } => depth += 1,
            Operator::Loop { .. } => return Ok(None),
            Operator::End if depth == 0 => {
                let end = position(reader.original_position());
                body.push(Placed { operator, start, end });
                return Ok(Some(body));
            }
            Operator::End => depth -= 1,
            _ => {}
        }
        body.push(Placed { operator, start, end: position(reader.original_position()) });
    }
    Ok(None)
}

/// Follows the values of an iteration; whether that can be done.
fn follow(walk: &mut Walk<'_>, body: &[Placed<'_>]) -> bool {
    let mut frames: Vec<Frame> = Vec::new();
    let mut unreachable = false;
    for (position, placed) in body.iter().enumerate() {
        let operator = &placed.operator;
        if matches!(operator, Operator::Else | Operator::End) {
            // Ways come together.
            walk.forget();
        }
        match operator {
            Operator::Block { blockty } | Operator::If { blockty } => {
                let results = match blockty {
                    BlockType::Empty => 0,
                    BlockType::Type(_) => 1,
                    BlockType::FuncType(_) => return false,
                };
                if matches!(operator, Operator::If { .. }) && !unreachable {
                    walk.stack.pop();
                }
                frames.push(Frame { height: walk.stack.len(), results, unreachable });
            }
            Operator::Else => {
                let Some(frame) = frames.last() else { return false };
                walk.stack.truncate(frame.height);
                unreachable = frame.unreachable;
            }
            Operator::End => {
                let Some(frame) = frames.pop() else { return true };
                walk.stack.truncate(frame.height);
                walk.stack.resize(frame.height + frame.results, Value::Anything);
                unreachable = frame.unreachable;
            }
            Operator::Br { .. }
            | Operator::BrTable { .. }
            | Operator::Return
            | Operator::Unreachable => unreachable = true,
            Operator::BrIf { .. } => _ = walk.stack.pop(),
            _ if unreachable => {}
            _ if ends_run(operator) => return false,
            _ => {
                if !walk.step(position, operator) {
                    return false;
                }
                // In a block, a value may or may not be given to a local.
                if let (false, Some(local)) = (frames.is_empty(), sets(operator)) {
                    walk.locals.insert(local, Value::Anything);
                }
            }
        }
    }
    false
}

/// A branch in a copy of a loop, `more` blocks deeper than before; `depth` is that of blocks in the
/// loop. What goes to blocks in the loop, or to the loop, stays.
pub(crate) fn branch<'a>(operator: &Operator<'a>, depth: u32, more: u32) -> Result<Option<I<'a>>> {
    let moved = |label: u32| if label > depth { label + more } else { label };
    Ok(Some(match operator {
        Operator::Br { relative_depth } => I::Br(moved(*relative_depth)),
        Operator::BrIf { relative_depth } => I::BrIf(moved(*relative_depth)),
        Operator::BrTable { targets } => {
            let labels = targets.targets().map(|label| Ok(moved(label?)));
            I::BrTable(labels.collect::<Result<_>>()?, moved(targets.default()))
        }
        _ => return Ok(None),
    }))
}
