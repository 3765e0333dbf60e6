//! Matches the tensors of a file with the roles of the network.

use std::collections::HashMap;

use polychord_abi::network::{ROLES, Role, Section, Size, Sizes};

use super::architecture::Architecture;
use super::config::Config;
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
pub(super) struct Network<'a> {
    pub(super) architecture: &'static Architecture,
    pub(super) config: &'a Config,
    /// Blocks behind the network that are not looked at.
    pub(super) skipped: u32,
}

impl Network<'_> {
    /// Finds every tensor of the network, and refuses all others.
    pub(super) fn tensors<'a>(&self, gguf: &'a Gguf) -> Result<Vec<ModelTensor<'a>>, Error> {
        let Self { architecture, config, skipped } = *self;
        let mut rest: HashMap<&str, &TensorInfo> =
            gguf.tensors().iter().map(|info| (info.name.as_str(), info)).collect();
        let mut table = Vec::with_capacity(rest.len());
        for (role, block) in in_order(config.blocks) {
            let layer = block.and_then(|block| config.layers.get(block as usize));
            let features = layer.map_or(config.features, |layer| layer.features);
            if !role.need.is_allowed(features) {
                continue;
            }
            let name = match block {
                Some(block) => architecture.name_of(role.number).replace("{}", &block.to_string()),
                None => architecture.name_of(role.number).to_owned(),
            };
            match rest.remove(name.as_str()) {
                Some(info) => table.push(fit(info, role, &config.sizes(block), block)?),
                None if role.need.is_required(features) => {
                    // Three biases beside one matrix: they are what is not computed.
                    let apart = name.replace("attn_qkv.bias", "attn_q.bias");
                    if apart == name || !rest.contains_key(apart.as_str()) {
                        return Err(Error::MissingTensor { name });
                    }
                    return Err(self.unknown(apart));
                }
                None => {}
            }
        }
        let blocks = config.blocks;
        let is_skipped = |name: &str| {
            let number = name.strip_prefix("blk.").and_then(|rest| rest.split('.').next());
            let number = number.and_then(|number| number.parse::<u32>().ok());
            number.is_some_and(|number| (blocks..blocks + skipped).contains(&number))
        };
        // The first in file order, so that the message does not vary.
        let mut others = gguf.tensors().iter().filter(|info| rest.contains_key(info.name.as_str()));
        match others.find(|info| !is_skipped(&info.name)) {
            Some(info) => Err(self.unknown(info.name.clone())),
            None => Ok(table),
        }
    }

    fn unknown(&self, name: String) -> Error {
        let (architecture, blocks) = (self.architecture.name, self.config.blocks);
        Error::UnknownTensor { name, architecture, blocks }
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
    let size = |size, dimension: usize| match size {
        Size::Open => u32::try_from(*info.dims.get(dimension).unwrap_or(&1)).unwrap_or(u32::MAX),
        size => sizes.get(size).unwrap_or(u32::MAX),
    };
    let (rows, cols) = (size(role.rows, 1), size(role.cols, 0));
    let expected: Vec<u64> = match role.rows {
        Size::One => vec![cols.into()],
        // One matrix for each expert.
        Size::ExpertRows => vec![cols.into(), sizes.expert_ffn.into(), sizes.experts.into()],
        Size::ExpertPairs => vec![cols.into(), (2 * sizes.expert_ffn).into(), sizes.experts.into()],
        // And for each head.
        Size::LatentKeyRows => vec![cols.into(), sizes.latent_rank.into(), sizes.heads.into()],
        Size::LatentValueRows => vec![cols.into(), sizes.value_dim.into(), sizes.heads.into()],
        Size::ExpertDowns => vec![cols.into(), sizes.dim.into(), sizes.experts.into()],
        _ => vec![cols.into(), rows.into()],
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
