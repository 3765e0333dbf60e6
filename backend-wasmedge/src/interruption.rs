//! Makes compiled guests look at their time limit often enough.

use polychord_runtime_api::Result;
use wasmparser::{FunctionBody, Parser, Payload};

use crate::shape::{invalid, leb128, section, slice};

const CODE: u8 = 10;
/// `loop` without parameters and results, and its `end`.
const EMPTY_LOOP: [u8; 3] = [0x03, 0x40, 0x0b];

/// The module with an empty loop at the start of every function.
///
/// WasmEdge compiles the check of the time limit into the heads of loops, and nowhere else:
/// a guest that recurses, without a loop, could not be stopped. The module was validated.
pub(crate) fn check_at_calls(wasm: &[u8]) -> Result<Vec<u8>> {
    let mut out = wasm[..8].to_vec();
    let mut code = Vec::new();
    let mut left = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.map_err(invalid)? {
            Payload::CodeSectionStart { count, .. } => {
                left = count;
                leb128(&mut code, count.into());
                if left == 0 {
                    section(&mut out, CODE, &code);
                }
            }
            Payload::CodeSectionEntry(body) => {
                append(&mut code, wasm, &body)?;
                left -= 1;
                if left == 0 {
                    section(&mut out, CODE, &code);
                }
            }
            payload => {
                if let Some((id, range)) = payload.as_section() {
                    section(&mut out, id, slice(wasm, range));
                }
            }
        }
    }
    Ok(out)
}

/// Appends a function with the loop between its locals and its instructions.
fn append(code: &mut Vec<u8>, wasm: &[u8], body: &FunctionBody<'_>) -> Result<()> {
    let range = body.range();
    let start = body.get_operators_reader().map_err(invalid)?.original_position();
    let locals = slice(wasm, range.start..start);
    let instructions = slice(wasm, start..range.end);
    leb128(code, (locals.len() + EMPTY_LOOP.len() + instructions.len()) as u64);
    code.extend_from_slice(locals);
    code.extend_from_slice(&EMPTY_LOOP);
    code.extend_from_slice(instructions);
    Ok(())
}

#[cfg(test)]
mod tests {
    use wasmparser::{Operator, Validator};

    use super::*;

    #[test]
    fn every_function_starts_with_a_loop_and_is_otherwise_the_same() {
        let wasm = wat::parse_str(
            r#"(module (memory 1) (data (i32.const 0) "abc")
                (func (export "f") (param i32) (result i32) (local i64 f32)
                    (block $out (br_if $out (local.get 0)) (return (i32.const 1)))
                    (call 1) (i32.const 2))
                (func))"#,
        )
        .unwrap();
        let changed = check_at_calls(&wasm).unwrap();
        Validator::new().validate_all(&changed).unwrap();
        let (before, after) = (functions(&wasm), functions(&changed));
        assert_eq!(before.len(), 2);
        for (before, after) in before.iter().zip(&after) {
            assert!(matches!(after[..2], [Operator::Loop { .. }, Operator::End]));
            assert_eq!(before[..], after[2..]);
        }
        assert_eq!(changed.len(), wasm.len() + 2 * EMPTY_LOOP.len());
    }

    #[test]
    fn a_module_without_functions_stays_as_it_is() {
        for wat in ["(module)", "(module (memory 1) (data (i32.const 0) \"abc\"))"] {
            let wasm = wat::parse_str(wat).unwrap();
            assert_eq!(check_at_calls(&wasm).unwrap(), wasm);
        }
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
}
