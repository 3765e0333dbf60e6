//! What an executor that has kernels of its own needs to know of a network, if it is a plain one.

use polychord_abi::network::feature;
use polychord_abi::transformer::{Block, NO_FACTORS, Rope};
use polychord_model::gguf::TensorInfo;
use serde_json::{Map, Value, json};
use wasm_bindgen::JsError;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::error::{Error, Result};
use crate::model::Model;

#[wasm_bindgen]
impl Model {
    /// The shape of a network of the plain Llama graph, and where its tensors are, as JSON.
    ///
    /// # Errors
    ///
    /// If the network has anything else, which is named.
    #[wasm_bindgen(js_name = plainNetwork)]
    pub fn plain_network(&self) -> std::result::Result<String, JsError> {
        Ok(self.plain()?.to_string())
    }

    /// The rotation and the block of a network that has nothing but the graph of Llama.
    pub(crate) fn plain_graph(&self) -> Result<(&Rope, &Block)> {
        let config = &self.config;
        let [rope] = &config.ropes[..] else { return Err(other("several kinds of rotation")) };
        if *rope != (Rope { yarn_low: rope.yarn_low, yarn_high: -1.0, ..*rope }) {
            return Err(other("frequencies that YaRN scales"));
        }
        let scales = [config.embedding_scale, config.residual_scale, config.logit_scale];
        if scales.iter().any(|scale| scale.to_bits() != 1.0_f32.to_bits()) || config.logit_cap > 0.0
        {
            return Err(other("scales or caps beside its matrices"));
        }
        if config.long_context.is_some() || config.layer_input != 0 {
            return Err(other("factors or inputs for each block"));
        }
        for (number, block) in config.layers.iter().enumerate() {
            let Block { heads, kv_heads, head_dim, ffn, attention_scale, rope, .. } = *block;
            let features = block.features & feature::TIED_OUTPUT;
            let plain = Block {
                features,
                heads,
                kv_heads,
                head_dim,
                ffn,
                attention_scale,
                rope,
                ..Block::default()
            };
            if *block != plain || rope != 0 {
                return Err(other(&format!("block {number} with more than the graph of Llama")));
            }
        }
        let block = config.layers.first().ok_or_else(|| other("no block"))?;
        if config.layers.iter().any(|it| it != block) {
            return Err(other("blocks of several shapes"));
        }
        Ok((rope, block))
    }

    fn plain(&self) -> Result<Value> {
        let (config, (rope, block)) = (&self.config, self.plain_graph()?);
        let tensors = self.gguf().tensors().iter();
        Ok(json!({
            "dim": config.dim,
            "vocab": config.vocab,
            "blocks": config.blocks,
            "epsilon": config.epsilon,
            "heads": block.heads,
            "kvHeads": block.kv_heads,
            "headDim": block.head_dim,
            "ffn": block.ffn,
            "scale": block.attention_scale,
            "rope": {
                "dim": rope.dim,
                "base": rope.base,
                "scale": rope.scale,
                "magnitude": rope.magnitude,
                "halves": rope.halves != 0,
                "factors": rope.factors != NO_FACTORS,
            },
            "tied": config.tied,
            "tensors": tensors.map(tensor).collect::<Map<_, _>>(),
        }))
    }
}

fn tensor(it: &TensorInfo) -> (String, Value) {
    let rows = it.dims.iter().skip(1).product::<u64>();
    let value = json!({
        "type": it.dtype.name(),
        "start": it.offset,
        "bytes": it.bytes,
        "cols": it.dims.first(),
        "rows": rows,
    });
    (it.name.clone(), value)
}

fn other(what: &str) -> Error {
    Error::NotPlain { what: what.to_owned() }
}
