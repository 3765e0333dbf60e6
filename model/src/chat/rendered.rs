//! A conversation as text, with what came from its messages.

use std::fmt;
use std::ops::Range;

use super::text::{Builder, Origin, Span};

/// A rendered conversation.
///
/// It displays as its text, and compares to one. Give it to
/// [`Tokenizer::encode_chat`](crate::tokenizer::Tokenizer::encode_chat) as it is: the text alone
/// does not tell the template's control tokens from the same characters in a message.
///
/// ```no_run
/// use polychord_model::chat::Rendered;
/// use polychord_model::tokenizer::{Error, Tokenizer};
///
/// fn ids(conversation: &Rendered, tokenizer: &Tokenizer) -> Result<Vec<u32>, Error> {
///     println!("{conversation}");
///     tokenizer.encode_chat(conversation)
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Rendered {
    text: String,
    spans: Vec<Span>,
}

impl Rendered {
    pub(super) fn new(builder: Builder) -> Self {
        let (text, spans) = builder.into_parts();
        Self { text, spans }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Ranges of bytes that the template wrote itself, in order. The others came from messages.
    pub fn template_ranges(&self) -> impl Iterator<Item = Range<usize>> {
        let mut start = 0;
        self.spans.iter().filter_map(move |span| {
            let range = start..span.end;
            start = span.end;
            (span.origin == Origin::Template).then_some(range)
        })
    }
}

impl fmt::Display for Rendered {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl PartialEq<str> for Rendered {
    fn eq(&self, other: &str) -> bool {
        self.text == other
    }
}

impl PartialEq<&str> for Rendered {
    fn eq(&self, other: &&str) -> bool {
        self.text == *other
    }
}

impl From<Rendered> for String {
    fn from(rendered: Rendered) -> Self {
        rendered.text
    }
}
