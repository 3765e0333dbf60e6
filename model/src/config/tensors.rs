//! Matches the tensors of a file with the roles of the network.

use std::collections::HashMap;

use polychord_abi::network::{ROLES, Role, Section, Sizes};

use super::error::Error;
use crate::gguf::{GgmlType, Gguf, TensorInfo};

/// A tensor of the network: what it is for, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelTensor<'a> {
    /// What it is for: a [`role`](mod@polychord_abi::network::role) of the guest's contract.
    pub role: u32,
    /// The block that it belongs to; `None` for the embedding and what the output needs.
    pub block: Option<u32>,
    /// Rows (outputs); 1 for a vector.
    pub rows: u32,
    /// Elements of a row (inputs).
    pub cols: u32,
    /// Name, type and place in the file.
    pub info: &'a TensorInfo,
}

/// What decides which tensors a file has to have, and of which shapes.
pub(super) struct Network {
    pub(super) architecture: &'static str,
    pub(super) blocks: u32,
    pub(super) features: u32,
    pub(super) sizes: Sizes,
}

impl Network {
    /// Finds every tensor of the network, and refuses all others.
    pub(super) fn tensors<'a>(&self, gguf: &'a Gguf) -> Result<Vec<ModelTensor<'a>>, Error> {
        let mut rest: HashMap<&str, &TensorInfo> =
            gguf.tensors().iter().map(|info| (info.name.as_str(), info)).collect();
        let mut table = Vec::with_capacity(rest.len());
        for (role, block) in in_order(self.blocks) {
            if !role.need.is_allowed(self.features) {
                continue;
            }
            let name = match block {
                Some(block) => role.name.replace("{}", &block.to_string()),
                None => role.name.to_owned(),
            };
            match rest.remove(name.as_str()) {
                Some(info) => table.push(fit(info, role, &self.sizes, block)?),
                None if role.need.is_required(self.features) => {
                    return Err(Error::MissingTensor { name });
                }
                None => {}
            }
        }
        // The first in file order, so that the message does not vary.
        match gguf.tensors().iter().find(|info| rest.contains_key(info.name.as_str())) {
            Some(info) => {
                let Self { architecture, blocks, .. } = *self;
                Err(Error::UnknownTensor { name: info.name.clone(), architecture, blocks })
            }
            None => Ok(table),
        }
    }
}

/// Each role with each block that has one, in the order of the network.
fn in_order(blocks: u32) -> impl Iterator<Item = (&'static Role, Option<u32>)> {
    let of = |section: Section| ROLES.iter().filter(move |role| role.section == section);
    let outside = move |section| of(section).map(|role| (role, None));
    let block = |block| {
        let roles = ROLES.iter().filter(|role| role.section.is_in_block());
        roles.map(move |role| (role, Some(block)))
    };
    outside(Section::Embedding)
        .chain(outside(Section::Rope))
        .chain((0..blocks).flat_map(block))
        .chain(outside(Section::Output))
}

fn fit<'a>(
    info: &'a TensorInfo,
    role: &Role,
    sizes: &Sizes,
    block: Option<u32>,
) -> Result<ModelTensor<'a>, Error> {
    let name = || info.name.clone();
    // They do not overflow: the configuration was checked.
    let size = |size| sizes.get(size).unwrap_or(u32::MAX);
    let (rows, cols) = (size(role.rows), size(role.cols));
    let expected: Vec<u64> = match role.is_vector() {
        true => vec![cols.into()],
        false => vec![cols.into(), rows.into()],
    };
    // Writers may drop or keep trailing dimensions of 1.
    let significant =
        |dims: &[u64]| dims.iter().rposition(|&dim| dim != 1).map_or(0, |last| last + 1);
    if info.dims[..significant(&info.dims)] != expected[..significant(&expected)] {
        return Err(Error::TensorShape { name: name(), found: info.dims.clone(), expected });
    }
    if !info.dtype.is_supported() {
        return Err(Error::TensorType { name: name(), dtype: info.dtype });
    }
    if role.is_vector() && info.dtype != GgmlType::F32 {
        return Err(Error::VectorType { name: name(), dtype: info.dtype });
    }
    Ok(ModelTensor { role: role.number, block, rows, cols, info })
}
