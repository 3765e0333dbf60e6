//! What decides about the bits of a result: model, guest, options.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::error::{Difference, Error, Result};

/// What decides about the bits of logits, beside the tokens: model, guest and options.
///
/// Engine, placement, ranks, batches and processor are not among it.
///
/// ```
/// use polychord_receipts::{Digest, Identity};
///
/// let here = Identity::new(Digest::of("model"), Digest::of("guest")).option("cache_type", "f32");
/// let there = Identity::new(Digest::of("model"), Digest::of("guest")).option("cache_type", "f16");
/// let refused = there.check("snapshot", &here).unwrap_err();
/// assert!(refused.to_string().contains("cache_type is f16 there and f32 here"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Identity {
    /// Of the model file, or of the digests of its parts one after the other.
    pub model: Digest,
    /// Of the guest: of the digests of all of its builds, which compute the same, one after the other.
    pub guest: Digest,
    /// Options that change bits, by name.
    pub options: BTreeMap<String, String>,
}

impl Identity {
    /// A model and a guest, without options.
    #[must_use]
    pub const fn new(model: Digest, guest: Digest) -> Self {
        Self { model, guest, options: BTreeMap::new() }
    }

    /// Sets an option.
    #[must_use]
    pub fn option(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.insert(name.into(), value.into());
        self
    }

    /// Makes sure that a snapshot or a receipt with this identity can be used `here`.
    ///
    /// # Errors
    ///
    /// [`Error::Differs`] with all that differs.
    pub fn check(&self, what: &'static str, here: &Self) -> Result<()> {
        let mut differences = Vec::new();
        for (name, theirs, ours) in
            [("the model", self.model, here.model), ("the guest", self.guest, here.guest)]
        {
            if theirs != ours {
                differences.push(Difference::new(name, theirs, ours));
            }
        }
        let names: std::collections::BTreeSet<_> =
            self.options.keys().chain(here.options.keys()).collect();
        for name in names {
            let [theirs, ours] = [self, here].map(|it| it.options.get(name));
            if theirs != ours {
                let [theirs, ours] =
                    [theirs, ours].map(|it| it.map_or("not set", String::as_str).to_owned());
                differences.push(Difference::new(name.clone(), theirs, ours));
            }
        }
        if differences.is_empty() {
            return Ok(());
        }
        Err(Error::Differs { what, differences })
    }
}

/// Digests of a model: of its file, and of each layer.
///
/// ```
/// use polychord_receipts::{Digest, LayerDigest, ModelDigests};
///
/// let layer = LayerDigest::new("blk.0", Digest::of("weights"));
/// let model = ModelDigests::new(Digest::of("file"), 1000, [layer]);
/// assert_eq!(model.layers[0].name, "blk.0");
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ModelDigests {
    /// Of the file, or of the digests of its parts one after the other.
    pub sha256: Digest,
    /// How long the file is, or all parts are together.
    pub bytes: u64,
    /// Of each layer, in the order in which they are used.
    pub layers: Vec<LayerDigest>,
}

/// The digest of one layer of a model.
///
/// ```
/// use polychord_receipts::{Digest, LayerDigest};
///
/// let layer = LayerDigest::new("output", Digest::of("weights"));
/// assert_eq!(layer.sha256, Digest::of("weights"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LayerDigest {
    /// Its name.
    pub name: String,
    /// Of its bytes in the file.
    pub sha256: Digest,
}

impl ModelDigests {
    /// Digests of a file and of its layers.
    pub fn new(sha256: Digest, bytes: u64, layers: impl IntoIterator<Item = LayerDigest>) -> Self {
        Self { sha256, bytes, layers: layers.into_iter().collect() }
    }

    /// The first layer in which two models differ.
    #[must_use]
    pub fn first_difference(&self, other: &Self) -> Option<&str> {
        let pairs = self.layers.iter().zip(&other.layers);
        let mut different = pairs.filter(|(one, two)| one != two);
        different.next().map(|(layer, _)| layer.name.as_str())
    }
}

impl LayerDigest {
    /// The digest of a layer.
    pub fn new(name: impl Into<String>, sha256: Digest) -> Self {
        Self { name: name.into(), sha256 }
    }
}
