//! Receipts of answers, for those who ask for them.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use polychord_receipts::{Digest, ReceiptBuilder};

/// The receipts of the last answers, as many as have room.
pub(super) struct Receipts {
    most: u64,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    bytes: u64,
    /// The oldest first.
    receipts: VecDeque<(Digest, Arc<str>)>,
}

impl Receipts {
    /// Room for `most` bytes.
    pub(super) fn new(most: u64) -> Self {
        Self { most, kept: Mutex::default() }
    }

    /// Keeps a receipt; the oldest ones make room. Tells its digest.
    pub(super) fn keep(&self, builder: ReceiptBuilder) -> Digest {
        let receipt = builder.finish();
        let (digest, json) = (receipt.digest(), receipt.to_json());
        let bytes = json.len() as u64;
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The same answer has the same receipt.
        if bytes <= self.most && !kept.receipts.iter().any(|(known, _)| *known == digest) {
            while kept.bytes + bytes > self.most
                && let Some((_, oldest)) = kept.receipts.pop_front()
            {
                kept.bytes -= oldest.len() as u64;
            }
            kept.bytes += bytes;
            kept.receipts.push_back((digest, json.into()));
        }
        digest
    }

    /// The receipt with this digest, if it is still there.
    pub(super) fn find(&self, digest: &Digest) -> Option<Arc<str>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept.receipts.iter().find(|(known, _)| known == digest);
        found.map(|(_, json)| json.clone())
    }
}

#[cfg(test)]
mod tests {
    use polychord_receipts::{Identity, ModelDigests};

    use super::*;

    fn receipt(token: u32) -> ReceiptBuilder {
        let digest = Digest::of("nothing");
        let model = ModelDigests::new(digest, 1, Vec::new());
        let mut builder = ReceiptBuilder::new(&Identity::new(digest, digest), model, [1], 4);
        builder.push(token, [0; 16]);
        builder
    }

    #[test]
    fn the_oldest_make_room() {
        let bytes = receipt(1).finish().to_json().len() as u64;
        let receipts = Receipts::new(2 * bytes + 9);
        let digests = [1, 2, 2, 3].map(|token| receipts.keep(receipt(token)));
        assert_eq!(digests[1], digests[2]);
        assert!(receipts.find(&digests[0]).is_none());
        for digest in &digests[1..] {
            let json = receipts.find(digest).unwrap();
            assert_eq!(polychord_receipts::Receipt::from_json(&json).unwrap().digest(), *digest);
        }
        // One that has no room is told, and not kept.
        let small = Receipts::new(bytes - 1);
        assert!(small.find(&small.keep(receipt(1))).is_none());
    }
}
