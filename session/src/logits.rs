//! What a network says about the next token.

/// One `f32` for each token of the vocabulary, in place in the guest's memory.
///
/// ```no_run
/// # fn run(session: &polychord_session::Session) {
/// let logits = session.logits();
/// let best = logits.iter().enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
/// println!("{best:?}");
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Logits<'a>(&'a [u8]);

impl<'a> Logits<'a> {
    /// Logits that were computed elsewhere: `f32` each, little-endian.
    #[must_use]
    pub const fn of_bytes(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }
}

impl Logits<'_> {
    /// The little-endian bytes, four for each token.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        self.0
    }

    /// The numbers, read where they are.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = f32> {
        let (words, _) = self.0.as_chunks::<4>();
        words.iter().map(|word| f32::from_le_bytes(*word))
    }

    /// The numbers.
    #[must_use]
    pub fn to_vec(&self) -> Vec<f32> {
        self.iter().collect()
    }
}
