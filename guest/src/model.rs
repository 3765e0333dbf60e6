//! The descriptor of a network: read from bytes that may be anything, and checked.

use core::ops::Range;

use polychord_abi::buffers::{Buffers, Run};
use polychord_abi::network::{ROLES, Role, Sizes, feature};
use polychord_abi::transformer::{Descriptor, Tensor, VERSION, activations, ggml_type, status};

use crate::kernels::{Kind, Matrix, Rows};
#[cfg(feature = "multi32")]
use crate::memories;
use crate::ranks::Share;
use crate::roles::{IN_BLOCK, OUTSIDE, PLACES};
use crate::{Status, alloc, host::Layers};

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
    /// How keys and values are stored.
    pub(crate) cache_type: CacheType,
    pub(crate) rms_epsilon: f32,
    pub(crate) rope_base: f32,
    pub(crate) rope_scale: f32,
    /// `heads * head_dim`.
    pub(crate) query_len: usize,
    /// Which part of each product, and which heads, this instance computes.
    pub(crate) share: Share,
    /// Whether rotation is of the halves of a head, not of pairs of neighbors.
    pub(crate) rope_halves: bool,
    /// Whether the output is the embedding.
    pub(crate) tied: bool,
    /// How long everything is that a call writes.
    pub(crate) buffers: Buffers,
}

impl Shape {
    /// The query heads that this instance computes.
    pub(crate) fn own_heads(&self) -> Range<usize> {
        self.share.own(self.heads)
    }

    /// The key and value heads that they need; two ranks may share one.
    pub(crate) fn own_kv_heads(&self) -> Range<usize> {
        own_kv_heads(self.share, self.heads, self.kv_heads)
    }
}

fn own_kv_heads(share: Share, heads: usize, kv_heads: usize) -> Range<usize> {
    let (Range { start, end }, group) = (share.own(heads), heads / kv_heads);
    start / group..end.div_ceil(group)
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
    pub(crate) cols: usize,
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
        use_part(&self.matrix(layers.bytes(self.layer, self.offset, part)?), 0);
        Ok(())
    }

    /// Calls `use_part` with some rows of the tensor, and where they begin among `rows`: with as
    /// many at a time as are brought in at once from another memory.
    #[cfg(feature = "multi32")]
    pub(crate) fn each_part(
        &self,
        layers: &Layers,
        rows: Range<usize>,
        mut use_part: impl FnMut(&Matrix<'_>, usize),
    ) -> Result<(), Status> {
        let start = layers.start(self.layer, self.offset, rows.start * self.row_bytes)?;
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
        Matrix { kind: self.kind, rows: Rows { cols: self.cols, row_bytes: self.row_bytes, bytes } }
    }
}

/// Tensors by their roles: those of one block, or those outside of blocks.
#[derive(Clone, Copy)]
pub(crate) struct Tensors<const N: usize>([Option<Stored>; N]);

/// The tensors of one block: [`read`] has made sure that it has all that it needs.
pub(crate) type Block = Tensors<IN_BLOCK>;

/// Tensors outside of blocks; an instance that holds a part of the network lacks some.
pub(crate) type Globals = Tensors<OUTSIDE>;

impl<const N: usize> Tensors<N> {
    const NONE: Self = Self([None; N]);

    /// The tensor of a role, where it is there.
    pub(crate) fn find(&self, role: u32) -> Option<&Stored> {
        self.0.get(*PLACES.get(role as usize)?)?.as_ref()
    }

    /// The tensor of a role that has to be there.
    pub(crate) fn get(&self, role: u32) -> Result<&Stored, Status> {
        self.find(role).ok_or(status::MISSING_TENSOR)
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
        let blocks = self.blocks.iter().flat_map(|block| &block.0);
        let all = self.globals.0.iter().chain(blocks).flatten();
        all.map(|tensor| tensor.row_bytes).max().unwrap_or(0)
    }
}

/// Reads and checks a descriptor.
pub(crate) fn read(bytes: &[u8]) -> Result<Description, Status> {
    let (header, records) = bytes.split_first_chunk().ok_or(status::BAD_DESCRIPTOR)?;
    let model = Descriptor::from_le_bytes(header);
    let (records, rest) = records.as_chunks::<{ Tensor::SIZE }>();
    let counted = u32::try_from(records.len()).is_ok_and(|count| count == model.tensors);
    if model.version != VERSION.cast_unsigned() || !counted || !rest.is_empty() {
        return Err(status::BAD_DESCRIPTOR);
    }
    if model.features & !feature::ALL != 0 {
        return Err(status::UNKNOWN_FEATURE);
    }
    let (shape, sizes) = (check_shape(&model)?, model.sizes());
    let needed = |role: &&Role| role.section.is_in_block() && role.need.is_required(model.features);
    // Each block needs some records: a lie about their number must not cost memory.
    if records.len() / ROLES.iter().filter(needed).count().max(1) < shape.blocks {
        return Err(status::MISSING_TENSOR);
    }
    let mut globals = Globals::NONE;
    let blocks = alloc::filled(shape.blocks, || Some(Block::NONE)).ok_or(status::OUT_OF_MEMORY)?;
    for record in records {
        let tensor = Tensor::from_le_bytes(record);
        let role = Role::find(tensor.role).ok_or(status::BAD_DESCRIPTOR)?;
        let place = place(role, &tensor, &shape, &mut globals, blocks)?;
        if place.is_some() || !role.need.is_allowed(model.features) {
            return Err(status::MISSING_TENSOR);
        }
        *place = Some(check_tensor(role, &tensor, &sizes)?);
    }
    let is_whole =
        |block: &Block| ROLES.iter().filter(needed).all(|role| block.find(role.number).is_some());
    if !blocks.iter().all(is_whole) {
        return Err(status::MISSING_TENSOR);
    }
    let cache = u64::from(model.cache_high) << 32 | u64::from(model.cache_low);
    let cache = (cache != 0).then_some(cache);
    Ok(Description { shape, globals, blocks, cache })
}

/// Where a tensor goes.
fn place<'a>(
    role: &Role,
    tensor: &Tensor,
    shape: &Shape,
    globals: &'a mut Globals,
    blocks: &'a mut [Block],
) -> Result<&'a mut Option<Stored>, Status> {
    let place = PLACES[role.number as usize];
    if role.section.is_in_block() {
        let block = (tensor.block as usize).checked_sub(shape.first_block);
        let block = block.and_then(|block| blocks.get_mut(block)).ok_or(status::BAD_BLOCK)?;
        return Ok(&mut block.0[place]);
    }
    if tensor.block != 0 {
        return Err(status::BAD_BLOCK);
    }
    Ok(&mut globals.0[place])
}

fn check_shape(model: &Descriptor) -> Result<Shape, Status> {
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
    let share = Share { rank: model.rank as usize, ranks: model.ranks as usize };
    let kv_heads = own_kv_heads(share, model.heads as usize, model.kv_heads as usize).len();
    let run = Run {
        context: model.context,
        batch: model.batch,
        kv_heads: u32::try_from(kv_heads).map_err(|_| status::BAD_SHAPE)?,
        integers: model.activations == activations::INT8,
    };
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
        cache_type: CacheType::new(model.cache_type)?,
        rms_epsilon: model.rms_epsilon,
        rope_base: model.rope_base,
        rope_scale: model.rope_scale,
        query_len: product(model.heads, model.head_dim)?,
        share,
        rope_halves: model.features & feature::ROPE_HALVES != 0,
        tied: model.features & feature::TIED_OUTPUT != 0,
        buffers: Buffers::new(&model.sizes(), &run).ok_or(status::BAD_SHAPE)?,
    })
}

fn check_tensor(role: &Role, tensor: &Tensor, sizes: &Sizes) -> Result<Stored, Status> {
    let expected = (sizes.get(role.rows), sizes.get(role.cols));
    if (Some(tensor.rows), Some(tensor.cols)) != expected {
        return Err(status::BAD_SHAPE);
    }
    let kind = Kind::new(tensor.kind)?;
    if role.is_vector() && kind != Kind::F32 {
        return Err(status::UNSUPPORTED_TYPE);
    }
    let (rows, cols) = (tensor.rows as usize, tensor.cols as usize);
    let row_bytes = kind.row_bytes(cols)?;
    let bytes = row_bytes.checked_mul(rows).ok_or(status::BAD_SHAPE)?;
    tensor.offset.checked_add(bytes as u64).ok_or(status::BAD_SHAPE)?;
    Ok(Stored { layer: tensor.layer, offset: tensor.offset, kind, cols, row_bytes })
}
