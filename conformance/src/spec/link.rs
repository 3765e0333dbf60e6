//! Makes one module of several instances that import from each other.
//!
//! The API starts modules alone, since its guests import from the host only. In a module that
//! has them all as its parts, the scripts' instances share what the specification has them
//! share: an import is the definition that it stands for. What happens when a part is
//! instantiated, its segments and its start function, is done by a function of its own, so
//! that the parts before it live on if it traps.

use std::collections::HashMap;
use std::convert::Infallible;

use wasm_encoder::reencode::{self, Reencode};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Encode, ExportKind,
    ExportSection, Function, FunctionSection, GlobalSection, MemorySection, Module, TableSection,
    TypeSection, ValType,
};
use wasmparser::{DataKind, ElementItems, ElementKind, ExternalKind, Operator, Parser, Payload};

/// A module, and where each of its imports comes from: a part before it, and its export.
pub(super) struct Part<'a> {
    pub(super) wasm: &'a [u8],
    pub(super) imports: Vec<(usize, &'a str)>,
}

pub(super) type Error = reencode::Error<Infallible>;

/// The export that instantiates a part.
pub(super) fn start_name(part: usize) -> String {
    format!("{part} start")
}

/// The export that calls a function that a part exports.
pub(super) fn call_name(part: usize, export: &str) -> String {
    format!("{part} call {export}")
}

/// The export that returns the value of a global that a part exports, or the size of a memory
/// or a table.
pub(super) fn read_name(part: usize, export: &str) -> String {
    format!("{part} read {export}")
}

/// One module with these parts.
pub(super) fn link(parts: &[Part<'_>]) -> Result<Vec<u8>, Error> {
    let mut linker = Linker::default();
    for part in parts {
        linker.add(part)?;
    }
    Ok(linker.finish())
}

/// What a part's indices are in the module.
#[derive(Default)]
struct Spaces {
    first_type: u32,
    first_element: u32,
    first_data: u32,
    functions: Vec<u32>,
    tables: Vec<u32>,
    memories: Vec<u32>,
    globals: Vec<u32>,
    exports: HashMap<String, (ExternalKind, u32)>,
}

#[derive(Default)]
struct Linker {
    parts: Vec<Spaces>,
    types: TypeSection,
    type_count: u32,
    functions: FunctionSection,
    /// The types of addresses of all tables and memories.
    table_addresses: Vec<ValType>,
    memory_addresses: Vec<ValType>,
    tables: TableSection,
    memories: MemorySection,
    globals: GlobalSection,
    /// Type and initial value of every global.
    constants: Vec<(ValType, Vec<u8>)>,
    exports: ExportSection,
    elements: ElementSection,
    code: CodeSection,
    data: DataSection,
    /// Functions that no part has: their result, instructions and export.
    added: Vec<(Option<ValType>, Function, String)>,
}

impl Linker {
    fn add(&mut self, part: &Part<'_>) -> Result<(), Error> {
        let mut spaces = Spaces {
            first_type: self.type_count,
            first_element: self.elements.len(),
            first_data: self.data.len(),
            ..Spaces::default()
        };
        let mut start = Function::new([]);
        let mut main = None;
        for payload in Parser::new(0).parse_all(part.wasm) {
            match payload? {
                Payload::StartSection { func, .. } => main = Some(func),
                Payload::ExportSection(section) => self.exports(&mut spaces, section)?,
                Payload::ElementSection(section) => self.elements(&spaces, section, &mut start)?,
                Payload::DataSection(section) => self.data(&spaces, section, &mut start)?,
                payload => self.definitions(&mut spaces, part, payload)?,
            }
        }
        if let Some(main) = main {
            start.instructions().call(spaces.functions[main as usize]);
        }
        start.instructions().end();
        self.added.push((None, start, start_name(self.parts.len())));
        self.parts.push(spaces);
        Ok(())
    }

    /// What has an index of its own in the part.
    fn definitions(
        &mut self,
        spaces: &mut Spaces,
        part: &Part<'_>,
        payload: Payload<'_>,
    ) -> Result<(), Error> {
        match payload {
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    self.type_count += index(group?.types().len());
                }
                Names(spaces, &[]).parse_type_section(&mut self.types, section)?;
            }
            Payload::ImportSection(_) => {
                for (from, name) in &part.imports {
                    let (kind, index) = self.parts[*from].exports[*name];
                    spaces.push(kind, index);
                }
            }
            Payload::FunctionSection(section) => {
                for ty in section {
                    spaces.functions.push(self.functions.len());
                    self.functions.function(spaces.first_type + ty?);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone() {
                    spaces.tables.push(index(self.table_addresses.len()));
                    self.table_addresses.push(address(table?.ty.table64));
                }
                Names(spaces, &self.constants).parse_table_section(&mut self.tables, section)?;
            }
            Payload::MemorySection(section) => {
                for memory in section.clone() {
                    spaces.memories.push(index(self.memory_addresses.len()));
                    self.memory_addresses.push(address(memory?.memory64));
                }
                Names(spaces, &[]).parse_memory_section(&mut self.memories, section)?;
            }
            Payload::GlobalSection(section) => {
                for global in section {
                    let (mut names, global) = (Names(spaces, &self.constants), global?);
                    let ty = names.global_type(global.ty)?;
                    let value = names.const_expr(global.init_expr)?;
                    self.globals.global(ty, &value);
                    spaces.globals.push(index(self.constants.len()));
                    self.constants.push((ty.val_type, instructions(&value)));
                }
            }
            Payload::CodeSectionEntry(body) => {
                Names(spaces, &self.constants).parse_function_body(&mut self.code, body)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn exports(
        &mut self,
        spaces: &mut Spaces,
        section: wasmparser::ExportSectionReader<'_>,
    ) -> Result<(), Error> {
        let part = self.parts.len();
        for export in section {
            let export = export?;
            let Some(index) = spaces.of(export.kind, export.index) else { continue };
            spaces.exports.insert(export.name.to_owned(), (export.kind, index));
            let mut body = Function::new([]);
            let result = match export.kind {
                ExternalKind::Global => {
                    body.instructions().global_get(index).end();
                    self.constants[index as usize].0
                }
                ExternalKind::Memory => {
                    body.instructions().memory_size(index).end();
                    self.memory_addresses[index as usize]
                }
                ExternalKind::Table => {
                    body.instructions().table_size(index).end();
                    self.table_addresses[index as usize]
                }
                _ => {
                    self.exports.export(&call_name(part, export.name), ExportKind::Func, index);
                    continue;
                }
            };
            self.added.push((Some(result), body, read_name(part, export.name)));
        }
        Ok(())
    }

    fn elements(
        &mut self,
        spaces: &Spaces,
        section: wasmparser::ElementSectionReader<'_>,
        start: &mut Function,
    ) -> Result<(), Error> {
        for element in section {
            let element = element?;
            let mut names = Names(spaces, &self.constants);
            let len = match &element.items {
                ElementItems::Functions(items) => items.count(),
                ElementItems::Expressions(_, items) => items.count(),
            };
            let items = names.element_items(element.items)?;
            let this = self.elements.len();
            match element.kind {
                ElementKind::Declared => _ = self.elements.declared(items),
                ElementKind::Passive => _ = self.elements.passive(items),
                ElementKind::Active { table_index, offset_expr } => {
                    self.elements.passive(items);
                    let table = names.table_index(table_index.unwrap_or(0))?;
                    start.raw(instructions(&names.const_expr(offset_expr)?));
                    let mut code = start.instructions();
                    code.i32_const(0).i32_const(len.cast_signed());
                    code.table_init(table, this).elem_drop(this);
                }
            }
        }
        Ok(())
    }

    fn data(
        &mut self,
        spaces: &Spaces,
        section: wasmparser::DataSectionReader<'_>,
        start: &mut Function,
    ) -> Result<(), Error> {
        for data in section {
            let data = data?;
            let mut names = Names(spaces, &self.constants);
            let this = self.data.len();
            self.data.passive(data.data.iter().copied());
            if let DataKind::Active { memory_index, offset_expr } = data.kind {
                let memory = names.memory_index(memory_index)?;
                start.raw(instructions(&names.const_expr(offset_expr)?));
                let mut code = start.instructions();
                code.i32_const(0).i32_const(index(data.data.len()).cast_signed());
                code.memory_init(memory, this).data_drop(this);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Vec<u8> {
        for (result, body, name) in self.added {
            self.types.ty().function([], result);
            self.exports.export(&name, ExportKind::Func, self.functions.len());
            self.functions.function(self.type_count);
            self.type_count += 1;
            self.code.function(&body);
        }
        let mut module = Module::new();
        module.section(&self.types).section(&self.functions).section(&self.tables);
        module.section(&self.memories).section(&self.globals).section(&self.exports);
        module.section(&self.elements).section(&DataCountSection { count: self.data.len() });
        module.section(&self.code).section(&self.data);
        module.finish()
    }
}

impl Spaces {
    fn push(&mut self, kind: ExternalKind, index: u32) {
        match kind {
            ExternalKind::Table => self.tables.push(index),
            ExternalKind::Memory => self.memories.push(index),
            ExternalKind::Global => self.globals.push(index),
            _ => self.functions.push(index),
        }
    }

    fn of(&self, kind: ExternalKind, index: u32) -> Option<u32> {
        let space = match kind {
            ExternalKind::Table => &self.tables,
            ExternalKind::Memory => &self.memories,
            ExternalKind::Global => &self.globals,
            ExternalKind::Func => &self.functions,
            _ => return None,
        };
        space.get(index as usize).copied()
    }
}

/// Rewrites a part's indices, which are valid, and the constants that globals stand for.
struct Names<'a>(&'a Spaces, &'a [(ValType, Vec<u8>)]);

impl Reencode for Names<'_> {
    type Error = Infallible;

    fn type_index(&mut self, ty: u32) -> Result<u32, Error> {
        Ok(self.0.first_type + ty)
    }

    fn function_index(&mut self, function: u32) -> Result<u32, Error> {
        Ok(self.0.functions[function as usize])
    }

    fn table_index(&mut self, table: u32) -> Result<u32, Error> {
        Ok(self.0.tables[table as usize])
    }

    fn memory_index(&mut self, memory: u32) -> Result<u32, Error> {
        Ok(self.0.memories[memory as usize])
    }

    fn global_index(&mut self, global: u32) -> Result<u32, Error> {
        Ok(self.0.globals[global as usize])
    }

    fn element_index(&mut self, element: u32) -> Result<u32, Error> {
        Ok(self.0.first_element + element)
    }

    fn data_index(&mut self, data: u32) -> Result<u32, Error> {
        Ok(self.0.first_data + data)
    }

    /// A constant may name an imported global, which is none here.
    fn const_expr(&mut self, expr: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, Error> {
        let mut bytes = Vec::new();
        let mut operators = expr.get_operators_reader();
        while !operators.is_end_then_eof() {
            match operators.read()? {
                Operator::GlobalGet { global_index } => {
                    let global = self.global_index(global_index)?;
                    bytes.extend(&self.1[global as usize].1);
                }
                operator => self.instruction(operator)?.encode(&mut bytes),
            }
        }
        Ok(ConstExpr::raw(bytes))
    }
}

/// The instructions of a constant, without its end.
fn instructions(constant: &ConstExpr) -> Vec<u8> {
    let mut bytes = Vec::new();
    constant.encode(&mut bytes);
    bytes.pop();
    bytes
}

const fn address(is_64: bool) -> ValType {
    if is_64 { ValType::I64 } else { ValType::I32 }
}

/// A number of definitions, which a module's format keeps within 32 bits.
fn index(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}
