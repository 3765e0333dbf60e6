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

/// Ranges of characters in order, ends included, with what they are.
type Ranges<T> = Vec<(char, char, T)>;

struct Classes {
    ascii: [Class; 128],
    ranges: Ranges<Class>,
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

static DEEPSEEK: LazyLock<Ranges<()>> = LazyLock::new(|| {
    let pattern = "[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]";
    ranges_of(pattern).map(|(start, end)| (start, end, ())).collect()
});

/// The characters that a class of a regular expression has.
fn ranges_of(pattern: &str) -> impl Iterator<Item = (char, char)> {
    let ranges = match regex_syntax::parse(pattern).map(regex_syntax::hir::Hir::into_kind) {
        Ok(HirKind::Class(Set::Unicode(set))) => set.ranges().to_vec(),
        // The patterns stand above, and a test has all of them.
        _ => Vec::new(),
    };
    ranges.into_iter().map(|range| (range.start(), range.end()))
}

fn look_up<T: Copy>(ranges: &Ranges<T>, c: char) -> Option<T> {
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
        assert_eq!(count(Class::Space), 25);
        assert_eq!(count(Class::Number), 1831 + 80);
        let (x, letters) = (1, ('\0'..=char::MAX).filter(|c| is_deepseek_letter(*c)).count());
        assert_eq!((letters, x), (2729, 1));
    }
}
