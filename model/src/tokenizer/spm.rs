//! SentencePiece BPE, as Llama 2 and Gemma use it.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, HashMap};

use super::special::controls;
use super::vocab::Vocab;
use super::{Error, bytes};
use crate::gguf::Metadata;

/// SentencePiece BPE: of all neighbors that together are a token, those with the best score
/// are joined first.
///
/// Written here because the `tokenizers` crate ranks *pairs*, which cannot express that all
/// pairs of one token, and all tokens of one score, rank equally.
#[derive(Debug)]
pub(super) struct Spm {
    tokens: HashMap<String, (u32, f32)>,
    /// What each byte becomes that is in no token.
    fallback: Vec<Option<u32>>,
    unknown: Option<u32>,
    space_prefix: bool,
}

impl Spm {
    pub(super) fn new(vocab: &Vocab, metadata: &Metadata) -> Result<Self, Error> {
        let key = "tokenizer.ggml.scores";
        let count = usize::try_from(vocab.size()).unwrap_or(usize::MAX);
        let equal = metadata.f32s(key)?.is_none().then(|| vec![0.0; count]);
        if equal.is_some() {
            // As llama.cpp does: the first neighbors are joined first.
            tracing::warn!(key, "the key is missing: all tokens have the same score");
        }
        let scores = metadata.f32s(key)?.or(equal.as_deref()).unwrap_or_default();
        if scores.len() != count {
            return Err(Error::Length { key, found: scores.len(), tokens: count });
        }
        let mut tokens = HashMap::with_capacity(count);
        for ((id, text, _), &score) in
            vocab.iter().zip(scores).filter(|((_, text, _), _)| !text.is_empty())
        {
            if let Some((first, _)) = tokens.insert(text.to_owned(), (id, score)) {
                return Err(Error::DuplicateToken { first, second: id, text: text.to_owned() });
            }
        }
        // Control tokens are looked for beforehand; text never joins to one.
        for (_, text, _) in vocab.iter().filter(|&(_, text, kind)| controls(text, kind)) {
            tokens.remove(text);
        }
        let mut fallback = vec![None; 256];
        for (id, text, _) in vocab.iter() {
            if let Some(byte) = bytes::parse_hex(text) {
                fallback[usize::from(byte)] = Some(id);
            }
        }
        if let (Some(byte), None) = (fallback.iter().position(Option::is_none), vocab.unknown) {
            return Err(Error::MissingByte { byte: u8::try_from(byte).unwrap_or(u8::MAX) });
        }
        let space_prefix = metadata.bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true);
        Ok(Self { tokens, fallback, unknown: vocab.unknown, space_prefix })
    }

    pub(super) fn adds_space_prefix(&self) -> bool {
        self.space_prefix
    }

    /// Appends the ids of `text`, which follows a special token or nothing if `first`.
    pub(super) fn encode(&self, text: &str, first: bool, ids: &mut Vec<u32>) {
        let mut escaped = text.replace(' ', "▁");
        if first && self.space_prefix {
            escaped.insert(0, '▁');
        }
        for piece in Joiner::new(self, &escaped).join() {
            match self.tokens.get(piece) {
                Some(&(id, _)) => ids.push(id),
                None => ids.extend(
                    piece
                        .bytes()
                        .filter_map(|byte| self.fallback[usize::from(byte)].or(self.unknown)),
                ),
            }
        }
    }
}

const NONE: usize = usize::MAX;

/// A piece of text in a list of neighbors; empty once joined to the one before.
struct Piece {
    start: usize,
    len: usize,
    before: usize,
    after: usize,
}

struct Joiner<'a> {
    spm: &'a Spm,
    text: &'a str,
    pieces: Vec<Piece>,
    queue: BinaryHeap<Pair>,
}

impl<'a> Joiner<'a> {
    fn new(spm: &'a Spm, text: &'a str) -> Self {
        let mut pieces: Vec<Piece> = Vec::new();
        for (start, c) in text.char_indices() {
            let index = pieces.len();
            pieces.push(Piece {
                start,
                len: c.len_utf8(),
                before: index.wrapping_sub(1),
                after: index + 1,
            });
        }
        if let Some(last) = pieces.last_mut() {
            last.after = NONE;
        }
        Self { spm, text, pieces, queue: BinaryHeap::new() }
    }

    /// Joins until no neighbors are a token, and gives what is left.
    fn join(mut self) -> impl Iterator<Item = &'a str> {
        for index in 1..self.pieces.len() {
            self.propose(index - 1, index);
        }
        while let Some(Pair { left, right, len, .. }) = self.queue.pop() {
            let (a, b) = (&self.pieces[left], &self.pieces[right]);
            // Outdated if either was joined to another piece since.
            if a.len == 0 || b.len == 0 || a.len + b.len != len {
                continue;
            }
            let (before, after) = (a.before, b.after);
            self.pieces[left].len = len;
            self.pieces[left].after = after;
            self.pieces[right].len = 0;
            if after != NONE {
                self.pieces[after].before = left;
            }
            self.propose(before, left);
            self.propose(left, after);
        }
        let text = self.text;
        self.pieces.into_iter().filter(|p| p.len > 0).map(move |p| &text[p.start..p.start + p.len])
    }

    /// Queues two neighbors if together they are a token.
    fn propose(&mut self, left: usize, right: usize) {
        if left == NONE || right == NONE {
            return;
        }
        let (start, len) =
            (self.pieces[left].start, self.pieces[left].len + self.pieces[right].len);
        if let Some(&(_, score)) = self.spm.tokens.get(&self.text[start..start + len]) {
            self.queue.push(Pair { score, left, right, len });
        }
    }
}

/// Two neighbors to join: better scores first, then what stands further left.
struct Pair {
    score: f32,
    left: usize,
    right: usize,
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        self.score.total_cmp(&other.score).then_with(|| other.left.cmp(&self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Pair {}
