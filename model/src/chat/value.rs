//! Values of a template: those of Python, immutable, and counted by the meter.
//!
//! Only namespaces, loops and the like have a state, and no list or dictionary may hold one,
//! so there are no cycles, and the depth of a value is known when it is made.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::ast::Name;
use super::limits::{Charge, Meter, Result, Stop, VALUE, fail};
use super::text::{Origin, Text};

/// Bytes that an element takes, with room for a vector's growth.
pub(super) const ITEM: usize = 32;
/// Bytes that a list or dictionary takes beside its elements.
pub(super) const OVERHEAD: usize = 112;

#[derive(Clone, Debug)]
pub(super) enum Value {
    /// A name that nothing has; the reason is for errors.
    Undefined(Option<Name>),
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Text),
    List(List),
    Dict(Dict),
    Namespace(Rc<RefCell<Bindings>>),
    Loop(Rc<Loop>),
    Macro(Callable),
    /// A function, by its name.
    Function(Name),
    Cycler(Rc<Cycler>),
    /// A separator that is left out the first time.
    Joiner(Rc<(Text, Cell<bool>)>),
}

/// Names and their values, in the order in which they came.
#[derive(Debug)]
pub(super) struct Bindings {
    entries: Vec<(Name, Value)>,
    charge: Charge,
}

/// A macro with the scope in which it was defined.
#[derive(Clone, Copy, Debug)]
pub(super) struct Callable {
    pub(super) number: usize,
    pub(super) scope: usize,
}

#[derive(Debug)]
pub(super) struct Cycler {
    pub(super) items: List,
    pub(super) position: Cell<usize>,
}

/// What a template sees as `loop`.
#[derive(Debug)]
pub(super) struct Loop {
    pub(super) items: Items,
    pub(super) length: usize,
    pub(super) index: Cell<usize>,
    pub(super) depth: usize,
    /// Which of the running loops this is.
    pub(super) node: usize,
    pub(super) changed: RefCell<Option<Value>>,
    pub(super) recursive: bool,
}

/// A list or a tuple; clones share it.
#[derive(Clone, Debug)]
pub(super) struct List(Rc<ListInner>);

#[derive(Debug)]
struct ListInner {
    items: Vec<Value>,
    tuple: bool,
    depth: u8,
    _charge: Charge,
}

/// A dictionary in the order of its keys' first use; clones share it.
#[derive(Clone, Debug)]
pub(super) struct Dict(Rc<DictInner>);

#[derive(Debug)]
struct DictInner {
    entries: Vec<(Value, Value)>,
    depth: u8,
    _charge: Charge,
}

impl Value {
    pub(super) fn str(meter: &Meter, text: &str) -> Result<Self> {
        Text::own(meter, text).map(Self::Str)
    }

    pub(super) fn text(meter: &Meter, text: &str, origin: Origin) -> Result<Self> {
        Text::new(meter, text, origin).map(Self::Str)
    }

    pub(super) fn count(count: usize) -> Self {
        Self::Int(i64::try_from(count).unwrap_or(i64::MAX))
    }

    /// Depth of lists and dictionaries, or why no list may hold this.
    pub(super) fn depth(&self) -> Result<u8> {
        match self {
            Self::List(list) => check_depth(list.0.depth),
            Self::Dict(dict) => check_depth(dict.0.depth),
            Self::Namespace(_)
            | Self::Loop(_)
            | Self::Macro(_)
            | Self::Cycler(_)
            | Self::Joiner(_) => {
                fail(format!("a {} cannot be kept in a list, dictionary or namespace", self.kind()))
            }
            _ => Ok(0),
        }
    }

    /// Name of the type, as Python has it where it does.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Undefined(_) => "undefined value",
            Self::None => "NoneType",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Float(_) => "float",
            Self::Str(_) => "str",
            Self::List(list) if list.is_tuple() => "tuple",
            Self::List(_) => "list",
            Self::Dict(_) => "dict",
            Self::Namespace(_) => "namespace",
            Self::Loop(_) => "loop",
            Self::Macro(_) => "macro",
            Self::Function(_) => "function",
            Self::Cycler(_) => "cycler",
            Self::Joiner(_) => "joiner",
        }
    }

    pub(super) fn is_true(&self) -> bool {
        match self {
            Self::Undefined(_) | Self::None => false,
            Self::Bool(value) => *value,
            Self::Int(value) => *value != 0,
            Self::Float(value) => *value != 0.0,
            Self::Str(text) => !text.as_str().is_empty(),
            Self::List(list) => !list.items().is_empty(),
            Self::Dict(dict) => !dict.entries().is_empty(),
            _ => true,
        }
    }

    /// The number, as Python computes with it: `true` is 1.
    pub(super) fn as_int(&self) -> Option<i64> {
        match self {
            Self::Bool(value) => Some(i64::from(*value)),
            Self::Int(value) => Some(*value),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "as Python converts")]
    pub(super) fn as_float(&self) -> Option<f64> {
        match self {
            Self::Float(value) => Some(*value),
            other => other.as_int().map(|value| value as f64),
        }
    }

    /// Says that this is undefined, if it is.
    pub(super) fn defined(&self) -> Result<()> {
        match self {
            Self::Undefined(Some(name)) => fail(format!("`{name}` is undefined")),
            Self::Undefined(None) => fail("a value is undefined"),
            _ => Ok(()),
        }
    }

    /// What a loop goes through.
    pub(super) fn iterate(&self) -> Result<Items> {
        match self {
            Self::Undefined(_) => Ok(Items::Nothing),
            Self::Str(text) => Ok(Items::Text(text.clone(), 0)),
            Self::List(list) => Ok(Items::List(list.clone(), 0)),
            Self::Dict(dict) => Ok(Items::Keys(dict.clone(), 0)),
            other => fail(format!("a {} has no elements", other.kind())),
        }
    }

    /// Number of elements or characters.
    pub(super) fn length(&self, meter: &Meter) -> Result<usize> {
        match self {
            Self::Undefined(_) => Ok(0),
            Self::Str(text) => {
                meter.scan(text.as_str().len())?;
                Ok(text.as_str().chars().count())
            }
            Self::List(list) => Ok(list.items().len()),
            Self::Dict(dict) => Ok(dict.entries().len()),
            other => fail(format!("a {} has no length", other.kind())),
        }
    }
}

impl Bindings {
    pub(super) fn new(meter: &Meter) -> Result<Self> {
        Ok(Self { entries: Vec::new(), charge: meter.charge(OVERHEAD)? })
    }

    pub(super) fn get(&self, name: &str) -> Result<Option<Value>> {
        self.charge.meter().steps(self.entries.len() / 4)?;
        Ok(self.entries.iter().find(|(key, _)| **key == *name).map(|(_, value)| value.clone()))
    }

    pub(super) fn set(&mut self, name: Name, value: Value) -> Result<()> {
        self.charge.meter().steps(self.entries.len() / 4)?;
        match self.entries.iter_mut().find(|(key, _)| *key == name) {
            Some((_, old)) => *old = value,
            None => {
                self.charge.grow(2 * ITEM + 2 * name.len())?;
                self.entries.push((name, value));
            }
        }
        Ok(())
    }

    /// Sets a value that a list could hold, as [`Self::set`] does.
    pub(super) fn set_plain(&mut self, name: Name, value: Value) -> Result<()> {
        value.depth()?;
        self.set(name, value)
    }
}

impl List {
    /// Collects values.
    pub(super) fn collect(
        meter: &Meter,
        items: impl IntoIterator<Item = Result<Value>>,
    ) -> Result<Self> {
        Ok(ListBuilder::of(meter, items)?.finish())
    }

    /// Collects values as a tuple.
    pub(super) fn collect_tuple(
        meter: &Meter,
        items: impl IntoIterator<Item = Result<Value>>,
    ) -> Result<Self> {
        Ok(ListBuilder::of(meter, items)?.finish_tuple())
    }

    pub(super) fn items(&self) -> &[Value] {
        &self.0.items
    }

    pub(super) fn is_tuple(&self) -> bool {
        self.0.tuple
    }
}

/// A list in the making.
#[derive(Debug)]
pub(super) struct ListBuilder {
    items: Vec<Value>,
    depth: u8,
    charge: Charge,
}

impl ListBuilder {
    pub(super) fn new(meter: &Meter) -> Result<Self> {
        Ok(Self { items: Vec::new(), depth: 0, charge: meter.charge(OVERHEAD)? })
    }

    /// With these values, up to the first error.
    fn of(meter: &Meter, items: impl IntoIterator<Item = Result<Value>>) -> Result<Self> {
        let mut builder = Self::new(meter)?;
        for item in items {
            builder.push(item?)?;
        }
        Ok(builder)
    }

    pub(super) fn push(&mut self, value: Value) -> Result<()> {
        self.charge.meter().steps(1)?;
        self.charge.grow(ITEM)?;
        self.depth = self.depth.max(value.depth()?);
        self.items.push(value);
        Ok(())
    }

    pub(super) fn items(&self) -> &[Value] {
        &self.items
    }

    pub(super) fn finish(self) -> List {
        self.end(false)
    }

    pub(super) fn finish_tuple(self) -> List {
        self.end(true)
    }

    fn end(self, tuple: bool) -> List {
        let (items, depth) = (self.items, self.depth + 1);
        List(Rc::new(ListInner { items, tuple, depth, _charge: self.charge }))
    }
}

impl Dict {
    /// A dictionary of these entries, whose keys differ.
    pub(super) fn new(entries: Vec<(Value, Value)>, depth: u8, charge: Charge) -> Self {
        Self(Rc::new(DictInner { entries, depth, _charge: charge }))
    }

    pub(super) fn entries(&self) -> &[(Value, Value)] {
        &self.0.entries
    }

    /// The value of a key that is a string.
    pub(super) fn get(&self, meter: &Meter, key: &str) -> Result<Option<Value>> {
        meter.steps(1 + self.entries().len() / 4)?;
        let is_key = |found: &Value| matches!(found, Value::Str(text) if text.as_str() == key);
        Ok(self.entries().iter().find(|(found, _)| is_key(found)).map(|(_, value)| value.clone()))
    }
}

/// An iteration over a value; a clone begins where this one is.
#[derive(Clone, Debug)]
pub(super) enum Items {
    Nothing,
    List(List, usize),
    Keys(Dict, usize),
    /// Characters, with the position in bytes.
    Text(Text, usize),
}

impl Items {
    pub(super) fn next(&mut self, meter: &Meter) -> Result<Option<Value>> {
        meter.steps(1)?;
        match self {
            Self::Nothing => Ok(None),
            Self::List(list, position) => {
                *position += 1;
                Ok(list.items().get(*position - 1).cloned())
            }
            Self::Keys(dict, position) => {
                *position += 1;
                Ok(dict.entries().get(*position - 1).map(|(key, _)| key.clone()))
            }
            Self::Text(text, position) => {
                let Some(c) = text.as_str()[*position..].chars().next() else { return Ok(None) };
                let range = *position..*position + c.len_utf8();
                *position = range.end;
                text.slice(meter, range).map(|text| Some(Value::Str(text)))
            }
        }
    }

    /// All that is left.
    pub(super) fn list(mut self, meter: &Meter) -> Result<List> {
        let mut builder = ListBuilder::new(meter)?;
        while let Some(value) = self.next(meter)? {
            builder.push(value)?;
        }
        Ok(builder.finish())
    }

    /// The element at an index, counted from the beginning.
    pub(super) fn at(&self, meter: &Meter, index: usize) -> Result<Option<Value>> {
        match self {
            Self::Nothing => Ok(None),
            Self::List(list, _) => Ok(list.items().get(index).cloned()),
            Self::Keys(dict, _) => Ok(dict.entries().get(index).map(|(key, _)| key.clone())),
            Self::Text(text, _) => {
                meter.scan(text.as_str().len())?;
                let found = text.as_str().char_indices().nth(index);
                let slice = |(at, c): (usize, char)| text.slice(meter, at..at + c.len_utf8());
                Ok(found.map(slice).transpose()?.map(Value::Str))
            }
        }
    }
}

/// The depth of a list that is to be put into another one.
fn check_depth(depth: u8) -> Result<u8> {
    if depth >= VALUE {
        return Err(Stop::Limit { what: "lists in each other", limit: usize::from(VALUE) });
    }
    Ok(depth)
}
