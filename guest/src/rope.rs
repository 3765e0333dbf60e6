//! Rotary position embedding: of neighbors (elements 2i and 2i + 1 of a head), or of halves
//! (elements i and i + `rope_dim` / 2).

use polychord_abi::transformer::status;

use crate::{Status, alloc, model::Shape};

/// Frequencies, and the rotations of one batch of positions.
pub(crate) struct Rope {
    /// One frequency for each pair; `f64` so that far positions keep their angle.
    base: &'static mut [f64],
    /// The frequencies divided by the factors of the model.
    divided: &'static mut [f64],
    is_divided: bool,
    /// Whether halves are rotated.
    halves: bool,
    /// Positions are multiplied by this.
    scale: f64,
    /// `[batch][pairs]` of cosine and sine; not written before use.
    rotations: &'static mut [f32],
}

impl Rope {
    /// The frequencies `base^(-2i / rope_dim)`.
    pub(crate) fn new(shape: &Shape) -> Result<Self, Status> {
        let pairs = alloc::len(shape.buffers.frequencies)?;
        let step = -2.0 / shape.rope_dim as f64;
        let mut index = 0.0;
        let base = alloc::filled(pairs, || {
            let power = libm::pow(f64::from(shape.rope_base), step * index);
            index += 1.0;
            Some(power)
        });
        let rotations = alloc::len(shape.buffers.rotations)?;
        Ok(Self {
            base: base.ok_or(status::OUT_OF_MEMORY)?,
            divided: alloc::filled(pairs, || Some(0.0)).ok_or(status::OUT_OF_MEMORY)?,
            is_divided: false,
            halves: shape.rope_halves,
            scale: f64::from(shape.rope_scale),
            rotations: alloc::floats(rotations).ok_or(status::OUT_OF_MEMORY)?,
        })
    }

    /// Divides each frequency by its factor.
    ///
    /// The base stays, so that a call that is stopped on the way divides nothing twice.
    pub(crate) fn divide(&mut self, factors: &[f32]) {
        for ((divided, base), factor) in self.divided.iter_mut().zip(&*self.base).zip(factors) {
            *divided = base / f64::from(*factor);
        }
        self.is_divided = true;
    }

    /// Whether that was done.
    pub(crate) const fn is_divided(&self) -> bool {
        self.is_divided
    }

    /// Lets it be done again.
    pub(crate) const fn undo_divide(&mut self) {
        self.is_divided = false;
    }

    /// Prepares the rotations of `n` positions from `first` on.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    pub(crate) fn prepare(&mut self, first: usize, n: usize) {
        let inverse = if self.is_divided { &*self.divided } else { &*self.base };
        let rows = self.rotations.chunks_exact_mut(2 * inverse.len());
        for (position, row) in (first..first + n).zip(rows) {
            let position = position as f64 * self.scale;
            for (rotation, inverse) in row.as_chunks_mut().0.iter_mut().zip(inverse) {
                let (sin, cos) = libm::sincos(position * inverse);
                *rotation = [cos as f32, sin as f32];
            }
        }
    }

    /// Rotates all heads of row `row` of the batch.
    pub(crate) fn rotate(&self, row: usize, heads: &mut [f32], head_dim: usize) {
        let len = 2 * self.base.len();
        let (rotations, _) = self.rotations[row * len..][..len].as_chunks::<2>();
        for head in heads.chunks_exact_mut(head_dim) {
            if self.halves {
                let (first, second) = head[..len].split_at_mut(len / 2);
                for ((x, y), turn) in first.iter_mut().zip(second).zip(rotations) {
                    rotate(x, y, *turn);
                }
            } else {
                let (pairs, _) = head.as_chunks_mut::<2>();
                for ([x, y], turn) in pairs.iter_mut().zip(rotations) {
                    rotate(x, y, *turn);
                }
            }
        }
    }
}

/// Turns a point by an angle with this cosine and sine.
#[inline(always)]
fn rotate(x: &mut f32, y: &mut f32, [cos, sin]: [f32; 2]) {
    (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
}
