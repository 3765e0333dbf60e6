//! How keys and values of a head begin.

/// What the rows are of that follow it: one for each position.
///
/// ```
/// use polychord_receipts::snapshot::RowHeader;
///
/// let header = RowHeader::new(3, 0, 1, 256);
/// assert_eq!(RowHeader::from_bytes(header.to_bytes()), header);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct RowHeader {
    /// The block of the network.
    pub block: u32,
    /// 0 for keys, 1 for values.
    pub part: u32,
    /// The head of keys and values.
    pub head: u32,
    /// Bytes of each row.
    pub row_bytes: u32,
}

impl RowHeader {
    /// How many bytes it takes.
    pub const BYTES: usize = 16;

    /// Rows of a head.
    #[must_use]
    pub const fn new(block: u32, part: u32, head: u32, row_bytes: u32) -> Self {
        Self { block, part, head, row_bytes }
    }

    /// Four little-endian numbers.
    #[must_use]
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        let numbers = [self.block, self.part, self.head, self.row_bytes];
        for (slot, number) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
            *slot = number.to_le_bytes();
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) makes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; Self::BYTES]) -> Self {
        let number = |index: usize| {
            bytes.as_chunks::<4>().0.get(index).map_or(0, |it| u32::from_le_bytes(*it))
        };
        Self::new(number(0), number(1), number(2), number(3))
    }
}
