//! Filling, copying and initializing across segments, piece by piece after all bounds were checked.
//!
//! A piece that ends with the last byte of 4 GiB is moved without that byte, and the byte by itself:
//! an engine adds such an end in 32 bits and traps, and a piece of all 4 GiB has no length in 32 bits.

use wasm_encoder::{BlockType, Instruction as I, ValType};

use super::body::Body;
use super::{Helper, Helpers};
use crate::access::arg;
use crate::view::View;

/// Locals of a loop over pieces.
#[derive(Clone, Copy)]
struct Piece {
    /// Bytes of this piece, and then without the last one.
    len: u32,
    /// Whether the last byte is moved by itself.
    edge: u32,
    /// The last byte.
    byte: u32,
}

/// One side of an operation.
#[derive(Clone, Copy)]
struct Side<'a> {
    view: &'a View,
    memory: u32,
    /// The address, as an `i64`.
    at: u32,
    segment: u32,
    low: u32,
}

impl Helpers<'_> {
    pub(super) fn fill(&mut self, memory: u32) -> Body {
        const VALUE: u32 = 1;
        const LEFT: u32 = 2;
        let mut body = Body::new(&[ValType::I64, ValType::I32, ValType::I64], &[]);
        let Some(view) = self.views.get(memory) else { return body };
        let to = Side::new(&mut body, view, memory, 0);
        let piece = Piece::new(&mut body);
        self.check(&mut body, to, LEFT);
        body.emit(&[I::Block(BlockType::Empty), I::Loop(BlockType::Empty)]);
        body.emit(&[I::LocalGet(LEFT), I::I64Eqz, I::BrIf(1)]);
        piece.forward(&mut body, &[to], LEFT);
        body.locate(view, to.at, to.segment, to.low);
        piece.cut(&mut body, &[to]);
        body.switch(to.segment, view.reach, |body, segment| {
            let here = view.base + segment;
            if view.shift == 32 {
                body.emit(&[I::LocalGet(piece.edge), I::If(BlockType::Empty)]);
                to.last(body, piece);
                body.emit(&[I::LocalGet(VALUE), I::I32Store8(arg(here, 0, 0)), I::End]);
            }
            body.emit(&[I::LocalGet(to.low), I::LocalGet(VALUE), I::LocalGet(piece.len)]);
            body.emit(&[I::I32WrapI64, I::MemoryFill(here)]);
        });
        piece.advance(&mut body, &[to.at], LEFT);
        body.emit(&[I::Br(0), I::End, I::End]);
        body
    }

    pub(super) fn copy(&mut self, to: u32, from: u32) -> Body {
        let (Some(target), Some(source)) = (self.views.get(to), self.views.get(from)) else {
            return Body::new(&[], &[]);
        };
        let ty = |wide: bool| if wide { ValType::I64 } else { ValType::I32 };
        let params = [target.wide, source.wide, target.wide && source.wide];
        let mut body = Body::new(&params.map(ty), &[]);
        let [at_to, at_from, left] = [0, 1, 2].map(|param| {
            let wide = body.local(ValType::I64);
            body.emit(&[I::LocalGet(param)]);
            if !params[param as usize] {
                body.emit(&[I::I64ExtendI32U]);
            }
            body.emit(&[I::LocalSet(wide)]);
            wide
        });
        let sides =
            [Side::new(&mut body, target, to, at_to), Side::new(&mut body, source, from, at_from)];
        let piece = Piece::new(&mut body);
        sides.iter().for_each(|side| self.check(&mut body, *side, left));
        if to == from {
            // From the end on, so that what overlaps is read before it is written.
            body.emit(&[I::LocalGet(at_to), I::LocalGet(at_from), I::I64GtU]);
            body.emit(&[I::If(BlockType::Empty)]);
            for side in sides {
                body.emit(&[I::LocalGet(side.at), I::LocalGet(left), I::I64Add]);
                body.emit(&[I::LocalSet(side.at)]);
            }
            body.emit(&[I::Loop(BlockType::Empty)]);
            body.emit(&[I::LocalGet(left), I::I64Eqz, I::If(BlockType::Empty), I::Return, I::End]);
            piece.backward(&mut body, &sides, left);
            copy_piece(&mut body, sides, piece);
            body.emit(&[I::Br(0), I::End, I::End]);
        }
        body.emit(&[I::Block(BlockType::Empty), I::Loop(BlockType::Empty)]);
        body.emit(&[I::LocalGet(left), I::I64Eqz, I::BrIf(1)]);
        piece.forward(&mut body, &sides, left);
        copy_piece(&mut body, sides, piece);
        piece.advance(&mut body, &[at_to, at_from], left);
        body.emit(&[I::Br(0), I::End, I::End]);
        body
    }

    pub(super) fn init(&mut self, memory: u32, data: u32) -> Body {
        const SOURCE: u32 = 1;
        const COUNT: u32 = 2;
        let mut body = Body::new(&[ValType::I64, ValType::I32, ValType::I32], &[]);
        let Some(view) = self.views.get(memory) else { return body };
        let left = body.local(ValType::I64);
        let to = Side::new(&mut body, view, memory, 0);
        let piece = Piece::new(&mut body);
        body.emit(&[I::LocalGet(COUNT), I::I64ExtendI32U, I::LocalSet(left)]);
        self.check(&mut body, to, left);
        // Whether the segment has the bytes is asked by initializing none behind them.
        let source = [I::LocalGet(SOURCE), I::LocalGet(COUNT), I::I32Add];
        body.emit(&source).emit(&[I::LocalGet(SOURCE), I::I32LtU]).trap_if(view);
        let nothing = I::MemoryInit { mem: view.base, data_index: data };
        body.emit(&[I::I32Const(0)]).emit(&source).emit(&[I::I32Const(0), nothing]);
        body.emit(&[I::Block(BlockType::Empty), I::Loop(BlockType::Empty)]);
        body.emit(&[I::LocalGet(left), I::I64Eqz, I::BrIf(1)]);
        piece.forward(&mut body, &[to], left);
        body.locate(view, to.at, to.segment, to.low);
        piece.cut(&mut body, &[to]);
        body.switch(to.segment, view.reach, |body, segment| {
            let here = view.base + segment;
            let init = I::MemoryInit { mem: here, data_index: data };
            if view.shift == 32 {
                last_byte(body, piece, SOURCE, here, &init);
            }
            body.emit(&[I::LocalGet(to.low), I::LocalGet(SOURCE), I::LocalGet(piece.len)]);
            body.emit(&[I::I32WrapI64, init]);
        });
        piece.advance(&mut body, &[to.at], left);
        body.emit(&[I::LocalGet(SOURCE), I::LocalGet(piece.len), I::I32WrapI64, I::I32Add]);
        body.emit(&[I::LocalSet(SOURCE), I::Br(0), I::End, I::End]);
        body
    }

    /// Traps if a range leaves its memory.
    fn check(&mut self, body: &mut Body, side: Side<'_>, left: u32) {
        let size = body.local(ValType::I64);
        if side.view.wide {
            body.emit(&[I::Call(self.index(Helper::Size(side.memory)))]);
        } else {
            body.emit(&[I::MemorySize(side.view.base), I::I64ExtendI32U]);
        }
        let page = I::I64Const(side.view.page.into());
        body.emit(&[page, I::I64Shl, I::LocalTee(size), I::LocalGet(left), I::I64LtU]);
        body.trap_if(side.view);
        body.emit(&[I::LocalGet(side.at), I::LocalGet(size), I::LocalGet(left), I::I64Sub]);
        body.emit(&[I::I64GtU]).trap_if(side.view);
    }
}

/// `memory.init` cannot write the last byte of 4 GiB everywhere, and no other instruction reads
/// a data segment: so the byte is written before it, and what was there is put back.
fn last_byte(body: &mut Body, piece: Piece, source: u32, here: u32, init: &I<'static>) {
    const LAST: I<'static> = I::I32Const(-1);
    const BEFORE: I<'static> = I::I32Const(-2);
    let kept = body.local(ValType::I32);
    let (load, store) = (I::I32Load8U(arg(here, 0, 0)), I::I32Store8(arg(here, 0, 0)));
    body.emit(&[I::LocalGet(piece.edge), I::If(BlockType::Empty)]);
    body.emit(&[BEFORE, load.clone(), I::LocalSet(kept), BEFORE, I::LocalGet(source)]);
    body.emit(&[I::LocalGet(piece.len), I::I32WrapI64, I::I32Add, I::I32Const(1), init.clone()]);
    body.emit(&[LAST, BEFORE, load, store.clone(), BEFORE, I::LocalGet(kept), store, I::End]);
}

/// Copies a piece, each end of which is in one segment.
fn copy_piece(body: &mut Body, [to, from]: [Side<'_>; 2], piece: Piece) {
    for side in [to, from] {
        body.locate(side.view, side.at, side.segment, side.low);
    }
    piece.cut(body, &[to, from]);
    // The last byte is read first and written last, which is right in whatever direction.
    if to.view.shift == 32 || from.view.shift == 32 {
        body.emit(&[I::LocalGet(piece.edge), I::If(BlockType::Empty)]);
        body.switch(from.segment, from.view.reach, |body, segment| {
            from.last(body, piece);
            body.emit(&[I::I32Load8U(arg(from.view.base + segment, 0, 0))]);
            body.emit(&[I::LocalSet(piece.byte)]);
        });
        body.emit(&[I::End]);
    }
    body.switch(to.segment, to.view.reach, |body, target| {
        body.switch(from.segment, from.view.reach, |body, source| {
            let [dst_mem, src_mem] = [to.view.base + target, from.view.base + source];
            body.emit(&[I::LocalGet(to.low), I::LocalGet(from.low), I::LocalGet(piece.len)]);
            body.emit(&[I::I32WrapI64, I::MemoryCopy { src_mem, dst_mem }]);
        });
    });
    if to.view.shift == 32 || from.view.shift == 32 {
        body.emit(&[I::LocalGet(piece.edge), I::If(BlockType::Empty)]);
        body.switch(to.segment, to.view.reach, |body, segment| {
            to.last(body, piece);
            body.emit(&[I::LocalGet(piece.byte)]);
            body.emit(&[I::I32Store8(arg(to.view.base + segment, 0, 0))]);
        });
        body.emit(&[I::End]);
    }
}

impl<'a> Side<'a> {
    fn new(body: &mut Body, view: &'a View, memory: u32, at: u32) -> Self {
        let [segment, low] = [body.local(ValType::I32), body.local(ValType::I32)];
        Self { view, memory, at, segment, low }
    }

    /// The address in its segment of the byte behind the piece that was cut.
    fn last(self, body: &mut Body, piece: Piece) {
        body.emit(&[I::LocalGet(self.low), I::LocalGet(piece.len), I::I32WrapI64, I::I32Add]);
    }

    /// The bytes from an address to the end of its segment.
    fn after(self, body: &mut Body) {
        let segment = self.view.segment().cast_signed();
        body.emit(&[I::I64Const(segment), I::LocalGet(self.at), I::I64Const(segment - 1)]);
        body.emit(&[I::I64And, I::I64Sub]);
    }

    /// The bytes from the beginning of a segment to an address, which may be the segment's end.
    fn before(self, body: &mut Body) {
        let mask = self.view.segment().cast_signed() - 1;
        body.emit(&[I::LocalGet(self.at), I::I64Const(1), I::I64Sub, I::I64Const(mask)]);
        body.emit(&[I::I64And, I::I64Const(1), I::I64Add]);
    }
}

impl Piece {
    fn new(body: &mut Body) -> Self {
        let len = body.local(ValType::I64);
        Self { len, edge: body.local(ValType::I32), byte: body.local(ValType::I32) }
    }

    /// Makes a piece of what is left, within one segment on each side.
    fn forward(self, body: &mut Body, sides: &[Side<'_>], left: u32) {
        self.smallest(body, sides, left, |side, body| side.after(body));
    }

    /// Makes a piece of the end of what is left; the addresses are those behind it, and are moved to
    /// the piece.
    fn backward(self, body: &mut Body, sides: &[Side<'_>], left: u32) {
        self.smallest(body, sides, left, |side, body| side.before(body));
        for local in sides.iter().map(|side| side.at).chain([left]) {
            body.emit(&[I::LocalGet(local), I::LocalGet(self.len), I::I64Sub]);
            body.emit(&[I::LocalSet(local)]);
        }
    }

    fn smallest(self, body: &mut Body, sides: &[Side<'_>], left: u32, of: fn(Side<'_>, &mut Body)) {
        let room = body.local(ValType::I64);
        body.emit(&[I::LocalGet(left), I::LocalSet(self.len)]);
        for side in sides {
            of(*side, body);
            body.emit(&[I::LocalTee(room), I::LocalGet(self.len), I::LocalGet(room)]);
            body.emit(&[I::LocalGet(self.len), I::I64LtU, I::Select, I::LocalSet(self.len)]);
        }
    }

    /// Takes the last byte off a piece that ends with 4 GiB.
    fn cut(self, body: &mut Body, sides: &[Side<'_>]) {
        body.emit(&[I::I32Const(0)]);
        for side in sides.iter().filter(|side| side.view.shift == 32) {
            body.emit(&[I::LocalGet(side.low), I::I64ExtendI32U, I::LocalGet(self.len)]);
            body.emit(&[I::I64Add, I::I64Const(1 << 32), I::I64Eq, I::I32Or]);
        }
        body.emit(&[I::LocalTee(self.edge), I::If(BlockType::Empty)]);
        body.emit(&[I::LocalGet(self.len), I::I64Const(1), I::I64Sub, I::LocalSet(self.len)]);
        body.emit(&[I::End]);
    }

    /// Goes on behind a piece.
    fn advance(self, body: &mut Body, addresses: &[u32], left: u32) {
        body.emit(&[I::LocalGet(self.len), I::LocalGet(self.edge), I::I64ExtendI32U, I::I64Add]);
        body.emit(&[I::LocalSet(self.len)]);
        for at in addresses {
            body.emit(&[I::LocalGet(*at), I::LocalGet(self.len), I::I64Add, I::LocalSet(*at)]);
        }
        body.emit(&[I::LocalGet(left), I::LocalGet(self.len), I::I64Sub, I::LocalSet(left)]);
    }
}
