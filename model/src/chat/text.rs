//! Text that knows which of its bytes came from a message.
//!
//! Special tokens are looked for in the template's own bytes only, so what a user writes
//! into a message can never become one, however the template cuts and joins it.

use std::ops::Range;
use std::rc::Rc;

use super::limits::{Charge, Meter, Result};

/// Bytes that a text takes beside its characters.
const OVERHEAD: usize = 112;
/// Bytes that the first and each further change of the origin take.
const SPAN: usize = 32;

/// Where bytes come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Template,
    Message,
}

/// An immutable text; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Text(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    string: String,
    /// Runs of one origin, in order; each begins where the one before ends.
    spans: Vec<Span>,
    _charge: Charge,
}

/// A run of bytes with one origin.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub(super) end: usize,
    pub(super) origin: Origin,
}

impl Text {
    pub(super) fn new(meter: &Meter, text: &str, origin: Origin) -> Result<Self> {
        let mut builder = Builder::new(meter)?;
        builder.push(text, origin)?;
        Ok(builder.finish())
    }

    /// Text of the template's own.
    pub(super) fn own(meter: &Meter, text: &str) -> Result<Self> {
        Self::new(meter, text, Origin::Template)
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0.string
    }

    /// What the whole text counts as where parts cannot be told apart.
    pub(super) fn origin(&self) -> Origin {
        let foreign = self.0.spans.iter().any(|span| span.origin == Origin::Message);
        if foreign { Origin::Message } else { Origin::Template }
    }

    /// Runs of one origin within a range of bytes.
    pub(super) fn pieces(&self, range: Range<usize>) -> impl Iterator<Item = (&str, Origin)> {
        let spans = &self.0.spans;
        let first = spans.partition_point(|span| span.end <= range.start);
        let mut start = range.start;
        spans[first..].iter().map_while(move |span| {
            let end = span.end.min(range.end);
            let piece = (start < end).then(|| (&self.0.string[start..end], span.origin));
            start = end;
            piece
        })
    }

    /// Characters with their origins.
    pub(super) fn chars(&self) -> impl Iterator<Item = (char, Origin)> {
        self.pieces(0..self.as_str().len())
            .flat_map(|(piece, origin)| piece.chars().map(move |c| (c, origin)))
    }

    /// A range of bytes, as a text of its own.
    pub(super) fn slice(&self, meter: &Meter, range: Range<usize>) -> Result<Self> {
        if range == (0..self.as_str().len()) {
            return Ok(self.clone());
        }
        let mut builder = Builder::new(meter)?;
        builder.push_slice(self, range)?;
        Ok(builder.finish())
    }

    /// The text with each character replaced by what `map` makes of it.
    pub(super) fn map<I: IntoIterator<Item = char>>(
        &self,
        meter: &Meter,
        mut map: impl FnMut(char) -> I,
    ) -> Result<Self> {
        let mut builder = Builder::new(meter)?;
        for (c, origin) in self.chars() {
            for c in map(c) {
                builder.push_char(c, origin)?;
            }
        }
        Ok(builder.finish())
    }
}

/// A text in the making.
#[derive(Debug)]
pub(super) struct Builder {
    string: String,
    spans: Vec<Span>,
    charge: Charge,
}

impl Builder {
    pub(super) fn new(meter: &Meter) -> Result<Self> {
        Ok(Self { string: String::new(), spans: Vec::new(), charge: meter.charge(OVERHEAD)? })
    }

    pub(super) fn push(&mut self, text: &str, origin: Origin) -> Result<()> {
        self.charge.meter().scan(text.len())?;
        if text.is_empty() {
            return Ok(());
        }
        let end = self.string.len() + text.len();
        match self.spans.last_mut() {
            Some(last) if last.origin == origin => {
                self.charge.grow(text.len())?;
                last.end = end;
            }
            _ => {
                self.charge.grow(text.len() + SPAN)?;
                self.spans.push(Span { end, origin });
            }
        }
        self.string.push_str(text);
        Ok(())
    }

    /// Adds text of the template's own.
    pub(super) fn own(&mut self, text: &str) -> Result<()> {
        self.push(text, Origin::Template)
    }

    pub(super) fn push_char(&mut self, c: char, origin: Origin) -> Result<()> {
        self.push(c.encode_utf8(&mut [0; 4]), origin)
    }

    pub(super) fn push_text(&mut self, text: &Text) -> Result<()> {
        self.push_slice(text, 0..text.as_str().len())
    }

    pub(super) fn push_slice(&mut self, text: &Text, range: Range<usize>) -> Result<()> {
        text.pieces(range).try_for_each(|(piece, origin)| self.push(piece, origin))
    }

    pub(super) fn len(&self) -> usize {
        self.string.len()
    }

    pub(super) fn finish(mut self) -> Text {
        self.string.shrink_to_fit();
        self.spans.shrink_to_fit();
        let (string, spans) = (self.string, self.spans);
        Text(Rc::new(Inner { string, spans, _charge: self.charge }))
    }

    /// The text and its runs, for use after the evaluation.
    pub(super) fn into_parts(self) -> (String, Vec<Span>) {
        (self.string, self.spans)
    }
}
