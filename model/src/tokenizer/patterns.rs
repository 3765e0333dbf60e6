//! What words look like: the alternatives of pre-tokenizers, each as a function.
//!
//! An alternative tells how many bytes at the start of a text it matches, 0 if none. They match what the
//! regular expressions of models match, greedily and in their order, but need no compiling (which took
//! longer than all else that a prompt needs) and take linear time.
//! Where llama.cpp cuts otherwise than the model's own expression, this follows llama.cpp.

use super::classes::{Class, class, is_deepseek_letter};

/// Matches the start of a text: gives the bytes, or 0.
pub(super) type Alternative = fn(&str) -> usize;

/// ` ?\p{L}+`
pub(super) fn spaced_letters(text: &str) -> usize {
    spaced(text, is_letter)
}

/// ` ?\p{N}+`
pub(super) fn spaced_numbers(text: &str) -> usize {
    spaced(text, is_number)
}

/// ` ?[^\s\p{L}\p{N}]+`
pub(super) fn spaced_others(text: &str) -> usize {
    spaced(text, is_other)
}

/// `[^\r\n\p{L}\p{N}]?\p{L}+`
pub(super) fn led_letters(text: &str) -> usize {
    led(text, is_lead, |rest| run(rest, is_letter))
}

/// `[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`
pub(super) fn led_letters_and_marks(text: &str) -> usize {
    led(text, is_lead, |rest| run(rest, is_letter_or_mark))
}

/// `[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`
pub(super) fn deepseek_letters(text: &str) -> usize {
    let lead = |c| {
        let is_known = matches!(class(c), Class::Letter | Class::Punctuation | Class::Symbol);
        !is_known && !is_line_end(c)
    };
    led(text, lead, |rest| run(rest, is_letter_or_mark))
}

/// `[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`
pub(super) fn led_letters_with_spaces(text: &str) -> usize {
    led(text, is_lead, |rest| {
        let word = |rest: &str| match one(rest, is_letter) {
            0 => 0,
            letter => letter + run(&rest[letter..], |c| class(c) == Class::Mark),
        };
        let mut end = word(rest);
        while end > 0 {
            let space = usize::from(rest[end..].starts_with(' '));
            let more = word(&rest[end + space..]);
            if more == 0 {
                break;
            }
            end += space + more;
        }
        end
    })
}

/// Letters that are no capitals of ASCII end a word, and letters that are no small ones of it
/// begin one: `[^\r\n\p{L}\p{N}]?U*V+|[^\r\n\p{L}\p{N}]?U+V*`.
pub(super) fn cased_letters(text: &str) -> usize {
    led(text, is_lead, cased)
}

/// A word of [`cased_letters`], with `'s` and the like behind it.
pub(super) fn cased_letters_contracted(text: &str) -> usize {
    match cased_letters(text) {
        0 => 0,
        end => end + any_contraction(&text[end..]),
    }
}

/// `\p{N}`
pub(super) fn number(text: &str) -> usize {
    one(text, is_number)
}

/// `\p{N}+`
pub(super) fn numbers(text: &str) -> usize {
    run(text, is_number)
}

/// `\p{N}{1,3}`
pub(super) fn three_numbers(text: &str) -> usize {
    text.chars().take(3).take_while(|c| is_number(*c)).map(char::len_utf8).sum()
}

/// `[0-9][0-9][0-9]`
pub(super) fn three_digits(text: &str) -> usize {
    let digits = text.bytes().take(3).take_while(u8::is_ascii_digit).count();
    if digits == 3 { 3 } else { 0 }
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n]*`
pub(super) fn others_to_line_end(text: &str) -> usize {
    followed(text, spaced_others(text), is_line_end)
}

/// ` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*`
pub(super) fn unmarked_others_to_line_end(text: &str) -> usize {
    let end = spaced(text, |c| is_other(c) && class(c) != Class::Mark);
    followed(text, end, is_line_end)
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n/]*`
pub(super) fn others_to_slash(text: &str) -> usize {
    followed(text, spaced_others(text), |c| is_line_end(c) || c == '/')
}

/// ` ?[^\s\p{L}\p{N}]+[\r\n/]?`
pub(super) fn others_to_one_slash(text: &str) -> usize {
    match spaced_others(text) {
        0 => 0,
        end => end + one(&text[end..], |c| is_line_end(c) || c == '/'),
    }
}

/// ` ?[\p{P}\p{S}]+[\r\n]*`
pub(super) fn deepseek_others(text: &str) -> usize {
    let end = spaced(text, |c| matches!(class(c), Class::Punctuation | Class::Symbol));
    followed(text, end, is_line_end)
}

/// A punctuation mark or symbol of ASCII, and letters of ASCII: `[!-/:-@\[-`{-~][A-Za-z]+`.
pub(super) fn ascii_word(text: &str) -> usize {
    match one(text, |c| c.is_ascii_punctuation()) {
        0 => 0,
        mark => match run(&text[mark..], |c| c.is_ascii_alphabetic()) {
            0 => 0,
            letters => mark + letters,
        },
    }
}

/// `\s*[\r\n]+`
pub(super) fn line_ends(text: &str) -> usize {
    let spaces = &text[..run(text, is_space)];
    spaces.rfind(is_line_end).map_or(0, |last| last + 1)
}

/// `\s+(?!\S)|\s+`: white space before a word gives its last character to that word.
pub(super) fn spaces(text: &str) -> usize {
    let end = run(text, is_space);
    let last = text[..end].chars().next_back().map_or(0, char::len_utf8);
    if end < text.len() && end > last { end - last } else { end }
}

/// `\s{512}(?!\S)|\s{256}(?!\S)|...|\s{4}(?!\S)|\s{1,2}(?!\S)|\s{1}`: white space in pieces whose
/// lengths are powers of two, the last character of it going to the word behind.
pub(super) fn halved_spaces(text: &str) -> usize {
    // No more than one beyond the longest piece is looked at.
    let ends = |(at, c): (usize, char)| at + c.len_utf8();
    let spaces = text.char_indices().take_while(|(_, c)| is_space(*c));
    let ends: Vec<_> = spaces.take(513).map(ends).collect();
    let fits = |count: usize| match ends.get(count - 1) {
        Some(end) => ends.len() > count || *end == text.len(),
        None => false,
    };
    let count = [512, 256, 128, 64, 32, 16, 8, 4, 2].into_iter().find(|count| fits(*count));
    count.or(Some(1)).and_then(|count| ends.get(count - 1)).copied().unwrap_or(0)
}

/// `\p{Han}+`
pub(super) fn han(text: &str) -> usize {
    run(text, is_han)
}

/// `[^\r\n\p{L}\p{N}]?[\p{L}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?`
pub(super) fn led_letters_but_han(text: &str) -> usize {
    match led(text, is_lead, |rest| run(rest, |c| is_letter(c) && !is_han(c))) {
        0 => 0,
        end => end + any_contraction(&text[end..]),
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d`
pub(super) fn contraction(text: &str) -> usize {
    contraction_of(text, |byte| byte)
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)`
pub(super) fn any_contraction(text: &str) -> usize {
    contraction_of(text, |byte| byte.to_ascii_lowercase())
}

/// ``[\p{P}$+<=>^~|]+``
pub(super) fn default_marks(text: &str) -> usize {
    run(text, |c| class(c) == Class::Punctuation || "$+<=>^~|".contains(c))
}

/// ``[\p{P}$+<=>^~|`]+``
pub(super) fn falcon_marks(text: &str) -> usize {
    run(text, |c| class(c) == Class::Punctuation || "$+<=>^~|`".contains(c))
}

/// ` ?[^(\s|.,!?…。，、।۔،)]+`
pub(super) fn bloom_word(text: &str) -> usize {
    spaced(text, |c| !is_space(c) && !"(|.,!?…。，、।۔،)".contains(c))
}

/// `[\r\n]`
pub(super) fn line_end(text: &str) -> usize {
    one(text, is_line_end)
}

/// `\s?` and the letters of DeepSeek's first tokenizer.
pub(super) fn deepseek_llm_letters(text: &str) -> usize {
    after_any_space(text, is_deepseek_letter)
}

/// `\s?[!-/:-~！-／：-～‘-‟　-。]+`, but for the ideographic space, which is white space alone.
pub(super) fn deepseek_llm_marks(text: &str) -> usize {
    after_any_space(
        text,
        |c| matches!(c, '!'..='/' | ':'..='~' | '！'..='／' | '：'..='～' | '‘'..='‟' | '、'..='。'),
    )
}

/// `\s?\p{L}+`
pub(super) fn any_spaced_letters(text: &str) -> usize {
    after_any_space(text, is_letter)
}

/// `\s?\p{P}+`
pub(super) fn any_spaced_marks(text: &str) -> usize {
    after_any_space(text, |c| class(c) == Class::Punctuation)
}

/// `[一-龥ࠀ-一가-퟿]+`, but for white space.
pub(super) fn deepseek_scripts(text: &str) -> usize {
    run(text, |c| matches!(c, '\u{800}'..='龥' | '가'..='\u{d7ff}') && !is_space(c))
}

/// `[一-龥぀-ゟ゠-ヿ]+`
pub(super) fn han_and_kana(text: &str) -> usize {
    run(text, |c| matches!(c, '一'..='龥' | '\u{3040}'..='\u{30ff}'))
}

/// `<sentinel:[0-9]+>`
pub(super) fn sentinel(text: &str) -> usize {
    let start = "<sentinel:";
    let Some(rest) = text.strip_prefix(start) else { return 0 };
    match run(rest, |c| c.is_ascii_digit()) {
        0 => 0,
        digits if rest[digits..].starts_with('>') => start.len() + digits + 1,
        _ => 0,
    }
}

/// `(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z`
pub(super) fn image_token(text: &str) -> usize {
    let start = "IMGIMG";
    let Some(rest) = text.strip_prefix(start) else { return 0 };
    match run(rest, |c| matches!(c, 'A'..='I')) {
        letters @ 1..=4 if rest[letters..].starts_with('Z') => start.len() + letters + 1,
        _ => 0,
    }
}

/// `[\t\n]`
pub(super) fn tab_or_line_feed(text: &str) -> usize {
    one(text, |c| c == '\t' || c == '\n')
}

/// Four spaces.
pub(super) fn four_spaces(text: &str) -> usize {
    if text.starts_with("    ") { 4 } else { 0 }
}

/// Two spaces.
pub(super) fn two_spaces(text: &str) -> usize {
    if text.starts_with("  ") { 2 } else { 0 }
}

/// `[\p{P}!-/:-@\[-`{-~]`
pub(super) fn chameleon_mark(text: &str) -> usize {
    one(text, |c| class(c) == Class::Punctuation || c.is_ascii_punctuation())
}

/// `[^\n]+`
pub(super) fn line(text: &str) -> usize {
    text.find('\n').unwrap_or(text.len())
}

/// `\n+`
pub(super) fn line_feeds(text: &str) -> usize {
    run(text, |c| c == '\n')
}

/// Bytes of the characters at the start that fit.
fn run(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.find(|c| !fits(c)).unwrap_or(text.len())
}

/// Bytes of the first character, if it fits.
fn one(text: &str, fits: impl Fn(char) -> bool) -> usize {
    text.chars().next().filter(|c| fits(*c)).map_or(0, char::len_utf8)
}

/// A run with a space before it, or without.
fn spaced(text: &str, fits: impl Fn(char) -> bool) -> usize {
    let space = usize::from(text.starts_with(' '));
    match run(&text[space..], &fits) {
        // A space may itself fit.
        0 => run(text, fits),
        end => space + end,
    }
}

/// A run with a character of white space before it, or without.
fn after_any_space(text: &str, fits: impl Fn(char) -> bool) -> usize {
    let space = one(text, is_space);
    match run(&text[space..], &fits) {
        0 => run(text, fits),
        end => space + end,
    }
}

/// A word with one character before it that may lead one, or without.
fn led(text: &str, may_lead: impl Fn(char) -> bool, word: impl Fn(&str) -> usize) -> usize {
    let lead = one(text, may_lead);
    match word(&text[lead..]) {
        0 if lead > 0 => word(text),
        0 => 0,
        end => lead + end,
    }
}

/// What was matched, and more characters behind it.
fn followed(text: &str, end: usize, fits: impl Fn(char) -> bool) -> usize {
    if end == 0 { 0 } else { end + run(&text[end..], fits) }
}

/// `U*V+|U+V*`, where `U` is no small letter of ASCII and `V` no capital of it.
fn cased(text: &str) -> usize {
    let begins = |c: char| is_letter(c) && !c.is_ascii_lowercase();
    let ends = |c: char| is_letter(c) && !c.is_ascii_uppercase();
    let first = run(text, begins);
    match run(&text[first..], ends) {
        0 => {
            // `V+` takes what `U*` gives back: up to the last letter that is both.
            let both = text[..first].rfind(ends);
            let len = |at: usize| text[at..].chars().next().map_or(0, char::len_utf8);
            both.map_or(first, |at| at + len(at))
        }
        second => first + second,
    }
}

fn contraction_of(text: &str, fold: impl Fn(u8) -> u8) -> usize {
    let [b'\'', rest @ ..] = text.as_bytes() else { return 0 };
    match (rest.first().copied().map(&fold), rest.get(1).copied().map(&fold)) {
        (Some(b's' | b't' | b'm' | b'd'), _) => 2,
        (Some(b'r' | b'v'), Some(b'e')) | (Some(b'l'), Some(b'l')) => 3,
        _ => 0,
    }
}

pub(super) fn is_space(c: char) -> bool {
    class(c) == Class::Space
}

/// What llama.cpp takes for Han: the ideographs of Unicode's blocks, assigned or not.
const fn is_han(c: char) -> bool {
    matches!(c,
        '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}'
        | '\u{20000}'..='\u{2a6df}'
        | '\u{2a700}'..='\u{2ebef}'
        | '\u{2f800}'..='\u{2fa1f}')
}

fn is_letter(c: char) -> bool {
    class(c) == Class::Letter
}

fn is_letter_or_mark(c: char) -> bool {
    matches!(class(c), Class::Letter | Class::Mark)
}

fn is_number(c: char) -> bool {
    class(c) == Class::Number
}

fn is_other(c: char) -> bool {
    !matches!(class(c), Class::Space | Class::Letter | Class::Number)
}

fn is_lead(c: char) -> bool {
    !is_line_end(c) && !matches!(class(c), Class::Letter | Class::Number)
}

fn is_line_end(c: char) -> bool {
    matches!(c, '\r' | '\n')
}
