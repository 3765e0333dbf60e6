//! Enums whose values have names: one definition for command lines, JSON, servers and bindings.

use std::fmt;
use std::str::FromStr;

/// A choice among values that have names.
///
/// [`named!`](crate::named) implements it, with [`Display`](fmt::Display) and [`FromStr`].
///
/// ```
/// use polychord_plan::Named;
///
/// /// What a command line shows of any choice.
/// fn list<T: Named>() -> String {
///     let line = |value: &T| format!("{}: {}\n", value.name(), value.summary());
///     T::ALL.iter().map(line).collect()
/// }
/// ```
pub trait Named: Copy + PartialEq + fmt::Display + FromStr<Err = UnknownName> + 'static {
    /// What is chosen, for messages: `cache type`.
    const WHAT: &'static str;
    /// Every value, in the order of its declaration.
    const ALL: &'static [Self];

    /// The value's name.
    fn name(self) -> &'static str;

    /// What the value means, in one line without a full stop; empty if the name says it.
    fn summary(self) -> &'static str;
}

/// A text that names no value of a choice.
///
/// ```
/// # #[derive(Clone, Copy, PartialEq)]
/// # enum Keep { First }
/// # polychord_plan::named!(Keep, "policy", { First = "first" });
/// let unknown = polychord_plan::UnknownName::of::<Keep>("all");
/// assert_eq!(unknown.known, ["first"]);
/// assert_eq!(unknown.to_string(), "there is no policy all: known are first");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UnknownName {
    /// What was to be chosen.
    pub what: &'static str,
    /// The text.
    pub given: String,
    /// The names that exist.
    pub known: Vec<&'static str>,
}

impl UnknownName {
    /// Says that `given` names no value of `T`.
    #[must_use]
    pub fn of<T: Named>(given: &str) -> Self {
        let known = T::ALL.iter().map(|value| value.name()).collect();
        Self { what: T::WHAT, given: given.to_owned(), known }
    }
}

impl fmt::Display for UnknownName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let given = crate::Printable(&self.given);
        write!(f, "there is no {} {given}: known are {}", self.what, self.known.join(", "))
    }
}

impl std::error::Error for UnknownName {}

/// Gives the values of an enum names, by which they are printed and parsed.
///
/// ```
/// /// Which layers stay in memory.
/// #[derive(Clone, Copy, Debug, PartialEq)]
/// pub enum Keep {
///     /// The first ones.
///     First,
///     /// The last used.
///     Recent,
/// }
///
/// polychord_plan::named!(Keep, "policy", {
///     First = "first": "The first layers stay",
///     Recent = "recent": "The layers that were used last stay",
/// });
///
/// assert_eq!("recent".parse(), Ok(Keep::Recent));
/// assert_eq!(Keep::First.to_string(), "first");
/// assert_eq!(Keep::ALL.len(), 2);
/// let error = "all".parse::<Keep>().unwrap_err();
/// assert_eq!(error.to_string(), "there is no policy all: known are first, recent");
/// ```
#[macro_export]
macro_rules! named {
    ($type:ty, $what:literal, {
        $($variant:ident = $name:literal $(: $summary:literal)?),+ $(,)?
    }) => {
        impl $type {
            /// Every value, in the order of its declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Returns the value's name, which is that of its JSON.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name),+ }
            }
        }

        impl $crate::Named for $type {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = Self::ALL;

            fn name(self) -> &'static str {
                Self::name(self)
            }

            fn summary(self) -> &'static str {
                match self { $(Self::$variant => concat!($($summary)?)),+ }
            }
        }

        impl ::std::fmt::Display for $type {
            fn fmt(&self, f: &mut ::std::fmt::Formatter<'_>) -> ::std::fmt::Result {
                f.pad($crate::Named::name(*self))
            }
        }

        impl ::std::str::FromStr for $type {
            type Err = $crate::UnknownName;

            fn from_str(name: &str) -> ::std::result::Result<Self, $crate::UnknownName> {
                let all = <Self as $crate::Named>::ALL;
                let found = all.iter().copied().find(|value| $crate::Named::name(*value) == name);
                found.ok_or_else(|| $crate::UnknownName::of::<Self>(name))
            }
        }
    };
}
