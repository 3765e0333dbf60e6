//! Calls: macros, recursive loops, and functions that every template has.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::super::ast::Name;
use super::super::dict_builder::DictBuilder;
use super::super::given::Given;
use super::super::limits::{Meter, RANGE, Result, Stop, fail};
use super::super::show;
use super::super::text::{Builder, Text};
use super::super::value::{Bindings, Callable, Cycler, List, ListBuilder, Loop, Value};
use super::Run;

impl<'a> Run<'a> {
    pub(super) fn call(&mut self, callee: &Value, given: Given) -> Result<Value> {
        let _level = self.meter.enter()?;
        match callee {
            Value::Macro(callable) => self.call_macro(*callable, given).map(Value::Str),
            Value::Function(name) => self.function(name, given),
            Value::Loop(state) => self.call_loop(state, given).map(Value::Str),
            Value::Joiner(joiner) => {
                given.end(0)?;
                let text = joiner.1.replace(true).then(|| Value::Str(joiner.0.clone()));
                text.map_or_else(|| Value::str(&self.meter, ""), Ok)
            }
            other => {
                other.defined()?;
                fail(format!("a {} cannot be called", other.kind()))
            }
        }
    }

    fn call_loop(&mut self, state: &Loop, mut given: Given) -> Result<Text> {
        let items = given.require(0, "iterable")?;
        given.end(1)?;
        let node = self.loops.get(state.node).copied().filter(|_| state.recursive);
        let Some(node) = node else { return fail("the loop is not `recursive`") };
        let mut out = Builder::new(&self.meter)?;
        self.captures += 1;
        let result = self.run_loop(node, items, state.depth + 1, &mut out);
        self.captures -= 1;
        result?;
        Ok(out.finish())
    }

    fn function(&mut self, name: &Name, mut given: Given) -> Result<Value> {
        let meter = &self.meter.clone();
        match &**name {
            "range" => self.range(given),
            "dict" => {
                let mut dict = DictBuilder::new(meter)?;
                match &given.positional[..] {
                    [] => {}
                    [from] => copy_into(&mut dict, meter, from)?,
                    _ => return fail("dict() takes one value, and names"),
                }
                for (name, value) in given.named {
                    dict.set(Value::str(meter, &name)?, value)?;
                }
                Ok(Value::Dict(dict.finish()))
            }
            "namespace" => {
                let mut names = Bindings::new(meter)?;
                if let Some(Value::Dict(dict)) = given.positional.first() {
                    for (key, value) in dict.entries() {
                        let key = show::text(meter, key)?;
                        names.set_plain(Name::from(key.as_str()), value.clone())?;
                    }
                }
                for (name, value) in given.named {
                    names.set_plain(name, value)?;
                }
                Ok(Value::Namespace(Rc::new(RefCell::new(names))))
            }
            "cycler" => {
                if given.positional.is_empty() {
                    return fail("cycler() needs at least one value");
                }
                let items = List::collect(meter, given.positional.into_iter().map(Ok))?;
                Ok(Value::Cycler(Rc::new(Cycler { items, position: Cell::new(0) })))
            }
            "joiner" => {
                let separator = given.text(0, "sep")?;
                let separator = separator.map_or_else(|| Text::own(meter, ", "), Ok)?;
                Ok(Value::Joiner(Rc::new((separator, Cell::new(false)))))
            }
            "raise_exception" => {
                let message = given.require(0, "message")?;
                let message = show::text(meter, &message)?;
                Err(Stop::Refused(message.as_str().chars().take(1000).collect()))
            }
            "strftime_now" => {
                let format = given.text(0, "format")?;
                let Some(format) = format else { return fail("strftime_now needs a format") };
                let Some(date) = &self.date else { return fail("there is no date") };
                Value::text(meter, &date.format(format.as_str())?, format.origin())
            }
            other => fail(format!("`{other}` cannot be called like this")),
        }
    }

    fn range(&self, mut given: Given) -> Result<Value> {
        let first = given.int(0, "start")?;
        let Some(first) = first else { return fail("range() needs a number") };
        let second = given.int(1, "stop")?;
        let step = given.int(2, "step")?.unwrap_or(1);
        given.end(3)?;
        let (start, stop) = second.map_or((0, first), |second| (first, second));
        if step == 0 {
            return fail("the step of range() is 0");
        }
        let span = if step > 0 {
            i128::from(stop) - i128::from(start)
        } else {
            i128::from(start) - i128::from(stop)
        };
        let count =
            (span.max(0) + i128::from(step.unsigned_abs()) - 1) / i128::from(step.unsigned_abs());
        if count > i128::from(RANGE) {
            return Err(Stop::Limit {
                what: "elements of range()",
                limit: usize::try_from(RANGE).unwrap_or(0),
            });
        }
        let mut builder = ListBuilder::new(&self.meter)?;
        let mut value = start;
        for _ in 0..count {
            builder.push(Value::Int(value))?;
            value = value.saturating_add(step);
        }
        Ok(Value::List(builder.finish()))
    }

    fn call_macro(&mut self, callable: Callable, mut given: Given) -> Result<Text> {
        let Some(definition) = self.macros.get(&callable.number).copied() else {
            return fail("the macro is gone");
        };
        self.scoped(callable.scope, |run| {
            for (index, (parameter, default)) in definition.parameters.iter().enumerate() {
                let value = match (given.take(index, parameter), default) {
                    (Some(value), _) => value,
                    (None, Some(default)) => run.eval(default)?,
                    (None, None) => Value::Undefined(Some(parameter.clone())),
                };
                run.bind(parameter, value)?;
            }
            if let Some(caller) = given.named("caller") {
                run.bind(&Name::from("caller"), caller)?;
            }
            run.bind_rest(given, definition.parameters.len())?;
            run.capture(&definition.body)
        })
    }

    /// Binds what a macro has no parameters for.
    fn bind_rest(&mut self, given: Given, parameters: usize) -> Result<()> {
        let rest = given.positional.into_iter().skip(parameters).map(Ok);
        let rest = List::collect_tuple(&self.meter, rest)?;
        self.bind(&Name::from("varargs"), Value::List(rest))?;
        let mut names = DictBuilder::new(&self.meter)?;
        for (name, value) in given.named {
            names.set(Value::str(&self.meter, &name)?, value)?;
        }
        self.bind(&Name::from("kwargs"), Value::Dict(names.finish()))
    }
}

/// Adds what `dict(from)` copies: a dictionary, or pairs.
fn copy_into(dict: &mut DictBuilder, meter: &Meter, from: &Value) -> Result<()> {
    if let Value::Dict(from) = from {
        return from
            .entries()
            .iter()
            .try_for_each(|(key, value)| dict.set(key.clone(), value.clone()));
    }
    let mut items = from.iterate()?;
    while let Some(pair) = items.next(meter)? {
        let pair = pair.iterate()?.list(meter)?;
        let [key, value] = pair.items() else { return fail("dict() needs pairs") };
        dict.set(key.clone(), value.clone())?;
    }
    Ok(())
}
