//! Tables with 64-bit indices, as tables with 32-bit indices.
//!
//! No table has an element `u32::MAX`, so that index stands for all that do not fit.

use wasm_encoder::{BlockType, Instruction as I, ValType};

use super::body::Body;
use super::{Helper, Helpers};
use crate::Result;

/// The index for all that no table has.
const NONE: I<'static> = I::I32Const(-1);

impl Helpers<'_> {
    pub(super) fn table_index() -> Body {
        let mut body = Body::new(&[ValType::I64], &[ValType::I32]);
        body.emit(&[I::LocalGet(0), I::I32WrapI64, NONE]);
        body.emit(&[I::LocalGet(0), I::I64Const(32), I::I64ShrU, I::I64Eqz, I::Select]);
        body
    }

    /// The address type of a table.
    fn width(&self, table: u32) -> ValType {
        if self.shape.table_is_wide(table) { ValType::I64 } else { ValType::I32 }
    }

    /// Pushes a parameter as an index or length of 32 bits.
    fn narrow(&mut self, body: &mut Body, param: u32, ty: ValType) {
        body.emit(&[I::LocalGet(param)]);
        if ty == ValType::I64 {
            body.emit(&[I::Call(self.index(Helper::Index))]);
        }
    }

    pub(super) fn table_set(&mut self, table: u32) -> Result<Body> {
        let mut body = Body::new(&[ValType::I64, self.shape.element(table)?], &[]);
        self.narrow(&mut body, 0, ValType::I64);
        body.emit(&[I::LocalGet(1), I::TableSet(table)]);
        Ok(body)
    }

    pub(super) fn table_fill(&mut self, table: u32) -> Result<Body> {
        let element = self.shape.element(table)?;
        let mut body = Body::new(&[ValType::I64, element, ValType::I64], &[]);
        self.narrow(&mut body, 0, ValType::I64);
        body.emit(&[I::LocalGet(1)]);
        self.narrow(&mut body, 2, ValType::I64);
        body.emit(&[I::TableFill(table)]);
        Ok(body)
    }

    pub(super) fn table_copy(&mut self, to: u32, from: u32) -> Body {
        let [target, source] = [self.width(to), self.width(from)];
        let len = if target == source { target } else { ValType::I32 };
        let mut body = Body::new(&[target, source, len], &[]);
        self.narrow(&mut body, 0, target);
        self.narrow(&mut body, 1, source);
        self.narrow(&mut body, 2, len);
        body.emit(&[I::TableCopy { src_table: from, dst_table: to }]);
        body
    }

    pub(super) fn table_init(&mut self, table: u32, elements: u32) -> Body {
        let mut body = Body::new(&[ValType::I64, ValType::I32, ValType::I32], &[]);
        self.narrow(&mut body, 0, ValType::I64);
        let init = I::TableInit { elem_index: elements, table };
        body.emit(&[I::LocalGet(1), I::LocalGet(2), init]);
        body
    }

    pub(super) fn table_grow(&mut self, table: u32) -> Result<Body> {
        let element = self.shape.element(table)?;
        let mut body = Body::new(&[element, ValType::I64], &[ValType::I64]);
        let before = body.local(ValType::I32);
        let fail = [I::If(BlockType::Empty), I::I64Const(-1), I::Return, I::End];
        body.emit(&[I::LocalGet(1), I::I64Const(32), I::I64ShrU, I::I64Eqz, I::I32Eqz]);
        body.emit(&fail).emit(&[I::LocalGet(0), I::LocalGet(1), I::I32WrapI64]);
        body.emit(&[I::TableGrow(table), I::LocalTee(before), NONE, I::I32Eq]).emit(&fail);
        body.emit(&[I::LocalGet(before), I::I64ExtendI32U]);
        Ok(body)
    }
}
