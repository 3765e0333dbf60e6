//! Arguments that a function, a filter or a test is given.

use super::ast::Name;
use super::limits::{Result, Stop, fail};
use super::text::Text;
use super::value::Value;

/// Arguments of a call. Their number is bounded where they are written.
#[derive(Debug, Default)]
pub(super) struct Given {
    pub(super) positional: Vec<Value>,
    pub(super) named: Vec<(Name, Value)>,
}

impl Given {
    /// Takes an argument by its place or its name; an undefined one is missing.
    pub(super) fn take(&mut self, index: usize, name: &str) -> Option<Value> {
        if let Some(value) = self.positional.get_mut(index) {
            return Some(std::mem::replace(value, Value::None));
        }
        self.named(name)
    }

    /// Takes an argument that has to be named.
    pub(super) fn named(&mut self, name: &str) -> Option<Value> {
        let index = self.named.iter().position(|(found, _)| **found == *name)?;
        Some(self.named.remove(index).1)
    }

    /// Refuses arguments behind the first `count`, and names that were not taken.
    pub(super) fn end(&self, count: usize) -> Result<()> {
        if self.positional.len() > count {
            return fail(format!("takes at most {count} arguments, not {}", self.positional.len()));
        }
        match self.named.first() {
            Some((name, _)) => fail(format!("takes no argument `{name}`")),
            None => Ok(()),
        }
    }

    /// Takes an argument that must be there.
    pub(super) fn require(&mut self, index: usize, name: &str) -> Result<Value> {
        self.take(index, name)
            .ok_or_else(|| Stop::failed(format!("the argument `{name}` is missing")))
    }

    /// Takes a text.
    pub(super) fn text(&mut self, index: usize, name: &str) -> Result<Option<Text>> {
        match self.take(index, name) {
            None | Some(Value::None) => Ok(None),
            Some(Value::Str(text)) => Ok(Some(text)),
            Some(other) => fail(format!("`{name}` has to be a string, not a {}", other.kind())),
        }
    }

    /// Takes a number.
    pub(super) fn int(&mut self, index: usize, name: &str) -> Result<Option<i64>> {
        match self.take(index, name) {
            None | Some(Value::None) => Ok(None),
            Some(other) => match other.as_int() {
                Some(value) => Ok(Some(value)),
                None => fail(format!("`{name}` has to be a number, not a {}", other.kind())),
            },
        }
    }

    /// Takes what counts as true or false.
    pub(super) fn flag(&mut self, index: usize, name: &str) -> bool {
        self.take(index, name).is_some_and(|value| value.is_true())
    }
}
