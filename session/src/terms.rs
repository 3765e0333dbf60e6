//! What all ranks of a group have to have in common, and where they differ.

use std::collections::BTreeMap;

use polychord_abi::transformer;
use polychord_receipts::Digest;

use crate::build::Build;
use crate::session::Session;

/// Facts by their names, as one rank has them.
pub(crate) struct Terms(Vec<(String, String)>);

/// Most bytes of the terms of a rank: for some hundred facts.
pub(crate) const MOST: usize = 64 << 10;
/// Ends a name and a value. Texts that have one would only look different from what they are.
const END: char = '\0';

impl Terms {
    /// The terms of a session, and what its caller adds.
    pub(crate) fn of(session: &Session, facts: &[(&str, String)]) -> Self {
        let options = session.options();
        let placed = session.placed();
        let paged = placed.plan.memories.iter().any(|memory| memory.paged);
        // Stages hold parts of one plan; ranks may each have their own.
        let plan = || format!("of {:?} on {:?}", placed.plan.memories, placed.plan.hosts);
        let stages = options.stage.as_ref().map_or_else(|| "none".to_owned(), |_| plan());
        let config = session.model().config();
        // Of each block, in a few bytes.
        let shape = format!(
            "{} blocks of {}, {} tokens, digest {}",
            config.blocks,
            config.dim,
            config.vocab,
            Digest::of(format!("{config:?}"))
        );
        // A sequence that is evaluated again is so on all ranks.
        let (restored, reached) = session.kept();
        let sequence = format!(
            "{} tokens, restored {restored}, reached {reached}, digest {}",
            session.position(),
            Digest::of_tokens(session.tokens())
        );
        let own = [
            ("version of Polychord", env!("CARGO_PKG_VERSION").to_owned()),
            ("version of the guest's contract", transformer::VERSION.to_string()),
            ("guest", session.guest().unwrap_or_else(Build::family).to_string()),
            ("shape of the network", shape),
            (
                "bytes of weights",
                session.model().layers().iter().map(|it| it.bytes).sum::<u64>().to_string(),
            ),
            ("sequence", sequence),
            ("context", session.context().to_string()),
            ("batch", session.batch().to_string()),
            ("activations", options.activations.to_string()),
            ("cache of keys and values", options.cache_type.to_string()),
            ("ranks of all processes", session.ranks().to_string()),
            ("stages", stages),
            // Blocks come before batches, or batches before blocks.
            ("placement", (if paged { "paged" } else { "not paged" }).to_owned()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let more = facts.iter().map(|(name, value)| ((*name).to_owned(), value.clone()));
        Self(own.chain(more).collect())
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let texts = self.0.iter().flat_map(|(name, value)| [name, value]);
        texts.flat_map(|text| text.bytes().chain([END as u8])).collect()
    }

    /// What a rank has sent; bytes that are no terms differ from all that are.
    fn read(bytes: &[u8]) -> BTreeMap<String, String> {
        let text = String::from_utf8_lossy(bytes);
        let mut texts = text.split_terminator(END).map(str::to_owned);
        let mut terms = BTreeMap::new();
        while let Some(name) = texts.next() {
            terms.insert(name, texts.next().unwrap_or_default());
        }
        terms
    }
}

/// What is not the same in the terms of all ranks: a line for each fact.
pub(crate) fn differences(all: &[Vec<u8>]) -> Vec<String> {
    let all: Vec<_> = all.iter().map(|bytes| Terms::read(bytes)).collect();
    let names: std::collections::BTreeSet<_> = all.iter().flat_map(BTreeMap::keys).collect();
    names.into_iter().filter_map(|name| difference(name, &all)).collect()
}

fn difference(name: &str, all: &[BTreeMap<String, String>]) -> Option<String> {
    let mut ranks: Vec<(&str, Vec<String>)> = Vec::new();
    for (rank, terms) in all.iter().enumerate() {
        let value = terms.get(name).map_or("(nothing)", String::as_str);
        match ranks.iter_mut().find(|(other, _)| *other == value) {
            Some((_, ranks)) => ranks.push(rank.to_string()),
            None => ranks.push((value, vec![rank.to_string()])),
        }
    }
    if ranks.len() < 2 {
        return None;
    }
    let part = |(value, ranks): (&str, Vec<String>)| {
        let noun = if ranks.len() == 1 { "rank" } else { "ranks" };
        format!("{} on {noun} {}", shortened(value), ranks.join(", "))
    };
    let parts: Vec<_> = ranks.into_iter().map(part).collect();
    Some(format!("{name}: {}", parts.join("; ")))
}

/// A value that a line has room for.
fn shortened(value: &str) -> String {
    const MOST: usize = 80;
    let mut chars = value.chars();
    let start: String = chars.by_ref().take(MOST).collect();
    if chars.next().is_none() { start } else { format!("{start}...") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(facts: &[(&str, &str)]) -> Vec<u8> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Terms(facts.iter().map(own).collect()).to_bytes()
    }

    #[test]
    fn each_difference_is_a_line_that_names_the_ranks() {
        let one = bytes(&[("context", "40"), ("batch", "64"), ("model", "a b")]);
        assert!(differences(&[one.clone(), one.clone(), one.clone()]).is_empty());
        let other = bytes(&[("context", "48"), ("batch", "64")]);
        let found = differences(&[one.clone(), other.clone(), one, other]);
        assert_eq!(
            found,
            [
                "context: 40 on ranks 0, 2; 48 on ranks 1, 3",
                "model: a b on ranks 0, 2; (nothing) on ranks 1, 3"
            ]
        );
        assert_eq!(differences(&[bytes(&[("a", "1")]), vec![255, 0, 7]]).len(), 2);
        let long = "x".repeat(200);
        let found = differences(&[bytes(&[("shape", &long)]), bytes(&[("shape", "")])]);
        assert_eq!(found[0].len(), "shape: ... on rank 0;  on rank 1".len() + 80, "{found:?}");
    }
}
