//! The descriptor of a network: read from bytes that may be anything, and checked.

use core::ops::Range;

use polychord_abi::buffers::{BLOCK, Buffers, Kept, MOST_IN_ROW, Run, cache_bytes};
use polychord_abi::network::{ROLES, Role, Size, Sizes, feature, role};
use polychord_abi::transformer::{
    self, Descriptor, MOST_ROPES, NO_ROPE, Rope, Tensor, VERSION, activations, ggml_type, status,
};

use crate::checks::{check_source, good_experts, good_mixer, natural, positive};
use crate::kernels::{Kind, Matrix, Rows};
#[cfg(feature = "multi32")]
use crate::memories;
use crate::ranks::Share;
use crate::roles::{IN_BLOCK, OUTSIDE, PLACES};
use crate::{Status, alloc, host::Layers};

/// Numbers of the network, those of its sizes not zero (but perhaps `blocks`).
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) vocab: usize,
    pub(crate) dim: usize,
    pub(crate) first_block: usize,
    pub(crate) blocks: usize,
    pub(crate) context: usize,
    pub(crate) batch: usize,
    /// How keys and values are stored.
    pub(crate) cache_type: CacheType,
    pub(crate) epsilon: f32,
    pub(crate) embedding_scale: f32,
    pub(crate) residual_scale: f32,
    pub(crate) logit_scale: f32,
    pub(crate) logit_cap: f32,
    /// Which part of each product, and which heads, this instance computes.
    pub(crate) share: Share,
    /// Bits of [`feature`].
    pub(crate) features: u64,
    /// Width of what one block gets beside the hidden state, and all of them.
    pub(crate) layer_input: usize,
    pub(crate) carried: usize,
    /// How long everything is that a call writes.
    pub(crate) buffers: Buffers,
}

/// Numbers of one block, those of its sizes not zero unless it has no such part.
#[derive(Clone, Copy)]
pub(crate) struct BlockShape {
    /// Bits of [`feature`].
    pub(crate) features: u64,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_dim: usize,
    /// `heads * head_dim`.
    pub(crate) query_len: usize,
    pub(crate) ffn: usize,
    /// How many positions are attended to, if not all.
    pub(crate) window: Option<usize>,
    /// Which of the ropes turns queries and keys, if any.
    pub(crate) rope: Option<usize>,
    pub(crate) attention_scale: f32,
    pub(crate) attention_cap: f32,
    pub(crate) temperature: f32,
    pub(crate) temperature_offset: usize,
    pub(crate) temperature_length: usize,
    pub(crate) experts: usize,
    pub(crate) experts_used: usize,
    pub(crate) expert_ffn: usize,
    pub(crate) shared_ffn: usize,
    pub(crate) gating: u32,
    pub(crate) expert_scale: f32,
    pub(crate) expert_groups: usize,
    pub(crate) expert_groups_used: usize,
    /// Its number in the network.
    pub(crate) number: usize,
    /// Positions of the cache.
    pub(crate) positions: usize,
    /// The block of this instance whose keys and values it uses, if they are not its own.
    pub(crate) source: Option<usize>,
    pub(crate) taps: usize,
    pub(crate) query_rank: usize,
    pub(crate) latent_rank: usize,
    pub(crate) plain_dim: usize,
    pub(crate) value_dim: usize,
    /// How long everything is that it keeps.
    pub(crate) kept: Kept,
    share: Share,
}

impl BlockShape {
    /// Whether the block has a feature.
    pub(crate) const fn has(&self, feature: u64) -> bool {
        self.features & feature != 0
    }

    /// Whether it has a state in place of a cache.
    pub(crate) const fn is_recurrent(&self) -> bool {
        self.has(feature::RECURRENT)
    }

    /// The channels of a delta net's convolution.
    pub(crate) const fn channels(&self) -> usize {
        (self.heads + 2 * self.kv_heads) * self.head_dim
    }

    /// The channels of which this instance keeps the last positions.
    pub(crate) fn own_channels(&self) -> Range<usize> {
        if self.has(feature::DELTA_NET) { 0..self.channels() } else { self.own_heads() }
    }

    /// Whether values are in the cache beside keys.
    pub(crate) const fn kept_values(&self) -> bool {
        !self.has(feature::LATENT)
    }

    /// The elements of a latent head that are rotated.
    pub(crate) const fn turned_dim(&self) -> usize {
        self.head_dim - self.latent_rank
    }

    /// The rows of the cache in which positions are, in their order.
    #[cfg(feature = "multi32")]
    pub(crate) fn places(&self, positions: Range<usize>) -> [Range<usize>; 2] {
        let (start, len) = (positions.start % self.positions, positions.len());
        let before = len.min(self.positions - start);
        [start..start + before, 0..len - before]
    }

    /// The query heads that this instance computes.
    pub(crate) fn own_heads(&self) -> Range<usize> {
        self.share.own(self.heads)
    }

    /// The key and value heads that they need; two ranks may share one.
    pub(crate) fn own_kv_heads(&self) -> Range<usize> {
        own_kv_heads(self.share, self.heads, self.kv_heads)
    }

    /// The positions that `position` attends to, in a sequence that ends with `end`.
    pub(crate) fn seen(&self, position: usize, end: usize) -> Range<usize> {
        if self.has(feature::ENCODER) {
            return match self.window {
                Some(window) => {
                    let last = position.saturating_add(window / 2);
                    position.saturating_sub(window / 2)..end.min(last.saturating_add(1))
                }
                None => 0..end,
            };
        }
        self.first_seen(position)..position + 1
    }

    /// The first position that `position` attends to, where none behind it counts.
    pub(crate) fn first_seen(&self, position: usize) -> usize {
        if self.has(feature::ENCODER) {
            return 0;
        }
        match self.window {
            Some(window) if self.has(feature::CHUNKS) => position / window * window,
            Some(window) => (position + 1).saturating_sub(window),
            None => 0,
        }
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
    Q8,
}

impl CacheType {
    /// The type with this number in ggml.
    fn new(number: u32) -> Result<Self, Status> {
        match number {
            ggml_type::F32 => Ok(Self::F32),
            ggml_type::F16 => Ok(Self::F16),
            ggml_type::Q8_0 => Ok(Self::Q8),
            _ => Err(status::UNSUPPORTED_TYPE),
        }
    }

    /// Its number in ggml.
    pub(crate) const fn number(self) -> u32 {
        match self {
            Self::F32 => ggml_type::F32,
            Self::F16 => ggml_type::F16,
            Self::Q8 => ggml_type::Q8_0,
        }
    }

    /// Bytes that this many numbers take; none if they are no whole blocks.
    pub(crate) fn size_of(self, numbers: usize) -> Option<u64> {
        cache_bytes(self.number(), numbers as u64)
    }

    /// Checks that a row is of whole blocks, and short enough to be expanded.
    fn check_row(self, len: u32) -> Result<(), Status> {
        let is_good = match self {
            Self::F32 | Self::F16 => true,
            Self::Q8 => (len as usize).is_multiple_of(BLOCK) && len <= MOST_IN_ROW,
        };
        if is_good { Ok(()) } else { Err(status::BAD_SHAPE) }
    }
}

/// Where a tensor is stored, with its sizes already multiplied out.
#[derive(Clone, Copy)]
pub(crate) struct Stored {
    layer: u32,
    /// What is added to `layer` for each further piece.
    step: u32,
    offset: u64,
    kind: Kind,
    pub(crate) rows: usize,
    /// Rows of a layer, each of which has as many.
    piece_rows: usize,
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
        let (layer, rows) = self.piece(rows)?;
        let part = rows.start * self.row_bytes..rows.end * self.row_bytes;
        use_part(&self.matrix(layers.bytes(layer, self.offset, part)?), 0);
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
        let (layer, rows) = self.piece(rows)?;
        let start = layers.start(layer, self.offset, rows.start * self.row_bytes)?;
        memories::stage(start, rows.len(), self.row_bytes, |bytes, first| {
            use_part(&self.matrix(bytes), first);
        })
    }

    /// The layer that rows are in, which is one for all of them, and where they are in it.
    fn piece(&self, rows: Range<usize>) -> Result<(u32, Range<usize>), Status> {
        if self.piece_rows == self.rows && rows.end <= self.rows {
            return Ok((self.layer, rows));
        }
        let piece = rows.start.checked_div(self.piece_rows).ok_or(status::LAYER_REFUSED)?;
        let first = piece * self.piece_rows;
        if rows.end > self.rows || rows.end - first > self.piece_rows {
            return Err(status::LAYER_REFUSED);
        }
        let number = u32::try_from(piece).ok().and_then(|piece| piece.checked_mul(self.step));
        let layer = number.and_then(|number| self.layer.checked_add(number));
        Ok((layer.ok_or(status::LAYER_REFUSED)?, rows.start - first..rows.end - first))
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

/// One block: [`read`] has made sure that it has all tensors that it needs.
pub(crate) struct Block {
    pub(crate) shape: BlockShape,
    tensors: Tensors<IN_BLOCK>,
}

impl Block {
    /// The tensor of a role, where it is there.
    pub(crate) fn find(&self, role: u32) -> Option<&Stored> {
        self.tensors.find(role)
    }

    /// The tensor of a role that has to be there.
    pub(crate) fn get(&self, role: u32) -> Result<&Stored, Status> {
        self.tensors.get(role)
    }
}

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
    pub(crate) ropes: &'static [Rope],
    pub(crate) globals: Globals,
    pub(crate) blocks: &'static mut [Block],
    /// Where the host wants keys and values, if it does not leave that to us.
    pub(crate) cache: Option<u64>,
}

#[cfg(feature = "multi32")]
impl Description {
    /// Bytes of the longest row of any tensor.
    pub(crate) fn longest_row(&self) -> usize {
        let blocks = self.blocks.iter().flat_map(|block| &block.tensors.0);
        let all = self.globals.0.iter().chain(blocks).flatten();
        all.map(|tensor| tensor.row_bytes).max().unwrap_or(0)
    }
}

/// The bytes of a descriptor, divided into its parts.
struct Parts<'a> {
    model: Descriptor,
    ropes: &'a [[u8; Rope::SIZE]],
    blocks: &'a [[u8; transformer::Block::SIZE]],
    tensors: &'a [[u8; Tensor::SIZE]],
}

impl<'a> Parts<'a> {
    fn new(bytes: &'a [u8]) -> Option<Self> {
        let (header, rest) = bytes.split_first_chunk()?;
        let model = Descriptor::from_le_bytes(header);
        let (ropes, rest) = records(rest, model.ropes)?;
        let (blocks, rest) = records(rest, model.blocks)?;
        let (tensors, rest) = records(rest, model.tensors)?;
        let good = model.version == VERSION.cast_unsigned() && rest.is_empty();
        good.then_some(Self { model, ropes, blocks, tensors })
    }
}

/// The first records of some bytes, if there are as many, and the bytes after them.
fn records<const N: usize>(bytes: &[u8], count: u32) -> Option<(&[[u8; N]], &[u8])> {
    let (records, rest) = bytes.split_at_checked((count as usize).checked_mul(N)?)?;
    Some((records.as_chunks().0, rest))
}

/// Reads and checks a descriptor.
pub(crate) fn read(bytes: &[u8]) -> Result<Description, Status> {
    let Parts { model, ropes, blocks: shapes, tensors } =
        Parts::new(bytes).ok_or(status::BAD_DESCRIPTOR)?;
    if model.features & !feature::ALL != 0 {
        return Err(status::UNKNOWN_FEATURE);
    }
    let ropes = read_ropes(ropes)?;
    let rope_dim = ropes.first().map_or(0, |rope| rope.dim);
    let sizes = model.sizes(rope_dim);
    let mut shape = check_shape(&model, &sizes)?;
    let mut next = shapes.iter();
    let blocks = alloc::filled(shapes.len(), || {
        let block = transformer::Block::from_le_bytes(next.next()?);
        Some((block, Tensors::<IN_BLOCK>::NONE))
    });
    let blocks = blocks.ok_or(status::OUT_OF_MEMORY)?;
    let mut globals = Globals::NONE;
    for record in tensors {
        let tensor = Tensor::from_le_bytes(record);
        let role = Role::find(tensor.role).ok_or(status::BAD_DESCRIPTOR)?;
        let number = PLACES[tensor.role as usize];
        let (place, sizes, features) = if role.section.is_in_block() {
            let index = (tensor.block as usize).checked_sub(shape.first_block);
            let block = index.and_then(|index| blocks.get_mut(index));
            let (block, its) = block.ok_or(status::BAD_BLOCK)?;
            (&mut its.0[number], block.sizes(&sizes), block.features)
        } else if tensor.block == 0 {
            (&mut globals.0[number], sizes, model.features)
        } else {
            return Err(status::BAD_BLOCK);
        };
        if place.is_some() || !role.need.is_allowed(features) {
            return Err(status::MISSING_TENSOR);
        }
        *place = Some(check_tensor(role, &tensor, &sizes)?);
    }
    let run = run(&model);
    let all = &*blocks;
    let mut next = all.iter().enumerate();
    let mut refused = status::OUT_OF_MEMORY;
    let whole = alloc::filled(all.len(), || {
        let (index, (block, tensors)) = next.next()?;
        let sizes = block.sizes(&sizes);
        let checked = check_block(block, index, &shape, ropes).and_then(|mut its| {
            if let Some(source) = its.source {
                let (source, _) = all.get(source).ok_or(status::BAD_BLOCK)?;
                check_source(block, source)?;
            }
            let number = |number: usize| u32::try_from(number).map_err(|_| status::BAD_SHAPE);
            let heads = number(its.own_heads().len())?;
            let kv_heads = number(its.own_kv_heads().len())?;
            its.kept = Kept::new(&sizes, heads, kv_heads).ok_or(status::BAD_SHAPE)?;
            let buffers = shape.buffers.with_block(&sizes, kv_heads, &run);
            shape.buffers = buffers.ok_or(status::BAD_SHAPE)?;
            let needed =
                |role: &&Role| role.section.is_in_block() && role.need.is_required(block.features);
            let is_whole =
                ROLES.iter().filter(needed).all(|role| tensors.find(role.number).is_some());
            if is_whole {
                Ok(Block { shape: its, tensors: *tensors })
            } else {
                Err(status::MISSING_TENSOR)
            }
        });
        checked.map_err(|status| refused = status).ok()
    });
    let blocks = whole.ok_or(refused)?;
    check_dense(&globals, &shape)?;
    let cache = u64::from(model.cache_high) << 32 | u64::from(model.cache_low);
    let cache = (cache != 0).then_some(cache);
    Ok(Description { shape, ropes, globals, blocks, cache })
}

fn run(model: &Descriptor) -> Run {
    Run {
        context: model.context,
        batch: model.batch,
        integers: model.activations == activations::INT8,
    }
}

fn read_ropes(records: &[[u8; Rope::SIZE]]) -> Result<&'static [Rope], Status> {
    if records.len() > MOST_ROPES as usize {
        return Err(status::BAD_DESCRIPTOR);
    }
    let mut next = records.iter();
    let ropes = alloc::filled(records.len(), || next.next().map(Rope::from_le_bytes));
    let ropes = &*ropes.ok_or(status::OUT_OF_MEMORY)?;
    // Factors, and the buffers of all, have the first one's size.
    let first = ropes.first().map_or(0, |rope| rope.dim);
    let good = |rope: &Rope| {
        rope.dim != 0
            && rope.dim.is_multiple_of(2)
            && rope.dim <= first
            && rope.halves <= 1
            && positive(rope.base)
            && positive(rope.scale)
            && rope.yarn_low.is_finite()
            && rope.yarn_high.is_finite()
            && positive(rope.magnitude)
    };
    if ropes.iter().all(good) { Ok(ropes) } else { Err(status::BAD_SHAPE) }
}

fn check_shape(model: &Descriptor, sizes: &Sizes) -> Result<Shape, Status> {
    let good = [model.vocab, model.dim, model.context, model.batch].iter().all(|&size| size != 0)
        && model.first_block.checked_add(model.blocks).is_some()
        && natural(model.epsilon)
        && positive(model.embedding_scale)
        && positive(model.residual_scale)
        && positive(model.logit_scale)
        && natural(model.logit_cap)
        && matches!(model.activations, activations::F32 | activations::INT8)
        && if model.features & feature::LAYER_INPUTS != 0 {
            model.layer_input != 0 && model.carried.is_multiple_of(model.layer_input)
        } else {
            model.layer_input == 0 && model.carried == 0
        }
        && model.rank < model.ranks;
    if !good {
        return Err(status::BAD_SHAPE);
    }
    Ok(Shape {
        vocab: model.vocab as usize,
        dim: model.dim as usize,
        first_block: model.first_block as usize,
        blocks: model.blocks as usize,
        context: model.context as usize,
        batch: model.batch as usize,
        cache_type: CacheType::new(model.cache_type)?,
        epsilon: model.epsilon,
        embedding_scale: model.embedding_scale,
        residual_scale: model.residual_scale,
        logit_scale: model.logit_scale,
        logit_cap: model.logit_cap,
        share: Share { rank: model.rank as usize, ranks: model.ranks as usize },
        features: model.features,
        layer_input: model.layer_input as usize,
        carried: model.carried as usize,
        buffers: Buffers::new(sizes, &run(model)).ok_or(status::BAD_SHAPE)?,
    })
}

fn check_block(
    block: &transformer::Block,
    index: usize,
    shape: &Shape,
    ropes: &[Rope],
) -> Result<BlockShape, Status> {
    let rope = (block.rope != NO_ROPE).then_some(block.rope as usize);
    let turned = rope.map(|rope| ropes.get(rope).ok_or(status::BAD_DESCRIPTOR)).transpose()?;
    let has = |feature: u64| block.features & feature != 0;
    if block.features & !feature::ALL != 0 {
        return Err(status::UNKNOWN_FEATURE);
    }
    let good = block.heads != 0
        && block.kv_heads != 0
        && block.heads.is_multiple_of(block.kv_heads)
        && block.head_dim != 0
        && turned.is_none_or(|rope| rope.dim <= block.head_dim.saturating_sub(block.latent_rank))
        && positive(block.attention_scale)
        && natural(block.attention_cap)
        && natural(block.temperature)
        && (block.temperature == 0.0 || block.temperature_length != 0)
        && (block.ffn != 0) == (!has(feature::EXPERTS) || has(feature::DENSE_BESIDE))
        && (!has(feature::EXPERTS) || good_experts(block))
        && good_mixer(block, shape.dim, shape.context)
        && (!has(feature::LAYER_INPUTS)
            || (shape.first_block + index + 1).saturating_mul(shape.layer_input) <= shape.carried
                && shape.layer_input != 0)
        // The two need the same buffer.
        && !(has(feature::PARALLEL) && has(feature::POST_NORMS));
    let query_len = (block.heads as usize).checked_mul(block.head_dim as usize);
    let query_len = query_len.filter(|_| good).ok_or(status::BAD_SHAPE)?;
    if !has(feature::SHORT_CONV | feature::DELTA_NET) {
        shape.cache_type.check_row(block.head_dim)?;
    }
    let source = if has(feature::SHARED_KEYS) {
        let source = (block.keys_of as usize).checked_sub(shape.first_block);
        Some(source.filter(|source| *source < index).ok_or(status::BAD_BLOCK)?)
    } else {
        None
    };
    Ok(BlockShape {
        features: block.features,
        heads: block.heads as usize,
        kv_heads: block.kv_heads as usize,
        head_dim: block.head_dim as usize,
        query_len,
        ffn: block.ffn as usize,
        window: (block.window != 0).then_some(block.window as usize),
        rope,
        attention_scale: block.attention_scale,
        attention_cap: block.attention_cap,
        temperature: block.temperature,
        temperature_offset: block.temperature_offset as usize,
        temperature_length: block.temperature_length as usize,
        experts: block.experts as usize,
        experts_used: block.experts_used as usize,
        expert_ffn: block.expert_ffn as usize,
        shared_ffn: block.shared_ffn as usize,
        gating: block.gating,
        expert_scale: block.expert_scale,
        expert_groups: block.expert_groups as usize,
        expert_groups_used: block.expert_groups_used as usize,
        number: shape.first_block + index,
        positions: block.positions as usize,
        source,
        taps: block.taps as usize,
        query_rank: block.query_rank as usize,
        latent_rank: block.latent_rank as usize,
        plain_dim: block.plain_dim as usize,
        value_dim: block.value_dim as usize,
        kept: Kept::default(),
        share: shape.share,
    })
}

/// Most rows of a matrix behind the network, for which room is made beside all other buffers.
const MOST_DENSE: usize = 1 << 16;

/// Checks that what is left of a sequence can go through the matrices behind the network, and that
/// there is room for it.
fn check_dense(globals: &Globals, shape: &Shape) -> Result<(), Status> {
    let mut cols = shape.dim;
    for role in [role::DENSE_2, role::DENSE_3] {
        if let Some(dense) = globals.find(role) {
            if dense.cols != cols || dense.rows > shape.vocab.min(MOST_DENSE) {
                return Err(status::BAD_SHAPE);
            }
            cols = dense.rows;
        }
    }
    Ok(())
}

fn check_tensor(role: &Role, tensor: &Tensor, sizes: &Sizes) -> Result<Stored, Status> {
    let fits = |size: Size, found: u32| match size {
        Size::Open => found != 0,
        size => sizes.get(size) == Some(found),
    };
    if !fits(role.rows, tensor.rows) || !fits(role.cols, tensor.cols) {
        return Err(status::BAD_SHAPE);
    }
    // Each expert may have a layer of its own.
    let is_of_experts =
        matches!(role.rows, Size::ExpertRows | Size::ExpertPairs | Size::ExpertDowns);
    let pieces = match tensor.pieces {
        1 => 1,
        pieces if is_of_experts && pieces == sizes.experts => pieces,
        _ => return Err(status::BAD_SHAPE),
    };
    let kind = Kind::new(tensor.kind)?;
    if role.is_vector() && kind != Kind::F32 {
        return Err(status::UNSUPPORTED_TYPE);
    }
    let (rows, cols) = (tensor.rows as usize, tensor.cols as usize);
    let row_bytes = kind.row_bytes(cols)?;
    let bytes = row_bytes.checked_mul(rows).ok_or(status::BAD_SHAPE)?;
    tensor.offset.checked_add(bytes as u64).ok_or(status::BAD_SHAPE)?;
    let Tensor { layer, step, offset, .. } = *tensor;
    let piece_rows = rows / pieces as usize;
    Ok(Stored { layer, step, offset, kind, rows, piece_rows, cols, row_bytes })
}
