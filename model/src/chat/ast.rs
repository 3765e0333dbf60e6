//! A template as it was understood.
//!
//! Chains (`a.b.c`, `1 + 2 + 3`, `a or b or c`, `elif`) are vectors, so only what is really
//! nested in the source is nested here, and the parser bounds that.

use std::sync::Arc;

pub(super) type Name = Arc<str>;
pub(super) type Block = Vec<Statement>;

#[derive(Debug)]
pub(super) struct Statement {
    pub(super) line: u32,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    Text(Box<str>),
    Print(Expr),
    For(Box<For>),
    If {
        arms: Vec<(Expr, Block)>,
        otherwise: Block,
    },
    Set {
        target: Target,
        value: Expr,
    },
    SetBlock {
        target: Target,
        filters: Vec<Link>,
        body: Block,
    },
    Filter {
        filters: Vec<Link>,
        body: Block,
    },
    With {
        bindings: Vec<(Target, Expr)>,
        body: Block,
    },
    /// Statements between tags without effect.
    Group(Block),
    Macro(Box<Macro>),
    Call {
        body: Box<Macro>,
        call: Expr,
    },
    Break,
    Continue,
    /// A statement that needs other templates, or that Jinja alone knows.
    Unsupported(Name),
}

#[derive(Debug)]
pub(super) struct For {
    pub(super) target: Target,
    pub(super) items: Expr,
    pub(super) filter: Option<Expr>,
    pub(super) recursive: bool,
    pub(super) body: Block,
    pub(super) otherwise: Block,
}

#[derive(Debug)]
pub(super) struct Macro {
    /// Its place among the macros of the template.
    pub(super) number: usize,
    pub(super) name: Name,
    pub(super) parameters: Vec<(Name, Option<Expr>)>,
    pub(super) body: Block,
}

/// What is assigned to.
#[derive(Debug)]
pub(super) enum Target {
    Name(Name),
    Attribute(Name, Name),
    Tuple(Vec<Target>),
}

#[derive(Debug)]
pub(super) enum Expr {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Str(Box<str>),
    Name(Name),
    List(Vec<Expr>),
    Tuple(Vec<Expr>),
    Dict(Vec<(Expr, Expr)>),
    /// A value and what is done to it, one after the other.
    Chain(Box<Expr>, Vec<Link>),
    /// `not`, or with `false` two of them.
    Not(Box<Expr>, bool),
    /// `-` or `+` in front.
    Sign(Box<Expr>, bool),
    /// Operators of one precedence, from left to right.
    Binary(Box<Expr>, Vec<(Operator, Expr)>),
    Concat(Vec<Expr>),
    Compare(Box<Expr>, Vec<(Comparison, Expr)>),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Conditional(Box<Conditional>),
}

#[derive(Debug)]
pub(super) struct Conditional {
    pub(super) test: Expr,
    pub(super) then: Expr,
    pub(super) otherwise: Option<Expr>,
}

#[derive(Debug)]
pub(super) enum Link {
    Attribute(Name),
    Item(Expr),
    Slice(Box<[Option<Expr>; 3]>),
    Call(Arguments),
    Filter(Name, Arguments),
    Test { name: Name, arguments: Arguments, negated: bool },
}

#[derive(Debug, Default)]
pub(super) struct Arguments {
    pub(super) positional: Vec<Expr>,
    pub(super) named: Vec<(Name, Expr)>,
    pub(super) star: Option<Box<Expr>>,
    pub(super) star_star: Option<Box<Expr>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operator {
    Add,
    Subtract,
    Multiply,
    Divide,
    FloorDivide,
    Modulo,
    Power,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    NotIn,
}
