//! Runs the statements of a template.

mod call;
mod expression;

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

use super::ast::{Block, Expr, For, Kind, Link, Macro, Name, Statement, Target};
use super::date::Date;
use super::limits::{Meter, Result, Stop, fail};
use super::show;
use super::text::{Builder, Text};
use super::value::{Bindings, Callable, Items, ListBuilder, Loop, Value};

/// A template that is being run.
pub(super) struct Run<'a> {
    meter: Meter,
    /// The scope that is in use is the last one.
    scopes: Vec<Scope>,
    loops: Vec<&'a For>,
    macros: HashMap<usize, &'a Macro>,
    /// How many texts are being captured around the statement.
    captures: usize,
    date: Option<Date>,
}

/// Names, and the scope that has those that are missing here.
struct Scope {
    parent: Option<usize>,
    names: Bindings,
}

/// Steps for the names of a scope, which are made and dropped.
const SCOPE: usize = 4;

/// Functions beside `strftime_now`, which only a template with a date has.
const FUNCTIONS: [&str; 6] = ["range", "dict", "namespace", "cycler", "joiner", "raise_exception"];

/// How a statement ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Next,
    Break,
    Continue,
}

impl<'a> Run<'a> {
    pub(super) fn new(meter: &Meter, date: Option<Date>) -> Result<Self> {
        let names = Bindings::new(meter)?;
        let scopes = vec![Scope { parent: None, names }];
        Ok(Self {
            meter: meter.clone(),
            scopes,
            loops: Vec::new(),
            macros: HashMap::new(),
            captures: 0,
            date,
        })
    }

    /// Gives the template a value.
    pub(super) fn define(&mut self, name: &str, value: Value) -> Result<()> {
        self.bind(&Name::from(name), value)
    }

    /// Runs a whole template.
    pub(super) fn template(&mut self, block: &'a Block) -> Result<Builder> {
        let mut out = Builder::new(&self.meter)?;
        self.block(block, &mut out)?;
        Ok(out)
    }

    fn block(&mut self, block: &'a [Statement], out: &mut Builder) -> Result<Flow> {
        let _level = self.meter.enter()?;
        for statement in block {
            self.meter.steps(1)?;
            match self.statement(&statement.kind, out).map_err(|stop| stop.at(statement.line))? {
                Flow::Next => {}
                flow => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn statement(&mut self, kind: &'a Kind, out: &mut Builder) -> Result<Flow> {
        match kind {
            Kind::Text(text) => out.own(text).and_then(|()| self.check_output(out))?,
            Kind::Print(expr) => {
                let value = self.eval(expr)?;
                show::write(out, &value)?;
                self.check_output(out)?;
            }
            Kind::If { arms, otherwise } => {
                for (test, body) in arms {
                    if self.eval(test)?.is_true() {
                        return self.block(body, out);
                    }
                }
                return self.block(otherwise, out);
            }
            Kind::For(node) => self.start_loop(node, out)?,
            Kind::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            Kind::SetBlock { target, filters, body } => {
                let text = self.captured(body, filters)?;
                self.assign(target, text)?;
            }
            Kind::Filter { filters, body } => {
                let text = self.captured(body, filters)?;
                show::write(out, &text)?;
                self.check_output(out)?;
            }
            Kind::With { bindings, body } => return self.with(bindings, body, out),
            Kind::Group(body) => return self.block(body, out),
            Kind::Macro(definition) => {
                let callable = self.callable(definition);
                self.bind(&definition.name, callable)?;
            }
            Kind::Call { body, call } => {
                let caller = self.callable(body);
                let value = self.eval_call_block(call, caller)?;
                show::write(out, &value)?;
                self.check_output(out)?;
            }
            Kind::Break => return Ok(Flow::Break),
            Kind::Continue => return Ok(Flow::Continue),
            Kind::Unsupported(name) => {
                return fail(format!("`{name}` needs other templates, and a model has one"));
            }
        }
        Ok(Flow::Next)
    }

    /// A macro that sees the scope in use.
    fn callable(&mut self, definition: &'a Macro) -> Value {
        self.macros.insert(definition.number, definition);
        Value::Macro(Callable { number: definition.number, scope: self.scopes.len() - 1 })
    }

    /// Refuses more output than a conversation can need.
    fn check_output(&self, out: &Builder) -> Result<()> {
        let limit = self.meter.output_limit();
        if self.captures == 0 && out.len() > limit {
            return Err(Stop::Limit { what: "bytes of output", limit });
        }
        Ok(())
    }

    fn with(
        &mut self,
        bindings: &'a [(Target, Expr)],
        body: &'a Block,
        out: &mut Builder,
    ) -> Result<Flow> {
        let mut values = ListBuilder::new(&self.meter)?;
        for (_, expr) in bindings {
            values.push(self.eval(expr)?)?;
        }
        let values = values.finish();
        self.scoped(self.scopes.len() - 1, |run| {
            for ((target, _), value) in bindings.iter().zip(values.items()) {
                run.assign(target, value.clone())?;
            }
            run.block(body, out)
        })
    }

    /// Runs `inner` with names of its own, inside of the scope `parent`.
    fn scoped<T>(
        &mut self,
        parent: usize,
        inner: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        self.meter.steps(SCOPE)?;
        let names = Bindings::new(&self.meter)?;
        let length = self.scopes.len();
        self.scopes.push(Scope { parent: Some(parent.min(length - 1)), names });
        let result = inner(self);
        self.scopes.truncate(length);
        result
    }

    /// What a block writes, after filters.
    fn captured(&mut self, body: &'a Block, filters: &'a [Link]) -> Result<Value> {
        let text = self.scoped(self.scopes.len() - 1, |run| run.capture(body))?;
        self.links(Value::Str(text), filters)
    }

    fn capture(&mut self, body: &'a Block) -> Result<Text> {
        let mut out = Builder::new(&self.meter)?;
        self.captures += 1;
        let result = self.block(body, &mut out);
        self.captures -= 1;
        result?;
        Ok(out.finish())
    }

    fn start_loop(&mut self, node: &'a For, out: &mut Builder) -> Result<()> {
        let items = self.eval(&node.items)?;
        self.run_loop(node, items, 0, out)
    }

    fn run_loop(
        &mut self,
        node: &'a For,
        value: Value,
        depth: usize,
        out: &mut Builder,
    ) -> Result<()> {
        let _level = self.meter.enter()?;
        let value = match &node.filter {
            Some(filter) => self.filtered(&node.target, &value, filter)?,
            None => value,
        };
        let mut items = value.iterate()?;
        let state = Rc::new(Loop {
            items: items.clone(),
            length: value.length(&self.meter)?,
            index: Cell::new(0),
            depth,
            node: self.loops.len(),
            changed: RefCell::new(None),
            recursive: node.recursive,
        });
        drop(value);
        self.loops.push(node);
        let result = self.iterate(node, &mut items, &state, out);
        self.loops.truncate(state.node);
        result
    }

    fn iterate(
        &mut self,
        node: &'a For,
        items: &mut Items,
        state: &Rc<Loop>,
        out: &mut Builder,
    ) -> Result<()> {
        let parent = self.scopes.len() - 1;
        let mut index = 0;
        while let Some(item) = items.next(&self.meter)? {
            state.index.set(index);
            index += 1;
            let flow = self.scoped(parent, |run| {
                run.bind(&Name::from("loop"), Value::Loop(state.clone()))?;
                run.assign(&node.target, item)?;
                run.block(&node.body, out)
            })?;
            if flow == Flow::Break {
                break;
            }
        }
        if index == 0 {
            self.scoped(parent, |run| run.block(&node.otherwise, out))?;
        }
        Ok(())
    }

    /// Elements for which a loop's `if` holds.
    fn filtered(&mut self, target: &'a Target, value: &Value, filter: &'a Expr) -> Result<Value> {
        let (mut items, parent) = (value.iterate()?, self.scopes.len() - 1);
        let mut kept = ListBuilder::new(&self.meter)?;
        while let Some(item) = items.next(&self.meter)? {
            let keep = self.scoped(parent, |run| {
                run.assign(target, item.clone())?;
                Ok(run.eval(filter)?.is_true())
            })?;
            if keep {
                kept.push(item)?;
            }
        }
        Ok(Value::List(kept.finish()))
    }

    fn assign(&mut self, target: &Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => self.bind(name, value),
            Target::Attribute(name, attribute) => match self.lookup(name)? {
                Value::Namespace(namespace) => {
                    namespace.borrow_mut().set_plain(attribute.clone(), value)
                }
                other => fail(format!("`{name}` is a {}, not a namespace", other.kind())),
            },
            Target::Tuple(targets) => {
                let mut items = value.iterate()?;
                for target in targets {
                    let Some(item) = items.next(&self.meter)? else {
                        return fail(format!("fewer than {} values to unpack", targets.len()));
                    };
                    self.assign(target, item)?;
                }
                match items.next(&self.meter)? {
                    Some(_) => fail(format!("more than {} values to unpack", targets.len())),
                    None => Ok(()),
                }
            }
        }
    }

    fn bind(&mut self, name: &Name, value: Value) -> Result<()> {
        match self.scopes.last_mut() {
            Some(scope) => scope.names.set(name.clone(), value),
            None => Ok(()),
        }
    }

    fn lookup(&self, name: &Name) -> Result<Value> {
        let mut next = Some(self.scopes.len() - 1);
        while let Some(scope) = next.and_then(|index| self.scopes.get(index)) {
            self.meter.steps(1)?;
            if let Some(value) = scope.names.get(name)? {
                return Ok(value);
            }
            next = scope.parent;
        }
        let known =
            FUNCTIONS.contains(&&**name) || &**name == "strftime_now" && self.date.is_some();
        Ok(if known { Value::Function(name.clone()) } else { Value::Undefined(Some(name.clone())) })
    }
}
