//! The descriptor of a network: read from bytes that nobody vouches for, and checked.

use core::ops::Range;

use polychord_abi::transformer::{Model, Tensor, VERSION, activations, ggml_type, role, status};

use crate::kernels::{Kind, Matrix};
#[cfg(feature = "multi32")]
use crate::memories;
use crate::ranks::Share;
use crate::{Status, alloc, host::Layers};

/// Tensors of one block, by role from [`role::ATTN_NORM`] on.
const IN_BLOCK: usize = 9;

/// Sizes of the network, none of them zero (but perhaps `blocks`).
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    pub(crate) dim: usize,
    pub(crate) ffn: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    pub(crate) rope_dim: usize,
    pub(crate) first_block: usize,
    pub(crate) blocks: usize,
    pub(crate) context: usize,
    pub(crate) batch: usize,
    /// Whether activations are quantised, for integer products.
    pub(crate) integers: bool,
    /// How keys and values are stored.
    pub(crate) cache_type: CacheType,
    pub(crate) rms_epsilon: f32,
    pub(crate) rope_base: f32,
    pub(crate) rope_scale: f32,
    /// `heads * head_dim`.
    pub(crate) query_len: usize,
    /// `kv_heads * head_dim`.
    pub(crate) key_len: usize,
    /// Which part of each product, and which heads, this instance computes.
    pub(crate) share: Share,
}

impl Shape {
    /// The query heads that this instance computes.
    pub(crate) fn own_heads(&self) -> Range<usize> {
        self.share.own(self.heads)
    }

    /// The key and value heads that they need; two ranks may share one.
    pub(crate) fn own_kv_heads(&self) -> Range<usize> {
        let (Range { start, end }, group) = (self.own_heads(), self.heads / self.kv_heads);
        start / group..end.div_ceil(group)
    }
}

/// How keys and values are stored.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum CacheType {
    F32,
    F16,
}

impl CacheType {
    /// The type with this number in ggml.
    fn new(number: u32) -> Result<Self, Status> {
        match number {
            ggml_type::F32 => Ok(Self::F32),
            ggml_type::F16 => Ok(Self::F16),
            _ => Err(status::UNSUPPORTED_TYPE),
        }
    }

    /// Bytes of one number.
    pub(crate) const fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }
}

/// Where a tensor is stored, with its sizes already multiplied out.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    pub(crate) layer: u32,
    pub(crate) offset: u64,
    kind: Kind,
    cols: usize,
    row_bytes: usize,
}

impl Stored {
    /// Calls `use_part` with some rows of the tensor, and where they begin among `rows`: here
    /// with all of them.
    #[cfg(not(feature = "multi32"))]
    pub(crate) fn each_part(
        &self,
        layers: &Layers,
        rows: Range<usize>,
        mut use_part: impl FnMut(&Matrix<'_>, usize),
    ) -> Result<(), Status> {
        let part = rows.start * self.row_bytes..rows.end * self.row_bytes;
        use_part(&self.matrix(layers.bytes(self, part)?), 0);
        Ok(())
    }

    /// The same for weights in another memory: with as many rows at a time as are brought in
    /// at once.
    #[cfg(feature = "multi32")]
    pub(crate) fn each_part(
        &self,
        layers: &Layers,
        rows: Range<usize>,
        mut use_part: impl FnMut(&Matrix<'_>, usize),
    ) -> Result<(), Status> {
        let start = layers.start(self, rows.start * self.row_bytes)?;
        memories::stage(start, rows.len(), self.row_bytes, |bytes, first| {
            use_part(&self.matrix(bytes), first);
        })
    }

    /// Expands one row of the tensor.
    pub(crate) fn expand(
        &self,
        layers: &Layers,
        row: usize,
        out: &mut [f32],
    ) -> Result<(), Status> {
        self.each_part(layers, row..row + 1, |part, _| part.expand(0, out))
    }

    const fn matrix<'a>(&self, bytes: &'a [u8]) -> Matrix<'a> {
        Matrix { kind: self.kind, cols: self.cols, row_bytes: self.row_bytes, bytes }
    }
}

/// Tensors outside of blocks; an instance that holds a part of the network lacks some.
#[derive(Default)]
pub(crate) struct Globals {
    pub(crate) token_embd: Option<Stored>,
    pub(crate) output_norm: Option<Stored>,
    pub(crate) output: Option<Stored>,
    pub(crate) rope_freqs: Option<Stored>,
}

/// The tensors of one block.
#[derive(Clone, Copy)]
pub(crate) struct Block {
    tensors: [Option<Stored>; IN_BLOCK],
}

impl Block {
    /// The tensor of a role; [`read`] has made sure that each block has all.
    pub(crate) fn get(&self, role: u32) -> Result<&Stored, Status> {
        let tensor = index_in_block(role).and_then(|index| self.tensors[index].as_ref());
        tensor.ok_or(status::MISSING_TENSOR)
    }
}

/// A checked descriptor.
pub(crate) struct Description {
    pub(crate) shape: Shape,
    pub(crate) globals: Globals,
    pub(crate) blocks: &'static mut [Block],
    /// Where the host wants keys and values, if it does not leave that to us.
    pub(crate) cache: Option<u64>,
}

#[cfg(feature = "multi32")]
impl Description {
    /// Bytes of the longest row of any tensor.
    pub(crate) fn longest_row(&self) -> usize {
        let Globals { token_embd, output_norm, output, rope_freqs } = &self.globals;
        let globals = [token_embd, output_norm, output, rope_freqs].into_iter().flatten();
        let blocks = self.blocks.iter().flat_map(|block| block.tensors.iter().flatten());
        globals.chain(blocks).map(|tensor| tensor.row_bytes).max().unwrap_or(0)
    }
}

/// Reads and checks a descriptor.
pub(crate) fn read(bytes: &[u8]) -> Result<Description, Status> {
    let (header, records) =
        bytes.split_at_checked(size_of::<Model>()).ok_or(status::BAD_DESCRIPTOR)?;
    let model = model_from(header);
    let (records, rest) = records.as_chunks::<{ size_of::<Tensor>() }>();
    let counted = u32::try_from(records.len()).is_ok_and(|count| count == model.tensors);
    if model.version != VERSION.cast_unsigned() || !counted || !rest.is_empty() {
        return Err(status::BAD_DESCRIPTOR);
    }
    let shape = check_shape(&model)?;
    // Each block needs nine records: a lie about their number must not cost memory.
    if records.len() / IN_BLOCK < shape.blocks {
        return Err(status::MISSING_TENSOR);
    }
    let mut globals = Globals::default();
    let blocks = alloc::filled(shape.blocks, || Some(Block { tensors: [None; IN_BLOCK] }))
        .ok_or(status::OUT_OF_MEMORY)?;
    for record in records {
        take(&tensor_from(record), &shape, &mut globals, blocks)?;
    }
    if blocks.iter().any(|block| block.tensors.iter().any(Option::is_none)) {
        return Err(status::MISSING_TENSOR);
    }
    let cache = u64::from(model.cache_high) << 32 | u64::from(model.cache_low);
    let cache = (cache != 0).then_some(cache);
    Ok(Description { shape, globals, blocks, cache })
}

/// Puts a tensor in its place, which must be free.
fn take(
    tensor: &Tensor,
    shape: &Shape,
    globals: &mut Globals,
    blocks: &mut [Block],
) -> Result<(), Status> {
    let place = if let Some(index) = index_in_block(tensor.role) {
        let block = (tensor.block as usize).checked_sub(shape.first_block);
        let block = block.and_then(|block| blocks.get_mut(block)).ok_or(status::BAD_BLOCK)?;
        &mut block.tensors[index]
    } else if tensor.block != 0 {
        return Err(status::BAD_BLOCK);
    } else {
        match tensor.role {
            role::TOKEN_EMBD => &mut globals.token_embd,
            role::OUTPUT_NORM => &mut globals.output_norm,
            role::OUTPUT => &mut globals.output,
            role::ROPE_FREQS => &mut globals.rope_freqs,
            _ => return Err(status::BAD_DESCRIPTOR),
        }
    };
    if place.is_some() {
        return Err(status::MISSING_TENSOR);
    }
    *place = Some(check_tensor(tensor, shape)?);
    Ok(())
}

fn index_in_block(role: u32) -> Option<usize> {
    let index = role.checked_sub(role::ATTN_NORM)? as usize;
    (index < IN_BLOCK).then_some(index)
}

fn check_shape(model: &Model) -> Result<Shape, Status> {
    let product = |a: u32, b: u32| (a as usize).checked_mul(b as usize).ok_or(status::BAD_SHAPE);
    let sizes = [
        model.vocab,
        model.dim,
        model.ffn,
        model.heads,
        model.kv_heads,
        model.head_dim,
        model.rope_dim,
        model.context,
        model.batch,
    ];
    let positive = |x: f32| x.is_finite() && x > 0.0;
    let good = sizes.iter().all(|&size| size != 0)
        && model.heads.is_multiple_of(model.kv_heads)
        && model.rope_dim.is_multiple_of(2)
        && model.rope_dim <= model.head_dim
        && model.first_block.checked_add(model.blocks).is_some()
        && model.rms_epsilon.is_finite()
        && model.rms_epsilon >= 0.0
        && matches!(model.activations, activations::F32 | activations::INT8)
        && model.rank < model.ranks
        && positive(model.rope_base)
        && positive(model.rope_scale);
    if !good {
        return Err(status::BAD_SHAPE);
    }
    Ok(Shape {
        vocab: model.vocab as usize,
        dim: model.dim as usize,
        ffn: model.ffn as usize,
        heads: model.heads as usize,
        kv_heads: model.kv_heads as usize,
        head_dim: model.head_dim as usize,
        rope_dim: model.rope_dim as usize,
        first_block: model.first_block as usize,
        blocks: model.blocks as usize,
        context: model.context as usize,
        batch: model.batch as usize,
        integers: model.activations == activations::INT8,
        cache_type: CacheType::new(model.cache_type)?,
        rms_epsilon: model.rms_epsilon,
        rope_base: model.rope_base,
        rope_scale: model.rope_scale,
        query_len: product(model.heads, model.head_dim)?,
        key_len: product(model.kv_heads, model.head_dim)?,
        share: Share { rank: model.rank as usize, ranks: model.ranks as usize },
    })
}

fn check_tensor(tensor: &Tensor, shape: &Shape) -> Result<Stored, Status> {
    let (rows, cols) = expected(tensor.role, shape);
    if (tensor.rows as usize, tensor.cols as usize) != (rows, cols) {
        return Err(status::BAD_SHAPE);
    }
    let kind = Kind::new(tensor.kind)?;
    if is_vector(tensor.role) && kind != Kind::F32 {
        return Err(status::UNSUPPORTED_TYPE);
    }
    let row_bytes = kind.row_bytes(cols)?;
    let bytes = row_bytes.checked_mul(rows).ok_or(status::BAD_SHAPE)?;
    tensor.offset.checked_add(bytes as u64).ok_or(status::BAD_SHAPE)?;
    Ok(Stored { layer: tensor.layer, offset: tensor.offset, kind, cols, row_bytes })
}

fn is_vector(role: u32) -> bool {
    matches!(role, role::OUTPUT_NORM | role::ROPE_FREQS | role::ATTN_NORM | role::FFN_NORM)
}

/// Rows and columns that a tensor of this role has.
fn expected(role: u32, shape: &Shape) -> (usize, usize) {
    match role {
        role::TOKEN_EMBD | role::OUTPUT => (shape.vocab, shape.dim),
        role::ROPE_FREQS => (1, shape.rope_dim / 2),
        role::ATTN_Q => (shape.query_len, shape.dim),
        role::ATTN_K | role::ATTN_V => (shape.key_len, shape.dim),
        role::ATTN_OUTPUT => (shape.dim, shape.query_len),
        role::FFN_GATE | role::FFN_UP => (shape.ffn, shape.dim),
        role::FFN_DOWN => (shape.dim, shape.ffn),
        _ => (1, shape.dim),
    }
}

/// Reads little-endian words one after another; missing ones are 0.
struct Words<'a>(&'a [u8]);

impl Words<'_> {
    fn u32(&mut self) -> u32 {
        let Some((word, rest)) = self.0.split_first_chunk() else { return 0 };
        self.0 = rest;
        u32::from_le_bytes(*word)
    }

    fn u64(&mut self) -> u64 {
        u64::from(self.u32()) | u64::from(self.u32()) << 32
    }

    fn f32(&mut self) -> f32 {
        f32::from_bits(self.u32())
    }
}

// Fields of a struct expression are evaluated as written: the order of the contract.
fn model_from(bytes: &[u8]) -> Model {
    let mut words = Words(bytes);
    Model {
        version: words.u32(),
        tensors: words.u32(),
        vocab: words.u32(),
        dim: words.u32(),
        ffn: words.u32(),
        heads: words.u32(),
        kv_heads: words.u32(),
        head_dim: words.u32(),
        rope_dim: words.u32(),
        first_block: words.u32(),
        blocks: words.u32(),
        context: words.u32(),
        batch: words.u32(),
        rms_epsilon: words.f32(),
        rope_base: words.f32(),
        rope_scale: words.f32(),
        activations: words.u32(),
        cache_low: words.u32(),
        cache_high: words.u32(),
        rank: words.u32(),
        ranks: words.u32(),
        cache_type: words.u32(),
    }
}

fn tensor_from(bytes: &[u8]) -> Tensor {
    let mut words = Words(bytes);
    Tensor {
        role: words.u32(),
        block: words.u32(),
        layer: words.u32(),
        kind: words.u32(),
        rows: words.u32(),
        cols: words.u32(),
        offset: words.u64(),
    }
}
