//! Tests, as in `value is name`.

use super::ast::Comparison;
use super::given::Given;
use super::limits::{Meter, Result, fail};
use super::strings::is_cased;
use super::value::Value;
use super::{equality, operators};

/// `value is name(given)`.
pub(super) fn check(meter: &Meter, name: &str, value: &Value, mut given: Given) -> Result<bool> {
    if let Some(comparison) = comparison(name) {
        let other = given.require(0, "other")?;
        given.end(1)?;
        return operators::compare(meter, value, comparison, &other);
    }
    let number = || match value.as_int() {
        Some(number) => Ok(number),
        None => fail(format!("`{name}` needs a number, not a {}", value.kind())),
    };
    let result = match name {
        "divisibleby" => {
            return match given.int(0, "num")? {
                None | Some(0) => fail("`divisibleby` needs a number other than 0"),
                Some(divisor) => Ok(number()?.wrapping_rem(divisor) == 0),
            };
        }
        "sameas" => {
            let other = given.require(0, "other")?;
            return Ok(value.kind() == other.kind() && equality::equal(meter, value, &other)?);
        }
        "defined" => !matches!(value, Value::Undefined(_)),
        "undefined" => matches!(value, Value::Undefined(_)),
        "none" => matches!(value, Value::None),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Str(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        // An undefined value counts as an empty text here, as in Jinja.
        "sequence" => {
            matches!(value, Value::Undefined(_) | Value::Str(_) | Value::List(_) | Value::Dict(_))
        }
        "iterable" => value.iterate().is_ok(),
        "callable" => matches!(
            value,
            Value::Function(_) | Value::Macro(_) | Value::Joiner(_) | Value::Loop(_)
        ),
        "escaped" => false,
        "even" => number()? & 1 == 0,
        "odd" => number()? & 1 == 1,
        "lower" | "upper" => {
            let text = super::show::text(meter, value)?;
            is_cased(text.as_str(), name == "upper")
        }
        "filter" => {
            matches!(value, Value::Str(text) if super::filters::NAMES.contains(&text.as_str()))
        }
        "test" => matches!(value, Value::Str(text) if NAMES.contains(&text.as_str())),
        _ => return fail(format!("there is no test `{name}`")),
    };
    given.end(0)?;
    Ok(result)
}

/// Names of tests, for the test `test`.
const NAMES: [&str; 39] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "undefined",
    "upper",
];

fn comparison(name: &str) -> Option<Comparison> {
    Some(match name {
        "eq" | "equalto" | "==" => Comparison::Equal,
        "ne" | "!=" => Comparison::NotEqual,
        "lt" | "lessthan" | "<" => Comparison::Less,
        "le" | "<=" => Comparison::LessOrEqual,
        "gt" | "greaterthan" | ">" => Comparison::Greater,
        "ge" | ">=" => Comparison::GreaterOrEqual,
        "in" => Comparison::In,
        _ => return None,
    })
}
