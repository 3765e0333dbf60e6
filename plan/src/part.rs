//! Which part of a model a file is, by its name.

/// Which part of a split model a file is.
///
/// ```
/// use polychord_plan::Part;
///
/// let part = Part::of_name("model-00002-of-00003.gguf").unwrap();
/// assert_eq!((part.number, part.count), (1, 3));
/// assert_eq!(part.name_of("model-00002-of-00003.gguf", 0).unwrap(), "model-00001-of-00003.gguf");
/// assert_eq!(Part::of_name("model.gguf"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Part {
    /// Its number, from 0; people count them from 1.
    pub number: u32,
    /// How many there are.
    pub count: u32,
}

impl Part {
    /// The part of this number, from 0, of `count` parts.
    #[must_use]
    pub const fn new(number: u32, count: u32) -> Self {
        Self { number, count }
    }

    /// What the name of a file says: `-00001-of-00003.gguf` at its end.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Self> {
        let (_, number, count) = cut(name)?;
        let digits = |text: &str| -> Option<u32> {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
        };
        let (number, count) = (digits(number)?, digits(count)?);
        let number = number.checked_sub(1).filter(|number| *number < count)?;
        Some(Self { number, count })
    }

    /// The name of another part, given the name of this one.
    #[must_use]
    pub fn name_of(self, name: &str, number: u32) -> Option<String> {
        let (stem, ..) = cut(name)?;
        let number = number.checked_add(1).filter(|number| *number <= self.count)?;
        let suffix = &name[name.len() - SUFFIX.len()..];
        Some(format!("{stem}-{number:05}-of-{:05}{suffix}", self.count))
    }
}

const SUFFIX: &str = ".gguf";

/// What stands before the numbers of a part's name, and the numbers.
fn cut(name: &str) -> Option<(&str, &str, &str)> {
    let end = name.len().checked_sub(SUFFIX.len())?;
    let stem = name.get(..end).filter(|_| name[end..].eq_ignore_ascii_case(SUFFIX))?;
    let (stem, count) = stem.rsplit_once("-of-")?;
    let (stem, number) = stem.rsplit_once('-')?;
    (number.len() == 5 && count.len() == 5).then_some((stem, number, count))
}

#[cfg(test)]
mod tests {
    use super::Part;

    #[test]
    fn names_tell_parts_and_each_other() {
        let part = Part::of_name("sub/a-b-00001-of-00012.GGUF").unwrap();
        assert_eq!(part, Part::new(0, 12));
        let last = part.name_of("sub/a-b-00001-of-00012.GGUF", 11).unwrap();
        assert_eq!(last, "sub/a-b-00012-of-00012.GGUF");
        assert_eq!(part.name_of(&last, 12), None);
        for name in [
            "",
            ".gguf",
            "model.gguf",
            "model-00001-of-00002",
            "model-1-of-2.gguf",
            "model-00000-of-00002.gguf",
            "model-00003-of-00002.gguf",
            "model-00001-of-0000x.gguf",
            "model-+0001-of-00002.gguf",
            "00001-of-00002.gguf",
            "é-of-.gguf",
            "-of-é.gguf",
        ] {
            assert_eq!(Part::of_name(name), None, "{name}");
        }
    }
}
