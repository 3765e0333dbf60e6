//! Digests of what decides about bits.

use std::collections::BTreeMap;
use std::io::{Error as IoError, Read};
use std::path::Path;

use polychord_model::Sampling;
use polychord_receipts::{Digest, LayerDigest, ModelDigests};
use polychord_runtime_api as api;
use polychord_runtime_api::{LayerHash, Plan, Source, SourceRange};

use crate::error::{Error, Result};

/// Reads all of a model for the digests of its parts and layers.
pub(crate) fn of_model(
    source: &Source,
    layers: &[SourceRange],
    path: &Path,
) -> Result<ModelDigests> {
    let io = |source| api::Error::Io { operation: "read", path: path.to_owned(), source };
    let (mut parts, mut bytes) = (Vec::new(), 0);
    for (_, part) in source.parts() {
        let (digest, len) = Digest::of_reader(&mut part.reader()).map_err(io)?;
        if len != part.len() {
            let (operation, size) = ("read", part.len());
            return Err(api::Error::OutOfRange { operation, offset: 0, len, size }.into());
        }
        parts.push(digest);
        bytes += len;
    }
    let sha256 = match parts[..] {
        [only] => only,
        _ => Digest::of_all(parts.iter().map(AsRef::as_ref)),
    };
    let mut digests = Vec::new();
    for layer in layers {
        let mut reader = Range { source, at: layer.start, left: layer.bytes };
        let (digest, _) = Digest::of_reader(&mut reader).map_err(io)?;
        digests.push(LayerDigest::new(layer.name.clone(), digest));
    }
    Ok(ModelDigests::new(sha256, bytes, digests))
}

/// Reads all layers of a plan for their hashes.
pub(crate) fn hash_layers(source: &Source, path: &Path, plan: &mut Plan) -> Result<()> {
    for layer in &mut plan.layers {
        let SourceRange { start, bytes, .. } = layer.source;
        let mut reader = Range { source, at: start, left: bytes };
        let (digest, _) = Digest::of_reader(&mut reader).map_err(|source| api::Error::Io {
            operation: "read",
            path: path.to_owned(),
            source,
        })?;
        layer.sha256 = Some(LayerHash(*digest.as_bytes()));
    }
    Ok(())
}

/// Some bytes of a source.
struct Range<'a> {
    source: &'a Source,
    at: u64,
    left: u64,
}

impl Read for Range<'_> {
    fn read(&mut self, out: &mut [u8]) -> Result<usize, IoError> {
        let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(out.len());
        self.source.read_at(self.at, &mut out[..count]).map_err(IoError::other)?;
        self.at += count as u64;
        self.left -= count as u64;
        Ok(count)
    }
}

/// Options of a sampler by name, as text, so that no number changes on its way: as snapshots and
/// receipts have them.
#[must_use]
pub fn sampling_by_name(sampling: &Sampling) -> BTreeMap<String, String> {
    let json = serde_json::to_string(sampling).unwrap_or_default();
    let values: BTreeMap<String, serde_json::Value> =
        serde_json::from_str(&json).unwrap_or_default();
    values.into_iter().map(|(name, value)| (name, value.to_string())).collect()
}

/// The options of a sampler that have these names and values. Those that are not named have their
/// defaults.
///
/// # Errors
///
/// [`Error::Receipt`] for other names, and for values that are none; [`Error::Sampler`] for those
/// that are out of range.
pub fn sampling_of(by_name: &BTreeMap<String, String>) -> Result<Sampling> {
    let what = "snapshot or receipt";
    let wrong = |reason: String| {
        let place = "the options of the sampler".to_owned();
        Error::Receipt(polychord_receipts::Error::Damaged { what, place, reason })
    };
    let mut values = serde_json::Map::new();
    for (name, value) in by_name {
        let value =
            serde_json::from_str(value).map_err(|error| wrong(format!("{name}: {error}")))?;
        values.insert(name.clone(), value);
    }
    let sampling: Sampling = serde_json::from_value(serde_json::Value::Object(values))
        .map_err(|error| wrong(error.to_string()))?;
    sampling.validate()?;
    Ok(sampling)
}
