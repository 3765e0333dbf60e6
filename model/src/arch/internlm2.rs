//! `InternLM` 2 and 2.5: the graph of Llama.

use super::{Architecture, Pairs};

pub(super) const INTERNLM2: Architecture =
    Architecture::new("internlm2", "InternLM 2 and 2.5", Pairs::Neighbors);
