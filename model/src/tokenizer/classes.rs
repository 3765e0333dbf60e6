//! Classes of characters, by which text is cut into words.

use std::sync::LazyLock;

use regex_syntax::hir::{Class as Set, HirKind};

/// The class of a character: its general category, but for white space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    Letter,
    Mark,
    Number,
    Punctuation,
    Symbol,
    Space,
    Other,
}

/// The class that a character has in llama.cpp, whose tables are of Unicode 15.1. What was assigned
/// since is [`Class::Other`], as what was never assigned.
pub(super) fn class(c: char) -> Class {
    match u32::from(c) {
        code @ 0..=127 => CLASSES.ascii[code as usize],
        _ => look_up(&CLASSES.ranges, c).unwrap_or(Class::Other),
    }
}

/// Letters that the first tokenizer of DeepSeek lists: cased ones of most scripts.
pub(super) fn is_deepseek_letter(c: char) -> bool {
    look_up(&DEEPSEEK, c).is_some()
}

struct Classes {
    ascii: [Class; 128],
    /// First and last characters of ranges in order, with what they are.
    ranges: Vec<(char, char, Class)>,
}

static CLASSES: LazyLock<Classes> = LazyLock::new(|| {
    let mut ranges = Vec::new();
    for (class, pattern) in [
        (Class::Space, r"\s"),
        (Class::Letter, r"[\p{L}&&\p{age=15.1}]"),
        (Class::Mark, r"[\p{M}&&\p{age=15.1}]"),
        (Class::Number, r"[\p{N}&&\p{age=15.1}]"),
        (Class::Punctuation, r"[\p{P}&&\p{age=15.1}]"),
        (Class::Symbol, r"[\p{S}&&\p{age=15.1}]"),
    ] {
        ranges.extend(ranges_of(pattern).map(|(start, end)| (start, end, class)));
    }
    ranges.sort_unstable_by_key(|(start, ..)| *start);
    let ascii = std::array::from_fn(|code| {
        let c = u8::try_from(code).map_or('\0', char::from);
        look_up(&ranges, c).unwrap_or(Class::Other)
    });
    Classes { ascii, ranges }
});

/// First and last characters of the ranges that the tokenizer of the model lists.
const DEEPSEEK: [(char, char, ()); 87] = [
    ('A', 'Z', ()),
    ('a', 'z', ()),
    ('\u{b5}', '\u{b5}', ()),
    ('\u{c0}', '\u{d6}', ()),
    ('\u{d8}', '\u{f6}', ()),
    ('\u{f8}', '\u{1ba}', ()),
    ('\u{1bc}', '\u{1bf}', ()),
    ('\u{1c4}', '\u{293}', ()),
    ('\u{295}', '\u{2af}', ()),
    ('\u{370}', '\u{373}', ()),
    ('\u{376}', '\u{376}', ()),
    ('\u{377}', '\u{377}', ()),
    ('\u{37b}', '\u{37d}', ()),
    ('\u{37f}', '\u{37f}', ()),
    ('\u{386}', '\u{386}', ()),
    ('\u{388}', '\u{38a}', ()),
    ('\u{38c}', '\u{38c}', ()),
    ('\u{38e}', '\u{3a1}', ()),
    ('\u{3a3}', '\u{3f5}', ()),
    ('\u{3f7}', '\u{481}', ()),
    ('\u{48a}', '\u{52f}', ()),
    ('\u{531}', '\u{556}', ()),
    ('\u{10a0}', '\u{10c5}', ()),
    ('\u{13a0}', '\u{13f5}', ()),
    ('\u{13f8}', '\u{13fd}', ()),
    ('\u{1c90}', '\u{1cba}', ()),
    ('\u{1cbd}', '\u{1cbf}', ()),
    ('\u{1d00}', '\u{1d2b}', ()),
    ('\u{1d6b}', '\u{1d77}', ()),
    ('\u{1d79}', '\u{1d9a}', ()),
    ('\u{1e00}', '\u{1f15}', ()),
    ('\u{1f18}', '\u{1f1d}', ()),
    ('\u{1f20}', '\u{1f45}', ()),
    ('\u{1f48}', '\u{1f4d}', ()),
    ('\u{1f50}', '\u{1f57}', ()),
    ('\u{1f59}', '\u{1f59}', ()),
    ('\u{1f5b}', '\u{1f5b}', ()),
    ('\u{1f5d}', '\u{1f5d}', ()),
    ('\u{1f5f}', '\u{1f7d}', ()),
    ('\u{1f80}', '\u{1fb4}', ()),
    ('\u{1fb6}', '\u{1fbc}', ()),
    ('\u{1fbe}', '\u{1fbe}', ()),
    ('\u{1fc2}', '\u{1fc4}', ()),
    ('\u{1fc6}', '\u{1fcc}', ()),
    ('\u{1fd0}', '\u{1fd3}', ()),
    ('\u{1fd6}', '\u{1fdb}', ()),
    ('\u{1fe0}', '\u{1fec}', ()),
    ('\u{1ff2}', '\u{1ff4}', ()),
    ('\u{1ff6}', '\u{1ffc}', ()),
    ('\u{2102}', '\u{2102}', ()),
    ('\u{2107}', '\u{2107}', ()),
    ('\u{210a}', '\u{2113}', ()),
    ('\u{2115}', '\u{2115}', ()),
    ('\u{2119}', '\u{211d}', ()),
    ('\u{2124}', '\u{2124}', ()),
    ('\u{2126}', '\u{2126}', ()),
    ('\u{2128}', '\u{2128}', ()),
    ('\u{212a}', '\u{212d}', ()),
    ('\u{212f}', '\u{2134}', ()),
    ('\u{2139}', '\u{2139}', ()),
    ('\u{213c}', '\u{213f}', ()),
    ('\u{2145}', '\u{2149}', ()),
    ('\u{214e}', '\u{214e}', ()),
    ('\u{2183}', '\u{2183}', ()),
    ('\u{2184}', '\u{2184}', ()),
    ('\u{2c00}', '\u{2c7b}', ()),
    ('\u{2c7e}', '\u{2ce4}', ()),
    ('\u{2ceb}', '\u{2cee}', ()),
    ('\u{2cf2}', '\u{2cf2}', ()),
    ('\u{2cf3}', '\u{2cf3}', ()),
    ('\u{a640}', '\u{a66d}', ()),
    ('\u{a680}', '\u{a69b}', ()),
    ('\u{a722}', '\u{a76f}', ()),
    ('\u{a771}', '\u{a787}', ()),
    ('\u{a78b}', '\u{a78e}', ()),
    ('\u{ab70}', '\u{abbf}', ()),
    ('\u{fb00}', '\u{fb06}', ()),
    ('\u{fb13}', '\u{fb17}', ()),
    ('\u{ff21}', '\u{ff3a}', ()),
    ('\u{ff41}', '\u{ff5a}', ()),
    ('\u{10400}', '\u{1044f}', ()),
    ('\u{104b0}', '\u{104d3}', ()),
    ('\u{104d8}', '\u{104fb}', ()),
    ('\u{10c80}', '\u{10cb2}', ()),
    ('\u{10cc0}', '\u{10cf2}', ()),
    ('\u{118a0}', '\u{118df}', ()),
    ('\u{1e900}', '\u{1e943}', ()),
];

/// The characters that a class of a regular expression has.
pub(super) fn ranges_of(pattern: &str) -> impl Iterator<Item = (char, char)> {
    let ranges = match regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Set::Unicode(set))) => set.ranges().to_vec(),
        // The patterns stand above, and a test has all of them.
        _ => Vec::new(),
    };
    ranges.into_iter().map(|range| (range.start(), range.end()))
}

fn look_up<T: Copy>(ranges: &[(char, char, T)], c: char) -> Option<T> {
    let after = ranges.partition_point(|(start, ..)| *start <= c);
    let (_, end, found) = ranges.get(after.checked_sub(1)?)?;
    (c <= *end).then_some(*found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_the_classes_of_unicode_15_1() {
        let cases = [
            ('a', Class::Letter),
            ('日', Class::Letter),
            ('\u{2ebf0}', Class::Letter),
            ('\u{301}', Class::Mark),
            ('½', Class::Number),
            ('_', Class::Punctuation),
            ('$', Class::Symbol),
            ('🦙', Class::Symbol),
            ('\u{3000}', Class::Space),
            ('\u{85}', Class::Space),
            ('\u{b}', Class::Space),
            ('\u{1c}', Class::Other),
            ('\u{200b}', Class::Other),
            // A letter of Unicode 16.
            ('\u{10d4a}', Class::Other),
        ];
        for (c, expected) in cases {
            assert_eq!(class(c), expected, "{c:?}");
        }
        let count = |wanted| ('\0'..=char::MAX).filter(|c| class(*c) == wanted).count();
        // As llama.cpp's tables count them.
        for (class, expected) in [
            (Class::Space, 25),
            (Class::Letter, 136_726),
            (Class::Mark, 2450),
            (Class::Number, 1831),
            (Class::Punctuation, 842),
            (Class::Symbol, 7775),
        ] {
            assert_eq!(count(class), expected, "{class:?}");
        }
        assert_eq!(('\0'..=char::MAX).filter(|c| is_deepseek_letter(*c)).count(), 2729);
    }
}
