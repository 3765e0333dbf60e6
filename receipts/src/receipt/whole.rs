//! A receipt, and what can be checked of it without its model.

use std::io::Read;

use serde::{Deserialize, Serialize};

use super::head::{
    Head, Prompt, Signature, Step, VERSION, chain_next, chain_start, signed_message, to_json,
};
use super::{form, merkle};
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::key::Key;

/// What errors call it.
const WHAT: &str = "receipt";

/// What was computed: by which model, guest and options, from which prompt, and which tokens and
/// logits that gave.
///
/// One that exists was checked: whatever was changed in it without its digest, or in its digest without
/// its signature, is an error of reading it. It says nothing about whether the model computes that.
///
/// ```
/// use polychord_receipts::{Digest, Identity, Key, ModelDigests, Receipt, ReceiptBuilder};
///
/// let identity = Identity::new(Digest::of("model"), Digest::of("guest"));
/// let model = ModelDigests::new(identity.model, 1000, []);
/// let mut builder = ReceiptBuilder::new(&identity, model, [1, 2, 3], 97);
/// builder.push(7, [0; 8]);
/// let receipt = builder.information("engine", "wasmtime").finish().sign(&Key::from_seed([1; 32]));
///
/// let json = receipt.to_json();
/// assert_eq!(Receipt::from_json(&json)?, receipt);
/// let changed = json.replace("wasmtime", "wasmedge");
/// assert!(Receipt::from_json(&changed).unwrap_err().to_string().contains("digest"));
/// # Ok::<(), polychord_receipts::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Receipt {
    polychord_receipt: u32,
    head: Head,
    digest: Digest,
    signature: Option<Signature>,
    prompt: Vec<u32>,
    steps: Vec<Step>,
}

impl Receipt {
    /// A receipt of steps that its head has the digests of.
    pub(super) fn made(head: Head, prompt: Vec<u32>, steps: Vec<Step>) -> Self {
        let digest = head.digest();
        Self { polychord_receipt: VERSION, head, digest, signature: None, prompt, steps }
    }

    /// Most bytes of a receipt: those of some 400,000 steps.
    pub const MAX_JSON_BYTES: usize = form::MAX_BYTES;

    /// Reads a receipt and checks all that can be checked without its model.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Foreign`], [`Error::Version`], and [`Error::Damaged`] with what
    /// does not agree.
    pub fn from_json(json: &str) -> Result<Self> {
        parse(json)
    }

    /// Reads a receipt from a file or the like, of which no more is read than a receipt may have.
    ///
    /// # Errors
    ///
    /// Returns the errors of [`from_json`](Self::from_json), and [`Error::Io`].
    pub fn read(from: impl Read) -> Result<Self> {
        let mut json = String::new();
        let read = from.take(Self::MAX_JSON_BYTES as u64 + 1).read_to_string(&mut json);
        read.map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidData => {
                Error::Foreign { what: WHAT, reason: "it is no text".into() }
            }
            _ => Error::Io { operation: "read the receipt", source },
        })?;
        Self::from_json(&json)
    }

    /// The receipt as JSON, in the one form in which it is accepted.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// All but tokens and steps.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The digest of its head, which tells it from all others. A server may give it as a fingerprint.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Who says so, if it is signed.
    #[must_use]
    pub const fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// The tokens that were continued.
    #[must_use]
    pub fn prompt(&self) -> &[u32] {
        &self.prompt
    }

    /// The steps, in order.
    #[must_use]
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// The tokens that were generated.
    pub fn ids(&self) -> impl ExactSizeIterator<Item = u32> {
        self.steps.iter().map(|step| step.id)
    }

    /// What decides about its bits.
    #[must_use]
    pub fn identity(&self) -> Identity {
        let Head { model, guest, options, .. } = &self.head;
        Identity { model: model.sha256, guest: *guest, options: options.clone() }
    }

    /// Signs it, in place of who has signed it before.
    #[must_use]
    pub fn sign(mut self, key: &Key) -> Self {
        let ed25519 = key.sign(&signed_message(self.digest));
        self.signature = Some(Signature { public_key: key.public(), ed25519 });
        self
    }
}

/// Reads a receipt and checks it.
fn parse(json: &str) -> Result<Receipt> {
    let receipt: Receipt = form::parse_form(WHAT, "polychord_receipt", json)?;
    form::digest(WHAT, &receipt.head, receipt.digest, receipt.signature.as_ref())?;
    let Receipt { head, prompt, steps, .. } = &receipt;
    if head.prompt != Prompt::of(prompt) {
        return Err(Error::damaged(WHAT, "prompt", "the tokens are not those of its digest"));
    }
    if head.steps != steps.len() as u64 {
        let reason = format!("there are {}, and the head has {}", steps.len(), head.steps);
        return Err(Error::damaged(WHAT, "steps", reason));
    }
    let mut chain = chain_start(head);
    for (due, step) in (0..).zip(steps) {
        if step.step != due {
            let reason = format!("step {} stands where step {due} is due", step.step);
            return Err(Error::damaged(WHAT, "steps", reason));
        }
        if step.id >= head.vocabulary {
            let reason = format!("token {} of {} that there are", step.id, head.vocabulary);
            return Err(Error::damaged(WHAT, format!("step {due}"), reason));
        }
        chain = chain_next(chain, step);
    }
    if chain != head.chain {
        return Err(Error::damaged(WHAT, "steps", "they are not those of the chain"));
    }
    if merkle::root(steps) != head.merkle_root {
        return Err(Error::damaged(WHAT, "steps", "they are not those of the tree"));
    }
    Ok(receipt)
}
