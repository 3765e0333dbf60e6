//! Further memories for a module whose compiler knows one only.
//!
//! LLVM cannot address a memory other than the first. So the guest imports functions from the module
//! `instruction`, each named like the instruction on memories that it stands for:
//!
//! | name | type | becomes |
//! | --- | --- | --- |
//! | `memory.copy TO FROM` | `(to: i32, from: i32, len: i32) -> ()` | `memory.copy TO FROM` |
//! | `memory.size N` | `() -> i32` | `memory.size N` |
//!
//! The operands are on the stack as the instruction wants them, so each `call` becomes that one
//! instruction, and the imports go away. Memories 1, 2, ... up to the highest that is named are
//! added, empty, without a limit, and exported as `memory1`, `memory2`, ... Unlike the other passes
//! this one changes indices of functions, and drops the custom section `name`.

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    ExportKind, ExportSection, ImportSection, Instruction, MemorySection, MemoryType, Module,
};
use wasmparser::{
    CustomSectionReader, ExportSectionReader, ImportSectionReader, Imports, MemorySectionReader,
    Operator, Parser, Payload, TypeRef, Validator, WasmFeatures,
};

/// The module that marked functions are imported from.
const MARK: &str = "instruction";

/// Why a module cannot be linked.
///
/// ```
/// use polychord_passes::memories::{Unlinkable, link};
///
/// let wasm = wat::parse_str(r#"(module (import "instruction" "memory.leap" (func)))"#).unwrap();
/// let unknown = Unlinkable::Unknown("memory.leap".into());
/// assert!(link(&wasm).unwrap_err().to_string().contains(&unknown.to_string()));
/// ```
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unlinkable {
    /// Something is imported from the marker module that is no function or names nothing.
    #[error("\"{0}\" is not an instruction that this pass knows")]
    Unknown(String),
    /// A marked function is used other than by calling it.
    #[error("{0:?} is used as a function, but it can only be called")]
    NotCalled(Mark),
}

/// The instruction that a function stands for.
///
/// ```
/// use polychord_passes::memories::{Mark, Unlinkable};
///
/// let mark = Mark::Copy { to: 0, from: 3 };
/// assert!(Unlinkable::NotCalled(mark).to_string().contains("can only be called"));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `memory.copy`.
    Copy {
        /// Index of the memory that is written to.
        to: u32,
        /// Index of the memory that is read from.
        from: u32,
    },
    /// `memory.size`.
    Size {
        /// Index of the memory.
        of: u32,
    },
}

/// Imported functions of a module, for rewriting its other sections.
struct Linker {
    /// For each imported function, the instruction that it stands for, if it does.
    imported: Vec<Option<Mark>>,
}

/// The error of [`link`].
///
/// ```
/// use polychord_passes::memories::{Error, link};
///
/// let error: Error = link(b"not a module").unwrap_err();
/// println!("{error}");
/// ```
pub type Error = reencode::Error<Unlinkable>;

/// The module with its marked imports turned into instructions.
///
/// # Errors
///
/// [`Unlinkable`] if a marked import cannot become an instruction, or another error if the module
/// is not valid, before or after.
pub fn link(wasm: &[u8]) -> Result<Vec<u8>, Error> {
    let mut linker = Linker { imported: imported(wasm)? };
    let mut module = Module::new();
    linker.parse_core_module(&mut module, Parser::new(0), wasm)?;
    let linked = module.finish();
    let features = WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::MULTI_MEMORY;
    Validator::new_with_features(features).validate_all(&linked)?;
    Ok(linked)
}

/// What each imported function of a module stands for.
fn imported(wasm: &[u8]) -> Result<Vec<Option<Mark>>, Error> {
    let mut imported = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let Payload::ImportSection(section) = payload? else { continue };
        for import in section.into_imports() {
            let import = import?;
            let is_function = matches!(import.ty, TypeRef::Func(_));
            match (import.module == MARK, is_function) {
                (true, true) => imported.push(Some(Mark::named(import.name)?)),
                (true, false) => return Err(unknown(import.name)),
                (false, true) => imported.push(None),
                (false, false) => {}
            }
        }
    }
    Ok(imported)
}

impl Mark {
    fn named(name: &str) -> Result<Self, Error> {
        let words: Vec<_> = name.split(' ').collect();
        let number = |word: &str| word.parse().map_err(|_| unknown(name));
        match &words[..] {
            ["memory.copy", to, from] => Ok(Self::Copy { to: number(to)?, from: number(from)? }),
            ["memory.size", of] => Ok(Self::Size { of: number(of)? }),
            _ => Err(unknown(name)),
        }
    }

    const fn instruction(self) -> Instruction<'static> {
        match self {
            Self::Copy { to, from } => Instruction::MemoryCopy { src_mem: from, dst_mem: to },
            Self::Size { of } => Instruction::MemorySize(of),
        }
    }

    fn highest_memory(self) -> u32 {
        match self {
            Self::Copy { to, from } => to.max(from),
            Self::Size { of } => of,
        }
    }
}

impl Linker {
    /// What a function stands for, if it is a marked one.
    fn mark(&self, function: u32) -> Option<Mark> {
        self.imported.get(function as usize).copied().flatten()
    }

    /// The highest index of a memory that is named.
    fn memories(&self) -> u32 {
        self.imported.iter().flatten().map(|mark| mark.highest_memory()).max().unwrap_or(0)
    }
}

impl Reencode for Linker {
    type Error = Unlinkable;

    /// Names of functions are left out: some are gone.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        if section.name() == "name" {
            return Ok(());
        }
        utils::parse_custom_section(self, module, section)
    }

    fn parse_import_section(
        &mut self,
        imports: &mut ImportSection,
        section: ImportSectionReader<'_>,
    ) -> Result<(), Error> {
        for import in section.into_imports() {
            let import = import?;
            if import.module != MARK {
                self.parse_imports(imports, Imports::Single(0, import))?;
            }
        }
        Ok(())
    }

    fn parse_memory_section(
        &mut self,
        memories: &mut MemorySection,
        section: MemorySectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_memory_section(self, memories, section)?;
        let empty = MemoryType {
            minimum: 0,
            maximum: None,
            memory64: false,
            shared: false,
            page_size_log2: None,
        };
        for _ in 0..self.memories() {
            memories.memory(empty);
        }
        Ok(())
    }

    fn parse_export_section(
        &mut self,
        exports: &mut ExportSection,
        section: ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_export_section(self, exports, section)?;
        for index in 1..=self.memories() {
            exports.export(&format!("memory{index}"), ExportKind::Memory, index);
        }
        Ok(())
    }

    /// The index without the marked imports before it. A marked one has none, so nothing but
    /// a call may refer to it.
    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        if let Some(mark) = self.mark(function) {
            return Err(reencode::Error::UserError(Unlinkable::NotCalled(mark)));
        }
        let gone = self.imported.iter().take(function as usize).flatten().count();
        Ok(function - u32::try_from(gone).unwrap_or(function))
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Error> {
        match operator {
            Operator::Call { function_index } if self.mark(function_index).is_some() => {
                let mark = self.mark(function_index);
                Ok(mark.map_or(Instruction::Unreachable, Mark::instruction))
            }
            operator => utils::instruction(self, operator),
        }
    }
}

fn unknown(name: &str) -> Error {
    reencode::Error::UserError(Unlinkable::Unknown(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wasm(body: &str) -> Vec<u8> {
        let text = format!(
            r#"(module
                (import "instruction" "memory.copy 0 2" (func $in (param i32 i32 i32)))
                (import "env" "other" (func $other))
                (import "instruction" "memory.size 2" (func $size (result i32)))
                (memory (export "memory") 1)
                (table 1 funcref)
                {body})"#
        );
        wat::parse_str(text).unwrap()
    }

    #[test]
    fn marked_calls_become_instructions_and_other_functions_move_up() {
        let linked = link(&wasm(
            r#"(func $last (export "last") (result i32)
                (call $in (i32.const 1) (i32.const 2) (i32.const 3))
                (call $other)
                (call $size))
            (func (export "call") (result i32) (call $last))
            (elem (i32.const 0) $last)"#,
        ));
        let expected = wat::parse_str(
            r#"(module
                (type (func (param i32 i32 i32))) (type (func)) (type (func (result i32)))
                (import "env" "other" (func $other))
                (table 1 funcref)
                (memory (export "memory") 1)
                (memory $memory1 0) (memory $memory2 0)
                (func $last (export "last") (result i32)
                    (memory.copy 0 2 (i32.const 1) (i32.const 2) (i32.const 3))
                    (call $other)
                    (memory.size 2))
                (func (export "call") (result i32) (call $last))
                (export "memory1" (memory 1)) (export "memory2" (memory 2))
                (elem (i32.const 0) $last))"#,
        );
        assert_eq!(
            listing(&linked.unwrap()),
            listing(&expected.unwrap()),
            "the instructions of both modules"
        );
    }

    /// Everything in a module but its names, one thing a line.
    fn listing(wasm: &[u8]) -> Vec<String> {
        let mut lines = Vec::new();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload.unwrap() {
                Payload::CodeSectionEntry(body) => {
                    let operators = body.get_operators_reader().unwrap();
                    lines.extend(operators.into_iter().map(|it| format!("{:?}", it.unwrap())));
                }
                Payload::ImportSection(section) => {
                    let imports = section.into_imports();
                    lines.extend(imports.into_iter().map(|it| format!("{:?}", it.unwrap())));
                }
                Payload::ExportSection(section) => {
                    lines.extend(section.into_iter().map(|it| format!("{:?}", it.unwrap())));
                }
                Payload::MemorySection(section) => {
                    lines.extend(section.into_iter().map(|it| format!("{:?}", it.unwrap())));
                }
                _ => {}
            }
        }
        lines
    }

    #[test]
    fn what_cannot_be_linked_is_refused() {
        let refused = |wasm: &[u8]| match link(wasm).unwrap_err() {
            reencode::Error::UserError(reason) => reason,
            error => panic!("{error}"),
        };
        let function = wasm("(elem (i32.const 0) $in)");
        assert_eq!(refused(&function), Unlinkable::NotCalled(Mark::Copy { to: 0, from: 2 }));
        let exported = wasm(r#"(export "size" (func $size))"#);
        assert_eq!(refused(&exported), Unlinkable::NotCalled(Mark::Size { of: 2 }));
        for name in ["memory.fill 1", "memory.copy 1", "memory.size x", "", "memory.size -1"] {
            let text = format!(r#"(module (import "instruction" "{name}" (func)))"#);
            let wasm = wat::parse_str(text).unwrap();
            assert_eq!(refused(&wasm), Unlinkable::Unknown(name.to_owned()));
        }
        // Another type than the instruction has is found when the result is validated.
        let text = r#"(module (import "instruction" "memory.size 1" (func $f (result i64)))
            (memory 1) (func (drop (i64.eqz (call $f)))))"#;
        assert!(matches!(
            link(&wat::parse_str(text).unwrap()),
            Err(reencode::Error::ParseError(_))
        ));
    }
}
