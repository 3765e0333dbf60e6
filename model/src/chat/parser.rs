//! Understands a template's statements.

mod expression;

use super::ast::{Block, Expr, For, Kind, Link, Macro, Name, Statement};
use super::lexer::{Lexer, Segment, Tag};
use super::limits::{ARGUMENTS, ELIFS, NESTING, Result, Stop, fail};
use expression::Tokens;

/// Parses a template, with `\n` as its line ends.
pub(super) fn parse(source: &str) -> Result<Block> {
    let mut parser = Parser { lexer: Lexer::new(source), depth: 0, macros: 0 };
    match parser.block(&[])? {
        (block, None) => Ok(block),
        (_, Some(end)) => Err(end.unexpected()),
    }
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
    macros: usize,
}

/// The tag that ended a block: its name, and what else it has.
struct End {
    name: Name,
    tokens: Tokens,
}

impl End {
    fn unexpected(&self) -> Stop {
        Stop::failed(format!("unexpected `{}`", self.name)).at(self.tokens.line)
    }
}

impl Parser<'_> {
    /// Statements up to one of the tags `ends`, or to the end of the template.
    fn block(&mut self, ends: &[&str]) -> Result<(Block, Option<End>)> {
        if self.depth > NESTING {
            return Err(Stop::Limit { what: "blocks in each other", limit: NESTING });
        }
        self.depth += 1;
        let mut block = Block::new();
        let end = loop {
            let Segment { text, tag, line } = self.lexer.next()?;
            if !text.is_empty() {
                block.push(Statement { line, kind: Kind::Text(text.into()) });
            }
            match tag {
                Tag::Nothing => {}
                Tag::End => break None,
                Tag::Print(tokens) => {
                    let mut tokens = Tokens::new(tokens, line, self.depth);
                    let kind = tokens.whole().map(Kind::Print).map_err(|stop| stop.at(line))?;
                    block.push(Statement { line, kind });
                }
                Tag::Block(tokens) => {
                    let mut tokens = Tokens::new(tokens, line, self.depth);
                    let name = tokens.name().map_err(|stop| stop.at(line))?;
                    if ends.contains(&&*name) {
                        break Some(End { name, tokens });
                    }
                    let kind = self.statement(&name, tokens).map_err(|stop| stop.at(line))?;
                    block.push(Statement { line, kind });
                }
            }
        };
        self.depth -= 1;
        Ok((block, end))
    }

    /// Statements up to `end`, which has to be there.
    fn body(&mut self, end: &str) -> Result<Block> {
        let (block, found) = self.block(&[end])?;
        found.ok_or_else(|| missing(end))?.tokens.allow_name()?;
        Ok(block)
    }

    fn statement(&mut self, name: &Name, mut tokens: Tokens) -> Result<Kind> {
        match &**name {
            "for" => self.for_loop(tokens),
            "if" => self.branches(tokens),
            "set" => self.set(tokens),
            "macro" => self.macro_definition(tokens),
            "call" => self.call(tokens),
            "with" => self.with(tokens),
            "filter" => {
                let filters = tokens.filters(true)?;
                tokens.end()?;
                Ok(Kind::Filter { filters, body: self.body("endfilter")? })
            }
            // Marks what the model says, for training.
            "generation" => {
                tokens.end()?;
                self.body("endgeneration").map(Kind::Group)
            }
            // Nothing can inherit from a chat template, so its blocks are as they stand.
            "block" => {
                tokens.name()?;
                tokens.end()?;
                self.body("endblock").map(Kind::Group)
            }
            "break" => tokens.end().map(|()| Kind::Break),
            "continue" => tokens.end().map(|()| Kind::Continue),
            "include" | "import" | "from" | "extends" => Ok(Kind::Unsupported(name.clone())),
            _ => fail(format!("unknown statement `{name}`")),
        }
    }

    fn for_loop(&mut self, mut tokens: Tokens) -> Result<Kind> {
        let target = tokens.targets(true)?;
        tokens.expect_word("in")?;
        let items = tokens.tuple_without_conditional()?;
        let filter = if tokens.skip_word("if") { Some(tokens.expression()?) } else { None };
        let recursive = tokens.skip_word("recursive");
        tokens.end()?;
        let (body, end) = self.block(&["else", "endfor"])?;
        let end = end.ok_or_else(|| missing("endfor"))?;
        end.tokens.end()?;
        let otherwise = if &*end.name == "else" { self.body("endfor")? } else { Block::new() };
        Ok(Kind::For(Box::new(For { target, items, filter, recursive, body, otherwise })))
    }

    fn branches(&mut self, mut tokens: Tokens) -> Result<Kind> {
        let mut arms = Vec::new();
        loop {
            let test = tokens.tuple_without_conditional()?;
            tokens.end()?;
            let (body, end) = self.block(&["elif", "else", "endif"])?;
            let end = end.ok_or_else(|| missing("endif"))?;
            arms.push((test, body));
            if arms.len() > ELIFS {
                return Err(Stop::Limit { what: "`elif` of one `if`", limit: ELIFS });
            }
            tokens = end.tokens;
            match &*end.name {
                "elif" => {}
                "else" => {
                    tokens.end()?;
                    return Ok(Kind::If { arms, otherwise: self.body("endif")? });
                }
                _ => {
                    tokens.end()?;
                    return Ok(Kind::If { arms, otherwise: Block::new() });
                }
            }
        }
    }

    fn set(&mut self, mut tokens: Tokens) -> Result<Kind> {
        let target = tokens.targets(false)?;
        if tokens.skip("=") {
            let value = tokens.whole()?;
            return Ok(Kind::Set { target, value });
        }
        let filters = tokens.filters(false)?;
        tokens.end()?;
        Ok(Kind::SetBlock { target, filters, body: self.body("endset")? })
    }

    fn with(&mut self, mut tokens: Tokens) -> Result<Kind> {
        let mut bindings = Vec::new();
        while !tokens.at_end() {
            if !bindings.is_empty() {
                tokens.expect(",")?;
            }
            let target = tokens.target()?;
            tokens.expect("=")?;
            bindings.push((target, tokens.expression()?));
        }
        Ok(Kind::With { bindings, body: self.body("endwith")? })
    }

    fn macro_definition(&mut self, mut tokens: Tokens) -> Result<Kind> {
        let name = tokens.name()?;
        let parameters = parameters(&mut tokens)?;
        tokens.end()?;
        let body = self.body("endmacro")?;
        Ok(Kind::Macro(self.named_block(name, parameters, body)))
    }

    fn call(&mut self, mut tokens: Tokens) -> Result<Kind> {
        let parameters = if tokens.peek_is("(") { parameters(&mut tokens)? } else { Vec::new() };
        let call = tokens.whole()?;
        if !matches!(&call, Expr::Chain(_, links) if matches!(links.last(), Some(Link::Call(_)))) {
            return fail("`call` needs a call of a macro");
        }
        let body = self.body("endcall")?;
        Ok(Kind::Call { body: self.named_block(Name::from("caller"), parameters, body), call })
    }

    fn named_block(
        &mut self,
        name: Name,
        parameters: Vec<(Name, Option<Expr>)>,
        body: Block,
    ) -> Box<Macro> {
        self.macros += 1;
        Box::new(Macro { number: self.macros, name, parameters, body })
    }
}

fn missing(end: &str) -> Stop {
    Stop::failed(format!("the template ends without `{end}`"))
}

/// Parameters of a macro, with what they are by default.
fn parameters(tokens: &mut Tokens) -> Result<Vec<(Name, Option<Expr>)>> {
    let mut parameters = Vec::new();
    tokens.expect("(")?;
    while !tokens.skip(")") {
        if !parameters.is_empty() {
            tokens.expect(",")?;
            if tokens.skip(")") {
                break;
            }
        }
        if parameters.len() == ARGUMENTS {
            return Err(Stop::Limit { what: "parameters of a macro", limit: ARGUMENTS });
        }
        let name = tokens.name()?;
        let default = if tokens.skip("=") { Some(tokens.expression()?) } else { None };
        parameters.push((name, default));
    }
    Ok(parameters)
}
