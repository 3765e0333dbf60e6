//! Rotary position embedding: of neighbors (elements 2i and 2i + 1 of a head), or of halves
//! (elements i and i + `rope_dim` / 2).

use polychord_abi::transformer::{self, NO_FACTORS, status};

use crate::{Status, alloc, model::Shape};

/// Frequencies, and the rotations of one batch of positions.
pub(crate) struct Rope {
    /// One frequency for each pair; `f64` so that far positions keep their angle.
    base: &'static mut [f64],
    /// The role of the factors that divide them, if there are any.
    factors: Option<u32>,
    is_divided: bool,
    /// The frequencies divided by the factors of the model.
    divided: &'static mut [f64],
    /// Whether halves are rotated.
    halves: bool,
    /// Positions are multiplied by this.
    scale: f64,
    /// Cosines and sines are multiplied by this.
    magnitude: f64,
    /// `[batch][pairs]` of cosine and sine; not written before use.
    rotations: &'static mut [f32],
    /// Of which positions these are: the first, and how many.
    prepared: (usize, usize),
}

impl Rope {
    /// The frequencies `base^(-2i / dim)`, where YaRN's are scaled.
    pub(crate) fn new(rope: &transformer::Rope, shape: &Shape) -> Result<Self, Status> {
        let pairs = rope.dim as usize / 2;
        let step = -2.0 / f64::from(rope.dim);
        let is_yarn = rope.yarn_high >= 0.0;
        let mut index = 0.0;
        let base = alloc::filled(pairs, || {
            let mut power = libm::pow(f64::from(rope.base), step * index);
            if is_yarn {
                power *= yarn(rope, index);
            }
            index += 1.0;
            Some(power)
        });
        let factors = (rope.factors != NO_FACTORS).then_some(rope.factors);
        let divided = if factors.is_some() { pairs } else { 0 };
        let rotations = alloc::floats(shape.batch.checked_mul(2 * pairs).ok_or(status::BAD_SHAPE)?);
        Ok(Self {
            base: base.ok_or(status::OUT_OF_MEMORY)?,
            factors,
            is_divided: false,
            divided: alloc::filled(divided, || Some(0.0)).ok_or(status::OUT_OF_MEMORY)?,
            halves: rope.halves != 0,
            scale: if is_yarn { 1.0 } else { rope.scale.into() },
            magnitude: rope.magnitude.into(),
            rotations: rotations.ok_or(status::OUT_OF_MEMORY)?,
            prepared: (0, 0),
        })
    }

    /// The role of the factors that frequencies are to be divided by, until that was done.
    pub(crate) const fn missing_factors(&self) -> Option<u32> {
        if self.is_divided { None } else { self.factors }
    }

    /// Divides each frequency by its factor.
    ///
    /// The base stays, so that a call that is stopped on the way divides nothing twice.
    pub(crate) fn divide(&mut self, factors: &[f32]) -> Result<(), Status> {
        if factors.iter().any(|factor| !(factor.is_finite() && *factor > 0.0)) {
            return Err(status::BAD_FACTORS);
        }
        for ((divided, base), factor) in self.divided.iter_mut().zip(&*self.base).zip(factors) {
            *divided = base / f64::from(*factor);
        }
        self.is_divided = true;
        self.prepared = (0, 0);
        Ok(())
    }

    /// How many factors there are.
    pub(crate) const fn pairs(&self) -> usize {
        self.base.len()
    }

    /// Lets all be done again, after a call that was stopped.
    pub(crate) const fn undo(&mut self) {
        (self.is_divided, self.prepared) = (false, (0, 0));
    }

    /// Prepares the rotations of `n` positions from `first` on.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    pub(crate) fn prepare(&mut self, first: usize, n: usize) {
        if self.prepared == (first, n) {
            return;
        }
        self.prepared = (first, n);
        let inverse = if self.is_divided { &*self.divided } else { &*self.base };
        let rows = self.rotations.chunks_exact_mut(2 * inverse.len());
        for (position, row) in (first..first + n).zip(rows) {
            let position = position as f64 * self.scale;
            for (rotation, inverse) in row.as_chunks_mut().0.iter_mut().zip(inverse) {
                let (sin, cos) = libm::sincos(position * inverse);
                *rotation = [(cos * self.magnitude) as f32, (sin * self.magnitude) as f32];
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

/// What YaRN multiplies the frequency of a pair by: 1 for fast ones, the scale for slow ones.
fn yarn(rope: &transformer::Rope, pair: f64) -> f64 {
    let (low, high) = (f64::from(rope.yarn_low), f64::from(rope.yarn_high));
    let width = high - low;
    let width = if width < 0.001 { 0.001 } else { width };
    let slow = ((pair - low) / width).clamp(0.0, 1.0);
    f64::from(rope.scale) * slow + (1.0 - slow)
}

/// Turns a point by an angle with this cosine and sine.
#[inline(always)]
fn rotate(x: &mut f32, y: &mut f32, [cos, sin]: [f32; 2]) {
    (*x, *y) = (*x * cos - *y * sin, *x * sin + *y * cos);
}
