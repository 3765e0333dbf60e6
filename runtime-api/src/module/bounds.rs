//! Validates a module and counts, at the same time, what compiling it will cost.
//!
//! Everything is counted before the validator sees it: its work, too, is proportional to what
//! is counted here, and not to the bytes of a module.

mod frames;
#[cfg(test)]
mod tests;

use wasmparser::types::Types;
use wasmparser::{
    FuncValidator, FuncValidatorAllocations, FunctionBody, ModuleArity, Operator, OperatorsReader,
    Parser, Payload, TypeSectionReader, ValidPayload, Validator, ValidatorResources, WasmFeatures,
    WasmModuleResources,
};

use self::frames::Frames;
use crate::module_limits::{Bound, ModuleLimits};
use crate::{Error, Result};

/// A valid module.
pub(super) struct Validated {
    pub(super) types: Types,
    /// Whether it has an instruction that makes a table larger.
    pub(super) grows_tables: bool,
}

/// Validates a module that uses these features, within these limits.
pub(super) fn validate(
    wasm: &[u8],
    features: WasmFeatures,
    limits: &ModuleLimits,
) -> Result<Validated> {
    check("bytes", None, wasm.len() as u64, limits.bytes)?;
    let mut validator = Validator::new_with_features(features);
    let mut total = Cost::default();
    let mut allocations = FuncValidatorAllocations::default();
    let mut imported = 0;
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload.map_err(|error| invalid(&error))?;
        check_section(&payload, limits)?;
        if let Payload::ImportSection(imports) = &payload {
            imported = imports.count();
        }
        match validator.payload(&payload).map_err(|error| invalid(&error))? {
            ValidPayload::Func(function, body) => {
                let mut counter = Counter {
                    validator: function.into_validator(allocations),
                    assigned: Frames::default(),
                    touched: Frames::default(),
                    blocks: Vec::new(),
                    loops: 0,
                    cost: Cost::default(),
                    total: &mut total,
                    imported,
                    limits,
                };
                counter.function(&body)?;
                allocations = counter.validator.into_allocations();
            }
            ValidPayload::End(types) => {
                return Ok(Validated { types, grows_tables: total.grows_tables });
            }
            ValidPayload::Ok | ValidPayload::Parser(_) => {}
        }
    }
    let (offset, reason) = (wasm.len() as u64, "the module ends too early".into());
    Err(Error::InvalidModule { offset, reason })
}

/// Refuses what is more than its limit.
fn check(what: &'static str, function: Option<u32>, found: u64, limit: u64) -> Result<()> {
    if found <= limit {
        return Ok(());
    }
    Err(Error::TooComplex { what, function, found, limit })
}

/// Counts the definitions of a section before they are read.
fn check_section(payload: &Payload<'_>, limits: &ModuleLimits) -> Result<()> {
    let (what, count) = match payload {
        Payload::TypeSection(types) => {
            check("types", None, types.count().into(), limits.definitions)?;
            return check_types(types, limits);
        }
        Payload::ImportSection(imports) => ("imports", imports.count()),
        Payload::FunctionSection(functions) => ("functions", functions.count()),
        Payload::GlobalSection(globals) => ("globals", globals.count()),
        Payload::ExportSection(exports) => ("exports", exports.count()),
        Payload::ElementSection(elements) => ("element segments", elements.count()),
        Payload::DataSection(data) => ("data segments", data.count()),
        _ => return Ok(()),
    };
    check(what, None, count.into(), limits.definitions)
}

fn check_types(types: &TypeSectionReader<'_>, limits: &ModuleLimits) -> Result<()> {
    for ty in types.clone().into_iter_err_on_gc_types() {
        // What is wrong with a type, its validator says better.
        let Ok(ty) = ty else { return Ok(()) };
        let values = ty.params().len() + ty.results().len();
        check("parameters and results of a type", None, values as u64, limits.signature)?;
    }
    Ok(())
}

/// What a function, or all of them, cost a compiler.
#[derive(Clone, Copy, Debug, Default)]
struct Cost {
    effort: u64,
    /// Values that meet at joins of control flow, which are in the effort, too.
    joins: u64,
    spread: u64,
    grows_tables: bool,
}

/// Validates one function and counts.
struct Counter<'a> {
    validator: FuncValidator<ValidatorResources>,
    /// Locals that are assigned within a block, and those that are used or assigned.
    assigned: Frames,
    touched: Frames,
    /// The open blocks, and whether each is a loop.
    blocks: Vec<bool>,
    loops: u64,
    cost: Cost,
    /// Of the functions before it, and of this one.
    total: &'a mut Cost,
    /// Functions that come from the host.
    imported: u32,
    limits: &'a ModuleLimits,
}

/// What a function costs that does nothing, and each of its parameters and results: the code by
/// which others call it.
const FUNCTION: u64 = 40;
const PARAMETER: u64 = 4;
/// What a look at the flag for a time limit costs, where code of guests with one has it: what is
/// bounded is the larger of the two variants. A look is a join, too: compilers inline it, and LLVM
/// takes minutes for twenty thousand in one function. Looks of functions are in [`FUNCTION`].
const LOOK: u64 = 20;
/// Values of one instruction that do not count; each beyond them counts as an instruction.
const VALUES: u64 = 8;
/// This number of joins in one function doubles their cost: allocating registers takes time that grows
/// with the square.
const QUADRATIC: u64 = 300;

impl Counter<'_> {
    fn function(&mut self, body: &FunctionBody<'_>) -> Result<()> {
        let mut reader = body.get_binary_reader();
        let read = self.validator.read_locals(&mut reader);
        read.map_err(|error| invalid(&error))?;
        let locals = self.validator.len_locals();
        let index = self.validator.index();
        check("locals", Some(index), locals.into(), self.limits.locals)?;
        (self.assigned, self.touched) = (Frames::new(locals), Frames::new(locals));
        let ty = self.validator.resources().type_index_of_function(index);
        let ty = ty.and_then(|ty| self.validator.sub_type_at(ty));
        let (params, results) =
            ty.and_then(|ty| self.validator.sub_type_arity(ty)).unwrap_or_default();
        let signature = u64::from(params) + u64::from(results);
        self.add(FUNCTION + u64::from(locals) + PARAMETER * signature, 0, 0)?;
        reader.set_features(*self.validator.features());
        let mut operators = OperatorsReader::new(reader);
        while !operators.eof() {
            let offset = operators.original_position();
            let operator = operators.read().map_err(|error| invalid(&error))?;
            self.count(&operator)?;
            self.validator.op(offset, &operator).map_err(|error| invalid(&error))?;
        }
        operators.finish().map_err(|error| invalid(&error))
    }

    fn count(&mut self, operator: &Operator<'_>) -> Result<()> {
        let (takes, leaves) = operator.operator_arity(&self.validator).unwrap_or_default();
        let values = u64::from(takes) + u64::from(leaves);
        let plain = 1 + values.saturating_sub(VALUES);
        match operator {
            Operator::Block { .. } | Operator::If { .. } => self.enter(false, plain, values),
            Operator::Loop { .. } => self.enter(true, plain + LOOK, values + 1),
            Operator::End => self.leave(plain, values),
            Operator::Else | Operator::Br { .. } => self.add(plain, values, 0),
            // The condition goes nowhere.
            Operator::BrIf { .. } => self.add(plain, values.saturating_sub(1), 0),
            Operator::BrTable { targets } => {
                let targets = u64::from(targets.len()) + 1;
                self.add(plain + targets, values.saturating_sub(1).saturating_mul(targets), 0)
            }
            Operator::LocalGet { local_index } => {
                self.touched.touch(*local_index);
                self.add(plain, 0, 0)
            }
            Operator::LocalSet { local_index } | Operator::LocalTee { local_index } => {
                self.touched.touch(*local_index);
                self.assigned.touch(*local_index);
                self.add(plain, 0, 0)
            }
            Operator::TableGrow { .. } => {
                self.total.grows_tables = true;
                self.add(plain + LOOK, 1, 0)
            }
            Operator::Call { function_index } if *function_index < self.imported => {
                self.add(plain + LOOK, 1, 0)
            }
            Operator::CallIndirect { .. }
            | Operator::MemoryInit { .. }
            | Operator::MemoryGrow { .. }
            | Operator::TableInit { .. }
            | Operator::TableFill { .. }
            | Operator::TableCopy { .. } => self.add(plain + LOOK, 1, 0),
            _ => self.add(plain, 0, 0),
        }
    }

    fn enter(&mut self, is_loop: bool, plain: u64, values: u64) -> Result<()> {
        let index = Some(self.validator.index());
        let nesting = u64::from(self.validator.control_stack_height());
        check("nested blocks", index, nesting, self.limits.nesting)?;
        self.loops += u64::from(is_loop);
        check("nested loops", index, self.loops, self.limits.nested_loops)?;
        self.blocks.push(is_loop);
        self.assigned.enter();
        self.touched.enter();
        let live =
            self.validator.len_locals().saturating_add(self.validator.operand_stack_height());
        self.add(plain, values, live.into())
    }

    /// Each local that a block assigns may have another value behind it; and each that a loop
    /// uses at all has to be where the loop's next round looks for it.
    fn leave(&mut self, plain: u64, values: u64) -> Result<()> {
        // The last end is the function's.
        let is_loop = self.blocks.pop();
        let (assigned, touched) = (self.assigned.leave(), self.touched.leave());
        let locals = match is_loop {
            Some(true) => {
                self.loops -= 1;
                touched
            }
            Some(false) => assigned,
            None => 0,
        };
        self.add(plain, values.saturating_add(locals), 0)
    }

    fn add(&mut self, instructions: u64, joins: u64, spread: u64) -> Result<()> {
        let square = |joins: u64| joins.saturating_mul(joins) / QUADRATIC;
        let before = square(self.cost.joins);
        self.cost.joins = self.cost.joins.saturating_add(joins);
        let effort = instructions.saturating_add(joins) + (square(self.cost.joins) - before);
        let index = Some(self.validator.index());
        let count = |what, own: &mut u64, all: &mut u64, add: u64, limit: Bound| {
            *own = own.saturating_add(add);
            *all = all.saturating_add(add);
            check(what, index, *own, limit.function)?;
            check(what, None, *all, limit.module)
        };
        let (own, all, limits) = (&mut self.cost, &mut *self.total, self.limits);
        let what = "steps of compiling (instructions and values at joins)";
        count(what, &mut own.effort, &mut all.effort, effort, limits.effort)?;
        count(
            "live values, over all blocks",
            &mut own.spread,
            &mut all.spread,
            spread,
            limits.spread,
        )
    }
}

/// Everything that a guest may use if the engine has it. Left out is what one of the engines
/// lacks, or what would let two runs differ (threads).
pub(super) fn accepted_features() -> WasmFeatures {
    (WasmFeatures::WASM2
        | WasmFeatures::EXTENDED_CONST
        | WasmFeatures::RELAXED_SIMD
        | WasmFeatures::MULTI_MEMORY
        | WasmFeatures::MEMORY64)
        // References to objects of the host need a garbage collector, which we build no engine
        // with, and which no value of ours could be.
        .difference(WasmFeatures::GC_TYPES)
}

pub(super) fn invalid(error: &wasmparser::BinaryReaderError) -> Error {
    Error::InvalidModule { offset: error.offset(), reason: error.message().to_owned() }
}
