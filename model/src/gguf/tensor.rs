//! Where tensors are in a file: checked against its size and each other.

use std::collections::HashSet;

use super::{Error, GgmlType};

/// Where one tensor is, and how it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TensorInfo {
    /// Unique in the file.
    pub name: String,
    /// How its elements are stored.
    pub dtype: GgmlType,
    /// Elements in each dimension, 1 to 4 of them, none zero; the contiguous one first.
    pub dims: Vec<u64>,
    /// Bytes from the start of the file; a multiple of the file's alignment if
    /// [`Gguf::data_offset`](super::Gguf::data_offset) is, which it always is.
    pub offset: u64,
    /// Size of its data; all of it is inside the file.
    pub bytes: u64,
}

/// A tensor as the file lists it, its offset still relative to the data.
pub(super) struct RawTensor {
    pub(super) name: String,
    pub(super) dtype: GgmlType,
    pub(super) dims: Vec<u64>,
    pub(super) offset: u64,
}

/// Checks the tensors against the file and each other.
pub(super) fn place(
    raw: Vec<RawTensor>,
    alignment: u64,
    data_offset: u64,
    file_len: u64,
) -> Result<Vec<TensorInfo>, Error> {
    let mut tensors = Vec::new();
    for tensor in raw {
        let bytes = bytes(&tensor)?;
        let RawTensor { name, dtype, dims, offset } = tensor;
        if !offset.is_multiple_of(alignment) {
            return Err(Error::Misaligned { name, offset, alignment });
        }
        let start = data_offset.checked_add(offset);
        let inside =
            start.and_then(|start| start.checked_add(bytes)).is_some_and(|end| end <= file_len);
        let Some(start) = start.filter(|_| inside) else {
            return Err(Error::OutsideFile { name, offset, bytes, data_offset, file_len });
        };
        tensors.push(TensorInfo { name, dtype, dims, offset: start, bytes });
    }
    check_names(&tensors)?;
    check_overlap(&tensors)?;
    Ok(tensors)
}

fn bytes(tensor: &RawTensor) -> Result<u64, Error> {
    let RawTensor { name, dtype, dims, .. } = tensor;
    let shape = || Error::Shape { name: name.clone(), dims: dims.clone() };
    let elements = dims.iter().try_fold(1_u64, |product, &dim| product.checked_mul(dim));
    // More than 63 bits would overflow the signed arithmetic of other readers.
    let elements = elements.filter(|&n| n > 0 && i64::try_from(n).is_ok()).ok_or_else(shape)?;
    let columns = dims[0];
    let block = dtype.block_elements();
    if !columns.is_multiple_of(block) {
        return Err(Error::Blocks { name: name.clone(), dtype: *dtype, columns, block });
    }
    (elements / block).checked_mul(dtype.block_bytes()).ok_or_else(shape)
}

fn check_names(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut names = HashSet::with_capacity(tensors.len());
    match tensors.iter().find(|tensor| !names.insert(tensor.name.as_str())) {
        Some(tensor) => Err(Error::DuplicateTensor { name: tensor.name.clone() }),
        None => Ok(()),
    }
}

fn check_overlap(tensors: &[TensorInfo]) -> Result<(), Error> {
    let mut sorted: Vec<_> = tensors.iter().collect();
    sorted.sort_by_key(|tensor| tensor.offset);
    for pair in sorted.windows(2) {
        let (first, second) = (pair[0], pair[1]);
        let end = first.offset + first.bytes;
        if second.offset < end {
            return Err(Error::Overlap {
                first: first.name.clone(),
                end,
                second: second.name.clone(),
                start: second.offset,
            });
        }
    }
    Ok(())
}
