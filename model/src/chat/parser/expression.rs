//! Understands the tokens of one tag.

use super::super::ast::{Arguments, Comparison, Conditional, Expr, Link, Name, Operator, Target};
use super::super::lexer::Token;
use super::super::limits::{ARGUMENTS, NESTING, Result, Stop, fail};

/// Tokens of a tag that are not understood yet.
pub(super) struct Tokens {
    tokens: std::iter::Peekable<std::vec::IntoIter<Token>>,
    next: Option<Token>,
    pub(super) line: u32,
    depth: usize,
}

impl Tokens {
    /// The tag stands at a depth of blocks, which counts.
    pub(super) fn new(tokens: Vec<Token>, line: u32, depth: usize) -> Self {
        let mut tokens = tokens.into_iter().peekable();
        let next = tokens.next();
        Self { tokens, next, line, depth }
    }

    fn advance(&mut self) -> Option<Token> {
        std::mem::replace(&mut self.next, self.tokens.next())
    }

    pub(super) fn at_end(&self) -> bool {
        self.next.is_none()
    }

    pub(super) fn end(&self) -> Result<()> {
        if self.at_end() { Ok(()) } else { self.unexpected("the end of the tag") }
    }

    /// The end of an end tag, which may repeat a name.
    pub(super) fn allow_name(mut self) -> Result<()> {
        if matches!(self.next, Some(Token::Name(_))) {
            self.advance();
        }
        self.end()
    }

    fn unexpected<T>(&self, expected: &str) -> Result<T> {
        fail(format!("unexpected {}, expected {expected}", shown(self.next.as_ref())))
    }

    pub(super) fn peek_is(&self, op: &str) -> bool {
        matches!(&self.next, Some(Token::Op(found)) if *found == op)
    }

    fn peek_word(&self, word: &str) -> bool {
        matches!(&self.next, Some(Token::Name(found)) if &**found == word)
    }

    pub(super) fn skip(&mut self, op: &str) -> bool {
        let found = self.peek_is(op);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn skip_word(&mut self, word: &str) -> bool {
        let found = self.peek_word(word);
        if found {
            self.advance();
        }
        found
    }

    pub(super) fn expect(&mut self, op: &str) -> Result<()> {
        if self.skip(op) { Ok(()) } else { self.unexpected(&format!("`{op}`")) }
    }

    pub(super) fn expect_word(&mut self, word: &str) -> Result<()> {
        if self.skip_word(word) { Ok(()) } else { self.unexpected(&format!("`{word}`")) }
    }

    pub(super) fn name(&mut self) -> Result<Name> {
        match self.advance() {
            Some(Token::Name(name)) => Ok(name),
            other => fail(format!("unexpected {}, expected a name", shown(other.as_ref()))),
        }
    }

    /// Goes one level deeper for `inner`.
    fn deeper<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth > NESTING {
            return Err(Stop::Limit { what: "brackets and blocks in each other", limit: NESTING });
        }
        self.depth += 1;
        let result = inner(self)?;
        self.depth -= 1;
        Ok(result)
    }

    /// One thing that is assigned to.
    pub(super) fn target(&mut self) -> Result<Target> {
        if self.skip("(") {
            let target = self.deeper(|tokens| tokens.targets(false))?;
            self.expect(")")?;
            return Ok(target);
        }
        let name = self.name()?;
        if matches!(&*name, "true" | "false" | "none" | "True" | "False" | "None") {
            return fail(format!("cannot assign to `{name}`"));
        }
        if self.skip(".") {
            Ok(Target::Attribute(name, self.name()?))
        } else {
            Ok(Target::Name(name))
        }
    }

    /// One or several things that are assigned to; in a loop `in` ends them.
    pub(super) fn targets(&mut self, in_loop: bool) -> Result<Target> {
        let first = self.target()?;
        if !self.peek_is(",") {
            return Ok(first);
        }
        let mut targets = vec![first];
        while self.skip(",") {
            if self.at_end()
                || self.peek_is("=")
                || self.peek_is(")")
                || in_loop && self.peek_word("in")
            {
                break;
            }
            targets.push(self.target()?);
        }
        Ok(Target::Tuple(targets))
    }

    /// An expression or a tuple that is all the rest of the tag.
    pub(super) fn whole(&mut self) -> Result<Expr> {
        let expr = self.tuple(true)?;
        self.end()?;
        Ok(expr)
    }

    /// As in `for` and `if`, where a following `if` means something else.
    pub(super) fn tuple_without_conditional(&mut self) -> Result<Expr> {
        self.tuple(false)
    }

    fn tuple(&mut self, conditional: bool) -> Result<Expr> {
        let element = |tokens: &mut Self| {
            if conditional { tokens.expression() } else { tokens.deeper(Self::or) }
        };
        let first = element(self)?;
        if !self.peek_is(",") {
            return Ok(first);
        }
        let mut items = vec![first];
        while self.skip(",") {
            if self.at_end() || self.peek_is(")") || self.peek_is("=") {
                break;
            }
            items.push(element(self)?);
        }
        Ok(Expr::Tuple(items))
    }

    pub(super) fn expression(&mut self) -> Result<Expr> {
        self.deeper(Self::conditional)
    }

    fn conditional(&mut self) -> Result<Expr> {
        let depth = self.depth;
        let mut expr = self.or()?;
        while self.skip_word("if") {
            expr = self.deeper(|tokens| {
                let test = tokens.or()?;
                let otherwise =
                    if tokens.skip_word("else") { Some(tokens.conditional()?) } else { None };
                Ok(Expr::Conditional(Box::new(Conditional { test, then: expr, otherwise })))
            })?;
            // What was parsed is one level deeper now.
            self.depth += 1;
        }
        self.depth = depth;
        Ok(expr)
    }

    fn or(&mut self) -> Result<Expr> {
        let first = self.and()?;
        if !self.peek_word("or") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.skip_word("or") {
            all.push(self.and()?);
        }
        Ok(Expr::Or(all))
    }

    fn and(&mut self) -> Result<Expr> {
        let first = self.not()?;
        if !self.peek_word("and") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.skip_word("and") {
            all.push(self.not()?);
        }
        Ok(Expr::And(all))
    }

    fn not(&mut self) -> Result<Expr> {
        let mut count = 0_usize;
        while self.skip_word("not") {
            count += 1;
        }
        let expr = self.compare()?;
        Ok(if count == 0 { expr } else { Expr::Not(Box::new(expr), count % 2 == 1) })
    }

    fn comparison(&mut self) -> Option<Comparison> {
        let found = match self.next.as_ref()? {
            Token::Op("==") => Comparison::Equal,
            Token::Op("!=") => Comparison::NotEqual,
            Token::Op("<") => Comparison::Less,
            Token::Op("<=") => Comparison::LessOrEqual,
            Token::Op(">") => Comparison::Greater,
            Token::Op(">=") => Comparison::GreaterOrEqual,
            Token::Name(name) if &**name == "in" => Comparison::In,
            Token::Name(name) if &**name == "not" => {
                if !matches!(self.tokens.peek(), Some(Token::Name(name)) if &**name == "in") {
                    return None;
                }
                self.advance();
                Comparison::NotIn
            }
            _ => return None,
        };
        self.advance();
        Some(found)
    }

    fn compare(&mut self) -> Result<Expr> {
        let first = self.sum()?;
        let mut rest = Vec::new();
        while let Some(comparison) = self.comparison() {
            rest.push((comparison, self.sum()?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Compare(Box::new(first), rest) })
    }

    fn binary(
        &mut self,
        operand: fn(&mut Self) -> Result<Expr>,
        operators: &[(&str, Operator)],
    ) -> Result<Expr> {
        let first = operand(self)?;
        let mut rest = Vec::new();
        while let Some(&(_, operator)) = operators.iter().find(|(op, _)| self.peek_is(op)) {
            self.advance();
            rest.push((operator, operand(self)?));
        }
        Ok(if rest.is_empty() { first } else { Expr::Binary(Box::new(first), rest) })
    }

    fn sum(&mut self) -> Result<Expr> {
        self.binary(Self::concat, &[("+", Operator::Add), ("-", Operator::Subtract)])
    }

    fn concat(&mut self) -> Result<Expr> {
        let first = self.product()?;
        if !self.peek_is("~") {
            return Ok(first);
        }
        let mut all = vec![first];
        while self.skip("~") {
            all.push(self.product()?);
        }
        Ok(Expr::Concat(all))
    }

    fn product(&mut self) -> Result<Expr> {
        let operators = [
            ("*", Operator::Multiply),
            ("/", Operator::Divide),
            ("//", Operator::FloorDivide),
            ("%", Operator::Modulo),
        ];
        self.binary(Self::power, &operators)
    }

    fn power(&mut self) -> Result<Expr> {
        self.binary(|tokens| tokens.unary(true), &[("**", Operator::Power)])
    }

    fn unary(&mut self, filters: bool) -> Result<Expr> {
        let minus = self.peek_is("-");
        let first = if minus || self.peek_is("+") {
            self.advance();
            let operand = self.deeper(|tokens| tokens.unary(false))?;
            Expr::Sign(Box::new(operand), minus)
        } else {
            self.primary()?
        };
        let mut links = Vec::new();
        self.postfix(&mut links)?;
        if filters {
            self.filters_and_tests(&mut links)?;
        }
        Ok(chain(first, links))
    }

    fn primary(&mut self) -> Result<Expr> {
        match self.advance() {
            Some(Token::Name(name)) => Ok(match &*name {
                "true" | "True" => Expr::Bool(true),
                "false" | "False" => Expr::Bool(false),
                "none" | "None" => Expr::None,
                _ => Expr::Name(name),
            }),
            Some(Token::Str(mut text)) => {
                while let Some(Token::Str(more)) = &self.next {
                    text.push_str(more);
                    self.advance();
                }
                Ok(Expr::Str(text.into()))
            }
            Some(Token::Int(value)) => Ok(Expr::Int(value)),
            Some(Token::Float(value)) => Ok(Expr::Float(value)),
            Some(Token::Op("(")) => {
                let expr =
                    if self.peek_is(")") { Expr::Tuple(Vec::new()) } else { self.tuple(true)? };
                self.expect(")")?;
                Ok(expr)
            }
            Some(Token::Op("[")) => {
                let items = self.separated("]", Self::expression)?;
                Ok(Expr::List(items))
            }
            Some(Token::Op("{")) => {
                let pairs = self.separated("}", |tokens| {
                    let key = tokens.expression()?;
                    tokens.expect(":")?;
                    Ok((key, tokens.expression()?))
                })?;
                Ok(Expr::Dict(pairs))
            }
            other => fail(format!("unexpected {}, expected a value", shown(other.as_ref()))),
        }
    }

    /// Elements with commas between them, up to a closing bracket.
    fn separated<T>(
        &mut self,
        close: &str,
        element: impl Fn(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        let mut all = Vec::new();
        while !self.skip(close) {
            if !all.is_empty() {
                self.expect(",")?;
                if self.skip(close) {
                    break;
                }
            }
            all.push(element(self)?);
        }
        Ok(all)
    }

    fn postfix(&mut self, links: &mut Vec<Link>) -> Result<()> {
        loop {
            if self.skip(".") {
                links.push(match self.advance() {
                    Some(Token::Name(name)) => Link::Attribute(name),
                    Some(Token::Int(index)) => Link::Item(Expr::Int(index)),
                    other => {
                        let found = shown(other.as_ref());
                        return fail(format!("unexpected {found}, expected an attribute"));
                    }
                });
            } else if self.skip("[") {
                links.push(self.subscript()?);
                self.expect("]")?;
            } else if self.peek_is("(") {
                links.push(Link::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    fn subscript(&mut self) -> Result<Link> {
        let mut parts = [const { None }; 3];
        for (index, part) in parts.iter_mut().enumerate() {
            if !self.peek_is(":") && !self.peek_is("]") {
                *part = Some(self.expression()?);
            }
            if !self.peek_is(":") || index == 2 {
                if index == 0 {
                    return match part.take() {
                        Some(expr) => Ok(Link::Item(expr)),
                        None => self.unexpected("an index"),
                    };
                }
                break;
            }
            self.advance();
        }
        Ok(Link::Slice(Box::new(parts)))
    }

    fn filters_and_tests(&mut self, links: &mut Vec<Link>) -> Result<()> {
        loop {
            if self.peek_is("|") {
                links.extend(self.filters(false)?);
            } else if self.skip_word("is") {
                links.push(self.test()?);
            } else if self.peek_is("(") {
                links.push(Link::Call(self.arguments()?));
            } else {
                return Ok(());
            }
        }
    }

    /// Filters; the first one `bare` without its `|`, as in the `filter` statement.
    pub(super) fn filters(&mut self, bare: bool) -> Result<Vec<Link>> {
        let mut filters = Vec::new();
        while bare && filters.is_empty() || self.skip("|") {
            let name = self.name()?;
            let arguments =
                if self.peek_is("(") { self.arguments()? } else { Arguments::default() };
            filters.push(Link::Filter(name, arguments));
        }
        Ok(filters)
    }

    fn test(&mut self) -> Result<Link> {
        let negated = self.skip_word("not");
        let name = self.name()?;
        let mut arguments = Arguments::default();
        let follows = match &self.next {
            Some(Token::Name(name)) => {
                if &**name == "is" {
                    return fail("tests cannot be chained with `is`");
                }
                !matches!(&**name, "else" | "or" | "and" | "if" | "in" | "not" | "recursive")
            }
            Some(Token::Str(_) | Token::Int(_) | Token::Float(_)) => true,
            Some(Token::Op(op)) => matches!(*op, "[" | "{"),
            None => false,
        };
        if self.peek_is("(") {
            arguments = self.arguments()?;
        } else if follows {
            let first = self.deeper(Self::primary)?;
            let mut links = Vec::new();
            self.postfix(&mut links)?;
            arguments.positional.push(chain(first, links));
        }
        Ok(Link::Test { name, arguments, negated })
    }

    fn arguments(&mut self) -> Result<Arguments> {
        self.expect("(")?;
        let mut all = Arguments::default();
        let mut count = 0;
        while !self.skip(")") {
            if count > 0 {
                self.expect(",")?;
                if self.skip(")") {
                    break;
                }
            }
            if count == ARGUMENTS {
                return Err(Stop::Limit { what: "arguments of one call", limit: ARGUMENTS });
            }
            count += 1;
            if self.skip("**") {
                all.star_star = Some(Box::new(self.expression()?));
            } else if self.skip("*") {
                all.star = Some(Box::new(self.expression()?));
            } else if matches!(self.tokens.peek(), Some(Token::Op("="))) {
                let name = self.name()?;
                self.advance();
                all.named.push((name, self.expression()?));
            } else if all.named.is_empty() {
                all.positional.push(self.expression()?);
            } else {
                return fail("an argument without a name follows one with a name");
            }
        }
        Ok(all)
    }
}

fn chain(first: Expr, links: Vec<Link>) -> Expr {
    if links.is_empty() { first } else { Expr::Chain(Box::new(first), links) }
}

/// The token as an error shows it.
fn shown(token: Option<&Token>) -> String {
    match token {
        None => "the end of the tag".to_owned(),
        Some(Token::Name(name)) => format!("`{name}`"),
        Some(Token::Op(op)) => format!("`{op}`"),
        Some(Token::Str(_)) => "a string".to_owned(),
        Some(Token::Int(_) | Token::Float(_)) => "a number".to_owned(),
    }
}
