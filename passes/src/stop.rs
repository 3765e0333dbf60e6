//! Code that a host can stop from another thread.
//!
//! The rewritten module has one more memory of one page, which it exports. Every function entry
//! and every loop head reads the word at [`FLAG`] and traps (`unreachable`) if it is not zero, so
//! a host that sets the word stops the guest at its next call or iteration. No signal is needed,
//! and the engine's own code is never cut off.
//!
//! One instruction may take long by itself, where it fills or copies memory. `memory.fill` and
//! `memory.copy` are divided into pieces of [`PIECE`] bytes with a check of the flag before each.
//! They trap before they write anything if they leave their memory, as they always do.
//!
//! Other instructions that do more than a bounded number of steps have a check before them: calls
//! of imported functions, `memory.init`, `memory.grow`, and those that fill, copy or grow tables.
//! A guest would else have a hundred thousand of them one after the other, without a loop.
//!
//! An optimizer could read the flag once and keep the value, since the module itself never writes
//! it. What makes it read again depends on the compiler: see [`Reads`].

mod bulk;
mod flag;

use wasm_encoder::{Encode, ExportKind, Instruction, SectionId};
use wasmparser::{FunctionBody, Operator, Parser, Payload};

use crate::Result;
use crate::sections::{Replacement, Sections, appended, sized, vector};
use crate::shape::Shape;
use crate::start::export_entry;
use bulk::Bulk;
pub use bulk::PIECE;
use flag::{Check, flag_memory};
pub use flag::{FLAG, Reads};

/// A module whose code checks a flag.
///
/// ```
/// use polychord_passes::stop::{Reads, checks};
///
/// let wasm = wat::parse_str(r#"(module (func (export "spin") (loop (br 0))))"#).unwrap();
/// let stoppable = checks(&wasm, Reads::AfterStores).unwrap();
/// assert_eq!(stoppable.memory, "polychord stop");
/// assert!(stoppable.wasm.len() > wasm.len());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stoppable {
    /// The module.
    pub wasm: Vec<u8>,
    /// The name that the memory with the flag is exported by; the module exported nothing by
    /// that name before.
    pub memory: String,
}

/// Rewrites a module so that it checks a flag, as the [module](self) describes.
///
/// # Errors
///
/// [`Error`](crate::Error) if the module is not valid, or if it has too many functions
/// or memories to add one.
pub fn checks(wasm: &[u8], reads: Reads) -> Result<Stoppable> {
    let sections = Sections::read(wasm)?;
    let shape = Shape::read(wasm)?;
    let memory = sections.unused_name("polychord stop");
    let check = Check { memory: shape.flag_memory(), reads };
    let mut bulk = Bulk::new(&shape, check);
    let mut bodies = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        if let Payload::CodeSectionEntry(body) = payload? {
            bodies.push(with_checks(&sections, &body, check, &shape, &mut bulk)?);
        }
    }
    let added = bulk.functions();
    bodies.extend(added.iter().map(|function| function.body.clone()));
    let rewritten = sections.rewrite(|id, section| match id {
        SectionId::Type => appended(section, &each(&added, |function| function.ty.clone())),
        SectionId::Function => appended(section, &each(&added, |function| function.type_index())),
        SectionId::Memory => appended(section, &[flag_memory()]),
        SectionId::Export => {
            appended(section, &[export_entry(&memory, ExportKind::Memory, shape.flag_memory())])
        }
        SectionId::Code if !bodies.is_empty() => Ok(Replacement::Contents(vector(&bodies))),
        _ => Ok(Replacement::Same),
    })?;
    Ok(Stoppable { wasm: rewritten, memory })
}

/// A function with checks of the flag, as an entry of the code section.
fn with_checks(
    sections: &Sections<'_>,
    body: &FunctionBody<'_>,
    check: Check,
    shape: &Shape,
    bulk: &mut Bulk<'_>,
) -> Result<Vec<u8>> {
    let range = body.range();
    let mut reader = body.get_operators_reader()?;
    let mut copied = reader.original_position();
    let mut out = sections.slice(range.start..copied).to_vec();
    check.encode(&mut out);
    while !reader.eof() {
        let at = reader.original_position();
        let operator = reader.read()?;
        let end = reader.original_position();
        match operator {
            Operator::Loop { .. } => {
                out.extend_from_slice(sections.slice(copied..end));
                check.encode(&mut out);
                copied = end;
            }
            Operator::MemoryFill { mem } => {
                out.extend_from_slice(sections.slice(copied..at));
                Instruction::Call(bulk.fill(mem)).encode(&mut out);
                copied = end;
            }
            Operator::MemoryCopy { dst_mem, src_mem } => {
                out.extend_from_slice(sections.slice(copied..at));
                Instruction::Call(bulk.copy(dst_mem, src_mem)).encode(&mut out);
                copied = end;
            }
            operator if shape.takes_long(&operator) => {
                out.extend_from_slice(sections.slice(copied..at));
                Instruction::Call(bulk.check()).encode(&mut out);
                copied = at;
            }
            _ => {}
        }
    }
    out.extend_from_slice(sections.slice(copied..range.end));
    Ok(sized(&out))
}

fn each<T>(list: &[T], entry: impl Fn(&T) -> Vec<u8>) -> Vec<Vec<u8>> {
    list.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use wasmparser::{Validator, WasmFeatures};

    use super::*;

    fn rewrite(wat: &str) -> Stoppable {
        let wasm = wat::parse_str(wat).unwrap();
        let stoppable = checks(&wasm, Reads::AfterStores).unwrap();
        let other = checks(&wasm, Reads::Always).unwrap();
        assert!(other.wasm.len() <= stoppable.wasm.len());
        Validator::new_with_features(WasmFeatures::WASM3).validate_all(&other.wasm).unwrap();
        let features = WasmFeatures::WASM3;
        Validator::new_with_features(features).validate_all(&stoppable.wasm).unwrap();
        stoppable
    }

    fn functions(wasm: &[u8]) -> Vec<Vec<Operator<'_>>> {
        let payloads = Parser::new(0).parse_all(wasm).map(Result::unwrap);
        payloads
            .filter_map(|payload| match payload {
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().unwrap();
                    Some(operators.into_iter().map(Result::unwrap).collect())
                }
                _ => None,
            })
            .collect()
    }

    /// Whether operators begin with a check of the flag.
    fn begin_with_check(operators: &[Operator<'_>]) -> bool {
        matches!(
            operators,
            [
                Operator::I32Const { value: 0 },
                Operator::I32Const { value: 0 },
                Operator::I32Store { .. },
                Operator::I32Const { value: 0 },
                Operator::I32Load { .. },
                Operator::If { .. },
                Operator::Unreachable,
                Operator::End,
                ..
            ]
        )
    }

    #[test]
    fn functions_and_loops_begin_with_a_check_and_are_otherwise_unchanged() {
        let text = r#"(module (memory 1) (data (i32.const 0) "abc")
            (func (export "f") (param i32) (result i32) (local i64 f32)
                (block $out (loop $next (br_if $out (local.get 0)) (br $next)))
                (loop (result i32) (call 1) (i32.const 2)))
            (func))"#;
        let wasm = wat::parse_str(text).unwrap();
        let stoppable = rewrite(text);
        let (before, after) = (functions(&wasm), functions(&stoppable.wasm));
        assert_eq!(before.len(), after.len());
        for (before, after) in before.iter().zip(&after) {
            let (mut rest, mut kept) = (&after[..], Vec::new());
            assert!(begin_with_check(rest));
            rest = &rest[8..];
            while let Some((first, others)) = rest.split_first() {
                kept.push(first.clone());
                rest = others;
                if matches!(first, Operator::Loop { .. }) {
                    assert!(begin_with_check(rest));
                    rest = &rest[8..];
                }
            }
            assert_eq!(*before, kept);
        }
    }

    /// The type that is added comes behind all of them: a group of types is one entry of its section.
    #[test]
    fn types_in_groups_are_counted() {
        for groups in ["(rec)", "(rec (type (func)) (type (func (result i64))) (type (struct)))"] {
            rewrite(&format!(
                "(module {groups} (import \"a\" \"b\" (func)) (memory 1) (func (loop (call 0))))"
            ));
        }
    }

    #[test]
    fn the_flag_has_a_memory_of_its_own_behind_all_others() {
        for (text, index) in [
            ("(module (func))", 0),
            ("(module (memory (export \"polychord stop\") 1) (memory i64 1) (func))", 2),
            ("(module (import \"env\" \"f\" (func)) (memory 1))", 1),
            ("(module)", 0),
        ] {
            let Stoppable { wasm, memory } = rewrite(text);
            let exported = Parser::new(0).parse_all(&wasm).find_map(|payload| {
                let Payload::ExportSection(exports) = payload.unwrap() else { return None };
                exports.into_iter().map(Result::unwrap).find(|export| export.name == memory)
            });
            assert_eq!(exported.unwrap().index, index, "{text}");
        }
    }

    #[test]
    fn bulk_operations_become_calls_of_one_function_for_each_kind() {
        let Stoppable { wasm, .. } = rewrite(
            "(module (type (func)) (import \"env\" \"f\" (func)) (memory 1) (memory $b i64 1)
                (func (param i32)
                    (memory.fill (local.get 0) (i32.const 1) (i32.const 2))
                    (memory.fill (local.get 0) (i32.const 1) (i32.const 2))
                    (memory.copy (local.get 0) (i32.const 1) (i32.const 2))
                    (memory.copy $b 0 (i64.const 0) (i32.const 1) (i32.const 2))
                    (memory.copy 0 $b (i32.const 0) (i64.const 1) (i32.const 2))
                    (memory.copy $b $b (i64.const 0) (i64.const 1) (i64.const 2))
                    (memory.fill $b (i64.const 0) (i32.const 1) (i64.const 2))))",
        );
        let functions = functions(&wasm);
        let calls: Vec<_> = functions[0]
            .iter()
            .filter_map(|operator| match operator {
                Operator::Call { function_index } => Some(*function_index),
                _ => None,
            })
            .collect();
        assert_eq!(calls, [2, 2, 3, 4, 5, 6, 7]);
        assert_eq!(functions.len(), 7);
    }

    #[test]
    fn instructions_that_take_long_have_a_look_before_them() {
        let long = [
            "(call $imported)",
            "(call_indirect $t (type $f) (i32.const 0))",
            "(memory.init $d (i32.const 0) (i32.const 0) (i32.const 1))",
            "(drop (memory.grow (i32.const 1)))",
            "(table.init $t $e (i32.const 0) (i32.const 0) (i32.const 1))",
            "(table.fill $t (i32.const 0) (ref.null func) (i32.const 1))",
            "(table.copy $t $t (i32.const 0) (i32.const 0) (i32.const 1))",
            "(drop (table.grow $t (ref.null func) (i32.const 1)))",
        ];
        for instruction in long {
            let Stoppable { wasm, .. } = rewrite(&format!(
                "(module (type $f (func)) (import \"env\" \"f\" (func $imported)) (memory 1)
                    (table $t 9 funcref) (elem $e func $own) (data $d \"abc\")
                    (func (call $own) {instruction}) (func $own))"
            ));
            let functions = functions(&wasm);
            let operators = &functions[0][8..];
            let long = operators.iter().position(|operator| {
                !matches!(
                    operator,
                    Operator::Call { function_index: 2 | 3 }
                        | Operator::I32Const { .. }
                        | Operator::RefNull { .. }
                )
            });
            let before = &operators[long.unwrap() - 1];
            assert!(matches!(before, Operator::Call { function_index: 3 }), "{operators:?}");
            let calls = operators
                .iter()
                .filter(|operator| matches!(operator, Operator::Call { function_index: 3 }));
            assert_eq!((calls.count(), functions.len()), (1, 3), "{instruction}");
            assert!(begin_with_check(&functions[2]));
        }
    }

    #[test]
    fn a_module_without_imports_calls_through_tables_without_a_check() {
        let Stoppable { wasm, .. } =
            rewrite("(module (table 1 funcref) (func (call_indirect (i32.const 0))))");
        assert_eq!(functions(&wasm).len(), 1);
    }
}
