//! Norms, biases and factors of a model file: read before a session starts, since one that is no number makes
//! all logits nonsense, and the first token that cannot be chosen names no tensor.

use std::path::Path;

use polychord_model::config;
use polychord_model::gguf::{GgmlType, TensorInfo};
use polychord_runtime_api::Source;

use crate::error::{Error, Result};

/// Bytes that are read at once.
const CHUNK: u64 = 64 << 10;

/// Reads all 32-bit floats of a model that are no matrices, and refuses those that are not finite. They are
/// some KiB of each block. Matrices are not read: they are most of the file.
///
/// # Errors
///
/// [`Error::Config`] with the tensor and the element; [`Error::Runtime`] if the file cannot be read.
pub(crate) fn check(source: &Source, tensors: &[TensorInfo], path: &Path) -> Result<()> {
    let mut bytes = Vec::new();
    for tensor in tensors.iter().filter(|tensor| is_vector(tensor)) {
        let mut done = 0;
        while done < tensor.bytes {
            let count = (tensor.bytes - done).min(CHUNK);
            bytes.resize(usize::try_from(count).unwrap_or_default(), 0);
            source.read_at(tensor.offset + done, &mut bytes)?;
            let mut floats = bytes.as_chunks::<4>().0.iter().map(|it| f32::from_le_bytes(*it));
            if let Some(at) = floats.position(|it| !it.is_finite()) {
                let number = f32::from_le_bytes(bytes.as_chunks::<4>().0[at]);
                let (tensor, element) = (tensor.name.clone(), done / 4 + at as u64);
                let reason = config::Error::NotFinite { tensor, element, number };
                return Err(Error::Config { path: path.to_owned(), reason });
            }
            done += count;
        }
    }
    Ok(())
}

/// Biases of experts have two dimensions.
fn is_vector(tensor: &TensorInfo) -> bool {
    let is_one = tensor.dims.iter().filter(|dim| **dim > 1).count() < 2;
    tensor.dtype == GgmlType::F32 && (is_one || tensor.name.ends_with(".bias"))
}
