//! From the rows of a sequence to one vector.

use polychord_model::Pooling;

/// How a vector is made of a text; [`Session::embed_with`](crate::Session::embed_with) takes it.
///
/// ```
/// use polychord_session::{EmbedOptions, Pooling};
///
/// let options = EmbedOptions::new().pooling(Pooling::Last).normalized(false);
/// assert_eq!(options.pooling, Some(Pooling::Last));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// What is left of the rows of a sequence; by default what the model's file says.
    pub pooling: Option<Pooling>,
    /// Whether the vector gets the length 1, as it does by default.
    pub normalized: bool,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        Self { pooling: None, normalized: true }
    }
}

impl EmbedOptions {
    /// What the model's file says, with the length 1.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets what is left of the rows of a sequence.
    #[must_use]
    pub fn pooling(mut self, pooling: impl Into<Option<Pooling>>) -> Self {
        self.pooling = pooling.into();
        self
    }

    /// Sets whether the vector gets the length 1.
    #[must_use]
    pub const fn normalized(mut self, normalized: bool) -> Self {
        self.normalized = normalized;
        self
    }
}

/// What is left of the rows of a sequence so far.
///
/// Rows are added one after the other, so that nothing depends on how many of them came at once.
pub(crate) struct Pool {
    pooling: Pooling,
    sum: Vec<f64>,
    rows: u64,
}

impl Pool {
    /// Nothing of rows that are `dim` wide.
    pub(crate) fn new(pooling: Pooling, dim: usize) -> Self {
        Self { pooling, sum: vec![0.0; dim], rows: 0 }
    }

    /// Takes further rows: little-endian floats.
    pub(crate) fn add(&mut self, rows: &[u8]) {
        for row in rows.chunks_exact(self.sum.len() * 4) {
            let (numbers, _) = row.as_chunks::<4>();
            let numbers = numbers.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
            let sum = self.sum.iter_mut().zip(numbers);
            match self.pooling {
                Pooling::Mean => sum.for_each(|(sum, number)| *sum += number),
                Pooling::First if self.rows > 0 => {}
                _ => sum.for_each(|(sum, number)| *sum = number),
            }
            self.rows += 1;
        }
    }

    /// The vector.
    #[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
    #[expect(clippy::cast_precision_loss, reason = "no sequence has that many rows")]
    pub(crate) fn vector(self) -> Vec<f32> {
        let rows = match self.pooling {
            Pooling::Mean => self.rows.max(1) as f64,
            _ => 1.0,
        };
        self.sum.iter().map(|sum| (sum / rows) as f32).collect()
    }
}

/// Gives a vector the length 1, unless it is zero: as llama.cpp does by default.
#[expect(clippy::cast_possible_truncation, reason = "rounding to f32 is meant")]
pub(crate) fn normalize(vector: &mut [f32]) {
    let square = |number: &f32| f64::from(*number) * f64::from(*number);
    let length = vector.iter().map(square).sum::<f64>().sqrt();
    let factor = if length > 0.0 { (1.0 / length) as f32 } else { 0.0 };
    vector.iter_mut().for_each(|number| *number *= factor);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(pooling: Pooling, parts: &[&[f32]]) -> Vec<f32> {
        let mut pool = Pool::new(pooling, 2);
        for part in parts {
            let bytes: Vec<_> = part.iter().flat_map(|number| number.to_le_bytes()).collect();
            pool.add(&bytes);
        }
        pool.vector()
    }

    #[test]
    fn each_pooling_keeps_what_it_says() {
        let parts: &[&[f32]] = &[&[1.0, 2.0, 3.0, -4.0], &[5.0, 8.0]];
        assert_eq!(pool(Pooling::Mean, parts), [3.0, 2.0]);
        assert_eq!(pool(Pooling::First, parts), [1.0, 2.0]);
        assert_eq!(pool(Pooling::Last, parts), [5.0, 8.0]);
        assert_eq!(pool(Pooling::Mean, &[]), [0.0, 0.0]);
    }

    #[test]
    fn a_vector_gets_the_length_of_1() {
        let mut vector = [3.0, -4.0];
        normalize(&mut vector);
        assert_eq!(vector, [0.6, -0.8]);
        let mut zero = [0.0, 0.0];
        normalize(&mut zero);
        assert_eq!(zero, [0.0, 0.0]);
    }
}
