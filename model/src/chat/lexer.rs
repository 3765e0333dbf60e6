//! Cuts a template into text and tags, and tags into tokens, as Jinja does with
//! `trim_blocks` and `lstrip_blocks`.

use std::sync::Arc;

use super::ast::Name;
use super::limits::{Result, Stop, TAG_TOKENS, fail};

/// Longest first, so that the first that fits is the right one.
const OPERATORS: [&str; 26] = [
    "**", "//", "==", "!=", ">=", "<=", "+", "-", "*", "/", "%", "~", "(", ")", "[", "]", "{", "}",
    ">", "<", "=", ".", ":", "|", ",", ";",
];

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    Name(Name),
    Str(String),
    Int(i64),
    Float(f64),
    Op(&'static str),
}

/// A tag with the text before it.
#[derive(Debug)]
pub(super) struct Segment<'a> {
    pub(super) text: &'a str,
    pub(super) tag: Tag,
    pub(super) line: u32,
}

#[derive(Debug)]
pub(super) enum Tag {
    Print(Vec<Token>),
    Block(Vec<Token>),
    /// A comment or the end of raw text: only the text before it counts.
    Nothing,
    End,
}

/// The rest of a template.
#[derive(Debug)]
pub(super) struct Lexer<'a> {
    source: &'a str,
    position: usize,
    counted: usize,
    line: u32,
    line_start: bool,
    raw: bool,
}

impl<'a> Lexer<'a> {
    /// `source` has line feeds only.
    pub(super) fn new(source: &'a str) -> Self {
        Self { source, position: 0, counted: 0, line: 1, line_start: true, raw: false }
    }

    pub(super) fn line(&mut self) -> u32 {
        let passed = &self.source.as_bytes()[self.counted..self.position];
        let lines = passed.iter().filter(|&&byte| byte == b'\n').count();
        self.line = self.line.saturating_add(u32::try_from(lines).unwrap_or(u32::MAX));
        self.counted = self.position;
        self.line
    }

    pub(super) fn next(&mut self) -> Result<Segment<'a>> {
        if std::mem::take(&mut self.raw) {
            return self.raw();
        }
        let rest = &self.source[self.position..];
        let Some((offset, kind)) = rest.match_indices('{').find_map(|(offset, _)| {
            let kind = *rest.as_bytes().get(offset + 1)?;
            matches!(kind, b'{' | b'%' | b'#').then_some((offset, kind))
        }) else {
            self.position = self.source.len();
            return Ok(Segment { text: rest, tag: Tag::End, line: self.line() });
        };
        self.position += offset + 2;
        let line = self.line();
        let sign = self.sign();
        let text = self.stripped(&rest[..offset], sign, kind != b'{');
        let tag = match kind {
            b'#' => self.comment().map(|()| Tag::Nothing),
            b'%' => self.tokens("%}").map(Tag::Block),
            _ => self.tokens("}}").map(Tag::Print),
        };
        let tag = tag.map_err(|stop| stop.at(line))?;
        if matches!(&tag, Tag::Block(tokens) if matches!(&tokens[..], [Token::Name(name)] if &**name == "raw"))
        {
            self.raw = true;
            return Ok(Segment { text, tag: Tag::Nothing, line });
        }
        if kind == b'%' && self.source.as_bytes()[self.position - 3] != b'+' {
            self.skip_newline();
        }
        self.line_start = self.position > 0 && self.source.as_bytes()[self.position - 1] == b'\n';
        Ok(Segment { text, tag, line })
    }

    /// `-` or `+` behind the beginning of a tag.
    fn sign(&mut self) -> Option<u8> {
        let sign = self.source.as_bytes().get(self.position).copied();
        let sign = sign.filter(|sign| matches!(sign, b'-' | b'+'));
        self.position += usize::from(sign.is_some());
        sign
    }

    /// Text before a tag without the white space that belongs to the tag.
    fn stripped(&self, text: &'a str, sign: Option<u8>, block: bool) -> &'a str {
        match sign {
            Some(b'-') => text.trim_end_matches(is_space),
            None if block => {
                let start = text.rfind('\n').map_or(0, |newline| newline + 1);
                let alone = text[start..].chars().all(is_space);
                if alone && (start > 0 || self.line_start) { &text[..start] } else { text }
            }
            _ => text,
        }
    }

    fn skip_newline(&mut self) {
        if self.source[self.position..].starts_with('\n') {
            self.position += 1;
        }
    }

    fn skip_space(&mut self) {
        let rest = &self.source[self.position..];
        self.position += rest.len() - rest.trim_start_matches(is_space).len();
    }

    fn comment(&mut self) -> Result<()> {
        let rest = &self.source[self.position..];
        let Some(end) = rest.find("#}") else { return fail("a comment has no end") };
        self.position += end + 2;
        match rest.as_bytes()[..end].last() {
            Some(b'-') => self.skip_space(),
            Some(b'+') => {}
            _ => self.skip_newline(),
        }
        Ok(())
    }

    /// Text up to `endraw`.
    fn raw(&mut self) -> Result<Segment<'a>> {
        let (line, start) = (self.line(), self.position);
        let rest = &self.source[start..];
        for (offset, _) in rest.match_indices("{%") {
            self.position = start + offset + 2;
            let sign = self.sign();
            self.skip_space();
            if !self.source[self.position..].starts_with("endraw") {
                continue;
            }
            self.position += "endraw".len();
            self.skip_space();
            let end = &self.source[self.position..];
            if let Some(length) =
                ["-%}", "+%}", "%}"].iter().find_map(|e| end.starts_with(e).then_some(e.len()))
            {
                self.position += length;
                match end.as_bytes()[0] {
                    b'-' => self.skip_space(),
                    b'+' => {}
                    _ => self.skip_newline(),
                }
                let before = &rest[..offset];
                self.line_start = false;
                let text = self.stripped(before, sign, true);
                self.line_start = self.source.as_bytes()[self.position - 1] == b'\n';
                return Ok(Segment { text, tag: Tag::Nothing, line });
            }
        }
        Err(Stop::failed("raw text has no endraw").at(line))
    }

    /// Tokens up to the end of the tag, and the white space that the end takes along.
    fn tokens(&mut self, end: &str) -> Result<Vec<Token>> {
        let mut tokens = Vec::new();
        let mut brackets = Vec::new();
        loop {
            self.skip_space();
            let rest = &self.source[self.position..];
            if brackets.is_empty() {
                if rest.starts_with('-') && rest[1..].starts_with(end) {
                    self.position += 1 + end.len();
                    self.skip_space();
                    return Ok(tokens);
                }
                let plus = end == "%}" && rest.starts_with('+') && rest[1..].starts_with(end);
                if plus || rest.starts_with(end) {
                    self.position += end.len() + usize::from(plus);
                    return Ok(tokens);
                }
            }
            if tokens.len() >= TAG_TOKENS {
                return Err(Stop::Limit { what: "tokens in one tag", limit: TAG_TOKENS });
            }
            let token = self.token()?;
            match token {
                Token::Op("(") => brackets.push(")"),
                Token::Op("[") => brackets.push("]"),
                Token::Op("{") => brackets.push("}"),
                Token::Op(close @ (")" | "]" | "}")) if brackets.pop() != Some(close) => {
                    return fail(format!("unexpected `{close}`"));
                }
                _ => {}
            }
            tokens.push(token);
        }
    }

    fn token(&mut self) -> Result<Token> {
        let rest = &self.source[self.position..];
        let Some(first) = rest.chars().next() else { return fail("a tag has no end") };
        if first.is_alphabetic() || first == '_' {
            let length =
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            self.position += length;
            return Ok(Token::Name(Arc::from(&rest[..length])));
        }
        if first.is_ascii_digit() {
            return self.number();
        }
        if first == '\'' || first == '"' {
            return self.string(first);
        }
        match OPERATORS.iter().find(|operator| rest.starts_with(**operator)) {
            Some(operator) => {
                self.position += operator.len();
                Ok(Token::Op(operator))
            }
            None => fail(format!("unexpected character {first:?}")),
        }
    }

    fn number(&mut self) -> Result<Token> {
        let rest = &self.source[self.position..];
        let digits = |from: usize, radix: u32| {
            rest[from..]
                .find(|c: char| !c.is_digit(radix) && c != '_')
                .map_or(rest.len(), |n| from + n)
        };
        let radix = match rest.as_bytes().get(1).map(u8::to_ascii_lowercase) {
            Some(b'x') if rest.starts_with('0') => 16,
            Some(b'o') if rest.starts_with('0') => 8,
            Some(b'b') if rest.starts_with('0') => 2,
            _ => 10,
        };
        let too_large = |text: &str| {
            let shown: String = text.chars().take(40).collect();
            Stop::failed(format!("the number {shown} is not supported"))
        };
        if radix != 10 {
            let end = digits(2, radix);
            self.position += end;
            let text = rest[2..end].replace('_', "");
            return i64::from_str_radix(&text, radix).map(Token::Int).map_err(|_| too_large(&text));
        }
        let is_digit = |at: usize| rest.as_bytes().get(at).is_some_and(u8::is_ascii_digit);
        let mut end = digits(0, 10);
        // `a.0.b` is a chain of attributes, not of fractions.
        let after_dot = self.source[..self.position].ends_with('.');
        let mut float = false;
        if !after_dot && rest[end..].starts_with('.') && is_digit(end + 1) {
            end = digits(end + 1, 10);
            float = true;
        }
        if !after_dot && rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            if is_digit(end + 1 + sign) {
                end = digits(end + 1 + sign, 10);
                float = true;
            }
        }
        self.position += end;
        let text = rest[..end].replace('_', "");
        if float {
            text.parse().map(Token::Float).map_err(|_| too_large(&text))
        } else {
            text.parse().map(Token::Int).map_err(|_| too_large(&text))
        }
    }

    fn string(&mut self, quote: char) -> Result<Token> {
        let rest = &self.source[self.position + 1..];
        let mut text = String::new();
        let mut chars = rest.char_indices();
        while let Some((offset, c)) = chars.next() {
            if c == quote {
                self.position += offset + 2;
                return Ok(Token::Str(text));
            }
            if c != '\\' {
                text.push(c);
                continue;
            }
            let Some((at, escaped)) = chars.next() else { break };
            let digits = match escaped {
                'x' => 2,
                'u' => 4,
                'U' => 8,
                _ => 0,
            };
            if digits > 0 {
                let code = rest.get(at + 1..at + 1 + digits);
                let code = code.filter(|code| code.bytes().all(|byte| byte.is_ascii_hexdigit()));
                let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
                let Some(c) = code.and_then(char::from_u32) else {
                    return fail(format!("\\{escaped} in a string names no character"));
                };
                text.push(c);
                chars.nth(digits - 1);
                continue;
            }
            match escaped {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                '0' => text.push('\0'),
                'a' => text.push('\x07'),
                'b' => text.push('\x08'),
                'f' => text.push('\x0c'),
                'v' => text.push('\x0b'),
                '\n' => {}
                '\\' | '\'' | '"' => text.push(escaped),
                other => text.extend(['\\', other]),
            }
        }
        fail("a string has no end")
    }
}

/// White space as Python's `\s` and `str.strip` see it.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}
