//! Evaluates expressions.

use super::super::access::{attribute, item, slice, slice_bound};
use super::super::ast::{Arguments, Conditional, Expr, Link, Name};
use super::super::dict_builder::DictBuilder;
use super::super::given::Given;
use super::super::limits::{ARGUMENTS, Result, Stop, fail};
use super::super::text::{Builder, Text};
use super::super::value::{Dict, ListBuilder, Value};
use super::super::{checks, filters, methods, operators, show};
use super::Run;

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
