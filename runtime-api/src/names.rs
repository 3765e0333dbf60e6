//! Enums whose variants have names: on command lines, in JSON, and for programs in other languages.

/// A name that stands for no variant of an enum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {}: known are {}", polychord_plan::Printable(given), known.join(", "))]
#[non_exhaustive]
pub struct UnknownName {
    /// The enum.
    pub what: &'static str,
    /// What was given.
    pub given: String,
    /// The names that there are.
    pub known: Vec<&'static str>,
}

/// Gives an enum its list of variants and their names, which are those of its JSON.
macro_rules! named {
    ($type:ident, $what:literal: $($variant:ident = $name:literal),+ $(,)?) => {
        impl $type {
            /// All variants, in their order.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The name of a variant.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)+
                }
            }
        }

        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.name())
            }
        }

        impl std::str::FromStr for $type {
            type Err = $crate::names::UnknownName;

            fn from_str(name: &str) -> Result<Self, Self::Err> {
                let found = Self::ALL.iter().find(|variant| variant.name() == name);
                found.copied().ok_or_else(|| $crate::names::UnknownName {
                    what: $what,
                    given: name.to_owned(),
                    known: Self::ALL.iter().map(|variant| variant.name()).collect(),
                })
            }
        }
    };
}

pub(crate) use named;

#[cfg(test)]
mod tests {
    use crate::layers::{CopyReason, LoadMethod};
    use crate::{Backing, ErrorKind, MemoryKind, Policy};

    #[test]
    fn names_are_read_as_they_are_written() {
        macro_rules! check {
            ($($type:ty),*) => { $(
                assert!(<$type>::ALL.len() > 1);
                for variant in <$type>::ALL {
                    assert_eq!(variant.to_string().parse::<$type>().unwrap(), *variant);
                    let json = serde_json::to_value(variant).unwrap();
                    assert_eq!(json, serde_json::json!(variant.name()));
                }
            )* };
        }
        check!(Backing, CopyReason, ErrorKind, LoadMethod, MemoryKind, Policy);
        let error = "disk\u{7}".parse::<MemoryKind>().unwrap_err().to_string();
        assert_eq!(error, r"there is no kind of memory disk\u{7}: known are guest, host");
    }
}
