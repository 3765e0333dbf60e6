//! Cuts text into words before BPE, as each model wants it.

use super::Error;
use super::patterns::{self as p, Alternative};
use super::vocab::Spelling;
use crate::gguf::Metadata;

/// Cuts text into words, inside of which BPE merges; `tokenizer.ggml.pre` names one.
#[derive(Clone, Copy, Debug)]
pub(super) struct PreTokenizer(&'static Rule);

/// One way of cutting, and the models' names for it.
#[derive(Debug)]
struct Rule {
    names: &'static [&'static str],
    /// Applied one after the other, each to the pieces that the one before left.
    steps: &'static [Step],
    whole: Whole,
    add_bos: bool,
}

/// One pass over the pieces of a text.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// Cuts out what the first alternative matches that matches anything.
    Words(&'static [Alternative]),
    /// Cuts off white space at the end: `\s+$`.
    SpaceAtEnd,
    /// Cuts numbers into groups of three from their end, as people write them. Which characters are
    /// digits there is known for each rule.
    Threes(fn(char) -> bool),
}

/// Which words that are tokens are those tokens, whatever merges would make of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whole {
    None,
    /// Line feeds alone.
    LineFeeds,
    All,
}

const GPT2: Step = Step::Words(&[
    p::contraction,
    p::spaced_letters,
    p::spaced_numbers,
    p::spaced_others,
    p::spaces,
]);
const NUMBER: Step = Step::Words(&[p::number]);
const THREE_NUMBERS: Step = Step::Words(&[p::three_numbers]);
const LLAMA3: Step = Step::Words(&[
    p::any_contraction,
    p::led_letters,
    p::three_numbers,
    p::others_to_line_end,
    p::line_ends,
    p::spaces,
]);
const QWEN2: Step = Step::Words(&[
    p::any_contraction,
    p::led_letters,
    p::number,
    p::others_to_line_end,
    p::line_ends,
    p::spaces,
]);
const GPT4O: &[Step] = &[Step::Words(&[
    p::cased_letters_contracted,
    p::three_numbers,
    p::others_to_slash,
    p::line_ends,
    p::spaces,
])];
const DEEPSEEK3: &[Step] = &[
    THREE_NUMBERS,
    Step::Words(&[p::han_and_kana]),
    Step::Words(&[p::ascii_word, p::deepseek_letters, p::deepseek_others, p::line_ends, p::spaces]),
];

/// A rule that looks at merges alone and begins no sequence.
const fn rule(names: &'static [&'static str], steps: &'static [Step]) -> Rule {
    Rule { names, steps, whole: Whole::None, add_bos: false }
}

impl Rule {
    const fn whole(mut self, whole: Whole) -> Self {
        self.whole = whole;
        self
    }

    const fn adds_bos(mut self) -> Self {
        self.add_bos = true;
        self
    }
}

/// What `tokenizer.ggml.model` names in place of `tokenizer.ggml.pre`.
const GEMMA4: &str = "gemma4";
const DEFAULT: &str = "default";

const RULES: &[Rule] = &[
    rule(
        &[DEFAULT],
        &[
            Step::Words(&[p::default_marks]),
            GPT2,
            Step::Words(&[p::numbers]),
            Step::Words(&[p::three_digits]),
        ],
    ),
    rule(
        &[
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
            "exaone4",
        ],
        &[GPT2],
    ),
    rule(
        &[
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
        &[LLAMA3],
    )
    .whole(Whole::All)
    .adds_bos(),
    rule(&["dbrx", "smaug-bpe", "chatglm-bpe"], &[LLAMA3]),
    rule(&["glm4", "glm5"], &[LLAMA3]).whole(Whole::All),
    rule(
        &[
            "smollm",
            "starcoder",
            "refact",
            "command-r",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[NUMBER, GPT2],
    ),
    rule(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "kormo",
            "f2llmv2",
            "stablelm2",
            "megrez",
            "hunyuan",
            "solar-open",
            "grok-2",
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        &[QWEN2],
    ),
    rule(
        &["qwen35"],
        &[Step::Words(&[
            p::any_contraction,
            p::led_letters_and_marks,
            p::number,
            p::unmarked_others_to_line_end,
            p::line_ends,
            p::spaces,
        ])],
    ),
    rule(
        &["tekken"],
        &[Step::Words(&[p::cased_letters, p::number, p::others_to_slash, p::line_ends, p::spaces])],
    )
    .whole(Whole::All)
    .adds_bos(),
    rule(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], GPT4O),
    rule(
        &["deepseek-llm"],
        &[
            Step::Words(&[p::line_end]),
            Step::Words(&[p::deepseek_llm_letters]),
            Step::Words(&[p::deepseek_llm_marks]),
            Step::SpaceAtEnd,
            Step::Words(&[p::deepseek_scripts]),
            Step::Words(&[p::numbers]),
        ],
    ),
    rule(
        &["deepseek-coder"],
        &[
            Step::Words(&[p::line_end]),
            Step::Words(&[p::any_spaced_letters]),
            Step::Words(&[p::any_spaced_marks]),
            Step::Words(&[p::deepseek_scripts]),
            NUMBER,
        ],
    ),
    rule(&["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"], DEEPSEEK3),
    rule(
        &["seed-coder"],
        &[Step::Words(&[
            p::any_contraction,
            p::led_letters,
            p::number,
            p::spaced_others,
            p::line_ends,
            p::spaces,
        ])],
    ),
    rule(
        &["exaone-moe"],
        &[Step::Words(&[
            p::any_contraction,
            p::led_letters_with_spaces,
            p::number,
            p::others_to_one_slash,
            p::line_ends,
            p::spaces,
        ])],
    ),
    rule(
        &["minicpm5"],
        &[
            THREE_NUMBERS,
            Step::Words(&[
                p::any_contraction,
                p::led_letters,
                p::numbers,
                p::others_to_line_end,
                p::line_ends,
                p::spaces,
            ]),
        ],
    )
    .whole(Whole::All),
    rule(
        &["ufakzeka"],
        &[Step::Words(&[
            p::led_letters,
            p::number,
            p::others_to_line_end,
            p::line_ends,
            p::spaces,
        ])],
    ),
    rule(
        &["jais-2"],
        &[Step::Words(&[
            p::any_contraction,
            p::led_letters,
            p::three_numbers,
            p::others_to_line_end,
            p::line_ends,
            p::halved_spaces,
        ])],
    ),
    rule(
        &["kimi-k2"],
        &[Step::Words(&[
            p::han,
            p::led_letters_but_han,
            p::three_numbers,
            p::others_to_line_end,
            p::line_ends,
            p::spaces,
        ])],
    ),
    rule(&["laguna"], &[Step::Words(&[p::line, p::line_feeds]), QWEN2]),
    rule(&["superbpe"], &[Step::Words(&[p::numbers]), Step::Threes(|c| c.is_ascii_digit())]),
    rule(
        &["chameleon"],
        &[
            Step::Words(&[p::sentinel]),
            Step::Words(&[p::image_token]),
            Step::Words(&[p::tab_or_line_feed, p::four_spaces, p::two_spaces]),
            NUMBER,
            Step::Words(&[p::chameleon_mark]),
            GPT2,
        ],
    ),
    rule(&["falcon"], &[Step::Words(&[p::falcon_marks]), GPT2, Step::Words(&[p::three_digits])]),
    rule(&["bloom", "gpt3-finnish", "poro-chat"], &[Step::Words(&[p::bloom_word])]),
    rule(&["viking"], &[Step::Words(&[p::bloom_word]), NUMBER]),
    rule(&[GEMMA4], &[Step::Words(&[p::line, p::line_feeds])]).whole(Whole::LineFeeds).adds_bos(),
];

impl PreTokenizer {
    /// The one that the metadata name; SentencePiece has none, whatever they name.
    pub(super) fn from_metadata(metadata: &Metadata, spelling: Spelling) -> Result<Self, Error> {
        let name = match spelling {
            Spelling::Spm | Spelling::WordPiece => DEFAULT,
            Spelling::Raw => GEMMA4,
            Spelling::Bpe => match metadata.str("tokenizer.ggml.pre")? {
                Some(name) if !name.is_empty() => name,
                _ => {
                    tracing::warn!(
                        "tokenizer.ggml.pre is missing: text may be cut differently than in training"
                    );
                    DEFAULT
                }
            },
        };
        // Its vocabulary is spelled otherwise, which another key says.
        let mut rules =
            RULES.iter().filter(|rule| spelling == Spelling::Raw || !rule.names.contains(&GEMMA4));
        match rules.clone().find(|rule| rule.names.contains(&name)) {
            Some(rule) => Ok(Self(rule)),
            None => {
                let names: Vec<_> = rules.by_ref().flat_map(|rule| rule.names).copied().collect();
                let (found, supported) = (name.to_owned(), names.join(", "));
                Err(Error::PreTokenizer { found, supported })
            }
        }
    }

    /// Whether a word that is a token is that token, whatever merges would make of it.
    pub(super) fn is_whole(self, word: &str) -> bool {
        match self.0.whole {
            Whole::None => false,
            Whole::LineFeeds => word.bytes().all(|byte| byte == b'\n'),
            Whole::All => true,
        }
    }

    pub(super) fn adds_bos(self) -> bool {
        self.0.add_bos
    }

    /// The words of `text`; together they are all of it.
    pub(super) fn split<'a>(&self, text: &'a str) -> Vec<&'a str> {
        let mut pieces = vec![text];
        for step in self.0.steps {
            let mut finer = Vec::new();
            for piece in pieces {
                match step {
                    Step::Words(alternatives) => cut(alternatives, piece, &mut finer),
                    Step::SpaceAtEnd => {
                        let end = piece.trim_end_matches(p::is_space).len();
                        let (front, back) = piece.split_at(end);
                        finer.extend([front, back].into_iter().filter(|part| !part.is_empty()));
                    }
                    Step::Threes(is_digit) => cut_in_threes(*is_digit, piece, &mut finer),
                }
            }
            pieces = finer;
        }
        pieces
    }
}

/// Cuts `text` into matches and what is between them.
fn cut<'a>(alternatives: &[Alternative], text: &'a str, to: &mut Vec<&'a str>) {
    let (mut done, mut at) = (0, 0);
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        match alternatives.iter().map(|matches| matches(rest)).find(|end| *end > 0) {
            None => at += c.len_utf8(),
            Some(end) => {
                if at > done {
                    to.push(&text[done..at]);
                }
                to.push(&rest[..end]);
                at += end;
                done = at;
            }
        }
    }
    if done < text.len() {
        to.push(&text[done..]);
    }
}

/// Cuts each number of `text` into groups of three digits from its end, and off what is in front of it.
fn cut_in_threes<'a>(is_digit: fn(char) -> bool, text: &'a str, to: &mut Vec<&'a str>) {
    let mut rest = text;
    while !rest.is_empty() {
        let (before, number) = rest.split_at(rest.find(is_digit).unwrap_or(rest.len()));
        let (number, behind) =
            number.split_at(number.find(|c| !is_digit(c)).unwrap_or(number.len()));
        to.extend(Some(before).filter(|it| !it.is_empty()));
        let mut left = number.chars().count();
        let mut digits = number;
        while left > 0 {
            let group = if left % 3 == 0 { 3 } else { left % 3 };
            let end = digits.char_indices().nth(group).map_or(digits.len(), |(end, _)| end);
            let (first, others) = digits.split_at(end);
            to.push(first);
            (digits, left) = (others, left - group);
        }
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'a>(name: &str, text: &'a str) -> Vec<&'a str> {
        let rule = RULES.iter().find(|rule| rule.names.contains(&name)).unwrap();
        PreTokenizer(rule).split(text)
    }

    /// Compared with llama.cpp on thousands of random texts; these show what is special.
    #[test]
    fn white_space_of_jais_is_halved() {
        let spaces = " ".repeat(23);
        let pieces: Vec<_> = words("jais-2", &spaces).iter().map(|word| word.len()).collect();
        assert_eq!(pieces, [16, 4, 2, 1]);
        // The last one is the word's.
        assert_eq!(words("jais-2", "a     b"), ["a", "    ", " b"]);
        assert_eq!(words("jais-2", "a   .b's 1234"), ["a", "  ", " .", "b", "'s", " ", "123", "4"]);
        let long = " ".repeat(1100);
        let pieces: Vec<_> = words("jais-2", &long).iter().map(|word| word.len()).collect();
        assert_eq!(pieces, [512, 512, 64, 8, 4]);
    }

    #[test]
    fn ideographs_of_kimi_are_words_by_themselves() {
        assert_eq!(words("kimi-k2", "a中文b's"), ["a", "中文", "b's"]);
        assert_eq!(
            words("kimi-k2", "(中 あ文don'T 12345"),
            ["(", "中", " あ", "文", "don'T", " ", "123", "45"]
        );
    }
}
