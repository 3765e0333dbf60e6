//! Finding texts that end an answer, in text that comes in pieces.

/// What ends an answer, and the text that is held back because it could be the beginning of it.
///
/// ```
/// use polychord_session::generate::{Pushed, StopTexts};
///
/// let mut texts = StopTexts::new(&["<end>".to_owned()]);
/// assert_eq!(texts.push("It is a <e"), Pushed::Clear("It is a ".into()));
/// let stopped = Pushed::Stopped { before: String::new(), stop: "<end>".into() };
/// assert_eq!(texts.push("nd>"), stopped);
/// ```
#[derive(Clone, Debug, Default)]
pub struct StopTexts {
    stops: Vec<String>,
    held: String,
}

/// The result of pushing a piece of text, see [`StopTexts`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pushed {
    /// Text that is no part of a stop text, whatever follows.
    Clear(String),
    /// The text before a stop text, which came; nothing is held back any more.
    Stopped {
        /// What was before it.
        before: String,
        /// Which one it is.
        stop: String,
    },
}

impl StopTexts {
    /// Looks for these texts, none of which is empty.
    #[must_use]
    pub fn new(stops: &[String]) -> Self {
        Self { stops: stops.to_vec(), held: String::new() }
    }

    /// Takes a piece of text. Of several stop texts that came, the one counts that was complete
    /// first, so that it does not matter how the text was cut into pieces.
    pub fn push(&mut self, piece: &str) -> Pushed {
        if self.stops.is_empty() {
            return Pushed::Clear(piece.to_owned());
        }
        self.held.push_str(piece);
        let found = self.stops.iter().filter_map(|stop| {
            let start = self.held.find(stop.as_str())?;
            Some((start + stop.len(), start, stop))
        });
        if let Some((_, start, stop)) = found.min() {
            let stop = stop.clone();
            let mut before = std::mem::take(&mut self.held);
            before.truncate(start);
            return Pushed::Stopped { before, stop };
        }
        let kept = self.held.split_off(self.held.len() - self.possible_beginning());
        Pushed::Clear(std::mem::replace(&mut self.held, kept))
    }

    /// Takes what is held back, when nothing follows.
    #[must_use]
    pub fn take_held(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// Length of the longest end of the text that is the beginning of a stop text.
    fn possible_beginning(&self) -> usize {
        let longest = self.stops.iter().map(String::len).max().unwrap_or(0);
        let first = self.held.len().saturating_sub(longest);
        let starts = (first..self.held.len()).filter(|start| self.held.is_char_boundary(*start));
        let mut ends = starts.map(|start| &self.held[start..]);
        let begins = |end: &&str| self.stops.iter().any(|stop| stop.starts_with(end));
        ends.find(|end| begins(end)).map_or(0, str::len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is delivered of a text that comes in pieces, and what stopped it.
    fn deliver(stops: &[&str], pieces: &[&str]) -> (String, Option<String>) {
        let stops: Vec<_> = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut texts = StopTexts::new(&stops);
        let mut all = String::new();
        for piece in pieces {
            match texts.push(piece) {
                Pushed::Clear(text) => all += &text,
                Pushed::Stopped { before, stop } => return (all + &before, Some(stop)),
            }
            assert!(stops.iter().all(|stop| !all.contains(stop.as_str())));
        }
        (all + &texts.take_held(), None)
    }

    #[test]
    fn a_stop_text_is_found_however_the_text_is_cut() {
        for (stops, text, expected, stop) in [
            (&["\n\n"][..], "one\ntwo\n\nthree", "one\ntwo", Some("\n\n")),
            (&["aab"], "aaaab", "aa", Some("aab")),
            (&["abc", "b"], "xabc", "xa", Some("b")),
            (&["ab", "abc"], "xabc", "x", Some("ab")),
            (&["ß!", "ü"], "größer, für", "größer, f", Some("ü")),
            (&["END"], "it is not the EN", "it is not the EN", None),
            (&[], "anything", "anything", None),
        ] {
            let characters: Vec<_> = text.split_inclusive(|_| true).collect();
            let pairs: Vec<_> = characters.chunks(2).map(<[&str]>::concat).collect();
            let pairs: Vec<_> = pairs.iter().map(String::as_str).collect();
            for pieces in [&[text][..], &characters, &pairs] {
                let expected = (expected.to_owned(), stop.map(String::from));
                assert_eq!(deliver(stops, pieces), expected, "{stops:?} in {pieces:?}");
            }
        }
    }

    #[test]
    fn only_possible_beginnings_are_held_back() {
        let mut texts = StopTexts::new(&["<end>".to_owned()]);
        assert_eq!(texts.push("a < b"), Pushed::Clear("a < b".into()));
        assert_eq!(texts.push("<"), Pushed::Clear(String::new()));
        assert_eq!(texts.push("en"), Pushed::Clear(String::new()));
        assert_eq!(texts.push("<en"), Pushed::Clear("<en".into()));
        let stopped = Pushed::Stopped { before: String::new(), stop: "<end>".into() };
        assert_eq!(texts.push("d>x"), stopped);
        assert_eq!(texts.take_held(), "");
    }
}
