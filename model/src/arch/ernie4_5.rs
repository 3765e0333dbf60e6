//! ERNIE 4.5 without experts: the graph of Llama.

use super::{Architecture, Pairs};

pub(super) const ERNIE4_5: Architecture =
    Architecture::new("ernie4_5", "ERNIE 4.5 without experts", Pairs::Neighbors);
