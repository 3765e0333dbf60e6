//! The transformer guest on a small network: the same logits to the last bit, however its
//! weights come in and its tokens are batched.

use polychord_runtime_api::{Engine, LoadMethod, Source};
use sha2::{Digest, Sha256};

use crate::check::{equal, holds};
use crate::guest::{self, MAPPING, NOTHING};
use crate::{Case, Failure, Outcome};

mod driver;
mod network;

use driver::Transformer;
use network::VOCAB;

/// The table of this group.
pub const CASES: &[Case] = &[
    Case {
        name: "transformer/logits",
        promise: "the transformer guest computes the logits that the suite knows",
        needs: NOTHING,
        run: logits,
    },
    Case {
        name: "transformer/batches",
        promise: "how tokens are batched changes no bit of the logits",
        needs: NOTHING,
        run: batches,
    },
    Case {
        name: "transformer/mapped",
        promise: "mapped weights give the logits of copied ones",
        needs: MAPPING,
        run: mapped,
    },
    Case {
        name: "transformer/weights_matter",
        promise: "one changed weight changes the logits, so the hash proves something",
        needs: NOTHING,
        run: weights_matter,
    },
];

const TOKENS: [u32; 12] = [1, 17, 42, 5, 63, 0, 17, 17, 30, 8, 51, 2];
/// SHA-256 of the logits after each token. It changes only if the guest's arithmetic does.
const HASH: &str = "27b01355f4ef34e6";

/// The transformer guest computes the logits that the suite knows.
pub fn logits(engine: &dyn Engine) -> Outcome {
    let source = Source::from_bytes(network::weights());
    let mut guest = Transformer::start(engine, &source, LoadMethod::Copied)?;
    let logits = guest.eval_each(&TOKENS)?;
    equal("number of logits", logits.len(), TOKENS.len() * VOCAB as usize)?;
    holds(logits.iter().all(|logit| logit.is_finite()), || "not all are finite".into())?;
    equal("hash", hash(&logits), HASH.to_owned())
}

/// How tokens are batched changes no bit of the logits.
pub fn batches(engine: &dyn Engine) -> Outcome {
    let source = Source::from_bytes(network::weights());
    let last = {
        let mut guest = Transformer::start(engine, &source, LoadMethod::Copied)?;
        guest.eval_each(&TOKENS)?.split_off((TOKENS.len() - 1) * VOCAB as usize)
    };
    for size in [1, 2, 3, 4] {
        let mut guest = Transformer::start(engine, &source, LoadMethod::Copied)?;
        let got = guest.eval(&TOKENS, size)?;
        equal(&format!("logits in batches of {size}"), hash(&got), hash(&last))?;
    }
    Ok(())
}

/// Mapped weights give the logits of copied ones.
pub fn mapped(engine: &dyn Engine) -> Outcome {
    let file = guest::file(&network::weights())?;
    let source = guest::mapped(file.path())?;
    let mut guest = Transformer::start(engine, &source, LoadMethod::Mapped)?;
    equal("hash", hash(&guest.eval_each(&TOKENS)?), HASH.to_owned())
}

/// One changed weight changes the logits, so the hash proves something.
pub fn weights_matter(engine: &dyn Engine) -> Outcome {
    let run = |weights: Vec<u8>| {
        let source = Source::from_bytes(weights);
        let mut guest = Transformer::start(engine, &source, LoadMethod::Copied)?;
        Ok::<_, Failure>(hash(&guest.eval_each(&TOKENS)?))
    };
    let unchanged = run(network::weights())?;
    for (what, at) in network::SAMPLES {
        let mut weights = network::weights();
        weights[at] ^= 0x12;
        holds(run(weights)? != unchanged, || format!("a byte of {what} made no difference"))?;
    }
    Ok(())
}

fn hash(logits: &[f32]) -> String {
    let bytes: Vec<_> = logits.iter().flat_map(|logit| logit.to_le_bytes()).collect();
    Sha256::digest(bytes).iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}
