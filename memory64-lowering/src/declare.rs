//! Sections that declare: imports, memories, tables, exports, and what fills them.

use wasm_encoder::reencode::{Reencode, RoundtripReencoder, utils};
use wasm_encoder::{
    ConstExpr, DataSection, ElementSection, Encode, ExportKind, ExportSection, ImportSection,
    Instruction as I, MemorySection, TableSection,
};
use wasmparser::{
    BinaryReader, DataKind, DataSectionReader, ElementKind, ElementSectionReader,
    ExportSectionReader, ExternalKind, ImportSectionReader, MemorySectionReader, Operator,
    TableSectionReader, TypeRef,
};

use crate::format::limit_name;
use crate::helpers::{Helper, Helpers};
use crate::renumber::Renumber;
use crate::sections::Replacement;
use crate::shape::Shape;
use crate::view::{Views, names};
use crate::{Error, Result};

/// Contents of a section.
pub(crate) fn contents(section: &impl Encode) -> Replacement {
    let mut sized = Vec::new();
    section.encode(&mut sized);
    // The encoding of a section begins with its length, which is written again.
    let mut reader = BinaryReader::new(&sized, 0);
    _ = reader.read_var_u32();
    let start = usize::try_from(reader.original_position()).unwrap_or(usize::MAX);
    Replacement::Contents(sized.get(start..).unwrap_or_default().to_vec())
}

pub(crate) fn imports(data: &[u8], views: &Views) -> Result<Replacement> {
    let mut out = ImportSection::new();
    let mut memories = views.iter();
    for import in ImportSectionReader::new(BinaryReader::new(data, 0))?.into_imports() {
        let import = import?;
        match import.ty {
            TypeRef::Memory(ty) => {
                let Some(view) = memories.next() else { continue };
                if view.wide {
                    for (segment, name) in (0..).zip(names(import.name, view.declared)) {
                        out.import(import.module, &name, view.segment_type(segment));
                    }
                } else {
                    let ty = RoundtripReencoder.memory_type(ty).map_err(Error::reencode)?;
                    out.import(import.module, import.name, ty);
                }
            }
            TypeRef::Table(ty) => {
                out.import(import.module, import.name, table_type(ty)?);
            }
            ty => {
                let ty = RoundtripReencoder.entity_type(ty).map_err(Error::reencode)?;
                out.import(import.module, import.name, ty);
            }
        }
    }
    Ok(contents(&out))
}

/// A type with indices of 32 bits.
fn table_type(ty: wasmparser::TableType) -> Result<wasm_encoder::TableType> {
    let most = u64::from(u32::MAX);
    if ty.table64 && ty.initial > most {
        return Err(Error::Table { elements: ty.initial, most });
    }
    let mut out = RoundtripReencoder.table_type(ty).map_err(Error::reencode)?;
    if out.table64 {
        out.table64 = false;
        out.maximum = out.maximum.map(|maximum| maximum.min(most));
    }
    Ok(out)
}

pub(crate) fn tables(data: &[u8]) -> Result<Replacement> {
    let mut out = TableSection::new();
    for table in TableSectionReader::new(BinaryReader::new(data, 0))? {
        let table = table?;
        let ty = table_type(table.ty)?;
        match table.init {
            wasmparser::TableInit::RefNull => out.table(ty),
            wasmparser::TableInit::Expr(init) => {
                let init = RoundtripReencoder.const_expr(init).map_err(Error::reencode)?;
                out.table_with_init(ty, &init)
            }
        };
    }
    Ok(contents(&out))
}

pub(crate) fn memories(data: &[u8], views: &Views) -> Result<Replacement> {
    let mut out = MemorySection::new();
    let reader = MemorySectionReader::new(BinaryReader::new(data, 0))?;
    let count = usize::try_from(reader.count()).unwrap_or(usize::MAX);
    let imported = views.iter().count().saturating_sub(count);
    for (ty, view) in reader.into_iter().zip(views.iter().skip(imported)) {
        if view.wide {
            (0..view.declared).for_each(|segment| _ = out.memory(view.segment_type(segment)));
        } else {
            out.memory(RoundtripReencoder.memory_type(ty?).map_err(Error::reencode)?);
        }
    }
    Ok(contents(&out))
}

pub(crate) fn exports(data: Option<&[u8]>, views: &Views) -> Result<Replacement> {
    let mut out = ExportSection::new();
    for (index, view) in (0..).zip(views.iter()) {
        if let Some(global) = view.most {
            out.export(&limit_name(index), ExportKind::Global, global);
        }
    }
    if data.is_none() && out.is_empty() {
        return Ok(Replacement::Same);
    }
    // An empty vector.
    let data = data.unwrap_or(&[0]);
    for export in ExportSectionReader::new(BinaryReader::new(data, 0))? {
        let export = export?;
        let memory = match export.kind {
            ExternalKind::Memory => views.get(export.index),
            _ => None,
        };
        let Some(view) = memory else {
            let kind = RoundtripReencoder.export_kind(export.kind).map_err(Error::reencode)?;
            out.export(export.name, kind, export.index);
            continue;
        };
        let segments = if view.wide { view.declared } else { 1 };
        for (segment, name) in (view.base..).zip(names(export.name, segments)) {
            out.export(&name, ExportKind::Memory, segment);
        }
    }
    Ok(contents(&out))
}

/// What an active segment becomes.
enum Active {
    /// An active segment with this offset.
    Same(ConstExpr, u32),
    /// A passive one, which the start function copies.
    ByStart,
}

/// Data and element segments. From the first one on that no declaration can place, the start function
/// places all, so that they are placed in their order.
pub(crate) struct Placer<'a> {
    pub(crate) shape: &'a Shape,
    pub(crate) views: &'a Views,
    /// Whether the start function places the segments from here on.
    by_start: bool,
    code: Vec<u8>,
}

impl<'a> Placer<'a> {
    pub(crate) const fn new(shape: &'a Shape, views: &'a Views) -> Self {
        Self { shape, views, by_start: false, code: Vec::new() }
    }

    /// Code that the start function begins with, if there is any.
    pub(crate) fn finish(self) -> Option<Vec<u8>> {
        self.by_start.then_some(self.code)
    }

    pub(crate) fn elements(
        &mut self,
        data: &[u8],
        helpers: &mut Helpers<'_>,
    ) -> Result<Replacement> {
        let mut out = ElementSection::new();
        let reader = ElementSectionReader::new(BinaryReader::new(data, 0))?;
        for (index, element) in (0..).zip(reader) {
            let element = element?;
            let ElementKind::Active { table_index, offset_expr } = &element.kind else {
                utils::parse_element(&mut RoundtripReencoder, &mut out, element)
                    .map_err(Error::reencode)?;
                continue;
            };
            let count = match &element.items {
                wasmparser::ElementItems::Functions(items) => items.count(),
                wasmparser::ElementItems::Expressions(_, items) => items.count(),
            };
            let table = table_index.unwrap_or(0);
            let wide = self.shape.table_is_wide(table);
            let active = match constant(offset_expr)? {
                _ if self.by_start => Active::ByStart,
                _ if !wide => Active::Same(const_expr(offset_expr.clone())?, table),
                // An index that no table has traps, as it did.
                Some(offset) => {
                    let offset = u32::try_from(offset).unwrap_or(u32::MAX);
                    Active::Same(ConstExpr::i32_const(offset.cast_signed()), table)
                }
                None => Active::ByStart,
            };
            let items = RoundtripReencoder.element_items(element.items).map_err(Error::reencode)?;
            match active {
                Active::Same(offset, table) => {
                    let table = table_index.map(|_| table);
                    out.active(table, &offset, items);
                }
                Active::ByStart => {
                    out.passive(items);
                    self.place(offset_expr.clone(), count)?;
                    let init = match wide {
                        true => I::Call(helpers.index(Helper::TableInit(table, index))),
                        false => I::TableInit { elem_index: index, table },
                    };
                    init.encode(&mut self.code);
                    I::ElemDrop(index).encode(&mut self.code);
                }
            }
        }
        Ok(contents(&out))
    }

    pub(crate) fn data(&mut self, data: &[u8], helpers: &mut Helpers<'_>) -> Result<Replacement> {
        let mut out = DataSection::new();
        for (index, segment) in (0..).zip(DataSectionReader::new(BinaryReader::new(data, 0))?) {
            let segment = segment?;
            let DataKind::Active { memory_index, offset_expr } = segment.kind else {
                out.passive(segment.data.iter().copied());
                continue;
            };
            let length = u32::try_from(segment.data.len()).unwrap_or(u32::MAX);
            match self.active(memory_index, &offset_expr, length)? {
                Active::Same(offset, memory) => {
                    out.active(memory, &offset, segment.data.iter().copied());
                }
                Active::ByStart => {
                    out.passive(segment.data.iter().copied());
                    self.place(offset_expr, length)?;
                    let init = match self.views.get(memory_index) {
                        Some(view) if !view.wide => {
                            I::MemoryInit { mem: view.base, data_index: index }
                        }
                        _ => I::Call(helpers.index(Helper::Init(memory_index, index))),
                    };
                    init.encode(&mut self.code);
                    I::DataDrop(index).encode(&mut self.code);
                }
            }
        }
        Ok(contents(&out))
    }

    fn active(
        &self,
        memory: u32,
        offset: &wasmparser::ConstExpr<'_>,
        length: u32,
    ) -> Result<Active> {
        let Some(view) = self.views.get(memory) else { return Ok(Active::ByStart) };
        if self.by_start {
            return Ok(Active::ByStart);
        }
        if !view.wide {
            return Ok(Active::Same(const_expr(offset.clone())?, view.base));
        }
        let Some(start) = constant(offset)? else { return Ok(Active::ByStart) };
        let end = u128::from(start) + u128::from(length);
        let (segment, low) = (start >> view.shift, start & (view.segment() - 1));
        let within = u128::from(low) + u128::from(length) < view.segment().into();
        // Of an imported memory it is not known how large it is, and so whether a higher segment counts.
        let there = view.begins_with(end) || segment == 0;
        match u32::try_from(segment) {
            Ok(segment) if within && there && segment < view.reach => {
                let low = u32::try_from(low).unwrap_or(u32::MAX);
                Ok(Active::Same(ConstExpr::i32_const(low.cast_signed()), view.base + segment))
            }
            _ => Ok(Active::ByStart),
        }
    }

    /// The operands for placing all of a segment.
    fn place(&mut self, offset: wasmparser::ConstExpr<'_>, length: u32) -> Result<()> {
        self.by_start = true;
        for operator in offset.get_operators_reader() {
            let operator = operator?;
            if matches!(operator, Operator::End) {
                break;
            }
            let mut renumber = Renumber::new(self.views);
            let instruction = utils::instruction(&mut renumber, operator);
            instruction.map_err(Error::reencode)?.encode(&mut self.code);
        }
        I::I32Const(0).encode(&mut self.code);
        I::I32Const(length.cast_signed()).encode(&mut self.code);
        Ok(())
    }
}

/// The value of an expression that is one 64-bit constant.
fn constant(offset: &wasmparser::ConstExpr<'_>) -> Result<Option<u64>> {
    let mut reader = offset.get_operators_reader();
    let value = match reader.read()? {
        Operator::I64Const { value } => value.cast_unsigned(),
        _ => return Ok(None),
    };
    Ok(matches!(reader.read()?, Operator::End).then_some(value))
}

fn const_expr(expr: wasmparser::ConstExpr<'_>) -> Result<ConstExpr> {
    RoundtripReencoder.const_expr(expr).map_err(Error::reencode)
}
