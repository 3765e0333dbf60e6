//! Making a receipt while tokens are generated.

use std::collections::BTreeMap;

use super::head::{Head, Prompt, Step, chain_next, chain_start};
use super::merkle;
use super::whole::Receipt;
use crate::digest::Digest;
use crate::identity::{Identity, ModelDigests};

/// Takes the steps of a generation one by one, and makes a [`Receipt`] of them.
///
/// See [`Receipt`] for an example.
#[derive(Clone, Debug)]
pub struct ReceiptBuilder {
    head: Head,
    prompt: Vec<u32>,
    steps: Vec<Step>,
}

impl ReceiptBuilder {
    /// Begins a receipt for what follows a prompt, with `vocabulary` logits in each step.
    pub fn new(
        identity: &Identity,
        model: ModelDigests,
        prompt: impl Into<Vec<u32>>,
        vocabulary: u32,
    ) -> Self {
        let prompt = prompt.into();
        let mut head = Head {
            model,
            guest: identity.guest,
            options: identity.options.clone(),
            sampling: BTreeMap::new(),
            drawn: 0,
            prompt: Prompt::of(&prompt),
            steps: 0,
            vocabulary,
            chain: identity.model,
            merkle_root: identity.model,
            information: BTreeMap::new(),
        };
        head.chain = chain_start(&head);
        Self { head, prompt, steps: Vec::new() }
    }

    /// Says how tokens are chosen, and how many random numbers were drawn before.
    #[must_use]
    pub fn sampling(mut self, sampling: BTreeMap<String, String>, drawn: u64) -> Self {
        (self.head.sampling, self.head.drawn) = (sampling, drawn);
        self
    }

    /// Adds something that changes no bit.
    #[must_use]
    pub fn information(mut self, name: impl Into<String>, value: impl ToString) -> Self {
        self.head.information.insert(name.into(), value.to_string());
        self
    }

    /// Takes the next step: the logits as little-endian bytes, and the token that was chosen.
    pub fn push(&mut self, id: u32, logits: impl AsRef<[u8]>) {
        self.push_digest(id, Digest::of(logits));
    }

    /// Takes the next step, whose logits were hashed elsewhere.
    pub fn push_digest(&mut self, id: u32, logits: Digest) {
        let step = Step::of_digest(self.steps.len() as u64, id, logits);
        self.head.chain = chain_next(self.head.chain, &step);
        self.steps.push(step);
    }

    /// The receipt of all steps so far.
    #[must_use]
    pub fn finish(self) -> Receipt {
        let Self { mut head, prompt, steps } = self;
        head.steps = steps.len() as u64;
        head.merkle_root = merkle::root(&steps);
        Receipt::made(head, prompt, steps)
    }
}
