//! Which model families can be computed.

use polychord_abi::network::feature;

use crate::arch;
use crate::network::{Architecture, Pairs};

/// One `general.architecture` whose networks can be computed.
///
/// ```
/// use polychord_model::families::Family;
///
/// let qwen3 = Family::all().find(|family| family.architecture() == "qwen3").unwrap();
/// assert_eq!(qwen3.models(), "Qwen 3");
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Family(&'static Architecture);

/// What features are called for people, in the order of a network.
const NAMES: &[(u64, &str)] = &[
    (feature::LAYER_NORM, "layer norms"),
    (feature::ENCODER, "tokens attend to those behind them"),
    (feature::NO_PRE_NORMS, "no norms in front"),
    (feature::SUM_NORMS, "norms of sums"),
    (feature::POST_NORMS, "norms behind"),
    (feature::PARALLEL, "attention and feed-forward in parallel"),
    (feature::QKV_BIAS, "biases of queries, keys and values"),
    (feature::ATTN_OUTPUT_BIAS, "bias of what attention gives"),
    (feature::HEAD_NORMS, "norms of heads"),
    (feature::LATE_NORMS, "after rotation"),
    (feature::ROW_NORMS, "norms of all heads together"),
    (feature::VALUE_NORMS, "norms of values"),
    (feature::SINKS, "attention sinks"),
    (feature::FUSED_GATE, "gate and factor in one matrix"),
    (feature::NO_GATE, "no gate"),
    (feature::GELU, "GELU"),
    (feature::RELU_SQUARED, "squared ReLU"),
    (feature::CLAMPED_GATE, "clamped gate"),
    (feature::EXPERT_BIAS, "biases of experts"),
    (feature::BLOCK_SCALE, "a scale of each block"),
    (feature::LATENT, "latent attention"),
    (feature::SHORT_CONV, "short convolutions"),
    (feature::DELTA_NET, "gated delta nets"),
    (feature::OUTPUT_GATE, "gates of what attention gives"),
    (feature::LAYER_INPUTS, "inputs for each block"),
    (feature::SHARED_KEYS, "keys and values of other blocks"),
    (feature::DENSE_BESIDE, "dense part beside experts"),
];

impl Family {
    /// All families, in the order of the table.
    pub fn all() -> impl Iterator<Item = Self> {
        arch::all().iter().map(|architecture| Self(architecture))
    }

    /// `general.architecture`, as files name it.
    #[must_use]
    pub const fn architecture(&self) -> &'static str {
        self.0.name
    }

    /// The models that are of this family.
    #[must_use]
    pub const fn models(&self) -> &'static str {
        self.0.models
    }

    /// Which elements of a head are rotated together: `NORM` or `NEOX`, as llama.cpp calls it.
    #[must_use]
    pub const fn rotation(&self) -> &'static str {
        match self.0.pairs {
            Pairs::Neighbors => "NORM",
            Pairs::Halves => "NEOX",
        }
    }

    /// What its networks have beyond the graph of Llama, but for what their keys say.
    pub fn features(&self) -> impl Iterator<Item = &'static str> {
        let features = self.0.features | self.0.some;
        NAMES.iter().filter(move |(bit, _)| features & bit != 0).map(|(_, name)| *name)
    }
}
