//! Copies between memories, or tables, of which one has 32-bit addresses and the other 64-bit ones.
//!
//! Each becomes a call of a function that is added, which extends the 32-bit address to 64 bits and wraps it again
//! before it copies. So nothing is left above the address where an engine keeps values of all types in slots of one
//! size, and reads more of a slot than belongs to the value.

use std::borrow::Cow;

use wasm_encoder::{Encode, Instruction as I, SectionId, ValType};
use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::Result;
use crate::sections::{Replacement, Sections, appended, function_type, index, sized, vector};
use crate::shape::Shape;

/// Has copies between 32-bit and 64-bit memories, and between such tables, made with addresses above which
/// nothing is left. A module without such copies stays as it is.
///
/// # Errors
///
/// [`Error`](crate::Error) if the module is not valid, or if it has too many functions to add one.
///
/// ```
/// let wasm = wat::parse_str(
///     "(module (memory 1) (memory i64 1)
///         (func (param i32 i64 i32)
///             (memory.copy 0 1 (local.get 0) (local.get 1) (local.get 2))))",
/// )
/// .unwrap();
/// assert!(polychord_passes::copies::clear(&wasm).unwrap().len() > wasm.len());
/// ```
pub fn clear(wasm: &[u8]) -> Result<Cow<'_, [u8]>> {
    let shape = Shape::read(wasm)?;
    let has_both = |wide: &[bool]| wide.contains(&true) && wide.contains(&false);
    if !has_both(&shape.memories) && !has_both(&shape.tables) {
        return Ok(wasm.into());
    }
    let sections = Sections::read(wasm)?;
    let (mut copies, mut bodies) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload? {
            bodies.push(with_calls(&sections, &body, &shape, &mut copies)?);
        }
    }
    if copies.is_empty() {
        return Ok(wasm.into());
    }
    bodies.extend(copies.iter().map(|copy| copy.body(&shape)));
    let types: Vec<_> = copies.iter().map(|copy| copy.ty(&shape)).collect();
    let indices: Vec<_> = (shape.types..).take(copies.len()).map(index).collect();
    let rewritten = sections.rewrite(|id, section| match id {
        SectionId::Type => appended(section, &types),
        SectionId::Function => appended(section, &indices),
        SectionId::Code => Ok(Replacement::Contents(vector(&bodies))),
        _ => Ok(Replacement::Same),
    })?;
    Ok(rewritten.into())
}

/// A function that calls what is added in place of such copies, as an entry of the code section.
fn with_calls(
    sections: &Sections<'_>,
    body: &FunctionBody<'_>,
    shape: &Shape,
    copies: &mut Vec<Mixed>,
) -> Result<Vec<u8>> {
    let range = body.range();
    let (mut copied, mut out) = (range.start, Vec::new());
    let mut reader = body.get_operators_reader()?;
    while !reader.eof() {
        let at = reader.original_position();
        let Some(copy) = Mixed::of(&reader.read()?, shape) else { continue };
        let known = copies.iter().position(|known| *known == copy).unwrap_or_else(|| {
            copies.push(copy);
            copies.len() - 1
        });
        out.extend_from_slice(sections.slice(copied..at));
        let function = u32::try_from(known).unwrap_or(u32::MAX).saturating_add(shape.functions);
        I::Call(function).encode(&mut out);
        copied = reader.original_position();
    }
    out.extend_from_slice(sections.slice(copied..range.end));
    Ok(sized(&out))
}

/// A copy between two widths, by the indices of its memories or tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mixed {
    Memory { to: u32, from: u32 },
    Table { to: u32, from: u32 },
}

impl Mixed {
    fn of(operator: &Operator<'_>, shape: &Shape) -> Option<Self> {
        let copy = match *operator {
            Operator::MemoryCopy { dst_mem: to, src_mem: from } => Self::Memory { to, from },
            Operator::TableCopy { dst_table: to, src_table: from } => Self::Table { to, from },
            _ => return None,
        };
        let [to, from] = copy.wide(shape);
        (to != from).then_some(copy)
    }

    /// Whether the addresses of the destination and of the source have 64 bits.
    fn wide(self, shape: &Shape) -> [bool; 2] {
        let (list, to, from) = match self {
            Self::Memory { to, from } => (&shape.memories, to, from),
            Self::Table { to, from } => (&shape.tables, to, from),
        };
        [to, from].map(|index| list.get(index as usize).copied().unwrap_or_default())
    }

    /// The type of the function that copies, as an entry of the type section: where to, where from, and how much, which
    /// has the smaller of both widths.
    fn ty(self, shape: &Shape) -> Vec<u8> {
        let [to, from] =
            self.wide(shape).map(|wide| if wide { ValType::I64 } else { ValType::I32 });
        function_type(&[to, from, ValType::I32])
    }

    /// Its code, as an entry of the code section.
    fn body(self, shape: &Shape) -> Vec<u8> {
        let mut code = Vec::new();
        // No locals beside the parameters.
        0_u32.encode(&mut code);
        for (parameter, wide) in (0..).zip(self.wide(shape)) {
            I::LocalGet(parameter).encode(&mut code);
            if !wide {
                I::I64ExtendI32U.encode(&mut code);
                I::I32WrapI64.encode(&mut code);
            }
        }
        I::LocalGet(2).encode(&mut code);
        match self {
            Self::Memory { to, from } => I::MemoryCopy { dst_mem: to, src_mem: from },
            Self::Table { to, from } => I::TableCopy { dst_table: to, src_table: from },
        }
        .encode(&mut code);
        I::End.encode(&mut code);
        sized(&code)
    }
}

#[cfg(test)]
mod tests {
    use wasmparser::{Validator, WasmFeatures};

    use super::*;

    fn cleared(memories: &str, copies: &str) -> (Vec<u8>, Vec<u8>) {
        let wasm = wat::parse_str(format!(
            "(module {memories} (func (param $a i32) (param $b i64) {copies}) (func (call 0 (i32.const 1) (i64.const 2))))"
        ))
        .unwrap();
        let cleared = clear(&wasm).unwrap().into_owned();
        Validator::new_with_features(WasmFeatures::WASM3).validate_all(&cleared).unwrap();
        (wasm, cleared)
    }

    fn count(wasm: &[u8]) -> usize {
        let bodies = Parser::new(0).parse_all(wasm).map(Result::unwrap);
        bodies.filter(|payload| matches!(payload, Payload::CodeSectionEntry(_))).count()
    }

    #[test]
    fn each_pair_of_widths_gets_a_function() {
        let (wasm, cleared) = cleared(
            "(rec (type (func)) (type (func))) (memory 1) (memory i64 1) (table 1 funcref) (table i64 1 funcref)",
            "(memory.copy 0 1 (local.get $a) (local.get $b) (local.get $a))
             (memory.copy 1 0 (local.get $b) (local.get $a) (local.get $a))
             (memory.copy 0 1 (local.get $a) (local.get $b) (local.get $a))
             (table.copy 0 1 (local.get $a) (local.get $b) (local.get $a))
             (table.copy 1 0 (local.get $b) (local.get $a) (local.get $a))
             (memory.copy 0 0 (local.get $a) (local.get $a) (local.get $a))
             (memory.copy 1 1 (local.get $b) (local.get $b) (local.get $b))",
        );
        assert_eq!((count(&wasm), count(&cleared)), (2, 6));
        // What is added has such copies, too, and is correct as it is: again, only calls would come between.
        assert_eq!(count(&clear(&cleared).unwrap()), 10);
    }

    #[test]
    fn a_module_without_such_copies_stays_as_it_is() {
        let same = "(memory.copy 0 0 (local.get $a) (local.get $a) (local.get $a))";
        for memories in ["(memory 1)", "(memory 1) (memory i64 1)"] {
            let (wasm, cleared) = cleared(memories, same);
            assert_eq!(wasm, cleared);
        }
    }
}
