//! Shape of a network, and what each tensor of the file is for.

use crate::arch;
use crate::gguf::{Gguf, Metadata, Value};

pub use crate::network::{Block, Config, Error, ModelTensor, NO_ROPE, Rope, gating};

impl Config {
    /// Reads the shape from the metadata and checks every tensor of the file against it.
    ///
    /// The second result lists the tensors in the order of the network: embedding, blocks
    /// from first to last, then what the output needs.
    ///
    /// # Errors
    ///
    /// If the architecture or one of its options is not supported, a value is missing or
    /// impossible, or a tensor is missing, unknown, of another shape than the values
    /// require, or of a type that the guest cannot compute with. Unknown tensors are refused
    /// because leaving one out (a bias, an expert gate) would silently give wrong text.
    pub fn from_gguf(gguf: &Gguf) -> Result<(Self, Vec<ModelTensor<'_>>), Error> {
        let metadata = gguf.metadata();
        check_whole(metadata)?;
        let key = "general.architecture";
        let found = metadata.str(key)?.ok_or_else(|| Error::Missing { key: key.to_owned() })?;
        let architecture = arch::find(found).ok_or_else(|| Error::Architecture {
            found: found.to_owned(),
            supported: arch::supported_names(),
        })?;
        Self::read(gguf, architecture)
    }
}

/// Refuses a part of a model whose tensors are in several files, each of which is a GGUF file.
fn check_whole(metadata: &Metadata) -> Result<(), Error> {
    let number = |key| metadata.get(key).and_then(Value::as_u64);
    match (number("split.no"), number("split.count")) {
        (no, Some(count)) if count > 1 => {
            Err(Error::Split { part: no.unwrap_or(0).saturating_add(1), count })
        }
        _ => Ok(()),
    }
}
