//! Arguments that choose a named value of the library.

use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use polychord::api::plan::Named;

/// Parses the name of a value, and lists them all in the help.
pub(crate) fn choice<T: Named + Send + Sync>() -> impl TypedValueParser<Value = T> {
    let values = T::ALL.iter().map(|value| PossibleValue::new(value.name()).help(value.summary()));
    PossibleValuesParser::new(values.collect::<Vec<_>>()).try_map(|name| name.parse::<T>())
}
