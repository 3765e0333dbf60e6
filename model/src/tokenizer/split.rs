//! Cuts text into words before BPE, as each model wants it.

use regex::Regex;

use super::Error;
use super::vocab::Spelling;
use crate::gguf::Metadata;

/// Cuts text into words, inside of which BPE merges; `tokenizer.ggml.pre` names one.
#[derive(Debug)]
pub(super) struct PreTokenizer {
    rule: &'static Rule,
    cuts: Vec<(Regex, LineEnds)>,
}

/// What white space that ends a line and stands before a word does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LineEnds {
    /// The line end is like all other white space.
    Space,
    /// The line end stays whole: the pattern has an alternative of its own for it.
    Whole,
}

/// One way of cutting, and the models' names for it.
#[derive(Debug)]
struct Rule {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces that the one before left.
    patterns: &'static [Pattern],
    /// A word that is a token is that token, whatever merges would make of it.
    whole_words: bool,
    add_bos: bool,
}

type Pattern = (&'static str, LineEnds);

// llama.cpp's expressions, without `\s+(?!\S)|\s+`, which is `\s+` with `shorten`.
const GPT2: Pattern =
    (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+", LineEnds::Space);
const LLAMA3: Pattern = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    LineEnds::Whole,
);
const QWEN2: Pattern = (
    r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+",
    LineEnds::Whole,
);

const RULES: &[Rule] = &[
    Rule {
        names: &["default"],
        patterns: &[
            (r"[\p{P}\$\+<=>\^~\|]+", LineEnds::Space),
            GPT2,
            (r"\p{N}+", LineEnds::Space),
            ("[0-9][0-9][0-9]", LineEnds::Space),
        ],
        whole_words: false,
        add_bos: false,
    },
    Rule {
        names: &[
            "gpt-2",
            "phi-2",
            "jina-es",
            "jina-de",
            "gigachat",
            "jina-v2-es",
            "jina-v2-de",
            "a.x-4.0",
            "mellum",
            "modern-bert",
            "mpt",
            "olmo",
            "jais",
            "trillion",
            "granite-docling",
        ],
        patterns: &[GPT2],
        whole_words: false,
        add_bos: false,
    },
    Rule {
        names: &[
            "llama-bpe",
            "llama3",
            "llama-v3",
            "falcon3",
            "falcon-h1",
            "pixtral",
            "midm-2.0",
            "lfm2",
            "jina-v5-nano",
        ],
        patterns: &[LLAMA3],
        whole_words: true,
        add_bos: true,
    },
    Rule { names: &["dbrx", "smaug-bpe"], patterns: &[LLAMA3], whole_words: false, add_bos: false },
    Rule {
        names: &["smollm", "starcoder", "refact", "command-r", "codeshell", "exaone"],
        patterns: &[(r"\p{N}", LineEnds::Space), GPT2],
        whole_words: false,
        add_bos: false,
    },
    Rule {
        names: &["qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "stablelm2"],
        patterns: &[QWEN2],
        whole_words: false,
        add_bos: false,
    },
];

impl PreTokenizer {
    /// The one that the metadata name; SentencePiece has none, whatever they name.
    pub(super) fn from_metadata(metadata: &Metadata, spelling: Spelling) -> Result<Self, Error> {
        let name = match spelling {
            Spelling::Spm => "default",
            Spelling::Bpe => match metadata.str("tokenizer.ggml.pre")? {
                Some(name) if !name.is_empty() => name,
                _ => {
                    tracing::warn!(
                        "tokenizer.ggml.pre is missing: text may be cut differently than in training"
                    );
                    "default"
                }
            },
        };
        let Some(rule) = RULES.iter().find(|rule| rule.names.contains(&name)) else {
            let names: Vec<_> = RULES.iter().flat_map(|rule| rule.names).copied().collect();
            return Err(Error::PreTokenizer {
                found: name.to_owned(),
                supported: names.join(", "),
            });
        };
        let compile = |&(pattern, ends): &Pattern| Ok((Regex::new(pattern)?, ends));
        let cuts: Result<_, regex::Error> = rule.patterns.iter().map(compile).collect();
        let cuts = cuts.map_err(|error| Error::Build { reason: error.to_string() })?;
        Ok(Self { rule, cuts })
    }

    pub(super) fn whole_words(&self) -> bool {
        self.rule.whole_words
    }

    pub(super) fn adds_bos(&self) -> bool {
        self.rule.add_bos
    }

    /// The words of `text`; together they are all of it.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for (pattern, line_ends) in &self.cuts {
            let mut finer = Vec::new();
            pieces.into_iter().for_each(|piece| split_by(pattern, *line_ends, piece, &mut finer));
            pieces = finer;
        }
        pieces
    }
}

/// Cuts `text` into matches and what is between them.
fn split_by<'a>(pattern: &Regex, line_ends: LineEnds, text: &'a str, to: &mut Vec<&'a str>) {
    let mut done = 0;
    while let Some(found) = pattern.find_at(text, done) {
        if found.start() > done {
            to.push(&text[done..found.start()]);
        }
        let end = shorten(text, found.start(), found.end(), line_ends);
        to.push(&text[found.start()..end]);
        done = end;
    }
    if done < text.len() {
        to.push(&text[done..]);
    }
}

/// White space before a word gives its last character to that word.
///
/// This is `\s+(?!\S)|\s+`, which needs no backtracking this way, so that a prompt of many
/// spaces takes no more than linear time.
fn shorten(text: &str, start: usize, end: usize, line_ends: LineEnds) -> usize {
    let found = &text[start..end];
    let last = found.chars().next_back().map_or(0, char::len_utf8);
    let spaces = found.chars().all(char::is_whitespace);
    let whole = line_ends == LineEnds::Whole && found.ends_with(['\r', '\n']);
    if spaces && !whole && end < text.len() && found.len() > last { end - last } else { end }
}
