//! Evaluates expressions.

use std::ops::Range;

use super::super::ast::{Arguments, Conditional, Expr, Link, Name};
use super::super::limits::{ARGUMENTS, Meter, Result, Stop, fail};
use super::super::text::{Builder, Text};
use super::super::value::{Dict, DictBuilder, Items, List, ListBuilder, Loop, Value};
use super::super::{checks, filters, methods, operators, show};
use super::Run;
use super::call::Given;

impl<'a> Run<'a> {
    pub(super) fn eval(&mut self, expr: &'a Expr) -> Result<Value> {
        self.meter.steps(1)?;
        match expr {
            Expr::None => Ok(Value::None),
            Expr::Bool(value) => Ok(Value::Bool(*value)),
            Expr::Int(value) => Ok(Value::Int(*value)),
            Expr::Float(value) => Ok(Value::Float(*value)),
            Expr::Str(text) => Value::str(&self.meter, text),
            Expr::Name(name) => self.lookup(name),
            other => {
                let _level = self.meter.enter()?;
                self.compound(other)
            }
        }
    }

    fn compound(&mut self, expr: &'a Expr) -> Result<Value> {
        match expr {
            Expr::List(items) => Ok(Value::List(self.list(items)?.finish())),
            Expr::Tuple(items) => Ok(Value::List(self.list(items)?.finish_tuple())),
            Expr::Dict(pairs) => self.dict(pairs).map(Value::Dict),
            Expr::Chain(first, links) => {
                let first = self.eval(first)?;
                self.links(first, links)
            }
            Expr::Not(operand, odd) => Ok(Value::Bool(self.eval(operand)?.is_true() != *odd)),
            Expr::Sign(operand, minus) => operators::negate(&self.eval(operand)?, *minus),
            Expr::Binary(first, rest) => {
                let mut value = self.eval(first)?;
                for (operator, operand) in rest {
                    let right = self.eval(operand)?;
                    value = operators::binary(&self.meter, &value, *operator, &right)?;
                }
                Ok(value)
            }
            Expr::Concat(parts) => self.concat(parts).map(Value::Str),
            Expr::Compare(first, rest) => {
                let mut left = self.eval(first)?;
                for (comparison, operand) in rest {
                    let right = self.eval(operand)?;
                    if !operators::compare(&self.meter, &left, *comparison, &right)? {
                        return Ok(Value::Bool(false));
                    }
                    left = right;
                }
                Ok(Value::Bool(true))
            }
            Expr::And(all) => self.first(all, false),
            Expr::Or(all) => self.first(all, true),
            Expr::Conditional(conditional) => self.conditional(conditional),
            simple => self.eval(simple),
        }
    }

    fn list(&mut self, items: &'a [Expr]) -> Result<ListBuilder> {
        let mut builder = ListBuilder::new(&self.meter)?;
        for item in items {
            builder.push(self.eval(item)?)?;
        }
        Ok(builder)
    }

    fn dict(&mut self, pairs: &'a [(Expr, Expr)]) -> Result<Dict> {
        let mut builder = DictBuilder::new(&self.meter)?;
        for (key, value) in pairs {
            builder.set(self.eval(key)?, self.eval(value)?)?;
        }
        Ok(builder.finish())
    }

    fn concat(&mut self, parts: &'a [Expr]) -> Result<Text> {
        let mut builder = Builder::new(&self.meter)?;
        for part in parts {
            show::write(&mut builder, &self.eval(part)?)?;
        }
        Ok(builder.finish())
    }

    /// The first operand that is as true as `wanted`, else the last.
    fn first(&mut self, all: &'a [Expr], wanted: bool) -> Result<Value> {
        let mut value = Value::None;
        for expr in all {
            value = self.eval(expr)?;
            if value.is_true() == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn conditional(&mut self, conditional: &'a Conditional) -> Result<Value> {
        if self.eval(&conditional.test)?.is_true() {
            return self.eval(&conditional.then);
        }
        match &conditional.otherwise {
            Some(otherwise) => self.eval(otherwise),
            None => Ok(Value::Undefined(None)),
        }
    }

    /// Does one thing after the other with a value.
    pub(super) fn links(&mut self, mut value: Value, links: &'a [Link]) -> Result<Value> {
        let mut links = links.iter().peekable();
        while let Some(link) = links.next() {
            self.meter.steps(1)?;
            value = match link {
                Link::Attribute(name) => match links.peek() {
                    Some(Link::Call(arguments)) if methods::has(&value, name) => {
                        links.next();
                        let given = self.given(arguments)?;
                        methods::call(&self.meter, &value, name, given)?
                    }
                    _ => attribute(&self.meter, &value, name)?,
                },
                Link::Item(index) => {
                    let index = self.eval(index)?;
                    item(&self.meter, &value, &index)?
                }
                Link::Slice(parts) => {
                    let mut bounds = [None; 3];
                    for (bound, part) in bounds.iter_mut().zip(parts.iter()) {
                        if let Some(part) = part {
                            *bound = slice_bound(&self.eval(part)?)?;
                        }
                    }
                    slice(&self.meter, &value, bounds)?
                }
                Link::Call(arguments) => {
                    let given = self.given(arguments)?;
                    self.call(&value, given)?
                }
                Link::Filter(name, arguments) => {
                    let given = self.given(arguments)?;
                    filters::apply(&self.meter, name, &value, given)?
                }
                Link::Test { name, arguments, negated } => {
                    let given = self.given(arguments)?;
                    Value::Bool(checks::check(&self.meter, name, &value, given)? != *negated)
                }
            };
        }
        Ok(value)
    }

    /// Evaluates the call of a `call` statement.
    pub(super) fn eval_call_block(&mut self, call: &'a Expr, caller: Value) -> Result<Value> {
        let Expr::Chain(first, links) = call else { return fail("`call` needs a call") };
        let Some((Link::Call(arguments), before)) = links.split_last() else {
            return fail("`call` needs a call");
        };
        let first = self.eval(first)?;
        let callee = self.links(first, before)?;
        let mut given = self.given(arguments)?;
        given.named.push((Name::from("caller"), caller));
        self.call(&callee, given)
    }

    fn given(&mut self, arguments: &'a Arguments) -> Result<Given> {
        let mut given = Given::default();
        for expr in &arguments.positional {
            given.positional.push(self.eval(expr)?);
        }
        if let Some(star) = &arguments.star {
            let mut items = self.eval(star)?.iterate()?;
            while let Some(item) = items.next(&self.meter)? {
                given.positional.push(item);
                check_count(given.positional.len())?;
            }
        }
        for (name, expr) in &arguments.named {
            given.named.push((name.clone(), self.eval(expr)?));
        }
        if let Some(star) = &arguments.star_star {
            let Value::Dict(dict) = self.eval(star)? else { return fail("** needs a dictionary") };
            for (key, value) in dict.entries() {
                let Value::Str(key) = key else { return fail("** needs names as keys") };
                self.meter.scan(key.as_str().len())?;
                if key.as_str().len() > ARGUMENTS {
                    return Err(Stop::Limit { what: "bytes of a name", limit: ARGUMENTS });
                }
                given.named.push((Name::from(key.as_str()), value.clone()));
                check_count(given.named.len())?;
            }
        }
        Ok(given)
    }
}

fn check_count(count: usize) -> Result<()> {
    if count > ARGUMENTS {
        return Err(Stop::Limit { what: "arguments of one call", limit: ARGUMENTS });
    }
    Ok(())
}

/// `value.name`.
pub(in super::super) fn attribute(meter: &Meter, value: &Value, name: &str) -> Result<Value> {
    value.defined()?;
    if methods::has(value, name) {
        return Ok(Value::Function(Name::from(name)));
    }
    let found = match value {
        Value::Dict(dict) => dict.get(meter, name)?,
        Value::Namespace(namespace) => namespace.borrow().get(name)?,
        Value::Loop(state) => loop_attribute(meter, state, name)?,
        Value::Cycler(cycler) if name == "current" => {
            cycler.items.items().get(cycler.position.get()).cloned()
        }
        _ => None,
    };
    meter.scan(name.len())?;
    Ok(found.unwrap_or_else(|| Value::Undefined((name.len() < 256).then(|| Name::from(name)))))
}

fn loop_attribute(meter: &Meter, state: &Loop, name: &str) -> Result<Option<Value>> {
    let (index, length) = (state.index.get(), state.length);
    Ok(Some(match name {
        "index" => Value::count(index + 1),
        "index0" => Value::count(index),
        "revindex" => Value::count(length.saturating_sub(index)),
        "revindex0" => Value::count(length.saturating_sub(index + 1)),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == length),
        "length" => Value::count(length),
        "depth" => Value::count(state.depth + 1),
        "depth0" => Value::count(state.depth),
        "previtem" | "nextitem" => {
            let at = if name == "nextitem" { Some(index + 1) } else { index.checked_sub(1) };
            let found = at.map(|at| state.items.at(meter, at)).transpose()?.flatten();
            found.unwrap_or(Value::Undefined(None))
        }
        _ => return Ok(None),
    }))
}

/// `value[index]`.
pub(in super::super) fn item(meter: &Meter, value: &Value, index: &Value) -> Result<Value> {
    value.defined()?;
    let found = match (value, index) {
        (Value::Dict(dict), Value::Str(key)) => dict.get(meter, key.as_str())?,
        (Value::Dict(dict), key) => operators::item(meter, dict.entries(), key)?.cloned(),
        (Value::List(_) | Value::Str(_), index) if index.as_int().is_some() => {
            let length = value.length(meter)?;
            let at = position(index.as_int().unwrap_or(0), length);
            return Ok(match at {
                Some(at) => value.iterate()?.at(meter, at)?.unwrap_or(Value::Undefined(None)),
                None => Value::Undefined(Some(Name::from("an element beyond the end"))),
            });
        }
        _ => None,
    };
    match (found, index) {
        (Some(found), _) => Ok(found),
        (None, Value::Str(name)) => attribute(meter, value, name.as_str()),
        _ => Ok(Value::Undefined(None)),
    }
}

/// A position from the beginning, of one that may count from the end.
fn position(index: i64, length: usize) -> Option<usize> {
    let length = i64::try_from(length).ok()?;
    let index = if index < 0 { index.checked_add(length)? } else { index };
    usize::try_from(index).ok().filter(|_| index < length)
}

fn slice_bound(value: &Value) -> Result<Option<i64>> {
    match value {
        Value::None => Ok(None),
        other => match other.as_int() {
            Some(bound) => Ok(Some(bound)),
            None => fail(format!("a {} cannot be the bound of a slice", other.kind())),
        },
    }
}

/// `value[start:stop:step]`.
fn slice(meter: &Meter, value: &Value, [start, stop, step]: [Option<i64>; 3]) -> Result<Value> {
    value.defined()?;
    let step = step.unwrap_or(1);
    if step == 0 {
        return fail("the step of a slice is 0");
    }
    let length = i64::try_from(value.length(meter)?).unwrap_or(i64::MAX);
    let clamp = |bound: i64| {
        let bound = if bound < 0 { bound.saturating_add(length) } else { bound };
        if step > 0 { bound.clamp(0, length) } else { bound.clamp(-1, length - 1) }
    };
    let start = start.map_or(if step > 0 { 0 } else { length - 1 }, clamp);
    let stop = stop.map_or(if step > 0 { length } else { -1 }, clamp);
    match value {
        Value::Str(text) if step == 1 => {
            let at = |position: i64| {
                let position = usize::try_from(position).unwrap_or(0);
                let found = text.as_str().char_indices().nth(position);
                found.map_or(text.as_str().len(), |(at, _)| at)
            };
            let range = Range { start: at(start), end: at(stop.max(start)) };
            text.slice(meter, range).map(Value::Str)
        }
        Value::Str(text) => {
            let mut chars = ListBuilder::new(meter)?;
            let mut all = Items::Text(text.clone(), 0);
            while let Some(c) = all.next(meter)? {
                chars.push(c)?;
            }
            let chars = chars.finish();
            let mut builder = Builder::new(meter)?;
            for c in stepped(chars.items(), start, stop, step) {
                show::write(&mut builder, c)?;
            }
            Ok(Value::Str(builder.finish()))
        }
        Value::List(list) => {
            let mut builder = ListBuilder::new(meter)?;
            for item in stepped(list.items(), start, stop, step) {
                builder.push(item.clone())?;
            }
            let finish: fn(ListBuilder) -> List =
                if list.is_tuple() { ListBuilder::finish_tuple } else { ListBuilder::finish };
            Ok(Value::List(finish(builder)))
        }
        other => fail(format!("a {} cannot be sliced", other.kind())),
    }
}

fn stepped(items: &[Value], start: i64, stop: i64, step: i64) -> impl Iterator<Item = &Value> {
    let mut next = Some(start);
    std::iter::from_fn(move || {
        let at = next?;
        if if step > 0 { at >= stop } else { at <= stop } {
            return None;
        }
        next = at.checked_add(step);
        items.get(usize::try_from(at).ok()?)
    })
}
