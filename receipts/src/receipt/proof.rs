//! One step, proven without the others.

use serde::{Deserialize, Serialize};

use super::head::{Head, Signature, Step, VERSION, to_json};
use super::whole::Receipt;
use super::{form, merkle};
use crate::digest::Digest;
use crate::error::{Error, Result};

/// That a step is one of a receipt, for who has not its other steps.
///
/// ```
/// use polychord_receipts::{Receipt, StepProof};
///
/// fn prove(receipt: &Receipt) -> Result<(), polychord_receipts::Error> {
///     let json = receipt.prove(3)?.to_json();
///     let proof = StepProof::from_json(&json)?;
///     println!("step 3 of {} gave token {}", proof.digest(), proof.step().id);
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct StepProof {
    polychord_proof: u32,
    head: Head,
    digest: Digest,
    signature: Option<Signature>,
    step: Step,
    /// From below.
    path: Vec<Digest>,
}

impl Receipt {
    /// Proves one step to who has not the others.
    ///
    /// # Errors
    ///
    /// [`Error::NoStep`].
    pub fn prove(&self, step: u64) -> Result<StepProof> {
        let steps = self.steps();
        let index = usize::try_from(step).ok().filter(|index| *index < steps.len());
        let index = index.ok_or(Error::NoStep { step, steps: steps.len() as u64 })?;
        Ok(StepProof {
            polychord_proof: VERSION,
            head: self.head().clone(),
            digest: self.digest(),
            signature: self.signature().copied(),
            step: steps[index],
            path: merkle::path(steps, index),
        })
    }
}

impl StepProof {
    /// Reads a proof and checks it.
    ///
    /// # Errors
    ///
    /// [`Error::TooLarge`], [`Error::Foreign`], [`Error::Version`], and [`Error::Damaged`] with what
    /// does not agree.
    pub fn from_json(json: &str) -> Result<Self> {
        const WHAT: &str = "proof";
        let proof: Self = form::parse_form(WHAT, "polychord_proof", json)?;
        form::digest(WHAT, &proof.head, proof.digest, proof.signature.as_ref())?;
        let Self { head, step, path, .. } = &proof;
        let root = merkle::root_of_path(step, step.step, head.steps, path);
        if root != Some(head.merkle_root) {
            let place = format!("step {}", step.step);
            return Err(Error::damaged(WHAT, place, "its path does not lead to the root"));
        }
        Ok(proof)
    }

    /// The proof as JSON, in the one form in which it is accepted.
    #[must_use]
    pub fn to_json(&self) -> String {
        to_json(self)
    }

    /// What the receipt is about.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// The digest of the receipt.
    #[must_use]
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Who says so, if the receipt is signed.
    #[must_use]
    pub const fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// The step.
    #[must_use]
    pub const fn step(&self) -> Step {
        self.step
    }
}
