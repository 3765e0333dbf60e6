use std::collections::HashMap;

use polychord_abi::transformer::role;

use super::{Config, Error};
use crate::gguf::{GgmlType, Gguf, TensorInfo};

/// A tensor of the network: what it is for, and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ModelTensor<'a> {
    /// What it is for: a [`role`] of the guest's contract.
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

/// What the network needs of one role.
struct Need {
    role: u32,
    name: &'static str,
    rows: u32,
    cols: u32,
    vector: bool,
    optional: bool,
}

impl Need {
    fn matrix(role: u32, name: &'static str, rows: u32, cols: u32) -> Self {
        Self { role, name, rows, cols, vector: false, optional: false }
    }

    fn vector(role: u32, name: &'static str, cols: u32) -> Self {
        Self { role, name, rows: 1, cols, vector: true, optional: false }
    }

    fn optional(self) -> Self {
        Self { optional: true, ..self }
    }
}

/// Finds every tensor of the network, and refuses all others.
pub(super) fn table<'a>(gguf: &'a Gguf, config: &Config) -> Result<Vec<ModelTensor<'a>>, Error> {
    let mut rest: HashMap<&str, &TensorInfo> =
        gguf.tensors().iter().map(|info| (info.name.as_str(), info)).collect();
    let mut table = Vec::with_capacity(rest.len());
    let mut take = |need: &Need, block: Option<u32>| -> Result<(), Error> {
        let name = match block {
            Some(block) => format!("blk.{block}.{}", need.name),
            None => need.name.to_owned(),
        };
        match rest.remove(name.as_str()) {
            Some(info) => table.push(fit(info, need, block)?),
            None if need.optional => {}
            None => return Err(Error::MissingTensor { name }),
        }
        Ok(())
    };
    take(&Need::matrix(role::TOKEN_EMBD, "token_embd.weight", config.vocab, config.dim), None)?;
    take(
        &Need::vector(role::ROPE_FREQS, "rope_freqs.weight", config.rope_dim / 2).optional(),
        None,
    )?;
    for block in 0..config.blocks {
        block_needs(config).iter().try_for_each(|need| take(need, Some(block)))?;
    }
    take(&Need::vector(role::OUTPUT_NORM, "output_norm.weight", config.dim), None)?;
    take(&Need::matrix(role::OUTPUT, "output.weight", config.vocab, config.dim).optional(), None)?;
    // The first in file order, so that the message does not vary.
    match gguf.tensors().iter().find(|info| rest.contains_key(info.name.as_str())) {
        Some(info) => Err(Error::UnknownTensor { name: info.name.clone(), blocks: config.blocks }),
        None => Ok(table),
    }
}

fn block_needs(config: &Config) -> [Need; 9] {
    let Config { dim, ffn, .. } = *config;
    let (q, kv) = (config.q_dim(), config.kv_dim());
    [
        Need::vector(role::ATTN_NORM, "attn_norm.weight", dim),
        Need::matrix(role::ATTN_Q, "attn_q.weight", q, dim),
        Need::matrix(role::ATTN_K, "attn_k.weight", kv, dim),
        Need::matrix(role::ATTN_V, "attn_v.weight", kv, dim),
        Need::matrix(role::ATTN_OUTPUT, "attn_output.weight", dim, q),
        Need::vector(role::FFN_NORM, "ffn_norm.weight", dim),
        Need::matrix(role::FFN_GATE, "ffn_gate.weight", ffn, dim),
        Need::matrix(role::FFN_UP, "ffn_up.weight", ffn, dim),
        Need::matrix(role::FFN_DOWN, "ffn_down.weight", dim, ffn),
    ]
}

fn fit<'a>(
    info: &'a TensorInfo,
    need: &Need,
    block: Option<u32>,
) -> Result<ModelTensor<'a>, Error> {
    let name = || info.name.clone();
    let expected: Vec<u64> = match need.vector {
        true => vec![need.cols.into()],
        false => vec![need.cols.into(), need.rows.into()],
    };
    // Writers may drop or keep trailing dimensions of 1.
    let significant =
        |dims: &[u64]| dims.iter().rposition(|&dim| dim != 1).map_or(0, |last| last + 1);
    if info.dims[..significant(&info.dims)] != expected[..significant(&expected)] {
        return Err(Error::TensorShape { name: name(), found: info.dims.clone(), expected });
    }
    if !info.kind.is_supported() {
        return Err(Error::TensorType { name: name(), kind: info.kind });
    }
    if need.vector && info.kind != GgmlType::F32 {
        return Err(Error::VectorType { name: name(), kind: info.kind });
    }
    Ok(ModelTensor { role: need.role, block, rows: need.rows, cols: need.cols, info })
}
