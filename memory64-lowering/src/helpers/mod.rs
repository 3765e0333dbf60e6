//! Functions that are added to a module, for all that is too long to stand where it is used.

mod body;
mod bulk;
mod scalar;
mod size;
mod tables;

use std::collections::HashMap;

use wasm_encoder::{Encode, ValType};

use crate::Result;
use crate::access::Op;
use crate::shape::Shape;
use crate::view::Views;
use body::Body;

/// An added function; memories, tables and segments have their indices before lowering.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Helper {
    /// `(address, offset[, value]) -> [value]`: one load or store, wherever it is.
    Access(u32, Op),
    /// `(address, width) -> bits`: bytes that two segments share, which are there.
    Gather(u32),
    /// `(address, width, bits)`.
    Scatter(u32),
    /// `(address) -> byte`, which is there.
    Byte(u32),
    /// `(address, byte)`.
    PutByte(u32),
    /// `() -> pages`.
    Size(u32),
    /// Brings the global with the limit of a memory up to date.
    Refresh(u32),
    /// `(pages) -> pages before, or -1`.
    Grow(u32),
    /// `memory.fill`.
    Fill(u32),
    /// `memory.copy`, to the first from the second.
    Copy(u32, u32),
    /// `memory.init` of a memory from a data segment.
    Init(u32, u32),
    /// `(index: i64) -> i32`: an index in a table, or one that no table has.
    Index,
    /// `table.fill`.
    TableFill(u32),
    /// `table.set`.
    TableSet(u32),
    /// `table.copy`, to the first from the second.
    TableCopy(u32, u32),
    /// `table.init` of a table from an element segment.
    TableInit(u32, u32),
    /// `table.grow`.
    TableGrow(u32),
    /// What instantiation did before, and the start function of the module.
    Start,
}

/// The functions that were asked for.
pub(crate) struct Helpers<'a> {
    shape: &'a Shape,
    views: &'a Views,
    list: Vec<Helper>,
    known: HashMap<Helper, u32>,
    types: Vec<(Vec<ValType>, Vec<ValType>)>,
    /// Code of [`Helper::Start`], but for the call of the module's own start function.
    start: Vec<u8>,
}

/// Entries of sections for the added functions.
#[derive(Default)]
pub(crate) struct Added {
    pub(crate) types: Vec<Vec<u8>>,
    pub(crate) functions: Vec<Vec<u8>>,
    pub(crate) bodies: Vec<Vec<u8>>,
    /// Name of each function.
    pub(crate) names: Vec<(u32, String)>,
}

impl<'a> Helpers<'a> {
    pub(crate) fn new(shape: &'a Shape, views: &'a Views) -> Self {
        let (list, known, types) = (Vec::new(), HashMap::new(), Vec::new());
        Self { shape, views, list, known, types, start: Vec::new() }
    }

    /// The index of a function, which is added if it was not asked for before.
    pub(crate) fn index(&mut self, helper: Helper) -> u32 {
        let next = u32::try_from(self.list.len()).unwrap_or(u32::MAX);
        let first = self.shape.functions;
        let position = *self.known.entry(helper).or_insert_with(|| {
            self.list.push(helper);
            next
        });
        first.saturating_add(position)
    }

    /// Has the start function do this first; it returns the index of that function.
    pub(crate) fn start_with(&mut self, code: Vec<u8>) -> u32 {
        self.start = code;
        self.index(Helper::Start)
    }

    /// The functions, each with those that it asks for.
    pub(crate) fn finish(mut self) -> Result<Added> {
        let mut added = Added::default();
        let mut next = 0;
        while let Some(helper) = self.list.get(next).copied() {
            let body = self.body(helper)?;
            let ty = self.ty(body.params.clone(), body.results.clone());
            let mut function = Vec::new();
            ty.encode(&mut function);
            added.functions.push(function);
            added.bodies.push(body.encode());
            added.names.push((self.index(helper), helper.name()));
            next += 1;
        }
        added.types = self.types.iter().map(|(params, results)| entry(params, results)).collect();
        Ok(added)
    }

    fn ty(&mut self, params: Vec<ValType>, results: Vec<ValType>) -> u32 {
        let ty = (params, results);
        let position = self.types.iter().position(|known| *known == ty).unwrap_or_else(|| {
            self.types.push(ty);
            self.types.len() - 1
        });
        self.shape.types.saturating_add(u32::try_from(position).unwrap_or(u32::MAX))
    }

    fn body(&mut self, helper: Helper) -> Result<Body> {
        Ok(match helper {
            Helper::Access(memory, op) => self.access(memory, op),
            Helper::Gather(memory) => self.gather(memory),
            Helper::Scatter(memory) => self.scatter(memory),
            Helper::Byte(memory) => self.byte(memory),
            Helper::PutByte(memory) => self.put_byte(memory),
            Helper::Size(memory) => self.size(memory),
            Helper::Refresh(memory) => self.refresh(memory),
            Helper::Grow(memory) => self.grow(memory),
            Helper::Fill(memory) => self.fill(memory),
            Helper::Copy(to, from) => self.copy(to, from),
            Helper::Init(memory, data) => self.init(memory, data),
            Helper::Index => Self::table_index(),
            Helper::TableFill(table) => self.table_fill(table)?,
            Helper::TableSet(table) => self.table_set(table)?,
            Helper::TableCopy(to, from) => self.table_copy(to, from),
            Helper::TableInit(table, elements) => self.table_init(table, elements),
            Helper::TableGrow(table) => self.table_grow(table)?,
            Helper::Start => self.start(),
        })
    }

    fn start(&self) -> Body {
        let mut body = Body::new(&[], &[]);
        body.append(&self.start);
        if let Some(start) = self.shape.start {
            body.emit(&[wasm_encoder::Instruction::Call(start)]);
        }
        body
    }
}

impl Helper {
    /// For stack traces.
    fn name(self) -> String {
        let text = format!("{self:?}").to_lowercase().replace(", ", ".");
        format!("memory64.{}", text.replace(['(', ')'], "."))
    }
}

/// An entry of the type section.
fn entry(params: &[ValType], results: &[ValType]) -> Vec<u8> {
    // The mark of a function type.
    let mut entry = vec![0x60];
    params.encode(&mut entry);
    results.encode(&mut entry);
    entry
}
