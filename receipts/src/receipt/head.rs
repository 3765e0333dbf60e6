//! The parts of a receipt, and how they are hashed and written.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize, Serializer};

use crate::digest::{Digest, from_hex_text, to_hex};
use crate::identity::ModelDigests;
use crate::key::PublicKey;

/// The version of the format.
pub(super) const VERSION: u32 = 1;

/// All of a receipt but its tokens and steps, for which it has digests. The receipt's digest is that
/// of its head, and what is signed.
///
/// ```
/// use polychord_receipts::Receipt;
///
/// fn describe(receipt: &Receipt) -> String {
///     let head = receipt.head();
///     format!("{} steps of the model {}", head.steps, head.model.sha256)
/// }
/// # let _ = describe;
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Head {
    /// The model.
    pub model: ModelDigests,
    /// The guest.
    pub guest: Digest,
    /// Options that change bits, by name.
    pub options: BTreeMap<String, String>,
    /// Options of the sampler by name, with the seed of its random numbers.
    pub sampling: BTreeMap<String, String>,
    /// How many random numbers were drawn before the first step.
    pub drawn: u64,
    /// What was continued.
    pub prompt: Prompt,
    /// How many steps there are.
    pub steps: u64,
    /// How many logits each step has.
    pub vocabulary: u32,
    /// The last hash of the chain over all steps.
    pub chain: Digest,
    /// The root of the tree over all steps.
    pub merkle_root: Digest,
    /// What changes no bit, such as engine, placement and ranks. It is signed, and not verified by
    /// computing again.
    pub information: BTreeMap<String, String>,
}

/// What was continued.
///
/// ```
/// use polychord_receipts::{Digest, Prompt};
///
/// let prompt = Prompt::of(&[1, 2]);
/// assert_eq!((prompt.tokens, prompt.sha256), (2, Digest::of([1, 0, 0, 0, 2, 0, 0, 0])));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Prompt {
    /// How many tokens it has.
    pub tokens: u64,
    /// Of its tokens, four little-endian bytes each.
    pub sha256: Digest,
}

/// One step: logits, and the token that was chosen from them.
///
/// ```
/// use polychord_receipts::{Digest, Step};
///
/// let step = Step::new(0, 7, [0; 8]);
/// assert_eq!(step.logits, Digest::of([0; 8]));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Step {
    /// Its number, from 0 on.
    pub step: u64,
    /// The token.
    pub id: u32,
    /// Of the logits, four little-endian bytes for each token of the vocabulary.
    pub logits: Digest,
}

/// Who says so.
///
/// ```
/// use polychord_receipts::{PublicKey, Receipt};
///
/// fn is_from(receipt: &Receipt, key: &PublicKey) -> bool {
///     receipt.signature().is_some_and(|signature| signature.public_key == *key)
/// }
/// # let _ = is_from;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Signature {
    /// By which key.
    pub public_key: PublicKey,
    /// The 64 bytes of the signature.
    #[serde(serialize_with = "put_hex", deserialize_with = "from_hex_text")]
    pub ed25519: [u8; 64],
}

impl Head {
    /// What tells it from all others.
    pub(super) fn digest(&self) -> Digest {
        Digest::of(to_json(self))
    }
}

impl Prompt {
    /// Of these tokens.
    #[must_use]
    pub fn of(tokens: &[u32]) -> Self {
        Self { tokens: tokens.len() as u64, sha256: Digest::of_tokens(tokens) }
    }
}

impl Step {
    /// A step with its logits, as little-endian bytes.
    #[must_use]
    pub fn new(step: u64, id: u32, logits: impl AsRef<[u8]>) -> Self {
        Self { step, id, logits: Digest::of(logits) }
    }

    /// A step whose logits were hashed elsewhere.
    #[must_use]
    pub const fn of_digest(step: u64, id: u32, logits: Digest) -> Self {
        Self { step, id, logits }
    }

    /// What is hashed of it: number, token, digest of the logits.
    pub(super) fn bytes(&self) -> [u8; 44] {
        let mut bytes = [0; 44];
        bytes[..8].copy_from_slice(&self.step.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.id.to_le_bytes());
        bytes[12..].copy_from_slice(self.logits.as_bytes());
        bytes
    }
}

/// What is signed for a digest.
pub(super) fn signed_message(digest: Digest) -> Vec<u8> {
    [b"polychord receipt 1\0", &digest.as_bytes()[..]].concat()
}

/// The hash of no step, of a model, a guest and a prompt.
pub(super) fn chain_start(head: &Head) -> Digest {
    let Head { model, guest, prompt, .. } = head;
    let parts = [b"polychord chain 1\0", &model.sha256.as_bytes()[..]];
    Digest::of_all(parts.into_iter().chain([&guest.as_bytes()[..], prompt.sha256.as_bytes()]))
}

/// The hash of the chain with one more step.
pub(super) fn chain_next(before: Digest, step: &Step) -> Digest {
    Digest::of_all([&before.as_bytes()[..], &step.bytes()])
}

/// The one form of JSON: members in the order of declaration, indented by two spaces.
pub(super) fn to_json(value: &impl Serialize) -> String {
    // Strings, numbers, lists and maps with strings as keys can always be written.
    serde_json::to_string_pretty(value).unwrap_or_default()
}

fn put_hex<S: Serializer>(bytes: &[u8; 64], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&to_hex(bytes))
}
