//! What of a file a rank computes with, so that ranks need not hold the rows of others.

use std::ops::Range;

use polychord_abi::transformer::Block;
use polychord_model::gguf::TensorInfo;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::header::whole;
use crate::model::Model;

#[wasm_bindgen]
impl Model {
    /// What one of several ranks reads of a range of the file, as first bytes and lengths by turns, in order.
    /// It is all of it but for matrices of networks of the plain Llama graph, whose rows ranks divide.
    #[wasm_bindgen(js_name = partsOfRank)]
    #[must_use]
    #[allow(clippy::cast_precision_loss, reason = "offsets of files have at most 53 bits")]
    pub fn parts_of_rank(&self, start: f64, bytes: f64, rank: u32, ranks: u32) -> Vec<f64> {
        let all = whole(start)..whole(start).saturating_add(whole(bytes));
        let parts = self.parts(all, Share { rank: rank.into(), ranks: ranks.into() });
        parts.into_iter().flat_map(|it| [it.start as f64, (it.end - it.start) as f64]).collect()
    }

    /// Whether a rank has only its own rows of the embedding, as many as of the output: the host gives the hidden
    /// state of a token to all ranks from the one that has its row.
    #[wasm_bindgen(js_name = dividesEmbedding)]
    #[must_use]
    pub fn divides_embedding(&self) -> bool {
        let mut tensors = self.gguf().tensors().iter();
        self.plain_graph().is_ok()
            && tensors.any(|it| it.name == EMBEDDING && self.has_rows_of_tokens(it))
    }

    /// Whether a matrix has a row for each token, of whole bytes.
    fn has_rows_of_tokens(&self, tensor: &TensorInfo) -> bool {
        let vocab = u64::from(self.config.vocab);
        tensor.dims.get(1..) == Some(&[vocab]) && tensor.bytes.is_multiple_of(vocab.max(1))
    }

    fn parts(&self, all: Range<u64>, share: Share) -> Vec<Range<u64>> {
        let Ok((_, block)) = self.plain_graph() else { return vec![all] };
        let others = |tensor: &TensorInfo| share.others(tensor, block);
        let is_divided = |it: &&TensorInfo| {
            !matches!(&*it.name, EMBEDDING | OUTPUT) || self.has_rows_of_tokens(it)
        };
        let tensors = self.gguf().tensors().iter().filter(is_divided);
        let mut others: Vec<_> = tensors.flat_map(others).collect();
        others.sort_by_key(|it| it.start);
        let mut parts = Vec::new();
        let mut at = all.start;
        for other in others {
            if other.start >= all.end || other.end <= at {
                continue;
            }
            if other.start > at {
                parts.push(at..other.start);
            }
            at = other.end;
        }
        if at < all.end {
            parts.push(at..all.end);
        }
        parts
    }
}

const EMBEDDING: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

/// One of several ranks, which divide work as `guest/src/ranks.rs` does.
#[derive(Clone, Copy)]
struct Share {
    rank: u64,
    ranks: u64,
}

impl Share {
    fn own(self, units: u64) -> Range<u64> {
        let part = units.div_ceil(self.ranks.max(1));
        let start = self.rank.saturating_mul(part).min(units);
        start..(start + part).min(units)
    }

    /// The rows of a matrix that this rank multiplies with; all of it for what is no such matrix.
    fn rows(self, name: &str, rows: u64, block: &Block) -> Range<u64> {
        let (heads, kv_heads) = (u64::from(block.heads), u64::from(block.kv_heads));
        let kind =
            name.strip_prefix("blk.").and_then(|it| it.split_once('.')).map_or(name, |it| it.1);
        let own = self.own(heads);
        let of_heads = |own: Range<u64>, heads: u64| {
            let unit = rows / heads.max(1);
            own.start * unit..own.end * unit
        };
        match kind {
            "attn_q.weight" => of_heads(own, heads),
            "attn_k.weight" | "attn_v.weight" => {
                // Two ranks may need the same one.
                let group = (heads / kv_heads.max(1)).max(1);
                of_heads(own.start / group..own.end.div_ceil(group), kv_heads)
            }
            "attn_output.weight" | "ffn_gate.weight" | "ffn_up.weight" | "ffn_down.weight"
            | OUTPUT | EMBEDDING => self.own(rows),
            _ => 0..rows,
        }
    }

    /// Where the rows of a matrix are that only other ranks multiply with.
    fn others(self, tensor: &TensorInfo, block: &Block) -> [Range<u64>; 2] {
        let all = tensor.offset..tensor.offset + tensor.bytes;
        let rows = tensor.dims.iter().skip(1).product::<u64>();
        if rows == 0 || !tensor.bytes.is_multiple_of(rows) {
            return [all.start..all.start, all.end..all.end];
        }
        let own = self.rows(&tensor.name, rows, block);
        let at = |row: u64| all.start + row.min(rows) * (tensor.bytes / rows);
        [all.start..at(own.start), at(own.end)..all.end]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_have_all_rows_together() {
        let block = Block { heads: 9, kv_heads: 3, ..Block::default() };
        for ranks in [1, 2, 3, 4, 9, 64] {
            for (name, rows) in [
                ("blk.0.attn_q.weight", 576),
                ("blk.10.attn_k.weight", 192),
                ("blk.1.attn_v.weight", 192),
                ("blk.2.attn_output.weight", 576),
                ("blk.3.ffn_down.weight", 577),
                ("output.weight", 1000),
                ("token_embd.weight", 1000),
                ("blk.3.attn_norm.weight", 1),
            ] {
                let of = |rank| Share { rank, ranks }.rows(name, rows, &block);
                let mut has = vec![false; usize::try_from(rows).unwrap()];
                (0..ranks).flat_map(of).for_each(|row| has[usize::try_from(row).unwrap()] = true);
                assert!(has.into_iter().all(|it| it), "{name}, {ranks} ranks");
            }
        }
        let second = Share { rank: 1, ranks: 2 };
        assert_eq!(second.rows("blk.0.attn_q.weight", 576, &block), 320..576);
        // The heads 5 to 8 use the last two of three.
        assert_eq!(second.rows("blk.0.attn_k.weight", 192, &block), 64..192);
    }
}
