//! A transformer guest that traps at many moments, the same ones on every engine.
#![allow(clippy::unwrap_used, reason = "tests")]

use polychord::api::abi::transformer::export;
use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    BlockType, CodeSection, ConstExpr, GlobalSection, GlobalType, Instruction, Module, ValType,
};
use wasmparser::{ExternalKind, FunctionBody, GlobalSectionReader, Operator, Parser, Payload};

/// Rewrites a guest so that it traps before the `first`-th step from its first embedding on, and
/// then again and again, after ever more steps: the intervals grow by one part of a given number.
///
/// Steps are entries of functions, heads of loops, and stores to memory. What a guest leaves
/// behind when it is stopped depends on which of its stores were done, so this covers every state.
pub(crate) fn trapping(wasm: &[u8], first: i64, part: i64) -> Vec<u8> {
    let mut module = Module::new();
    let mut pass = Trapping { first, part, function: 0, embed: 0, left: 0 };
    for payload in Parser::new(0).parse_all(wasm) {
        match payload.unwrap() {
            Payload::ImportSection(imports) => {
                for import in imports.into_imports() {
                    let is_function = matches!(import.unwrap().ty, wasmparser::TypeRef::Func(_));
                    pass.function += u32::from(is_function);
                }
            }
            Payload::GlobalSection(globals) => pass.left = globals.count(),
            Payload::ExportSection(exports) => {
                for export in exports {
                    let export = export.unwrap();
                    if export.name == export::EMBED && export.kind == ExternalKind::Func {
                        pass.embed = export.index;
                    }
                }
            }
            _ => {}
        }
    }
    utils::parse_core_module(&mut pass, &mut module, Parser::new(0), wasm).unwrap();
    module.finish()
}

struct Trapping {
    first: i64,
    part: i64,
    /// Index of the function that comes next.
    function: u32,
    embed: u32,
    /// Index of the global with the steps that are left; the interval is behind it.
    left: u32,
}

type Result<T> = std::result::Result<T, reencode::Error>;

impl Reencode for Trapping {
    type Error = std::convert::Infallible;

    fn parse_global_section(
        &mut self,
        globals: &mut GlobalSection,
        section: GlobalSectionReader<'_>,
    ) -> Result<()> {
        utils::parse_global_section(self, globals, section)?;
        let ty = GlobalType { val_type: ValType::I64, mutable: true, shared: false };
        for _ in 0..2 {
            globals.global(ty, &ConstExpr::i64_const(0));
        }
        Ok(())
    }

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        body: FunctionBody<'_>,
    ) -> Result<()> {
        let mut function = self.new_function_with_parsed_locals(&body)?;
        if self.function == self.embed {
            self.arm().iter().for_each(|it| _ = function.instruction(it));
        }
        self.function += 1;
        self.step().iter().for_each(|it| _ = function.instruction(it));
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let operator = operators.read()?;
            // All stores to memory are named so, vectors' ones too.
            let name = format!("{operator:?}");
            let is_store = name.split_once(' ').is_some_and(|(name, _)| name.contains("Store"));
            let is_loop = matches!(operator, Operator::Loop { .. });
            if is_store {
                self.step().iter().for_each(|it| _ = function.instruction(it));
            }
            function.instruction(&self.instruction(operator)?);
            if is_loop {
                self.step().iter().for_each(|it| _ = function.instruction(it));
            }
        }
        code.function(&function);
        Ok(())
    }
}

impl Trapping {
    /// Begins to count, unless that was done.
    fn arm(&self) -> [Instruction<'static>; 8] {
        let (left, interval) = (self.left, self.left + 1);
        [
            Instruction::GlobalGet(interval),
            Instruction::I64Eqz,
            Instruction::If(BlockType::Empty),
            Instruction::I64Const(self.first),
            Instruction::GlobalSet(left),
            Instruction::I64Const(self.first),
            Instruction::GlobalSet(interval),
            Instruction::End,
        ]
    }

    /// Counts a step, and traps after the last one of an interval. Before it was armed, the number
    /// is negative.
    fn step(&self) -> [Instruction<'static>; 19] {
        let (left, interval) = (self.left, self.left + 1);
        [
            Instruction::GlobalGet(left),
            Instruction::I64Const(1),
            Instruction::I64Sub,
            Instruction::GlobalSet(left),
            Instruction::GlobalGet(left),
            Instruction::I64Eqz,
            Instruction::If(BlockType::Empty),
            Instruction::GlobalGet(interval),
            Instruction::GlobalGet(interval),
            Instruction::I64Const(self.part),
            Instruction::I64DivU,
            Instruction::I64Add,
            Instruction::I64Const(1),
            Instruction::I64Add,
            Instruction::GlobalSet(interval),
            // The next interval begins at once.
            Instruction::GlobalGet(interval),
            Instruction::GlobalSet(left),
            Instruction::Unreachable,
            Instruction::End,
        ]
    }
}
